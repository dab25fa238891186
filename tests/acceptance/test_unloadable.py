"""Databases whose dumps do not load by themselves: nothing is lost of them, on either strategy."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.clusters import dumped
from tests.incident.project import add_failing_migration
from tests.marks import slow_but
from tests.project import Project, databases, prints
from tests.states import rebuilt
from tests.unloadable import BY_ORDER, BY_PATH, BY_ROWS, PATHS

if TYPE_CHECKING:
    import psycopg

    from backset.servers.cluster import Cluster

KINDS = {**BY_PATH, "order": BY_ORDER}
SAID = "loads only with the database's search_path"


@pytest.mark.parametrize("kind", slow_but([*KINDS], lambda kind: kind == "index"))
def test_in_place_a_failed_migration_brings_everything_back(
    owned: Project, cluster: Cluster, name: str, kind: str
) -> None:
    """Exit 5, and a dump of the whole database reads as before, byte for byte."""
    owned.query(KINDS[kind])
    before = dumped(cluster, name)
    add_failing_migration(owned.folder)
    done = owned.invoke("reset-db")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "was restored from" in done.stderr
    assert dumped(cluster, name) == before


def test_in_place_nothing_is_dropped_that_could_not_come_back(
    owned: Project, cluster: Cluster, name: str
) -> None:
    """Exit 4 before anything is dropped, and every later task works."""
    owned.query(BY_ROWS)
    before = dumped(cluster, name)
    done = owned.invoke("reset-db")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "cannot be loaded again, so nothing was dropped: " in done.stderr
    assert 'violates check constraint "numbers_n_check"' in done.stderr
    assert f"{name} is as it was" in done.stderr
    assert "would not pass a CHECK again" in done.stdout
    assert dumped(cluster, name) == before
    owned.query("DELETE FROM numbers WHERE n = 1")
    assert owned.invoke("reset-db").returncode == 0


def test_a_backup_says_how_it_loads_and_restore_loads_it(project: Project) -> None:
    """In the line, in the JSON and for the step that loads it; the proof finds the same."""
    rebuilt(project)
    project.query(BY_PATH["check"])
    then = prints(project)
    done = project.invoke("backup")
    assert done.returncode == 0, done.stderr
    assert SAID in done.stdout
    (step,) = json.loads(project.invoke("backup", "--prove", "--json").stdout)["steps"]
    assert step["needs_search_path"] is True
    project.query("DELETE FROM words")
    done = project.invoke("restore", "--yes")
    assert done.returncode == 0, done.stderr
    assert SAID in done.stdout
    assert prints(project) == then
    assert project.query(PATHS) == [(0,)]


def test_the_proof_of_a_backup_finds_out_how_it_loads(project: Project) -> None:
    """What no look at the rows could tell: that a table has to come before another one."""
    rebuilt(project)
    project.query(BY_ORDER)
    then = prints(project)
    done = project.invoke("backup")
    assert SAID not in done.stdout
    assert project.invoke("restore", "--yes").returncode == 0
    assert prints(project) == then
    done = project.invoke("backup", "--prove")
    assert done.returncode == 0, done.stderr
    assert SAID in done.stdout
    assert databases(project) == {"", "__previous", "__clean"}


def test_a_backup_that_cannot_be_loaded_is_told_of(project: Project) -> None:
    """It is kept, and listed as what it is; its proof fails."""
    rebuilt(project)
    project.query(BY_ROWS)
    done = project.invoke("backup")
    assert done.returncode == 0, done.stderr
    assert " cannot be loaded as it is, numbers: 1 row would not pass a CHECK again" in done.stdout
    assert "cannot be loaded as it is" in project.invoke("backups").stdout
    done = project.invoke("backup", "--prove")
    assert done.returncode == 4
    assert "violates check constraint" in done.stderr


def test_rows_of_such_a_dump_are_carried(project: Project) -> None:
    """The scratch database that it is restored into has the path that its functions need."""
    rebuilt(project)
    project.query(
        """CREATE FUNCTION fine(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE FUNCTION is_fine(text) RETURNS boolean LANGUAGE plpgsql AS
            'BEGIN RETURN fine($1); END';
        ALTER TABLE tasks ADD CHECK (is_fine(prompt)); UPDATE tasks SET prompt = 'a real one'"""
    )
    assert project.invoke("backup", "--name", "real").returncode == 0
    project.query("DELETE FROM task_outputs; DELETE FROM tasks")
    done = project.invoke("carry", "--from", "real")
    assert done.returncode == 0, done.stderr
    assert project.query("SELECT DISTINCT prompt FROM tasks") == [("a real one",)]


@pytest.mark.slow
def test_a_signal_while_the_backup_is_tried_costs_nothing(
    owned: Project, superuser: psycopg.Connection[object], cluster: Cluster, name: str
) -> None:
    """It may take long, so it can be ended; nothing is dropped yet."""
    owned.query("CREATE TABLE many AS SELECT n, repeat('x', 200) FROM generate_series(1, 300000) n")
    before = dumped(cluster, name)
    process = owned.start("reset-db")
    loading = "SELECT FROM pg_stat_activity WHERE datname = %s AND query LIKE '%%FROM stdin%%'"
    deadline = time.monotonic() + 60
    while not superuser.execute(loading, [name]).fetchall():
        assert time.monotonic() < deadline, "it was never tried"
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 143, errors
    assert f"{name} is as it was" in errors
    assert dumped(cluster, name) == before
    assert owned.invoke("reset-db").returncode == 0
