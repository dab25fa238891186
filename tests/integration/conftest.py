"""What these tests share: a database with rows, the programs, a folder; an old and a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from backset.backups.store import BackupStore
from backset.connections.target import Target
from backset.servers.programs import Programs
from tests.backups import ROWS
from tests.clusters import majors, running
from tests.integration.two_databases import Databases

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster


@pytest.fixture
def target(database_url: str) -> Target:
    """A database with rows in two schemas, at a revision."""
    with psycopg.connect(database_url) as session:
        session.execute(ROWS)
    return Target.parse(database_url)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """The programs, with no PostgreSQL on PATH."""
    return Programs({"PATH": "/nowhere"}, tmp_path)


@pytest.fixture
def vault(tmp_path: Path) -> BackupStore:
    """The folder of the backups."""
    return BackupStore.of(tmp_path / "backups", "app")


@pytest.fixture
def databases(
    cluster: Cluster, superuser: psycopg.Connection[Any], name: str
) -> Iterator[Databases]:
    """An old database, and a new one that the role owns which is no superuser."""
    made = Databases.made(cluster, superuser, name)
    yield made
    made.close()


@pytest.fixture(scope="module", params=majors(18, 17, 16, 15))
def writable(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server of each major version that counts writes for all, with prepared transactions."""
    many_are_made = "fsync = off"
    with running(request.param, settings=["max_prepared_transactions = 5", many_are_made]) as made:
        yield made


@pytest.fixture
def fragile() -> Iterator[Cluster]:
    """A server of this test's own, with a database `live`."""
    with running(18) as made:
        with psycopg.connect(made.url("postgres"), autocommit=True) as session:
            session.execute("CREATE DATABASE live")
            session.execute("CHECKPOINT")
        yield made
