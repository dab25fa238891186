"""Every connection that SQLAlchemy opens: sent to the right database, and proved to be there."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Engine

from .failures import FoundError, WrongTargetError

_PARTS = ("host", "port", "dbname", "user", "password")
_PLAIN = (str, int, bool)  # what of a connection's parameters can be told to the parent


class Gate:
    """Sends what is meant for one database to another one, and demands the proof of it.

    lock_key: of the lock which our parent holds in the agreed database; None: none is agreed on.
    names: a database, and the one that is opened in its place, whatever URL env.py has.
    only_reads: whether nothing may be committed, not even what env.py does by itself.
    only_looks: whether the first connection is to be told, and not made.
    opened: what env.py wanted to open last.
    """

    def __init__(self) -> None:
        self.lock_key = None  # type: int | None
        self.names = ("", "")
        self.only_reads = False
        self.only_looks = False
        self.opened = {}  # type: dict[str, Any]
        event.listen(Engine, "do_connect", self._direct)
        event.listen(Engine, "engine_connect", self._hold)
        event.listen(Engine, "before_cursor_execute", self._hold)
        event.listen(sqlalchemy.pool.Pool, "connect", self._prove)

    def _direct(self, dialect: Any, _record: Any, cargs: Any, cparams: Any) -> Any:
        """Replace the database in the parameters of a connection, or tell them to the parent."""
        told = {key: value for key, value in cparams.items() if isinstance(value, _PLAIN)}
        self.opened = {**told, "dialect": dialect.name, "driver": dialect.driver}
        if self.only_looks:
            raise FoundError
        old, new = self.names
        key = "dbname" if "dbname" in cparams else "database"
        if not old or old == new or cparams.get(key) != old:
            return None
        cparams[key] = new
        try:
            return dialect.connect(*cargs, **cparams)
        except Exception as error:
            if f'"{new}" does not exist' in str(error):  # so it is another server
                raise WrongTargetError(f"{old} on {self.server}") from error
            raise

    def _hold(self, connection: Any, *_of_the_event: Any) -> None:
        """Let no connection commit what we cannot take back, not even one in autocommit mode."""
        dialect = connection.dialect
        dialect.do_commit = partial(self._commit, type(dialect), dialect)
        driver = connection.connection.dbapi_connection
        if self.only_reads and getattr(driver, "autocommit", False):
            dialect.set_isolation_level(driver, "READ COMMITTED")

    def _commit(self, kind: Any, dialect: Any, connection: Any) -> None:
        """Commit, or roll back: many an env.py commits a CREATE SCHEMA before it does anything."""
        (kind.do_rollback if self.only_reads else kind.do_commit)(dialect, connection)

    @property
    def server(self) -> str:
        """Where env.py's last connection was meant to go."""
        host = self.opened.get("host", "")
        return f"{host or 'localhost'}:{self.opened.get('port', 5432)}"

    def _prove(self, connection: Any, _record: Any) -> None:
        """Demand of every new connection that it sees the lock which our parent holds there."""
        if self.only_looks:  # it was made in a way of its own, past _direct(), as by creator=
            info = getattr(connection, "info", None)  # psycopg and psycopg2
            told = {each: getattr(info, each, None) for each in _PARTS}
            self.opened.update({key: value for key, value in told.items() if value})
            raise FoundError
        if self.lock_key is None:
            raise WrongTargetError("env.py opened a connection though no database was agreed on")
        cursor = connection.cursor()
        cursor.execute(_PROOF.format(high=self.lock_key >> 32, low=self.lock_key & 0xFFFFFFFF))
        proved, database, server, can_watch = cursor.fetchone()
        connection.rollback()
        if not proved:
            raise WrongTargetError(f"{database} on {server or 'a Unix socket'}")
        if can_watch:  # else a statement that waits for a lock would go on waiting without us
            with contextlib.suppress(Exception):  # not every platform's server can
                cursor.execute("SET client_connection_check_interval = '1s'")
                connection.commit()
            connection.rollback()
        cursor.close()


_PROOF = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database
               WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                 AND l.classid::bigint = {high} AND l.objid::bigint = {low}
                 AND d.datname = pg_catalog.current_database()),
       pg_catalog.current_database()::text,
       (pg_catalog.host(pg_catalog.inet_server_addr()) || ':'
        || pg_catalog.inet_server_port())::text,
       EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name = 'client_connection_check_interval'
               AND setting = '0')
"""
