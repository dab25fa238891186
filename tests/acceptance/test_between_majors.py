"""Backups and rows go from a server of one major to a server of another, or a line says why not."""

from __future__ import annotations

import secrets
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from tests.clusters import MAJORS, as_superuser, running
from tests.project import Project, databases, laid_down, migrating, prints

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster

pytestmark = pytest.mark.every_server

PAIRS = [pytest.param(*pair, id="{}-{}".format(*pair)) for pair in permutations(MAJORS, 2)]
ROLE = "developer"
# What 13 has already, in types whose text or binary form could differ.
STATEMENTS = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE person (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, mood mood,
    shout text GENERATED ALWAYS AS (upper(name)) STORED, age positive DEFAULT 1,
    CONSTRAINT named CHECK (name <> ''));
CREATE TABLE event (day date NOT NULL, what text) PARTITION BY RANGE (day);
CREATE TABLE event_2026 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE note (id serial PRIMARY KEY, person_id bigint REFERENCES person, body text);
CREATE TABLE every (
    id int PRIMARY KEY, a numeric, b bytea, c jsonb, d text[], e timestamptz, f int4range, g inet,
    h interval, i tsvector, j uuid, k float8, l point, n bit varying, o money, p json);
CREATE INDEX ON every USING gin (c);
CREATE VIEW good AS SELECT * FROM person WHERE mood = 'good';
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM person;
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n';
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touched BEFORE UPDATE ON person FOR EACH ROW EXECUTE FUNCTION touched();
CREATE PUBLICATION changes FOR TABLE person;
"""
ROWS = """
INSERT INTO person (name, mood) VALUES ('Ada', 'good'), ('Bob', 'bad');
INSERT INTO event SELECT '2026-03-01'::date + n, 'day ' || n FROM generate_series(1, 50) n;
INSERT INTO note (person_id, body) SELECT 1, repeat('x', n) FROM generate_series(1, 40) n;
INSERT INTO every SELECT n, n / 7.0, decode(repeat(to_hex(n + 16), 9), 'hex'),
    jsonb_build_object('n', n, 'text', 'é'), ARRAY['a"b', NULL], '2026-03-01 12:00+02', '[1,5)',
    '10.0.0.1/24', '1 mon 2 days 03:04:05.6', to_tsvector('simple', 'a b'),
    '00000000-0000-0000-0000-000000000001', n / 3.0, '(1,2)', B'101', 12.3, '{"a": 1}'
    FROM generate_series(1, 9) n;
"""
# The same table in the words of each major, as a chain writes it that serves several.
MODERN = """
DO $$ BEGIN
CREATE TABLE modern (id int PRIMARY KEY, n int);
IF current_setting('server_version_num')::int >= 180000 THEN
    EXECUTE 'ALTER TABLE modern ADD twice int GENERATED ALWAYS AS (2 * id) VIRTUAL';
    EXECUTE 'ALTER TABLE modern ADD CONSTRAINT positive CHECK (n > 0) NOT ENFORCED';
ELSE
    ALTER TABLE modern ADD twice int GENERATED ALWAYS AS (2 * id) STORED;
    -- as strict as can be
END IF; END $$
"""
STRICT = MODERN.replace("-- as", "ALTER TABLE modern ADD CONSTRAINT positive CHECK (n > 0); -- as")


@dataclass(frozen=True)
class Source:
    """A server with a database that a project has built, filled and backed up there."""

    server: Cluster
    project: Project

    def copied(self, folder: Path, server: Cluster) -> Project:
        """Return the same project, with its backups, for a new database on another server."""
        shutil.copytree(self.project.folder, folder)
        return Project(folder, {"DATABASE_URL": server.url(self.project.database, ROLE)})


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[int, Cluster]]:
    """A server of each major."""
    with ExitStack() as undo:
        made = {major: undo.enter_context(running(major)) for major in MAJORS}
        for each in made.values():
            as_superuser(each, "postgres", f"CREATE ROLE {ROLE} LOGIN CREATEDB")
        yield made


@pytest.fixture(scope="module")
def sources(
    servers: dict[int, Cluster], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Source]:
    """The same rows on each server, with a backup of them."""
    return {
        major: _source(server, tmp_path_factory.mktemp(f"of{major}"))
        for major, server in servers.items()
    }


def _source(server: Cluster, folder: Path) -> Source:
    project = _built(server, folder, STATEMENTS)
    project.query(ROWS)
    succeed(project, "backup")
    return Source(server, project)


def _built(server: Cluster, folder: Path, statements: str) -> Project:
    url = server.url(f"m{server.major}_{secrets.token_hex(3)}", ROLE)
    project = migrating(laid_down(folder / "project", "objects", url), statements)
    succeed(project, "reset-db")
    return project


def succeed(project: Project, *arguments: str) -> str:
    """Run a task that must succeed; return what it says."""
    done = project.invoke(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_backup_is_restored_on_another_major(
    servers: dict[int, Cluster], sources: dict[int, Source], tmp_path: Path, old: int, new: int
) -> None:
    """On a newer server with every row; on an older one a line says that it cannot be."""
    project = sources[old].copied(tmp_path / "project", servers[new])
    (manifest,) = (project.folder / "backups" / project.database).glob("*.json")
    name = manifest.name.partition(".json")[0]
    if new < old:
        done = project.invoke("restore", name, "--yes")
        assert done.returncode == 3, done.stdout + done.stderr
        assert f"was taken from PostgreSQL {old}, and this is {new} → " in done.stderr
        return
    succeed(project, "restore", name, "--yes")
    assert prints(project) == prints(sources[old].project)
    succeed(project, "verify")
    succeed(project, "backup", "--prove")


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_rows_come_from_another_major(
    servers: dict[int, Cluster], sources: dict[int, Source], tmp_path: Path, old: int, new: int
) -> None:
    """Rows go both ways, since the migrations make the tables."""
    project = sources[old].copied(tmp_path / "project", servers[new])
    succeed(project, "carry", "--from", sources[old].project.url)
    assert prints(project) == prints(sources[old].project)
    succeed(project, "reset-db", "--carry")
    assert prints(project) == prints(sources[old].project)
    assert databases(project) >= {"", "__previous"}


@pytest.mark.parametrize(("old", "new"), [pair for pair in PAIRS if 18 in pair.values])
def test_what_an_older_server_lacks_is_in_no_row(
    servers: dict[int, Cluster], tmp_path: Path, old: int, new: int
) -> None:
    """Virtual columns, and constraints that are not enforced: the new table says what holds."""
    project = _built(servers[old], tmp_path, MODERN)
    project.query("INSERT INTO modern (id, n) VALUES (1, -1), (2, NULL)")
    origin, rows = project.url, [(1, -1, 2), (2, None, 4)]
    project.env["DATABASE_URL"] = servers[new].url(project.database, ROLE)
    succeed(project, "carry", "--from", origin)
    assert project.query("SELECT id, n, twice FROM modern ORDER BY 1") == rows
    if new < old:
        migrating(project, STRICT)
        done = project.invoke("carry", "--from", origin)
        assert done.returncode != 0
        assert "positive" in done.stderr
        assert project.query("SELECT id, n, twice FROM modern ORDER BY 1") == rows
