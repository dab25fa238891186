"""`invoke verify --downgrade`: base → head → base in a scratch database leaves nothing behind."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from backset.connections.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from tests.project import Project


REVISION = """
from alembic import op
revision, down_revision = "c0de", "0b228e9fec0b"
def upgrade():
    op.execute({up!r})
def downgrade():
    op.execute({down!r})
"""


@pytest.fixture
def migrated(project: Project) -> Project:
    """A project at head."""
    assert project.invoke("upgrade").returncode == 0
    return project


def add(project: Project, up: str, down: str) -> None:
    """Add a revision and run it."""
    path = project.folder / "alembic/versions/c0de_x.py"
    path.write_text(REVISION.format(up=up, down=down))
    assert project.invoke("upgrade").returncode == 0


def verified(project: Project) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code and the findings."""
    done = project.invoke("verify", "--downgrade", "--json")
    return done.returncode, json.loads(done.stdout)["findings"]


def beside(project: Project) -> set[str]:
    """Return the endings of the databases beside the target."""
    name = Target.parse(project.url).database
    found = project.query("SELECT datname FROM pg_database", "postgres")
    return {each.removeprefix(name) for (each,) in found if each.startswith(name)} - {""}


def test_migrations_that_are_taken_back_whole(migrated: Project) -> None:
    """Exit 0 and a word of it; the target keeps its tables, and no scratch database stays."""
    done = migrated.invoke("verify", "--downgrade")
    assert done.returncode == 0, done.stderr
    assert "base → head → base leaves nothing behind" in done.stdout
    assert migrated.query("SELECT count(*) FROM tasks") == [(0,)]
    assert beside(migrated) == set()


def test_what_is_left_is_named(migrated: Project) -> None:
    """Types, functions, tables with their rows, large objects; and the upgrade that meets them."""
    up = (
        "CREATE TYPE mood AS ENUM ('sad'); CREATE SEQUENCE ticks; CREATE TABLE kept (id int); "
        'CREATE TABLE "Kept.too" (id int); INSERT INTO "Kept.too" VALUES (1); '
        "INSERT INTO kept VALUES (1), (2); ALTER TABLE users ADD mood mood; "
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'; "
        "SELECT lo_from_bytea(0, 'x')"
    )
    add(migrated, up, "ALTER TABLE users DROP mood")
    code, found = verified(migrated)
    ours = [each for each in found if each["kind"] == "downgrade leaves"]
    assert code == 6
    assert [each["what"] for each in ours[:-1]] == [
        "function one() is left at base",
        "sequence ticks is left at base",
        'table "Kept.too" is left at base, with 1 row',
        "table kept is left at base, with 2 rows",
        "type mood is left at base",
        "1 large object is left at base",
    ]
    assert ours[-1]["what"].startswith("after a downgrade to base the upgrade fails: revision c0de")
    assert 'type "mood" already exists' in ours[-1]["what"]
    assert beside(migrated) == set()


def test_a_downgrade_that_fails_is_named(migrated: Project) -> None:
    """With its revision and the server's words."""
    add(migrated, "CREATE TABLE kept (id int)", "DROP INDEX ix_runs_created_at")
    code, found = verified(migrated)
    (ours,) = [each for each in found if each["kind"] == "downgrade fails"]
    assert code == 6
    assert "the downgrade to base fails: revision c0de (c0de_x.py:7): " in ours["what"]
    assert 'index "ix_runs_created_at" does not exist' in ours["what"]
    assert migrated.query("SELECT count(*) FROM kept") == [(0,)]
    assert beside(migrated) == set()


@pytest.mark.slow
def test_a_second_upgrade_that_makes_something_else_is_named(migrated: Project) -> None:
    """A migration that only makes what is missing hides what its downgrade left otherwise."""
    up = (
        "CREATE SCHEMA IF NOT EXISTS app; CREATE TABLE IF NOT EXISTS app.kept (id int); "
        "ALTER TABLE app.kept ADD IF NOT EXISTS name text"
    )
    add(migrated, up, "ALTER TABLE app.kept ALTER id TYPE bigint")
    texts = [each["what"] for each in verified(migrated)[1] if each["kind"] == "downgrade leaves"]
    *left, last = texts
    assert left == ["schema app is left at base", "table app.kept is left at base"]
    assert last.startswith("after a downgrade to base the upgrade makes something else: ")
    assert last.endswith("type is integer in the first build, bigint in the second one")


@pytest.fixture
def role(superuser: psycopg.Connection[Any], name: str) -> Iterator[str]:
    """The name of a role that a migration makes."""
    yield f"{name}_role"
    superuser.execute(f"DROP ROLE IF EXISTS {name}_role".encode())


@pytest.mark.slow
def test_a_role_is_left_on_the_server(migrated: Project, role: str) -> None:
    """It belongs to the server: not even dropping the scratch database takes it away."""
    up = f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    path = migrated.folder / "alembic/versions/c0de_x.py"
    path.write_text(REVISION.format(up=up, down="SELECT 1"))
    code, found = verified(migrated)
    texts = [each["what"] for each in found if each["kind"] == "downgrade leaves"]
    assert code == 6
    assert texts == [f"{role} is left on the server"]


def test_a_plan_says_so(migrated: Project) -> None:
    """And builds nothing."""
    done = migrated.invoke("verify", "--downgrade", "--plan")
    name = Target.parse(migrated.url).database
    assert done.returncode == 0, done.stderr
    assert f"would migrate {name}__scratch up, down to base and up again" in done.stdout


@pytest.mark.slow
def test_term_leaves_nothing(migrated: Project) -> None:
    """The scratch database goes with the run."""
    add(migrated, "SELECT 1", "SELECT pg_sleep(60)")
    with migrated.start("verify", "--downgrade") as running:
        deadline = time.monotonic() + 60
        while not migrated.query("SELECT 1 FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'"):
            assert time.monotonic() < deadline, "the downgrade never began"
            time.sleep(0.02)
        running.send_signal(signal.SIGTERM)
        running.communicate()
    assert running.returncode == 143
    assert beside(migrated) == set()
    assert migrated.query("SELECT version_num FROM alembic_version") == [("c0de",)]
