"""Copies of whole databases, made by the server: a template of `__next`, and `__next` of one.

Measured: the server copies 8 MB page by page, through its log, in 0.03 s, and as files in 0.1 s,
since that wants two checkpoints; 500 MB take it 1.2 s and 0.4 s.
"""

from __future__ import annotations

import time
from threading import Thread
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.connections.session import connect, one_line, process_of
from backset.errors import BacksetError
from backset.processes import signals
from backset.servers import swap
from backset.servers.server import LOCALLY

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.connections.session import Session
    from backset.servers.server import Database, Server

_AS_FILES_ABOVE = 100_000_000  # bytes
_LEAVING_S = 0.2  # for sessions that have just been closed
_LOOK_EVERY_S = 0.001


def copy(
    session: Session, source: Database, name: str, like: Database, *, closed: bool = False
) -> None:
    """Create the database `name` as a copy of `source`, which nobody may be connected to.

    like: the one whose owner and tablespace it gets. closed: nobody may connect to it, not even a
    superuser, from its beginning. Raises psycopg.Error.
    """
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
        *map(sql.Identifier, (name, source.name, like.owner))
    )
    if like.tablespace is not None:
        statement += sql.SQL(" TABLESPACE {}").format(sql.Identifier(like.tablespace))
    if closed:
        statement += sql.SQL(" ALLOW_CONNECTIONS false")
    major = session.info.server_version // 10000
    if major >= 15 and (source.size_bytes or 0) > _AS_FILES_ABOVE:  # noqa: PLR2004  (before, all are)
        statement += sql.SQL(" STRATEGY file_copy")
        if major >= 18 and _has_shared_blocks(session, statement):  # noqa: PLR2004  (file_copy_method)
            return
    session.execute(statement)


def _has_shared_blocks(session: Session, statement: sql.Composed) -> bool:
    """Try to let the file system share the blocks of both; tell whether it could."""
    try:
        session.execute("SET file_copy_method = clone")
        session.execute(statement)
    except psycopg.Error:
        session.execute("RESET file_copy_method")
        return False
    return True


class Copying:
    """A closed copy that the server makes of a database while we go on.

    then: what is done when it is there, on the session that made it, in a thread.
    """

    def __init__(
        self, server: Server, source: Database, name: str, then: Callable[[Session], None]
    ) -> None:
        self._server = server
        self._source = source
        self._name = name
        self._then = then
        self._session = connect(server.maintenance, "keep")
        self._pid = process_of(self._session)
        self._session.execute(LOCALLY.encode())
        self._thread = Thread(target=self._run, daemon=True)
        self.problem = ""

    def begin(self) -> None:
        """Begin when our own sessions have left the source; return when it can be used again.

        From then on a new session on it waits until it is copied, so that it cannot change before.
        With a session of somebody else on it there is no copy.
        """
        deadline = time.monotonic() + _LEAVING_S
        while self._asked(_CONNECTED):
            if time.monotonic() > deadline:
                self.problem = f"somebody else is connected to {self._source.name}"
                return
            time.sleep(_LOOK_EVERY_S)
        with signals.deferred():
            self._thread.start()
        while self._thread.is_alive() and not self._asked(_HELD):
            time.sleep(_LOOK_EVERY_S)

    def finish(self) -> None:
        """Wait until it is made; `problem` says what kept it from that."""
        if self._thread.ident is not None:
            self._thread.join()
        self._session.close()

    def stop(self) -> None:
        """Let the server give it up."""
        if self._thread.is_alive():
            self._session.cancel_safe(timeout=5)
        self.finish()

    def _asked(self, query: str) -> bool:
        given = {"name": self._source.name, "pid": self._pid}
        return self._server.session.execute(query, given).fetchone() == (True,)

    def _run(self) -> None:
        try:
            swap.drop_by(self._server, self._session, self._name)
            copy(self._session, self._source, self._name, self._source, closed=True)
            self._then(self._session)
        except (psycopg.Error, BacksetError, OSError) as error:
            self.problem = one_line(error, self._server.target)


_CONNECTED = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = %(name)s
               AND backend_type <> 'autovacuum worker')
"""
_HELD = """
SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.objid
               WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass
                 AND l.mode = 'ShareLock' AND l.granted AND l.pid = %(pid)s
                 AND d.datname = %(name)s)
"""
