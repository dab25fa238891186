"""What these tests share: a database with rows, the programs, a folder; an old and a new one."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from backset.backups import backup, manifest
from backset.backups.vault import Vault
from backset.connections.session import conninfo
from backset.connections.target import Target
from backset.servers.embedded import temporary_cluster
from backset.servers.programs import Programs
from tests.integration.two_databases import Databases
from tests.servers import installations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.backups.manifest import Backup
    from backset.servers.cluster import Cluster

ROWS = """
CREATE TABLE users AS SELECT generate_series(1, 7) AS id;
CREATE SCHEMA other; CREATE TABLE other.things AS SELECT generate_series(1, 3) AS id;
CREATE TABLE alembic_version (version_num varchar(32) NOT NULL);
INSERT INTO alembic_version VALUES ('cf94a9256bdb');
"""
EMPTY = "DROP SCHEMA public CASCADE; DROP SCHEMA other CASCADE; CREATE SCHEMA public"
NEVER = 10**12  # bytes: no database here is that large


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
def vault(tmp_path: Path) -> Vault:
    """The folder of the backups."""
    return Vault.of(tmp_path / "backups", "app")


def run(target: Target, statements: str) -> None:
    """Run statements on a database."""
    with psycopg.connect(**target.params) as session:  # type: ignore[arg-type]
        session.execute(statements.encode())


def take(
    vault: Vault, target: Target, programs: Programs, *scripts: Path, zstd_above: int = NEVER
) -> Backup:
    """Take a backup."""
    return backup.take(vault, target, lambda: scripts, programs, zstd_above=zstd_above)


def take_folder(vault: Vault, target: Target, programs: Programs) -> Backup:
    """Take a backup as the version before zstd did of a large database: a folder of files."""
    dump = take(vault, target, programs).dump
    dump.unlink()
    arguments = ["--format=directory", "--jobs=2", f"--file={dump}"]
    programs.run(programs.find("pg_dump", 18), *arguments, conninfo(target, "test"), target=target)
    path = manifest.beside(dump)
    about = json.loads(path.read_text())
    del about["dump_format"], about["by_hand"]
    about |= {"format": 2, "size_bytes": manifest.size_bytes(dump), "sha256": manifest.sha256(dump)}
    path.write_text(json.dumps(about))
    return manifest.read(dump)


@pytest.fixture
def databases(
    cluster: Cluster, superuser: psycopg.Connection[Any], name: str
) -> Iterator[Databases]:
    """An old database, and a new one that the role owns which is no superuser."""
    made = Databases.made(cluster, superuser, name)
    yield made
    made.close()


@pytest.fixture(scope="module", params=list(installations()))
def writable(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server of each major version here, which knows prepared transactions."""
    made = temporary_cluster(request.param, installation=installations()[request.param])
    made.start()
    with psycopg.connect(made.url("postgres"), autocommit=True) as session:
        session.execute("ALTER SYSTEM SET max_prepared_transactions = 5")
        session.execute("ALTER SYSTEM SET fsync = off")  # many databases are made
    made.stop()
    made.start()
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.folder.parent)


@pytest.fixture
def fragile() -> Iterator[Cluster]:
    """A server of this test's own, with a database `live`."""
    made = temporary_cluster(18)
    made.start()
    try:
        with psycopg.connect(made.url("postgres"), autocommit=True) as session:
            session.execute("CREATE DATABASE live")
            session.execute("CHECKPOINT")
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.folder.parent)
