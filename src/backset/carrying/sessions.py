"""Sessions on both databases: they see one moment, and values pass between them without loss."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backset.connections.session import Session


SPELLING = """
SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 3;
SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET xmloption = 'content';
SET row_security = off"""
_BEGIN = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"


@dataclass(slots=True)
class Pair:
    """A session on the old database and one on the new, for one table after the other.

    past_bytes: of the tables that are through, as they were estimated; now_bytes: of this one.
    """

    old: Session
    new: Session
    past_bytes: int = 0
    now_bytes: int = 0

    @classmethod
    def opened(
        cls, old: Callable[[], Session], new: Callable[[], Session], until: ExitStack
    ) -> Pair:
        """Open both until that ends; none stays open where the other one cannot be."""
        with ExitStack() as both:
            pair = cls(both.enter_context(closing(old())), both.enter_context(closing(new())))
            until.push(both.pop_all())
        return pair

    @property
    def sessions(self) -> tuple[Session, Session]:
        """Both of them."""
        return self.old, self.new

    @property
    def done_bytes(self) -> int:
        """What has gone through."""
        return self.past_bytes + self.now_bytes

    @property
    def recodes(self) -> bool:
        """Whether the two databases have different encodings."""
        return len(_encodings(*self.sessions)) > 1

    def agree(self) -> None:
        """Let both spell values in the same way, without loss, whatever their roles prefer.

        In the time zone of the old one, by which its users read a time without a zone. Rows that a
        policy hides from us are an error, and not left out.
        """
        (zone,) = self.old.execute("SHOW TimeZone").fetchone() or ("UTC",)
        statements = f"{SPELLING}; SET client_encoding = {_encoding(*self.sessions)}"
        self.old.execute(statements.encode())
        self.new.execute(f"{statements}; SET synchronous_commit = off".encode())
        self.new.execute("SELECT set_config('TimeZone', %s, false)", [zone])


def _encoding(*sessions: Session) -> str:
    """Return the encoding that needs no conversion, where there is one; else UTF8.

    Between two databases of SQL_ASCII any bytes may go, which need not be UTF-8.
    """
    found = _encodings(*sessions)
    return "UTF8" if len(found) > 1 else found.pop().decode()


def _encodings(*sessions: Session) -> set[bytes]:
    told = (each.pgconn.parameter_status(b"server_encoding") for each in sessions)
    return {each or b"UTF8" for each in told}


@contextmanager
def snapshot_of(session: Session) -> Iterator[str]:
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
