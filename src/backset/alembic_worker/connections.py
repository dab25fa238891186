"""Every connection that SQLAlchemy opens, and the proof that it is to the right database."""

from __future__ import annotations

import contextlib
from typing import Any

import sqlalchemy
from sqlalchemy import event

from .failures import WrongTargetError


class Gate:
    """Demands of every new connection that it sees the lock which our parent holds there.

    lock_key: None as long as no database has been agreed on.
    """

    def __init__(self) -> None:
        self.lock_key = None  # type: int | None
        event.listen(sqlalchemy.pool.Pool, "connect", self._prove)

    def _prove(self, connection: Any, _record: Any) -> None:
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
       (pg_catalog.inet_server_addr() || ':' || pg_catalog.inet_server_port())::text,
       EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name = 'client_connection_check_interval'
               AND setting = '0')
"""
