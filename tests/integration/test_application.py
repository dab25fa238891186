"""The application side: models, migration and mock data agree, on a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import create_engine

from app.models import Base
from tests.incident.fingerprint import fingerprint
from tests.incident.project import run_alembic

pytestmark = pytest.mark.every_python

REPOSITORY = Path(__file__).resolve().parents[2]
COUNTS = """
    SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM tasks), count(*) FROM task_outputs
"""
NEW_TASK = "INSERT INTO tasks (github_url, prompt, user_id) VALUES ('g', 'mine', '{}') RETURNING id"


def alembic(url: str, *arguments: str) -> str:
    """Run Alembic in this repository; return what it said, once it has succeeded."""
    done = run_alembic(REPOSITORY, url, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_script(url: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the mock-data script; None stands for no DATABASE_URL at all."""
    env = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    return subprocess.run(
        [sys.executable, "scripts/add_mock_task_data.py", *arguments],
        cwd=REPOSITORY,
        env=env if url is None else {**env, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


def add_mock_data(url: str, *arguments: str) -> str:
    """Run the mock-data script; return its line, once it has succeeded."""
    done = run_script(url, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    """Run one statement, commit, and return the rows, if it gives any."""
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def migrated(database_url: str) -> str:
    """Return the URL of a database at head."""
    alembic(database_url, "upgrade", "head")
    return database_url


def test_models_and_migration_agree(migrated: str) -> None:
    """At head, `alembic check` finds nothing to do."""
    assert "No new upgrade operations detected" in alembic(migrated, "check")


def test_check_sees_what_differs(migrated: str) -> None:
    """`alembic check` finds a column, type, default, NULL and index that differ."""
    query(
        migrated,
        """
        ALTER TABLE tasks
            DROP COLUMN prompt,
            ALTER github_url TYPE varchar(50),
            ALTER archived SET DEFAULT true,
            ALTER user_id DROP NOT NULL;
        DROP INDEX ix_task_outputs_timestamp
        """,
    )
    done = run_alembic(REPOSITORY, migrated, "check")
    assert done.returncode != 0
    for difference in ("column", "index"):
        assert f"'add_{difference}'" in done.stdout
    for difference in ("type", "default", "nullable"):
        assert f"'modify_{difference}'" in done.stdout


def test_status_check_is_the_same_in_models_and_migration(migrated: str) -> None:
    """The statuses that the database accepts are those of the models, which Alembic cannot see."""
    query(migrated, "CREATE SCHEMA models")
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(migrated),
        execution_options={"schema_translate_map": {None: "models"}},
    )
    Base.metadata.create_all(engine)
    engine.dispose()
    definitions = query(
        migrated,
        "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conname = 'ck_tasks_status' ORDER BY 1",
    )
    assert [table for table, _ in definitions] == ["models.tasks", "tasks"]
    assert len({definition for _, definition in definitions}) == 1


@pytest.mark.slow
def test_down_and_up_again(migrated: str) -> None:
    """Base leaves nothing behind but the version table, and head can be reached from there."""
    alembic(migrated, "downgrade", "base")
    left = query(
        migrated,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "UNION SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace",
    )
    assert {name for (name,) in left} == {
        "alembic_version",
        "_alembic_version",
        "alembic_version_pkc",
    }
    alembic(migrated, "upgrade", "head")
    assert "No new upgrade operations detected" in alembic(migrated, "check")


def test_plain_sql_gets_the_defaults(migrated: str) -> None:
    """A row that names only what has no default gets the rest from the server."""
    query(migrated, "INSERT INTO users (id, email) VALUES ('u', 'u@example.com')")
    query(migrated, NEW_TASK.format("u"))
    query(migrated, "INSERT INTO task_outputs (task_id, variation_id, content) VALUES (1, 0, 'c')")
    user = "SELECT is_active, is_superuser, max_runs_per_day, max_variations_per_run FROM users"
    assert query(migrated, user) == [(True, False, 100, 5)]
    task = "SELECT id, agent_mode, variations, status, archived FROM tasks"
    assert query(migrated, task) == [(1, "claude-cli", 1, "pending", False)]
    assert query(migrated, "SELECT id, output_type FROM task_outputs") == [(1, "stdout")]
    [times] = query(
        migrated,
        "SELECT u.created_at, u.updated_at, t.created_at, t.updated_at, timestamp "
        "FROM users u, tasks t, task_outputs",
    )
    now = datetime.now(UTC)
    assert all(isinstance(t, datetime) and abs(now - t) < timedelta(minutes=5) for t in times)


def test_unknown_status_is_refused(migrated: str) -> None:
    """The database itself refuses a status that the application does not know."""
    query(migrated, "INSERT INTO users (id, email) VALUES ('u', 'u@example.com')")
    query(migrated, NEW_TASK.format("u"))
    with pytest.raises(errors.CheckViolation, match="ck_tasks_status"):
        query(migrated, "UPDATE tasks SET status = 'gone'")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql+asyncpg", "postgresql+psycopg2"])
def test_env_takes_any_spelling(database_url: str, scheme: str) -> None:
    """DATABASE_URL may be written for another driver."""
    url = f"{scheme}://{database_url.partition('://')[2]}"
    alembic(url, "upgrade", "head")
    assert query(database_url, "SELECT version_num FROM alembic_version") == [("0b228e9fec0b",)]


def test_env_without_url() -> None:
    """Without DATABASE_URL Alembic ends in one line that says what to run; offline needs none."""
    done = run_alembic(REPOSITORY, "", "current")
    assert done.returncode != 0
    [line] = (done.stdout + done.stderr).splitlines()
    assert "DATABASE_URL is not set → run `invoke alembic" in line
    assert "CREATE TABLE users" in alembic("", "upgrade", "head", "--sql")


def test_mock_data_is_what_it_says(migrated: str) -> None:
    """The script writes one user, five tasks and thirty outputs, of the kinds that are promised."""
    assert add_mock_data(migrated) == "users 1 · tasks 5 · task_outputs 30\n"
    assert query(migrated, "SELECT email FROM users") == [("test@aideator.local",)]
    tasks = query(
        migrated,
        "SELECT status, count(DISTINCT variation_id), count(variation_id) FROM tasks "
        "LEFT JOIN task_outputs ON task_id = tasks.id GROUP BY tasks.id ORDER BY tasks.id",
    )
    completed = ("completed", 3, 15)
    assert tasks == [
        completed,
        completed,
        ("pending", 0, 0),
        ("failed", 0, 0),
        ("completed", 0, 0),
    ]
    kinds = query(migrated, "SELECT output_type, count(*) FROM task_outputs GROUP BY 1 ORDER BY 1")
    assert kinds == [("diffs", 6), ("job_summary", 6), ("logging", 12), ("metrics", 6)]


@pytest.mark.slow
def test_mock_data_twice_is_the_same(migrated: str) -> None:
    """A second run, and one after a larger scale, leave exactly the rows of the first."""
    add_mock_data(migrated)
    first = fingerprint(migrated)
    add_mock_data(migrated)
    assert fingerprint(migrated) == first
    assert add_mock_data(migrated, "--scale", "3") == "users 1 · tasks 15 · task_outputs 90\n"
    assert query(migrated, COUNTS) == [(1, 15, 90)]
    add_mock_data(migrated)
    assert fingerprint(migrated) == first


@pytest.mark.slow
def test_mock_data_leaves_other_rows_alone(migrated: str) -> None:
    """Rows made by hand before or between the runs stay as they are; ids never collide."""
    mine = "SELECT * FROM tasks WHERE prompt = 'mine' ORDER BY id"
    query(migrated, "INSERT INTO users (id, email) VALUES ('u', 'u@example.com')")
    assert query(migrated, NEW_TASK.format("u")) == [(1,)]
    add_mock_data(migrated)
    assert query(migrated, NEW_TASK.format("mock-user")) == [(7,)]
    before = query(migrated, mine), fingerprint(migrated)
    add_mock_data(migrated)
    assert (query(migrated, mine), fingerprint(migrated)) == before
    add_mock_data(migrated, "--scale", "2")
    assert query(migrated, mine) == before[0]
    assert query(migrated, COUNTS) == [(2, 12, 60)]
    assert query(migrated, NEW_TASK.format("u")) == [(18,)]


def test_mock_data_is_all_or_nothing(migrated: str) -> None:
    """When its user cannot be written, the script says why and has changed nothing."""
    add_mock_data(migrated)
    query(migrated, "UPDATE users SET email = 'moved@example.com'")
    query(migrated, "INSERT INTO users (id, email) VALUES ('u', 'test@aideator.local')")
    before = fingerprint(migrated)
    done = run_script(migrated)
    assert (done.returncode, done.stdout) == (1, "")
    assert "uq_users_email" in done.stderr
    assert fingerprint(migrated) == before


@pytest.mark.parametrize(
    ("url", "what"),
    [
        (None, "DATABASE_URL is not set"),
        ("postgresql://u:canary@127.0.0.1:1/db", "Connection refused"),
        ("postgresql://u:canary@127.0.0.1:1/db?colour=red", "colour"),
        ("postgresql://u:can%zzary@127.0.0.1:1/db", "cannot be read"),
    ],
)
def test_mock_data_errors_are_one_line(url: str | None, what: str) -> None:
    """What is wrong and what to do, in one line, without the password or a traceback."""
    done = run_script(url)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert what in line
    assert " → " in line
    assert "canary" not in line


def test_mock_data_without_tables(database_url: str) -> None:
    """On an empty database the script names the missing table and the command that makes it."""
    done = run_script(database_url)
    assert done.returncode == 1
    assert done.stderr.startswith('relation "users" does not exist → run `invoke reset-db`')
    assert len(done.stderr.splitlines()) == 1


def test_mock_data_refuses_a_scale_of_nothing() -> None:
    """A scale below one is a usage error, found before any connection is made."""
    done = run_script(None, "--scale", "0")
    assert done.returncode == 2
    assert "'0' is not a whole number that is at least 1" in done.stderr
