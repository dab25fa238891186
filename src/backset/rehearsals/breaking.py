"""Breaks a database the way a squashed chain does: its version table names what no file has."""

from __future__ import annotations

from psycopg import sql

from backset.catalogs import versions
from backset.connections.session import connect
from backset.connections.target import Target
from backset.errors import StepFailedError

ORPHAN = "0f0f0f0f0f0f"


def orphan(url: str) -> None:
    """Put an unknown revision into every version table. Raises StepFailedError without one."""
    with connect(Target.parse(url), "rehearsal") as session, session.transaction():
        found = versions.tables(session)
        if not found:
            raise StepFailedError("the database has no version table", "run `invoke upgrade` first")
        for table in found:
            name = sql.Identifier(table.schema, table.name)
            session.execute(sql.SQL("DELETE FROM {}").format(name))
            session.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(name, sql.Literal(ORPHAN)))
