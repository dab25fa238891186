"""What a carry works with: the two sides, the tables of each, pairs of sessions.

The sessions see one moment, and values pass between them without loss.
"""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from backset.catalog.catalog import shown
from backset.connections import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backset.connections.session import Session
    from backset.runs.databases import CurrentDatabase, WorkDatabase
    from backset.runs.states import InPlaceState, RunBackups
    from backset.servers.server import Server
    from backset.settings.rules import Origin, Rules

Name = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrySides:
    """The two databases of a carry, and where else the rows may come from.

    old: the target, whose rows they are unless `origin` names another place. new: the database that
    gets the rows. in_place: what is left of the old one, where both are the same.
    """

    server: Server
    old: CurrentDatabase
    new: WorkDatabase
    rules: Rules
    origin: Origin | None
    backups: RunBackups
    in_place: InPlaceState


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCopy:
    """One table's way from the old database into the new one.

    source: (schema, name) in the old database; table: the same in the new one. A partitioned table
    stands for its partitions.
    columns: the columns of the new table that get a value, in the order of the query's.
    query: a SELECT in the old database; each of its columns has the type of the new table's column,
    or one whose text that type reads. It has no ORDER BY, and no condition: every row is carried.
    filled: those of the columns that get what an expression of the settings says. They cannot be
    compared with the old rows: it may have another value each time.
    rows: how many rows the old table has. size_bytes: what they take in the old database, without
    indexes, which is about what goes through; an estimate.
    """

    source: Name
    table: Name
    columns: tuple[str, ...]
    query: sql.Composable
    rows: int
    size_bytes: int
    filled: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The name of the new table, as it is shown to people."""
        return shown(*self.table)


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedTable:
    """A table, or a partitioned one with all its partitions.

    name: schema and name; spelled: the same as SQL. key: the columns of its primary key.
    family: its oid, and those of its partitions, and of theirs.
    """

    name: Name
    spelled: str
    key: tuple[str, ...]
    family: tuple[int, ...]


def found(session: Session, names: Sequence[Name]) -> list[CarriedTable]:
    """Return these tables, in the same order."""
    schemas, tables = ([name[place] for name in names] for place in (0, 1))
    rows = session.execute(_TABLES, [schemas, tables]).fetchall()
    return [
        CarriedTable(
            name=(schema, table),
            spelled=spelled,
            key=tuple(key),
            family=tuple(family),
        )
        for schema, table, spelled, key, family in rows
    ]


def alone(session: Session, name: Name) -> sql.Composed:
    """Return how SQL names a table without those that inherit from it.

    A partitioned one has its rows in its partitions alone.
    """
    (is_partitioned,) = session.execute(_IS_PARTITIONED, name).fetchone() or (False,)
    return sql.SQL("" if is_partitioned else "ONLY ") + sql.Identifier(*name)


def listed(columns: Sequence[str]) -> sql.Composed:
    """Return names as SQL lists them."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))


_TABLES = """
SELECT n.nspname, c.relname, format('%%I.%%I', n.nspname, c.relname), ARRAY(
    SELECT a.attname::text FROM pg_constraint k
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (k.conkey)
    WHERE k.conrelid = c.oid AND k.contype = 'p' ORDER BY array_position(k.conkey, a.attnum)
), ARRAY(
    SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)
)
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS wanted (schema, name, place)
     JOIN pg_namespace n ON n.nspname = wanted.schema
     JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
ORDER BY place
"""
_IS_PARTITIONED = """
SELECT c.relkind = 'p' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""


SPELLING = """
SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 3;
SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET xmloption = 'content';
SET row_security = off"""
_BEGIN = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"


@dataclass(slots=True)
class SessionPair:
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
    ) -> SessionPair:
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


@contextmanager
def paired(
    old: Callable[[], Session], new: Callable[[], Session], snapshot: str
) -> Iterator[list[SessionPair]]:
    """Give pairs of sessions that agree and see this snapshot, whose holder outlives the block.

    old, new: open sessions, which are closed again.
    """
    with ExitStack() as opened:
        pairs = workers.hands(lambda: SessionPair.opened(old, new, opened))
        for pair in pairs:
            pair.agree()
            adopt(pair.old, snapshot)
        yield pairs


def adopt(session: Session, name: str) -> None:
    """Let a session see what the holder of this snapshot sees, until its transaction ends."""
    session.execute(_BEGIN)
    session.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
