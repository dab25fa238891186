"""Extensions with rows of a user's in their own tables: PostGIS, its topology, pg_partman, pg_cron.

They are the distribution's, for its PostgreSQL 15; a machine without the packages skips them.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.clusters import as_superuser, installation, running
from tests.project import Project, laid_down, migrating

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.servers.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.every_server]

CONTROL = Path("/usr/share/postgresql/15/extension")


@dataclass(frozen=True)
class Shape:
    """An extension in use: `by_hand` makes it, then come the migrations, and rows of people.

    asks: what these rows are afterwards. stays: what no rebuild may change, as it is not only ours.
    """

    extension: str
    by_hand: str
    migrations: str
    rows: str
    asks: str
    stays: str = "SELECT 1"


SHAPES = {
    "a reference system of one's own": Shape(
        "postgis",
        "CREATE EXTENSION postgis",
        "CREATE TABLE place (id int PRIMARY KEY, at geometry(Point, 4326))",
        "INSERT INTO spatial_ref_sys VALUES (990001, 'here', 1, 'LOCAL_CS[\"here\"]', '');"
        "INSERT INTO place VALUES (1, ST_SetSRID(ST_MakePoint(7, 51), 4326))",
        "SELECT (SELECT srtext FROM spatial_ref_sys WHERE srid = 990001),"
        " (SELECT ST_AsText(at) FROM place)",
    ),
    "a topology": Shape(
        "postgis_topology",
        "CREATE EXTENSION postgis; CREATE EXTENSION postgis_topology",
        "SELECT topology.CreateTopology('city', 4326); CREATE TABLE place (id int PRIMARY KEY)",
        "INSERT INTO place VALUES (1)",
        "SELECT (SELECT array_agg(name) FROM topology.topology), (SELECT count(*) FROM place)",
    ),
    "a topology beside a geocoder": Shape(
        "postgis_tiger_geocoder",
        "CREATE EXTENSION postgis_tiger_geocoder CASCADE; CREATE EXTENSION postgis_topology",
        "CREATE TABLE place (id int PRIMARY KEY)",
        "UPDATE tiger.geocode_settings SET setting = 'true' WHERE name = 'debug_geocode_address';"
        "INSERT INTO place VALUES (1)",
        "SELECT setting, (SELECT count(*) FROM place) FROM tiger.geocode_settings"
        " WHERE name = 'debug_geocode_address'",
    ),
    "partitions that the extension keeps": Shape(
        "pg_partman",
        "CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman",
        "CREATE TABLE measured (at timestamptz NOT NULL, value int) PARTITION BY RANGE (at);"
        "SELECT partman.create_parent('public.measured', 'at', 'native', 'daily')",
        "INSERT INTO measured VALUES (now(), 7);"
        "UPDATE partman.part_config SET retention = '30 days'",
        "SELECT (SELECT array_agg(value) FROM measured),"
        " (SELECT array_agg(parent_table) FROM partman.part_config)",
    ),
    "jobs": Shape(
        "pg_cron",
        "CREATE EXTENSION pg_cron",
        "CREATE TABLE task (id int PRIMARY KEY)",
        "SELECT cron.schedule('nightly', '0 3 * * *', 'SELECT 1'); INSERT INTO task VALUES (1);"
        "INSERT INTO cron.job (schedule, command, nodeport, database, username)"
        " VALUES ('0 1 * * *', 'SELECT 2', 5432, 'postgres', 'somebody')",
        "SELECT (SELECT array_agg(command) FROM cron.job), (SELECT count(*) FROM task)",
        stays="SELECT jobid, command, database, username FROM cron.job ORDER BY 1",
    ),
}


SETTINGS = """
SELECT setconfig::text FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
WHERE datname = current_database()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """The distribution's server, with the extension that has to be there from its start."""
    if not installation(15).is_relative_to("/usr"):
        pytest.skip("there is no PostgreSQL 15 of the distribution's")
    has_cron = (CONTROL / "pg_cron.control").is_file()
    with running(15, settings=["shared_preload_libraries = 'pg_cron'"] if has_cron else []) as made:
        if has_cron:
            with psycopg.connect(made.url("postgres"), autocommit=True) as session:
                session.execute("ALTER SYSTEM SET cron.database_name = 'scheduled'")
            made.stop()
            made.start()
        yield made


def succeed(project: Project, task: str) -> None:
    """Run a task that must succeed."""
    done = project.invoke(*task.split())
    assert done.returncode == 0, f"{task}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", SHAPES)
def test_every_main_task_keeps_the_rows(server: Cluster, tmp_path: Path, name: str) -> None:
    """Carried by a swap and in place, restored by both, and made again by what makes them."""
    shape = SHAPES[name]
    if not (CONTROL / f"{shape.extension}.control").is_file():
        pytest.skip(f"the extension {shape.extension} is not installed")
    database = "scheduled" if shape.extension == "pg_cron" else f"e{secrets.token_hex(4)}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {database}".encode())
    as_superuser(server, database, shape.by_hand)
    project = laid_down(tmp_path / "project", "objects", server.url(database))
    migrating(project, shape.migrations)
    succeed(project, "upgrade")
    as_superuser(server, database, shape.rows)
    before = project.query(shape.asks)
    settings = project.query(SETTINGS)
    for task in (
        "reset-db --carry",
        "reset-db --carry --in-place",
        "status",
        "backup",
        "restore --yes --in-place",
        "restore --yes",
        "reset-db --carry",
    ):
        succeed(project, task)
        assert project.query(shape.asks) == before, task
        assert project.query(SETTINGS) == settings, task
    stays = project.query(shape.stays)
    for task in ("reset-db", "reset-db --in-place", "status"):
        succeed(project, task)
        assert project.query(shape.stays) == stays
