"""What all tests share: one real PostgreSQL of their own, and projects to run `invoke` in."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from backset.connections.target import Target
from backset.process import process
from backset.servers.location import tether_folder
from backset.settings.settings import TEMPORARY
from tests import forked
from tests.clusters import free_port, running
from tests.incident.project import lay_down
from tests.project import REPOSITORY, Project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.servers.cluster import Cluster

pytest_plugins = ["tests.elsewhere", "tests.servers"]

PASSWORD = "can%ary:p@ss/word '\"x"
ROLE = "developer"


LONG = {"slow", "every_server"}  # marks of what takes long; pyproject.toml says what they mean


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let all tests be asked for, and more trials of what is tried by number."""
    parser.addoption("--every", action="store_true", help="run what takes long, too")
    parser.addoption("--trials", type=int, default=24, help="how many, of test_writing.py")


def pytest_configure() -> None:
    """End in good order on TERM too, which is what nox sends: no server may outlive its tests."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long, unless it is asked for: all of it, by a mark, or by its file.

    Tests that share what is made once a module run in one process, where it is made once.
    """
    for item in items:
        definitions = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009
        if any(each[-1].scope == "module" for each in definitions):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
        given = getattr(item, "callspec", None)
        if given and "name" in given.params and "database_url" in item.fixturenames:  # type: ignore[attr-defined]
            raise pytest.UsageError(f"{item.nodeid}: nobody would drop the database of that name")
        if item.path.parent.name == "unit":
            item.add_marker(pytest.mark.every_python)
    if config.getoption("every") or config.option.markexpr:
        return
    named = {(config.invocation_params.dir / each.partition("::")[0]) for each in config.args}
    left = [
        item
        for item in items
        if item.path not in named and LONG & {mark.name for mark in item.iter_markers()}
    ]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="session", autouse=True)
def nothing_of_the_developers() -> Iterator[None]:
    """Hide the developer's own database from every test and from every child of one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            ours = name.startswith(("PG", "BACKSET_")) and name != TEMPORARY
            if ours or name == "DATABASE_URL":
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def alembic_imported_once(nothing_of_the_developers: None) -> Iterator[None]:
    """Let one process import Alembic for all runs within this one; see forked.py."""
    with forked.processes():
        yield


@pytest.fixture
def interpreters_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test whose matter is how processes start have none that forked.py forks."""
    monkeypatch.setattr(process, "subprocess", subprocess)


@pytest.fixture(scope="session", autouse=True)
def signals_as_on_a_terminal() -> None:
    """Undo what nohup and background jobs do: a child would inherit that INT or HUP is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))


@pytest.fixture(scope="session")
def cluster(nothing_of_the_developers: None) -> Iterator[Cluster]:
    """A running PostgreSQL 18 with a socket, a TCP port, and a role that is not a superuser."""
    with running(18, tcp_port=free_port()) as made:
        with psycopg.connect(made.url("postgres"), autocommit=True) as session:
            role = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}")
            session.execute(role.format(sql.Identifier(ROLE), sql.Literal(PASSWORD)))
        yield made


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
    tether = tether_folder(folder)
    yield folder
    shutil.rmtree(folder)
    tether.cut()
