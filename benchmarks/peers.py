"""The same work by other means: the runbook by hand, and what every peer is held to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.place import psql
from benchmarks.sides import Side

if TYPE_CHECKING:
    from benchmarks.place import Place

SEED = ["python", "scripts/add_mock_task_data.py"]
TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public';"
REVISION = "SELECT * FROM alembic_version;"
OURS = ("users", "tasks", "task_outputs")
MOCK_ROWS = (1, 5, 30)
COUNTS = f"SELECT {', '.join(f'(SELECT count(*) FROM {each})' for each in OURS)}"
STRAY = (  # all that must not be null: Django's columns have no default in the database
    "INSERT INTO users (id, email, is_active, is_superuser, created_at, updated_at,"
    " max_runs_per_day, max_variations_per_run)"
    " VALUES ('stray', 'stray@example.com', true, false, now(), now(), 1, 1)"
)


class Unavailable(Exception):  # noqa: N818  (it is no error: the page says so)
    """A peer cannot be had here, and why."""


def runbook(url: str) -> list[list[str]]:
    """Return the commands of the runbook's steps 1 to 8, and the dump that it advises."""
    return [
        ["alembic", "current"],
        ["alembic", "history"],
        psql(url, TABLES),
        psql(url, REVISION),
        ["pg_dump", "-Fc", "-d", url, "-f", "by_hand.dump"],
        psql(url, "DROP TABLE IF EXISTS alembic_version CASCADE;"),
        psql(url, "DROP TABLE IF EXISTS users, tasks, task_outputs, runs CASCADE;"),
        psql(url, TABLES),
        ["alembic", "upgrade", "head"],
        psql(url, TABLES),
        psql(url, REVISION),
        *(psql(url, f"\\d {table};") for table in OURS),
        SEED,
        *(psql(url, f"SELECT count(*) FROM {table};") for table in OURS),
    ]


def checked(place: Place, name: str, database: str, commands: list[list[str]], **env: str) -> Side:
    """Return a side of whole processes that must remove a stray row and leave the mock rows."""

    def run() -> None:
        for command in commands:
            place.run(*command, env=env)

    def check() -> None:
        if (found := place.sql(database, COUNTS)) != [MOCK_ROWS]:
            raise SystemExit(f"{name}: {database} has {found}, not {MOCK_ROWS}")

    return Side(name, run, lambda: place.sql(database, STRAY), check)


def by_hand(place: Place, database: str) -> Side:
    """Return the runbook, with a database of its own that is at head."""
    url = place.url(database)
    place.renew(database)
    for command in (["alembic", "upgrade", "head"], SEED):
        place.run(*command, env={"DATABASE_URL": url})
    return checked(place, "the runbook by hand", database, runbook(url), DATABASE_URL=url)
