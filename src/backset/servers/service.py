"""A PostgreSQL service as CI has one: the given one, else a throw-away server over TCP."""

from __future__ import annotations

import secrets
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from backset.catalogs import catalog
from backset.connections.session import connect
from backset.connections.target import Target
from backset.errors import RefusedError
from backset.processes import signals
from backset.servers import readiness
from backset.servers.embedded import temporary_cluster
from backset.servers.programs import EMBEDDED_MAJOR, installations
from backset.servers.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster

_ROLE = "ci"


@dataclass(frozen=True, slots=True)
class Service:
    """A throw-away server: the URL for the tasks, and the file that it logs into."""

    url: str
    log: Path


@contextmanager
def throw_away(
    database: str, major: int = EMBEDDED_MAJOR, *, keep: bool = False
) -> Iterator[Service]:
    """Run a server for as long as the block lasts, TERM and INT included.

    The role has a password and may create databases, and is no superuser; `database` is not made.
    keep: whether it goes on after the block; how it is looked at and ended is then printed.
    """
    installation = installations().get(major)
    password = secrets.token_urlsafe(12)
    with (
        signals.raised(),
        temporary_cluster(
            major, tcp_port=_free_port(), installation=installation, keep=keep
        ) as cluster,
    ):
        cluster.start()
        with connect(Target.parse(cluster.url("postgres")), "service") as session:
            role = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}")
            session.execute(role.format(sql.Identifier(_ROLE), sql.Literal(password)))
        url = f"postgresql://{_ROLE}:{password}@127.0.0.1:{cluster.port}/{database}"
        try:
            yield Service(url, cluster.log)
        finally:
            if keep:
                with signals.deferred():
                    _show(cluster, database)


def _show(cluster: Cluster, database: str) -> None:
    """Print the way in, which needs no password, and the way to get rid of it."""
    pid = (cluster.data / "postmaster.pid").read_text(encoding="utf-8").split()[0]
    print(f"kept: psql '{cluster.url(database)}'")  # noqa: T201  (somebody has asked for it)
    print(f"then: kill -INT {pid} && sleep 1 && rm -rf {cluster.folder.parent}")  # noqa: T201


def refuse_rows(url: str, wait_s: int) -> None:
    """Raise RefusedError when the database of `url` has anything in it.

    A check that rebuilds a database must not meet the developer's own by accident, and a service
    of CI starts empty.
    wait_s: how many seconds the server may take until it serves.
    """
    target = Target.parse(url)
    readiness.wait(target, wait_s, lambda _words: None)
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
