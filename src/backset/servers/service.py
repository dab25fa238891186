"""A PostgreSQL service as CI has one: waited for, or else a throw-away server over TCP.

What has just been started may answer once, and then start again.
"""

from __future__ import annotations

import re
import secrets
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from psycopg import sql

from backset.catalogs import catalog
from backset.connections.session import connect
from backset.connections.target import Target
from backset.errors import Overdue, RefusedError, StepFailedError, UnreachableError
from backset.processes import signals
from backset.processes.streams import tell
from backset.servers.cluster import SUPERUSER
from backset.servers.embedded import temporary_cluster
from backset.servers.programs import EMBEDDED_MAJOR, installations
from backset.servers.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backset.connections.session import Session
    from backset.servers.cluster import Cluster


_ROLE = "ci"
_RESERVED = frozenset({"public", "none"})
_NO_ROLE = re.compile(r'ERROR:  role "(.+?)" does not exist$', re.MULTILINE)  # FATAL: of a login
# The image of PostgreSQL starts a first server for its set-up scripts, and ends it before the real
# one comes. That one listens on a socket only; others are less careful.
_ANSWERS = 2
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the URL of a throw-away server is made of; an empty role is one of ours."""

    database: str
    role: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A throw-away server: the URL for the tasks, and the file that it logs into.

    role, database: what the URL names. made: the roles that were made because migrations name them.
    """

    url: str
    log: Path
    role: str
    database: str
    _cluster: Cluster
    made: set[str] = field(default_factory=set)

    def has_made_roles(self) -> bool:
        """Make the roles that statements have missed, by the log; False where there are none.

        Roles belong to a cluster, and the project's own has those that its migrations grant to.
        Ours may act for each, as an owner may that hands its tables to another role.
        """
        missing = {each[1] for each in _NO_ROLE.finditer(self.log.read_text("utf-8", "replace"))}
        new = sorted(missing - self.made)
        for name in new:
            with self._session() as session:
                session.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
                names = sql.Identifier(name), sql.Identifier(self.role)
                session.execute(sql.SQL("GRANT {} TO {}").format(*names))
            self.made.add(name)
        return bool(new)

    def make(self) -> None:
        """Make the database anew and empty; those roles may own tables in it.

        PostgreSQL demands that of an owner, and no migration could say it before it begins.
        """
        name, ours = sql.Identifier(self.database), sql.Identifier(self.role)
        with self._session() as session:
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            create = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0")
            session.execute(create.format(name, ours))
        with self._session(self.database) as session:
            for each in map(sql.Identifier, sorted(self.made)):
                session.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(each))

    def _session(self, database: str = "postgres") -> Session:
        return connect(Target.parse(self._cluster.url(database)), "service")


@contextmanager
def throw_away(
    names: Names, major: int = EMBEDDED_MAJOR, *, keep: bool = False
) -> Iterator[Service]:
    """Run a server for as long as the block lasts, TERM and INT included.

    The role has a password and may create databases, and is no superuser, unless it is called like
    the one that every cluster has; the database is not made.
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
        role = _made(cluster, names.role, password)
        scheme = f"postgresql+{names.driver}" if names.driver else "postgresql"
        where = f"127.0.0.1:{cluster.port}/{quote(names.database, safe='')}"
        url = f"{scheme}://{quote(role, safe='')}:{password}@{where}"
        try:
            yield Service(url, cluster.log, role, names.database, cluster)
        finally:
            if keep:
                with signals.deferred():
                    _show(cluster, names.database)


def _made(cluster: Cluster, role: str, password: str) -> str:
    """Let a role log in, of that name where the server takes it; return whom."""
    name = role if role and not role.startswith("pg_") and role not in _RESERVED else _ROLE
    verb = "ALTER" if name == SUPERUSER else "CREATE"
    make = sql.SQL(f"{verb} ROLE {{}} LOGIN CREATEDB PASSWORD {{}}")
    with connect(Target.parse(cluster.url("postgres")), "service") as session:
        session.execute(make.format(sql.Identifier(name), sql.Literal(password)))
    return name


def _show(cluster: Cluster, database: str) -> None:
    """Print the way in, which needs no password, and the way to get rid of it."""
    pid = (cluster.data / "postmaster.pid").read_text(encoding="utf-8").split()[0]
    tell(f"kept: psql '{cluster.url(database)}'")
    tell(f"then: kill -INT {pid} && sleep 1 && rm -rf {cluster.folder.parent}")


def refuse_rows(url: str, wait_s: int) -> None:
    """Raise RefusedError when the database of `url` has anything in it.

    A check that rebuilds a database must not meet the developer's own by accident, and a service
    of CI starts empty.
    wait_s: how many seconds the server may take until it serves.
    """
    target = Target.parse(url)
    wait(target, wait_s, lambda _words: None)
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


def wait(target: Target, seconds: float, tell: Callable[[str], None]) -> int:
    """Return the major version of the target's server, when it has answered twice in a row.

    The target itself need not exist: any database that lets us in is an answer.
    seconds: after which it is given up. tell: gets libpq's words, whenever they change.
    Raises StepFailedError with the last of them.
    """
    told = ["no answer"]

    def say(words: str) -> None:
        if words != told[-1]:
            told.append(words)
            tell(words)

    try:
        with signals.limited(seconds):  # one that takes connections and is silent costs 10 s each
            if major := _answered(target, say, once=not seconds):
                return major
    except Overdue:
        pass
    what = f"{target.shown} does not serve after {seconds:g} s: {told[-1]}"
    raise StepFailedError(what, "start the server, or correct DATABASE_URL")


def _answered(target: Target, say: Callable[[str], None], *, once: bool) -> int:
    """Return the major version after ANSWERS in a row; 0 where `once` and there was none."""
    good = 0
    while True:
        major, words = _asked(target)
        good = good + 1 if major else 0
        if words:
            say(words)
        if good == _ANSWERS or (once and not major):
            return major
        time.sleep(_PAUSE_S)


def _asked(target: Target) -> tuple[int, str]:
    """Return the major version and nothing, or 0 and why not."""
    try:
        with Server(target, "wait") as server:
            return server.major, ""
    except UnreachableError as error:
        return 0, error.words
