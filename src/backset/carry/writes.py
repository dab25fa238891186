"""The swap after a copy: what was written to the old database meanwhile stops it.

Nothing that tells of a write can be relied on while writers are connected, and where none is
connected any more, we are not, either. So one session of ours stays on the old database while
RENAME waits for the last one to leave: it looks whether anything was written, and leaves.
"""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from backset.carry import comparison, plan
from backset.carry.tables import SPELLING
from backset.catalog import catalog, past
from backset.catalog.catalog import shown
from backset.connections.session import connect, end, explained, one_line, process_of
from backset.errors import StepFailedError
from backset.process import signals
from backset.servers import swap
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from backset.carry.comparison import Digest
    from backset.carry.tables import Name, TableCopy
    from backset.connections.session import Session
    from backset.migrate.upgrading import Progress
    from backset.servers.server import Server
    from backset.settings.rules import Rules

_LARGE_OBJECTS = ("pg_catalog", "pg_largeobject_metadata")
_SHARED = 150000  # from here on a session's counts are there for all before it has left
_LOOK_EVERY_S = 0.005
_ATTEMPTS = 5  # two are enough, unless somebody writes and takes it back all the time


@dataclass(frozen=True, slots=True)
class Marks:
    """How often the rows of each table have been written to, and which files they are in.

    tables: by schema and name, for each part of a partitioned table: the oid, the file, the
    transactions that wrote its entries in the catalog last (TRUNCATE, ALTER TABLE), and how many
    rows were inserted, updated and deleted, whatever became of that.
    reset: when somebody set those numbers to zero. are_kept: whether the server keeps them for
    every session; a superuser who stops that for a session of his own cannot be seen.
    """

    tables: Mapping[Name, tuple[Any, ...]]
    reset: datetime | None
    are_kept: bool

    def moved(self, later: Marks) -> set[Name]:
        """Return the tables that may have been written to, made or dropped until `later`."""
        names = self.tables.keys() | later.tables.keys()
        if self.are_kept and later.are_kept and self.reset == later.reset:
            return {name for name in names if self.tables.get(name) != later.tables.get(name)}
        return names - {_LARGE_OBJECTS}  # nobody can keep others from making one, while we look


def _read(session: Session) -> Marks:
    """Return the marks of every table of the users, and of the list of large objects.

    A session adds what it has done to the server's numbers after its commit: at once when it ends,
    within seconds when it is idle. So what is read before a snapshot is taken never has a write in
    it that the snapshot has not; and what is read when no other session is left has every write
    (pgstat_relation.c: AtEOXact_PgStat_Relations; pgstat.c: pgstat_shutdown_hook).
    """
    session.execute("SELECT pg_stat_clear_snapshot()")
    kept, reset = session.execute(_DATABASE).fetchone() or (False, None)
    is_shared = session.info.server_version >= _SHARED
    rows = session.execute(_TABLES).fetchall()
    tables: dict[Name, tuple[Any, ...]] = {}
    for schema, name, *mark in rows:
        tables[schema, name] = (*tables.get((schema, name), ()), tuple(mark))
    return Marks(tables, reset, kept and is_shared)


@dataclass
class Watch:
    """The rules of a carry, the old database's marks, and the digests of what was copied.

    before: from before the snapshot of the copy; after a look, those of that look.
    is_whole: whether whole tables were copied, whatever of them came into the new database.
    """

    rules: Rules
    before: Marks
    copied: Sequence[tuple[TableCopy, Digest]] = field(default_factory=tuple)
    is_whole: bool = False

    @classmethod
    def begin(cls, session: Session, rules: Rules) -> Watch:
        """Begin, on a session in no transaction, before the snapshot of the copy is taken."""
        return cls(rules, _read(session))

    def look(self, session: Session) -> set[Name]:
        """Return the tables that may have been written to since the last look, and matter."""
        now = _read(session)
        moved, self.before = self.before.moved(now), now
        return {name for name in moved if self._matters(name)}

    def _matters(self, name: Name) -> bool:
        if name == _LARGE_OBJECTS:
            return self.rules.carries_all and not self.rules.leaves(past.LARGE_OBJECTS)
        if any(name == transfer.source for transfer, _ in self.copied):
            return True
        return self.rules.carries(shown(*name)) and not self.rules.leaves(shown(*name))

    def compare(self, session: Session, new: Session, tables: AbstractSet[Name]) -> None:
        """Demand that the plan is still what it was, and that some tables have the rows copied.

        A new table, or a value in a column that had none, has no place in the new schema.
        session: in the transaction in which _lock() was called. Raises StepFailedError.
        """
        found = {each.table: each for each in self._transfers(session, new)}
        known = {each.source for each, _ in self.copied}
        if self.is_whole and (others := found.keys() & tables - known):
            raise _written(f"{', '.join(shown(*each) for each in sorted(others))} is new")
        if self.is_whole and _LARGE_OBJECTS in tables and past.large_objects(session):
            raise _written("it has large objects now")
        differences = [
            words
            for transfer, copied in self.copied
            if transfer.source in tables
            for words in _differences(session, transfer, found.get(transfer.table), copied)
        ]
        if differences:
            raise _written("; ".join(differences))

    def _transfers(self, session: Session, new: Session) -> Sequence[TableCopy]:
        if self.is_whole:
            return plan.whole(session, self.rules)
        decided = plan.decide(session, new, self.rules)
        if decided.problems:
            raise StepFailedError.of(decided.problems)
        return decided.transfers


def _lock(session: Session, tables: Collection[Name]) -> None:
    """Let others read some tables, and not write them, until the session's transaction ends.

    Raises StepFailedError where one is gone.
    """
    for name in sorted(tables):
        try:
            session.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(sql.Identifier(*name)))
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            raise _written(f"{shown(*name)} is gone") from None


def _differences(
    session: Session, before: TableCopy, now: TableCopy | None, copied: Digest
) -> Iterator[str]:
    name = shown(*before.source)
    if now is None or (now.source, now.columns) != (before.source, before.columns):
        yield f"{name} has other columns"
        return
    found = comparison.digest_of_old(session, now)
    if found.rows != copied.rows:
        yield f"{name} has {count(found.rows, 'row')}, and had {copied.rows:,}"
    elif found != copied:
        yield f"{name} has other values in its {count(found.rows, 'row')}"


def _written(how: str) -> StepFailedError:
    what = f"the old database was written to since it was copied: {how}"
    return StepFailedError(what, "stop what writes there, then run this again")


class _WrittenError(Exception):
    """Tables were written to, as it seems, since the last look: the swap is rolled back."""

    def __init__(self, tables: set[Name]) -> None:
        self.tables = tables


def promote(server: Server, watch: Watch, swap_them: swap.Swap, progress: Progress) -> None:
    """Swap, if the old database still is what was copied; raise StepFailedError if not.

    The server's numbers decide where they can: that costs nothing. They also count what was rolled
    back or had its place in the copy already; what they name is read again, while writers wait.
    """
    doubtful: set[Name] = set()
    for _attempt in range(_ATTEMPTS):
        with closing(connect(server.target, server.purpose)) as session:
            with explained(server.target):
                doubtful |= watch.look(session)
                if doubtful:
                    progress("reading again what seems to have been written to")
                    _hold(server, session, watch, doubtful)
            last = _Last(server, session, watch, doubtful)
            try:
                with last:
                    swap_them(spare=process_of(session), last=last.judge)
            except _WrittenError as error:
                doubtful |= error.tables
            else:
                return
    names = ", ".join(shown(*each) for each in sorted(doubtful))
    what = f"the old database is being written to again and again: {names}"
    raise StepFailedError(what, "stop what writes there, then run this again")


def _hold(server: Server, session: Session, watch: Watch, tables: set[Name]) -> None:
    """Keep writers out of some tables until the session ends, and compare their rows."""
    session.execute(SPELLING.encode())
    session.execute("BEGIN")
    names, spare = [server.names.target], process_of(session)
    with swap.evicting(server, names, spare=spare):  # a writer may sit on its locks for hours
        _lock(session, tables - {_LARGE_OBJECTS})
    next_ = server.target.named(server.names.next)
    with closing(connect(next_, server.purpose)) as new:
        watch.compare(session, new, tables)


class _Last:
    """A thread that waits until a session is the last one on the target, looks, and closes it.

    held: the tables that this session keeps writers out of.
    """

    def __init__(self, server: Server, session: Session, watch: Watch, held: set[Name]) -> None:
        self._server = server
        self._renaming = process_of(server.session)
        self._session = session
        self._watch = watch
        self._held = held - {_LARGE_OBJECTS}
        self._seen: set[Name] | None = None
        self._error: psycopg.Error | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._wait, daemon=True)

    def __enter__(self) -> None:
        with signals.deferred():
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def judge(self, _renaming: Session) -> None:
        """Raise _WrittenError if something was written; called when RENAME has come through."""
        self._thread.join()
        if self._seen is None:
            words = one_line(self._error, self._server.target) if self._error else "no answer"
            what = f"whether it was written to since it was copied cannot be told: {words}"
            raise StepFailedError(what, "run this again")
        if self._seen:
            raise _WrittenError(self._seen)

    def _wait(self) -> None:
        try:
            with closing(self._session):
                while not self._over.wait(_LOOK_EVERY_S):
                    if self._is_last():
                        self._seen = self._watch.look(self._session) - self._held
                        end(self._session)
                        return
        except psycopg.Error as error:
            self._error = error

    def _is_last(self) -> bool:
        """Tell whether nobody else is connected, and nobody can be from now on.

        A session is seen by others before it lets go of the lock that every connection takes on its
        database, and RENAME waits for (postinit.c: InitPostgres). What it has counted it adds to
        the server's numbers before it is no longer seen.
        """
        run = self._session.execute
        if run(_IS_RENAMING, [self._renaming]).fetchone() != (True,):
            return False
        run("SELECT pg_stat_clear_snapshot()")
        return run(_IS_ALONE).fetchone() == (True,)


_DATABASE = """
SELECT current_setting('track_counts')::bool AND NOT EXISTS (
           SELECT FROM pg_db_role_setting s, unnest(s.setconfig) AS each
           WHERE s.setdatabase IN (0, d.oid) AND each ~* '^track_counts=(?!(on|true|yes|1)$)'),
       pg_stat_get_db_stat_reset_time(d.oid)
FROM pg_database d WHERE d.datname = current_database()
"""
_TABLES = f"""
SELECT n.nspname::text, root.relname::text, c.oid, pg_relation_filenode(c.oid), c.xmin::text,
       (SELECT string_agg(a.xmin::text, ' ' ORDER BY attnum) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND attnum > 0),
       pg_stat_get_tuples_inserted(c.oid), pg_stat_get_tuples_updated(c.oid),
       pg_stat_get_tuples_deleted(c.oid)
FROM pg_class c JOIN pg_class root
     ON root.oid = CASE WHEN c.relispartition THEN pg_partition_root(c.oid) ELSE c.oid END
     JOIN pg_namespace n ON n.oid = root.relnamespace
WHERE (n.nspname, root.relname) IN (SELECT * FROM ({catalog.TABLES}) AS tables)
   OR (n.nspname, root.relname) = {_LARGE_OBJECTS}
ORDER BY c.oid
"""
_IS_RENAMING = """
SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.objid
               WHERE d.datname = current_database() AND l.classid = 'pg_database'::regclass
                 AND l.pid = %s AND l.mode = 'AccessExclusiveLock' AND l.granted)
"""
_IS_ALONE = """
SELECT NOT EXISTS (SELECT FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid())
"""
