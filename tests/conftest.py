"""What all tests share: one real PostgreSQL of their own, and projects to run `invoke` in."""

from __future__ import annotations

import contextlib
import os
import pty
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from backset.connections.target import Target
from backset.servers.embedded import temporary_cluster
from tests.incident.project import lay_down

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.servers.cluster import Cluster

pytest_plugins = ["tests.elsewhere", "tests.servers"]

REPOSITORY = Path(__file__).parents[1]
PROJECTS = REPOSITORY / "tests/projects"  # one for every shape of chain
PASSWORD = "can%ary:p@ss/word '\"x"
ROLE = "developer"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pytest_configure() -> None:
    """End in good order on TERM too, which is what nox sends: no server may outlive its tests."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def nothing_of_the_developers() -> Iterator[None]:
    """Hide the developer's own database from every test and from every child of one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("PG", "BACKSET_")) or name == "DATABASE_URL":
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def signals_as_on_a_terminal() -> None:
    """Undo what nohup and background jobs do: a child would inherit that INT or HUP is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))


@pytest.fixture(scope="session")
def cluster(nothing_of_the_developers: None) -> Iterator[Cluster]:
    """A running PostgreSQL 18 with a socket, a TCP port, and a role that is not a superuser."""
    made = temporary_cluster(18, tcp_port=free_port())
    made.start()
    try:
        with psycopg.connect(made.url("postgres"), autocommit=True) as session:
            role = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}")
            session.execute(role.format(sql.Identifier(ROLE), sql.Literal(PASSWORD)))
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.folder.parent)


@pytest.fixture
def superuser(cluster: Cluster) -> Iterator[psycopg.Connection[Any]]:
    """A session of the superuser on the maintenance database."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as session:
        yield session


@pytest.fixture
def name(superuser: psycopg.Connection[Any]) -> Iterator[str]:
    """A database name of this test's own; whatever is derived from it is dropped afterwards."""
    name = f"t_{secrets.token_hex(4)}"
    yield name
    found = superuser.execute(
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [name]
    ).fetchall()
    for (each,) in found:
        superuser.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(each))
        )


@pytest.fixture
def database_url(cluster: Cluster, superuser: psycopg.Connection[Any], name: str) -> str:
    """The URL of a fresh empty database, as the superuser, over the socket."""
    superuser.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return cluster.url(name)


@pytest.fixture
def missing_url(cluster: Cluster, name: str) -> str:
    """The URL of a database that does not exist yet."""
    return cluster.url(name)


@dataclass
class Project:
    """A copy of this repository's application side, in which `invoke` runs as a child process."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()  # words before the command, such as those of `elsewhere`

    def invoke(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `invoke …` without a terminal; the caller judges the exit code."""
        return subprocess.run(
            [*self.prefix, sys.executable, "-m", "invoke", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `invoke …` and return at once."""
        return subprocess.Popen(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def on_a_terminal(self, *arguments: str, typed: str = "", **env: str) -> tuple[int, str]:
        """Run `invoke …` on a pseudo-terminal with somebody who types; return code and output."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "invoke", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.env, "TERM": "dumb", **env},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            os.write(ours, typed.encode())
            shown = b""
            with contextlib.suppress(OSError):  # EIO: the other side is closed
                while piece := os.read(ours, 4096):
                    shown += piece
            os.close(ours)
            return process.wait(), shown.decode()

    def configure(self, old: str, new: str) -> None:
        """Replace a piece of the project's pyproject.toml."""
        path = self.folder / "pyproject.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    @property
    def url(self) -> str:
        """The DATABASE_URL that it is given."""
        return self.env["DATABASE_URL"]

    def query(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement on the target, or on another database of its server."""
        target = Target.parse(self.url)
        params = {**target.params, "dbname": database or target.database}
        with psycopg.connect(**params) as connection:  # type: ignore[arg-type]
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Project:
    """A project whose DATABASE_URL names a fresh empty database."""
    folder = tmp_path / "project"
    folder.mkdir()
    lay_down(folder, REPOSITORY)
    return Project(folder, {"DATABASE_URL": database_url})


@pytest.fixture
def plain(superuser: psycopg.Connection[Any]) -> str:
    """A role that may log in and nothing else."""
    role = f"plain_{secrets.token_hex(4)}"
    superuser.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    return role


@pytest.fixture
def owned(
    project: Project, cluster: Cluster, superuser: psycopg.Connection[Any], plain: str, name: str
) -> Project:
    """A project whose database belongs to a role without CREATEDB."""
    owner = sql.SQL("ALTER DATABASE {} OWNER TO {}")
    superuser.execute(owner.format(sql.Identifier(name), sql.Identifier(plain)))
    project.env["DATABASE_URL"] = cluster.url(name, plain)
    return project


def laid_down(folder: Path, name: str, url: str) -> Project:
    """Copy a project of tests/projects into a folder of its own."""
    shutil.copytree(PROJECTS / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tasks.py").write_text("from backset.tasks import namespace\n")
    return Project(folder, {"DATABASE_URL": url})


@pytest.fixture
def tcp_url(cluster: Cluster, superuser: psycopg.Connection[Any], database_url: str) -> str:
    """The same database over TCP, as its owner, with a password that has to be encoded."""
    name = Target.parse(database_url).database
    owner = sql.SQL("ALTER DATABASE {} OWNER TO {}")
    superuser.execute(owner.format(sql.Identifier(name), sql.Identifier(ROLE)))
    return f"postgresql://{ROLE}:{quote(PASSWORD, safe='')}@127.0.0.1:{cluster.tcp_port}/{name}"


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A folder with a short path that every account may enter, as a socket and its server need."""
    folder = Path(tempfile.mkdtemp(prefix="bs-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
