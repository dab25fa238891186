"""Pending migrations that change rows: a carry lets the old rows go through them, in a copy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.marks import slow_but
from tests.project import Project, databases, laid_down

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from backset.servers.cluster import Cluster

A1 = "CREATE TABLE users (id serial PRIMARY KEY, email text UNIQUE, name text, city text)"
A2 = (
    "UPDATE users SET email = lower(email); ALTER TABLE users ADD shown text NOT NULL DEFAULT ''; "
    "UPDATE users SET shown = name; ALTER TABLE users DROP COLUMN name; "
    "CREATE TABLE cities (name text PRIMARY KEY); "
    "INSERT INTO cities SELECT DISTINCT city FROM users"
)
OLD = "SELECT id, email, name FROM users ORDER BY 1"
NEW = "SELECT id, email, shown FROM users ORDER BY 1"
AS_IT_WAS = [(1, "Ann@X", "Ann"), (2, "bob@x", "Bob")]
AS_IT_SHOULD_BE = [(1, "ann@x", "Ann"), (2, "bob@x", "Bob")]


def write(project: Project, name: str, revision: str, down: str | None, statements: str) -> None:
    """Write one migration of a project."""
    (project.folder / "migrations/versions" / name).write_text(
        f"from alembic import op\nrevision = {revision!r}\ndown_revision = {down!r}\n"
        f"def upgrade():\n    op.execute({statements!r})\n"
    )


def behind(folder: Path, url: str) -> Project:
    """Return a project whose database is at a1, with rows, while a2 would change these."""
    project = laid_down(folder, "objects", url)
    for each in (project.folder / "migrations/versions").glob("*.py"):
        each.unlink()
    write(project, "a1_users.py", "a1", None, A1)
    assert project.invoke("reset-db").returncode == 0
    project.query(
        "INSERT INTO users (email, name, city) VALUES ('Ann@X', 'Ann', 'Rome'), "
        "('bob@x', 'Bob', 'Rome')"
    )
    write(project, "a2_lower.py", "a2", "a1", A2)
    return project


def settings(project: Project, text: str) -> None:
    """Give the project its settings."""
    (project.folder / "pyproject.toml").write_text(f"[tool.backset]\n{text}\n")


def test_old_rows_go_through_what_is_pending(tmp_path: Path, project: Project) -> None:
    """Spelling, split columns and tables made of others are as after `upgrade`; undo goes back.

    The plan says so. What was written meanwhile is looked for as ever, and the copy is gone.
    """
    old = behind(tmp_path / "old", project.url)
    plan = old.invoke("reset-db", "--carry", "--plan")
    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert "the old rows go through a2_lower.py in a copy first" in plan.stdout
    assert "the migrations drop or rename there: users.name" in plan.stdout
    assert "would carry cities 1 · users 2" in plan.stdout
    assert not [each for each in databases(old) if "scratch" in each]
    done = old.invoke("reset-db", "--carry", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (step,) = [each for each in json.loads(done.stdout)["steps"] if each["step"] == "carry"]
    assert step["through"] == ["a2_lower.py"]
    assert old.query(NEW) == AS_IT_SHOULD_BE
    assert old.query("SELECT * FROM cities") == [("Rome",)]
    assert old.query("INSERT INTO users (email) VALUES ('c') RETURNING id") == [(3,)]
    assert not [each for each in databases(old) if "scratch" in each]
    assert old.invoke("undo").returncode == 0
    assert old.query(OLD) == AS_IT_WAS


def test_a_migration_that_fails_on_the_rows_loses_none(tmp_path: Path, project: Project) -> None:
    """Exit 4, the file and what the server said; with the printed setting they come as they are."""
    old = behind(tmp_path / "old", project.url)
    old.query("INSERT INTO users (email, name) VALUES ('ANN@X', 'Twin')")
    done = old.invoke("reset-db", "--carry", "--plan")
    assert done.returncode == 4, done.stdout + done.stderr
    done = old.invoke("reset-db", "--carry")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "the old rows could not go through a2_lower.py in a copy" in done.stderr
    assert "users_email_key" in done.stderr
    assert "`invoke upgrade` first, then this; or" in done.stderr
    assert '[tool.backset] unmigrated = ["a2"]' in done.stderr
    assert len(old.query(OLD)) == 3
    assert not [each for each in databases(old) if "scratch" in each or "next" in each]
    settings(old, 'unmigrated = ["a2"]\nrename = { "users.shown" = "users.name" }')
    done = old.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("Ann@X",) in old.query("SELECT email FROM users")


@pytest.mark.slow
def test_what_only_inserts_rows_needs_no_copy(tmp_path: Path, project: Project) -> None:
    """The new database has them from its own migrations; where they would be replaced, it does."""
    old = behind(tmp_path / "old", project.url)
    write(
        old,
        "a2_lower.py",
        "a2",
        "a1",
        "INSERT INTO users (id, email) VALUES (9, 'root@x')",
    )
    done = old.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in a copy" not in done.stdout
    emails = [("Ann@X",), ("bob@x",), ("root@x",)]
    assert old.query("SELECT email FROM users ORDER BY id") == emails
    assert old.invoke("undo").returncode == 0
    settings(old, 'replace = ["users"]')
    done = old.invoke("reset-db", "--carry", "--cold")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in a copy" in done.stdout
    assert old.query("SELECT email FROM users ORDER BY id") == emails


def test_in_place_it_is_refused_before_anything_is_dropped(tmp_path: Path, owned: Project) -> None:
    """A role that may make no copy is told the file and the ways out, in the plan as well."""
    old = behind(tmp_path / "old", owned.url)
    for more in (["--plan"], []):
        done = old.invoke("reset-db", "--carry", *more)
        assert done.returncode == 3, done.stdout + done.stderr
        assert "has not run a2_lower.py, which would change its rows" in done.stderr
        assert '[tool.backset] unmigrated = ["a2"]' in done.stderr
    assert old.query(OLD) == AS_IT_WAS
    assert old.invoke("upgrade").returncode == 0
    assert old.invoke("reset-db", "--carry").returncode == 0
    assert old.query(NEW) == AS_IT_SHOULD_BE


@pytest.mark.slow
def test_in_place_with_a_copy(tmp_path: Path, project: Project) -> None:
    """Where a copy can be made, the rows of the backup go through what is pending there."""
    old = behind(tmp_path / "old", project.url)
    plan = old.invoke("reset-db", "--carry", "--in-place", "--plan")
    assert "the old rows would go through a2_lower.py in a copy first" in plan.stdout
    done = old.invoke("reset-db", "--carry", "--in-place")
    assert done.returncode == 0, done.stdout + done.stderr
    assert old.query(NEW) == AS_IT_SHOULD_BE
    assert not [each for each in databases(old) if "scratch" in each]


@pytest.mark.slow
@pytest.mark.parametrize("how", slow_but(["dump", "URL"], lambda how: how == "dump"))
def test_rows_from_elsewhere_go_through_it(
    tmp_path: Path,
    project: Project,
    cluster: Cluster,
    superuser: psycopg.Connection[Any],
    name: str,
    how: str,
) -> None:
    """A dump of before, and a database that is behind, which is only read."""
    old = behind(tmp_path / "old", project.url)
    other = f"{name}_other"
    superuser.execute(f"CREATE DATABASE {other} TEMPLATE {name}".encode())
    assert old.invoke("backup").returncode == 0
    (dump,) = [each for each in old.folder.rglob("*.dump") if each.name.endswith("a1.dump")][-1:]
    assert old.invoke("reset-db").returncode == 0
    whence = str(dump) if how == "dump" else cluster.url(other)
    try:
        for more in (["--plan"], [], ["--tables", "users"]):
            done = old.invoke("carry", "--from", whence, *more)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "the old rows go through a2_lower.py in a copy first" in done.stdout
        assert old.query(NEW) == AS_IT_SHOULD_BE
        assert old.query(OLD, other) == AS_IT_WAS
    finally:
        superuser.execute(f"DROP DATABASE {other}".encode())
