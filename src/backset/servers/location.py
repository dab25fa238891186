"""Where the target is: on the server of DATABASE_URL, the embedded PostgreSQL, or a throw-away."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from psycopg import sql

from backset.catalog import catalog
from backset.connections.session import connect, explained
from backset.connections.target import Target, respelled
from backset.errors import Overdue, RefusedError, StepFailedError, UnreachableError
from backset.process import process, signals
from backset.process.streams import tell
from backset.servers import programs, swap
from backset.servers.cluster import SUPERUSER, Cluster, account_of, home
from backset.servers.server import Server
from backset.settings import reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backset.connections.session import Session
    from backset.settings.settings import Settings

_KEPT = "postgresql-*/data/PG_VERSION"
_ROOM_BYTES = 2 * 2**30  # a container's /dev/shm may have 64 MB
# A number may have been given to another process since a crash, so that what has it is looked at.
_END_SERVERS = """
import os, pathlib, shutil, signal, subprocess, sys, time
folders = [pathlib.Path(each) for each in sys.argv[1:]]
for file in folders[0].rglob("postmaster.pid"):
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        try:
            pid = int(file.read_text().split()[0])
            ps = ["ps", "-o", "args=", "-p", str(pid)]
            if str(file.parent) not in subprocess.run(ps, capture_output=True, text=True).stdout:
                break
            os.kill(pid, signum)
        except (OSError, ValueError, IndexError):
            break
        deadline = time.monotonic() + 5
        while file.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
for folder in folders:
    shutil.rmtree(folder, ignore_errors=True)
"""


def project_cluster(root: Path) -> Cluster:
    """Return the cluster of the project in `root`; nothing is made or started yet.

    Data stay with their major version, whichever a new cluster would have.
    """
    who = account_of(root)
    place = home(root, who)
    major = _kept_major(place) or programs.default_major()
    return Cluster(folder=place / f"postgresql-{major}", major=major, account=who)


def _kept_major(place: Path) -> int:
    """Return the newest major version of which there are data; 0 for none."""
    kept = [re.search(r"-(\d+)$", str(each.parents[1])) for each in place.glob(_KEPT)]
    return max((int(each[1]) for each in kept if each), default=0)


@contextmanager
def temporary_cluster(
    major: int,
    tcp_port: int | None = None,
    *,
    address: str = "127.0.0.1",
    installation: Path | None = None,
    keep: bool = False,
) -> Iterator[Cluster]:
    """Give a throw-away cluster, not started, in a new folder; after the block both are gone.

    They are gone when we are killed, too.

    installation: a folder with `bin` of that major version; the preferred one by default.
    keep: whether both stay after the block.
    """
    folder = Path(tempfile.mkdtemp(prefix="backset-", dir=temporary_place()))
    folder.chmod(0o755)
    cluster = Cluster(
        folder=folder / "cluster",
        major=major,
        programs=installation,
        account=account_of(folder),
        tcp_port=tcp_port,
        address=address,
    )
    tether = tether_folder(folder, cluster.socket_folder)
    try:
        yield cluster
    finally:
        with signals.deferred():
            if not keep:
                cluster.stop()
                shutil.rmtree(folder)
                shutil.rmtree(cluster.socket_folder, ignore_errors=True)  # it may be elsewhere
            tether.cut()


def tether_folder(folder: Path, *others: Path) -> process.Tether:
    """When we are dead, however we died, let the servers in a folder end, and all folders go."""
    return process.Tether(_END_SERVERS, *map(str, (folder, *others)))


def temporary_place() -> Path:
    """Return where throw-away servers are: in memory, which they need not wait for.

    BACKSET_TEMPORARY names another place.
    """
    memory = Path("/dev/shm")  # noqa: S108  (mkdtemp makes a folder of its own in it)
    if named := reader.temporary_folder():
        return named
    with suppress(OSError, ValueError):
        if f" {memory} tmpfs " in Path("/proc/mounts").read_text() and _room(memory) >= _ROOM_BYTES:
            return memory
    return Path("/tmp")  # noqa: S108  (likewise)


def _room(memory: Path) -> int:
    """Return the bytes that may go into a tmpfs: of itself, of the machine, of our container."""
    space = os.statvfs(memory)
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    room = [space.f_bavail * space.f_frsize, int(fields["MemAvailable"].split()[0]) * 1024]
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # the root of all groups has no such files, or says `max`
        limit = int((group / "memory.max").read_text())
        room.append(limit - int((group / "memory.current").read_text()))
    return min(room)


_ROLE = "ci"
_RESERVED = frozenset({"public", "none"})
_NO_ROLE = re.compile(r'ERROR:  role "(.+?)" does not exist$', re.MULTILINE)  # FATAL: of a login
_NO_RIGHT = re.compile(r'ERROR:  permission denied to create extension "(.+?)"$', re.MULTILINE)
# The image of PostgreSQL starts a first server for its set-up scripts, and ends it before the real
# one comes. That one listens on a socket only; others are less careful.
_ANSWERS = 2
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceNames:
    """What the URL of a throw-away server is made of; an empty role is one of ours."""

    database: str
    role: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A throw-away server: the URL for the tasks, and the file that it logs into.

    role, database: what the URL names. made: the roles that were made because migrations name them.
    extensions: those that make() makes, since our role may not.
    """

    url: str
    log: Path
    role: str
    database: str
    _cluster: Cluster
    made: set[str] = field(default_factory=set)
    extensions: set[str] = field(default_factory=set)

    def has_more(self) -> bool:
        """Tell whether make() is worth it: an administrator could give what statements missed."""
        return any([self._has_made_roles(), self._has_more_extensions()])

    def _has_more_extensions(self) -> bool:
        """Note the extensions that our role may not create; False where there is no new one."""
        denied = set(_NO_RIGHT.findall(self.log.read_text("utf-8", "replace")))
        new = denied - self.extensions
        self.extensions.update(new)
        return bool(new)

    def _has_made_roles(self) -> bool:
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
        """Make the database anew, with those extensions alone; those roles may own tables in it.

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
            for each in map(sql.Identifier, sorted(self.extensions)):
                create = sql.SQL("CREATE EXTENSION IF NOT EXISTS {} CASCADE")
                session.execute(create.format(each))

    def _session(self, database: str = "postgres") -> Session:
        return connect(Target.parse(self._cluster.url(database)), "service")


@contextmanager
def throw_away(names: ServiceNames, major: int = 0, *, keep: bool = False) -> Iterator[Service]:
    """Run a server for as long as the block lasts, TERM and INT included.

    The role has a password and may create databases, and is no superuser, unless it is called like
    the one that every cluster has; the database is not made.
    major: 0 means that of a new embedded server.
    keep: whether it goes on after the block; how it is looked at and ended is then printed.
    """
    major = major or programs.default_major()
    password = secrets.token_urlsafe(12)
    with (
        signals.raised(),
        temporary_cluster(major, tcp_port=_free_port(), keep=keep) as cluster,
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
    # Migrations may make roles, as those that a squash wrote: nothing of the server stays.
    make = sql.SQL(f"{verb} ROLE {{}} LOGIN CREATEDB CREATEROLE PASSWORD {{}}")
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


# The newest ones first; the one that needs an asynchronous env.py comes last.
_SYNCHRONOUS = ("psycopg", "psycopg2", "pg8000")
_LOOK = """
import importlib.metadata, importlib.util
print(importlib.metadata.version("sqlalchemy"), end=" ")
print(*(n for n in ("psycopg", "psycopg2", "pg8000", "asyncpg") if importlib.util.find_spec(n)))
"""


def named(settings: Settings) -> Target:
    """Return the target, whether its server runs or not."""
    cluster = project_cluster(settings.root)
    return settings.target or on(cluster, settings)


def locate(settings: Settings) -> Target:
    """Return the target; start the embedded server, and make its database, where that is ours."""
    cluster, target = project_cluster(settings.root), named(settings)
    if is_embedded(target, cluster) and cluster.start():
        with explained(target), Server(target, "start") as server:
            if not (settings.branch or server.names.target in server.databases()):
                with suppress(StepFailedError):  # another run that waited for us was faster
                    swap.create(server, server.names.target, None)
    return target


def peek(settings: Settings) -> Target | None:
    """Return the target without starting anything; None where that would be needed."""
    cluster, target = project_cluster(settings.root), named(settings)
    return None if is_embedded(target, cluster) and not cluster.is_running() else target


def on(cluster: Cluster, settings: Settings) -> Target:
    """Return the project's database on the embedded server, as its driver wants it."""
    url, driver = cluster.url(settings.database), needed_driver(settings)
    return Target.parse(respelled(url, driver) if driver else url)


def is_embedded(target: Target, cluster: Cluster) -> bool:
    """Tell whether a target is on the embedded server, as also the URL of `invoke url` is."""
    return target.params.get("host") == str(cluster.socket_folder)


def needed_driver(settings: Settings) -> str:
    """Return the driver that a URL must name in the project's interpreter; empty where none need.

    `postgresql://` alone is psycopg 3 for SQLAlchemy 2.1 and psycopg2 for those before. It stays as
    it is where that one is installed, or nothing is known: programs with libpq take no other.
    """
    known = _ours() if settings.python == sys.executable else _asked_driver(settings)
    return chosen_driver(*known) if known else ""


def chosen_driver(sqlalchemy: str, installed: tuple[str, ...]) -> str:
    """Return the driver for a version of SQLAlchemy, of those that are installed.

    Empty where its own choice is among them, or none is there.
    """
    major, minor = (*map(int, sqlalchemy.split(".")[:2]), 0)[:2]
    if ("psycopg" if (major, minor) >= (2, 1) else "psycopg2") in installed:
        return ""
    fit = [each for each in _SYNCHRONOUS if each != "psycopg" or major > 1]  # 1.4 does not know it
    return next((each for each in (*fit, "asyncpg") if each in installed), "")


def _ours() -> tuple[str, tuple[str, ...]] | None:
    names = (*_SYNCHRONOUS, "asyncpg")
    try:
        return version("sqlalchemy"), tuple(each for each in names if find_spec(each))
    except PackageNotFoundError:
        return None


def _asked_driver(settings: Settings) -> tuple[str, tuple[str, ...]] | None:
    """Ask the interpreter; what it lacks altogether, Alembic's process will say."""
    argv = [settings.python, "-c", _LOOK]
    try:
        status, said = process.run(argv, env=settings.plain_env, cwd=settings.root)
    except StepFailedError:
        return None
    known = said[-1].split() if said and not status else []
    return (known[0], tuple(known[1:])) if known else None
