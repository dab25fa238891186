"""The swap after a copy: what was written to the old database meanwhile stops it.

Nothing that tells of a write can be relied on while writers are connected, and where none is
connected any more, we are not, either. So one session of ours stays on the old database while
RENAME waits for the last one to leave: it looks whether anything was written, and leaves.
"""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg

from backset.carrying.marks import LARGE_OBJECTS
from backset.carrying.sessions import SPELLING
from backset.carrying.watch import lock
from backset.catalogs.catalog import shown
from backset.connections.session import connect, end, explained, one_line, process_of
from backset.errors import StepFailedError
from backset.processes import signals
from backset.servers import swap

if TYPE_CHECKING:
    from backset.carrying.watch import Watch
    from backset.connections.session import Session
    from backset.migrations.migrating import Progress
    from backset.servers.server import Server

    Name = tuple[str, str]

_LOOK_EVERY_S = 0.005
_ATTEMPTS = 5  # two are enough, unless somebody writes and takes it back all the time


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
        lock(session, tables - {LARGE_OBJECTS})
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
        self._held = held - {LARGE_OBJECTS}
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


_IS_RENAMING = """
SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.objid
               WHERE d.datname = current_database() AND l.classid = 'pg_database'::regclass
                 AND l.pid = %s AND l.mode = 'AccessExclusiveLock' AND l.granted)
"""
_IS_ALONE = """
SELECT NOT EXISTS (SELECT FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid())
"""
