"""One moment of the old database, which several sessions read at once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.connections.session import Session

_BEGIN = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"


@contextmanager
def held(session: Session) -> Iterator[str]:
    """Hold what an idle session sees now for as long as the block lasts; give its name.

    Nothing is written, so that a standby and a role that may only read will do.
    """
    session.execute(_BEGIN)
    try:
        (name,) = session.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        yield name
    finally:
        session.rollback()


def adopt(session: Session, name: str) -> None:
    """Let a session see what the holder of this snapshot sees, until its transaction ends."""
    session.execute(_BEGIN)
    session.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
