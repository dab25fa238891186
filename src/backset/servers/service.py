"""A PostgreSQL service as CI has one: the given one, else a throw-away server over TCP."""

from __future__ import annotations

import secrets
import shutil
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg import sql

from backset.catalogs import catalog
from backset.connections.session import connect
from backset.connections.target import Target
from backset.errors import RefusedError
from backset.processes import signals
from backset.servers.embedded import temporary_cluster
from backset.servers.programs import EMBEDDED_MAJOR
from backset.servers.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROLE = "ci"


@contextmanager
def throw_away(database: str, major: int = EMBEDDED_MAJOR) -> Iterator[str]:
    """Run a server for as long as the block lasts, TERM and INT included; give its URL.

    The role has a password and may create databases, and is no superuser; `database` is not made.
    """
    cluster = temporary_cluster(major, tcp_port=_free_port())
    password = secrets.token_urlsafe(12)
    with signals.raised():
        try:
            cluster.start()
            with connect(Target.parse(cluster.url("postgres")), "service") as session:
                role = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}")
                session.execute(role.format(sql.Identifier(_ROLE), sql.Literal(password)))
            yield f"postgresql://{_ROLE}:{password}@127.0.0.1:{cluster.port}/{database}"
        finally:
            with signals.deferred():
                cluster.stop()
                shutil.rmtree(cluster.folder.parent)


def refuse_rows(url: str) -> None:
    """Raise RefusedError when the database of `url` has anything in it.

    A check that rebuilds a database must not meet the developer's own by accident, and a service
    of CI starts empty.
    """
    target = Target.parse(url)
    with Server(target, "service") as server:
        if target.database not in server.databases():
            return
    with connect(target, "service") as session:
        if not catalog.is_empty(session):
            what = f"DATABASE_URL names {target.shown}, which is not empty"
            raise RefusedError([(what, "unset it, or if it may be rebuilt: -- --service")])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
