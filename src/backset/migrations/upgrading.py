"""Migrates one database with Alembic's process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.errors import AlembicError

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.connections.session import Session
    from backset.migrations.worker import Worker


def upgrade(
    worker: Worker, session: Session, progress: Callable[[str], None], to: str = ""
) -> dict[str, Any]:
    """Run the migrations on the database of `session`; return the worker's answer.

    to: a revision; without it, where the chain ends.

    `schemas` in it are those that were made first: Alembic writes to its version table before the
    first migration could make the schema of that. Raises StepFailedError.
    """
    made: list[str] = []
    while True:
        try:
            return {**worker.ask("upgrade", session, progress, to=to), "schemas": made}
        except AlembicError as error:
            if error.kind != "missing schema" or error.words in made:
                raise
            made.append(error.words)
        session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(made[-1])))
