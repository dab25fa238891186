"""A database for each test of pytest: from the plugin, beside psql, create_all, pytest-postgresql.

On a server in memory, where tests have theirs.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import psycopg

from backset.servers import location, programs
from benchmarks import revisions
from benchmarks.figures import Absent, Comparison
from benchmarks.place import psql
from benchmarks.sides import Side, alternate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster
    from benchmarks.amounts import Amounts
    from benchmarks.figures import Found
    from benchmarks.place import Place

_TABLES, _REVISIONS = 60, 10
_OWN, _TEMPLATE = "of_tests", "of_psql"
_TEST = """
import os

import psycopg
import pytest


@pytest.mark.parametrize("number", range(int(os.environ["TESTS"])))
def test_it({fixture}, number):
    with psycopg.connect({url}) as session:
        assert session.execute("SELECT count(*) FROM t0").fetchone() == (0,)
"""
_CLOCK = """
import pathlib
import time

import pytest

began = []


def pytest_runtest_call(item):
    began.append(time.monotonic())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    pathlib.Path("seconds").write_text(str(time.monotonic() - began[0]))
"""
_CREATE_ALL = """
import os

import psycopg
import pytest
from sqlalchemy import NullPool, create_engine

from models import METADATA


def create(url):
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    METADATA.create_all(engine)
    engine.dispose()


@pytest.fixture
def url():
    with psycopg.connect(os.environ["MAINTENANCE"], autocommit=True) as session:
        session.execute("CREATE DATABASE with_create_all")
        created = os.environ["CREATED"]
        create(created)
        yield created
        session.execute("DROP DATABASE with_create_all WITH (FORCE)")
"""
_PYTEST_POSTGRESQL = """
from urllib.parse import quote

import pytest
from pytest_postgresql import factories

from test_create_all import create


def load(host, port, user, dbname, password="", **more):
    create(f"postgresql://{{user}}@/{{dbname}}?host={{quote(str(host))}}&port={{port}}")


there = factories.postgresql_noproc(host={host!r}, port={port}, user="postgres", load=[load])
postgresql = factories.postgresql("there")


@pytest.mark.parametrize("number", range({tests}))
def test_it(postgresql, number):
    assert postgresql.execute("SELECT count(*) FROM t0").fetchone() == (0,)
"""


def databases_of_tests(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield tests with a database each, beside psql that only copies, and beside what others do."""
    some, many = amounts.tests
    project = _laid_down(place)
    major = programs.default_major()
    with location.temporary_cluster(major) as cluster:
        cluster.start()
        _make_template(place, project, cluster)

        def ours(tests: int) -> Side:
            return _pytest(place, project, cluster, "test_backset.py", tests)

        name = "psql: CREATE DATABASE … TEMPLATE"
        theirs = Side(name, lambda: _copy(place, cluster, some), check=_drop(cluster))
        alone = _Inside("the tests alone", ours(some).run)
        one, other = alternate([alone, theirs], amounts.few)
        what = f"{some} tests with a database of {_TABLES} tables each"
        yield Comparison(f"{what}, without the start of pytest", "s", one, other, 1.5)
        if find_spec("pytest_postgresql") is None:
            yield Absent("pytest-postgresql", "it is not installed")
        else:
            _write_peer(project, cluster, some)
            peer = _pytest(place, project, cluster, "test_pytest_postgresql.py", some)
            one, other = alternate([ours(some), peer], amounts.few)
            yield Comparison(f"{what}, beside pytest-postgresql", "s", one, other)
        peer = _pytest(place, project, cluster, "test_create_all.py", many)
        one, other = alternate([ours(many), peer], 1, warms_up=False)
        yield Comparison(f"{many} tests, beside `create_all` for each", "s", one, other, 0.4)


class _Inside(Side):
    """A side that says itself how long it took: from the first test on until all are gone."""

    def measure(self) -> float:
        """Return the seconds of one round."""
        return float(str(self.run()))


def _laid_down(place: Place) -> Path:
    folder = place.folder / "tested"
    for name, text in revisions.files(_REVISIONS, _TABLES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "conftest.py").write_text(_CLOCK, encoding="utf-8")
    own = _TEST.format(fixture="backset_database", url="backset_database.url")
    (folder / "test_backset.py").write_text(own, encoding="utf-8")
    other = _CREATE_ALL + _TEST.format(fixture="url", url="url")
    (folder / "test_create_all.py").write_text(other, encoding="utf-8")
    return folder


def _write_peer(project: Path, cluster: Cluster, tests: int) -> None:
    where = {"host": str(cluster.socket_folder), "port": cluster.port, "tests": tests}
    text = _PYTEST_POSTGRESQL.format(**where)
    (project / "test_pytest_postgresql.py").write_text(text, encoding="utf-8")


def _make_template(place: Place, project: Path, cluster: Cluster) -> None:
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {_TEMPLATE}".encode())
    env = {"DATABASE_URL": cluster.url(_TEMPLATE)}
    place.run("alembic", "upgrade", "head", env=env, cwd=project)


def _pytest(place: Place, project: Path, cluster: Cluster, file: str, tests: int) -> Side:
    env = {
        "DATABASE_URL": cluster.url(_OWN),
        "MAINTENANCE": cluster.url("postgres"),
        "CREATED": cluster.url("with_create_all"),
        "TESTS": str(tests),
    }

    def run() -> str:
        said = place.run("python", "-m", "pytest", "-q", file, env=env, cwd=project)
        if f"{tests} passed" not in said:
            raise SystemExit(said)
        return (project / "seconds").read_text(encoding="utf-8")

    return Side(f"pytest {file}", run)


def _copy(place: Place, cluster: Cluster, tests: int) -> None:
    for number in range(tests):
        statement = f"CREATE DATABASE copy_{number} TEMPLATE {_TEMPLATE}"
        place.run(*psql(cluster.url("postgres"), statement))


def _drop(cluster: Cluster) -> Callable[[], None]:
    def drop() -> None:
        with psycopg.connect(cluster.url("postgres"), autocommit=True) as session:
            query = "SELECT datname FROM pg_database WHERE starts_with(datname, 'copy_')"
            for (name,) in session.execute(query).fetchall():
                session.execute(f"DROP DATABASE {name}".encode())

    return drop
