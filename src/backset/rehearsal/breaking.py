"""`python -m backset.rehearsal.breaking`: break DATABASE_URL's database as a squashed chain does.

Its version table then names a revision that no file has.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import sql

from backset.catalog import versions
from backset.connections.session import connect
from backset.errors import BacksetError, StepFailedError
from backset.settings.reader import load

if TYPE_CHECKING:
    from backset.connections.target import Target

ORPHAN = "0f0f0f0f0f0f"


def orphan(target: Target) -> None:
    """Put an unknown revision into every version table. Raises StepFailedError without one."""
    with connect(target, "rehearsal") as session, session.transaction():
        found = versions.tables(session)
        if not found:
            raise StepFailedError("the database has no version table", "run `invoke upgrade` first")
        for table in found:
            name = sql.Identifier(table.schema, table.name)
            session.execute(sql.SQL("DELETE FROM {}").format(name))
            session.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(name, sql.Literal(ORPHAN)))


def main() -> None:
    """Break it; without a database that can be broken, end with one line."""
    try:
        settings = load(Path.cwd())
        if settings.target is None:
            raise StepFailedError("DATABASE_URL is not set", "let it name the database to break")
        orphan(settings.target)
    except BacksetError as error:
        sys.exit("\n".join(error.lines()))


if __name__ == "__main__":
    main()
