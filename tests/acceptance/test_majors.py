"""Servers of every major version, of which only some have programs of their own here."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.clusters import as_superuser, majors, running
from tests.git import commit, git
from tests.project import Project, databases, laid_down, migrating, prints

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster

# What a dump of one version may write otherwise than another: everything here is in 13, too.
STATEMENTS = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE person (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, mood mood,
    shout text GENERATED ALWAYS AS (upper(name)) STORED);
CREATE TABLE event (day date NOT NULL, what text) PARTITION BY RANGE (day);
CREATE TABLE event_2026 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE note (id serial PRIMARY KEY, person_id bigint REFERENCES person, body text);
CREATE VIEW good AS SELECT * FROM person WHERE mood = 'good';
CREATE PUBLICATION changes FOR TABLE person;
"""
ROWS = """
INSERT INTO person (name, mood) VALUES ('Ada', 'good'), ('Bob', 'bad');
INSERT INTO event SELECT '2026-03-01'::date + n, 'day ' || n FROM generate_series(1, 50) n;
INSERT INTO note (person_id, body) SELECT 1, repeat('x', n) FROM generate_series(1, 40) n;
"""


@pytest.fixture(scope="module", params=majors(18, 17, 16, 15, 14, 13))
def server(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server of each major version."""
    with running(request.param) as cluster:
        as_superuser(cluster, "postgres", "CREATE ROLE developer LOGIN CREATEDB")
        yield cluster


@pytest.fixture
def project(server: Cluster, tmp_path: Path) -> Project:
    """A project with most of what a schema can have, its database built and filled."""
    url = server.url(f"m_{secrets.token_hex(4)}", "developer")
    project = migrating(laid_down(tmp_path / "project", "objects", url), STATEMENTS)
    assert project.invoke("reset-db").returncode == 0
    with psycopg.connect(url) as session:
        session.execute(ROWS)
    return project


def test_every_task_that_needs_a_dump(project: Project) -> None:
    """The second `reset-db` backs up, as the first had nothing to: and so does every one after."""
    before = prints(project)
    done = project.invoke("reset-db")
    assert done.returncode == 0, done.stderr
    assert project.invoke("undo").returncode == 0
    assert prints(project) == before
    done = project.invoke("backup", "--prove")
    assert done.returncode == 0, done.stderr
    for flags in ([], ["--in-place"]):
        project.query("DELETE FROM note")
        done = project.invoke("restore", "--yes", *flags)
        assert done.returncode == 0, done.stderr
        assert prints(project) == before
    done = project.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stderr
    assert prints(project) == before
    done = project.invoke("reset-db", "--carry", "--in-place")
    assert done.returncode == 0, done.stderr
    assert prints(project) == before
    assert databases(project) >= {"", "__previous"}


def test_a_branch_gets_a_copy(project: Project) -> None:
    """By a role that is no superuser; with the settings that it may give, and all rows."""
    git(project.folder, "init", "-q", "-b", "main")
    commit(project.folder, "Begin")
    git(project.folder, "checkout", "-q", "-b", "feature")
    name = project.database
    project.query(f"ALTER DATABASE {name} SET statement_timeout = '7min'")
    project.query(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    before = prints(project)
    done = project.invoke("branch", "create")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, done.stdout
    own = f"{name}__branch_feature"
    assert project.query("SHOW statement_timeout", own) == [("7min",)]
    branch = Project(project.folder, {"DATABASE_URL": project.url.replace(name, own)})
    assert prints(branch) == before
    done = project.invoke("branch", "delete", "feature", "--yes")
    assert done.returncode == 0, done.stderr
