"""Write the mock user, tasks and outputs into DATABASE_URL: all or nothing, the same every time.

The rows of an earlier run are replaced, with whatever was written under its tasks since;
rows of anyone else are never changed.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

from backset.connections.target import Target
from backset.errors import BacksetError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from psycopg.sql import Composed

    Row = tuple[object, ...]

USER_ID = "mock-user"
RUN_PREFIX = "mock-run-"
EPOCH = datetime(2025, 1, 1, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Mock(NamedTuple):
    """What one of the tasks looks like; `answered` counts the variations that have outputs."""

    status: str
    repository: str
    prompt: str
    variations: int
    answered: int
    error: str | None = None


MOCKS = (
    Mock("completed", "web-app", "Add a health check endpoint", 3, 3),
    Mock("completed", "cli-tool", "Replace the hand-written parser with argparse", 3, 3),
    Mock("pending", "web-app", "Sort the task list by its age", 2, 0),
    Mock("failed", "data-pipeline", "Retry failed uploads", 1, 0, "the agent timed out"),
    Mock("completed", "docs-site", "Correct the typing errors in the README", 1, 0),
)
OUTPUTS = (
    ("job_summary", "## Variation {0}\nOne endpoint and its test were added."),
    ("diffs", "--- a/main.py\n+++ b/main.py\n@@ -1 +1,2 @@\n import app\n+import health_{0}\n"),
    ("metrics", '{{"variation": {0}, "files_changed": 2, "lines_added": 14}}'),
    ("logging", "variation {0}: cloned the repository"),
    ("logging", "variation {0}: all tests passed"),
)

OWN_TASKS = SQL("user_id = {} AND starts_with(internal_run_id, {})").format(USER_ID, RUN_PREFIX)
OWN_OUTPUTS = SQL("task_id IN (SELECT id FROM tasks WHERE {})").format(OWN_TASKS)

TASK_TYPES = {
    "id": "int4",
    "github_url": "text",
    "prompt": "text",
    "variations": "int4",
    "status": "text",
    "created_at": "timestamptz",
    "updated_at": "timestamptz",
    "started_at": "timestamptz",
    "completed_at": "timestamptz",
    "user_id": "text",
    "results": "jsonb",
    "error_message": "text",
    "total_tokens_used": "int4",
    "total_cost_usd": "numeric",
    "internal_run_id": "text",
}
OUTPUT_TYPES = {
    "id": "int4",
    "task_id": "int4",
    "variation_id": "int4",
    "content": "text",
    "timestamp": "timestamptz",
    "output_type": "text",
}
TASKS_PER_SCALE = len(MOCKS)
OUTPUTS_PER_SCALE = sum(mock.answered for mock in MOCKS) * len(OUTPUTS)
SCALE_HELP = f"write N times {TASKS_PER_SCALE} tasks and {OUTPUTS_PER_SCALE} outputs (default: 1)"

REMEDIES: tuple[tuple[type[psycopg.Error], str], ...] = (  # the first that fits
    (errors.UndefinedTable, "run `invoke reset-db`, or `invoke alembic -- upgrade head`"),
    (errors.UndefinedColumn, "run `invoke reset-db`: the tables are not those of app/models.py"),
    (errors.UniqueViolation, "nothing was written; remove or rename the row that is in the way"),
    (errors.LockNotAvailable, "nothing was written; end the session that holds the tables"),
    (psycopg.OperationalError, "start the server, or correct DATABASE_URL"),
    (psycopg.Error, "nothing was written; run `invoke status` to see what is wrong"),
)


def mock_tasks(first_id: int, scale: int) -> Iterator[Row]:
    """Yield the rows of tasks, in the order of TASK_TYPES."""
    for number in range(TASKS_PER_SCALE * scale):
        mock = MOCKS[number % TASKS_PER_SCALE]
        created = EPOCH + number * SECOND
        ended = created + 90 * SECOND
        started = mock.status != "pending"
        yield (
            first_id + number,
            f"https://github.com/example/{mock.repository}",
            mock.prompt,
            mock.variations,
            mock.status,
            created,
            ended if started else created,
            created + SECOND if started else None,
            ended if started else None,
            USER_ID,
            Jsonb({"variations": mock.answered}) if mock.answered else None,
            mock.error,
            1200 * mock.answered,
            Decimal("0.018") * mock.answered,
            f"{RUN_PREFIX}{number}",
        )


def mock_outputs(first_id: int, first_task_id: int, scale: int) -> Iterator[Row]:
    """Yield the rows of task_outputs, in the order of OUTPUT_TYPES."""
    ids = count(first_id)
    for number in range(TASKS_PER_SCALE * scale):
        written = EPOCH + number * SECOND
        for variation in range(MOCKS[number % TASKS_PER_SCALE].answered):
            for output_type, content in OUTPUTS:
                written += SECOND
                text = content.format(variation)
                yield next(ids), first_task_id + number, variation, text, written, output_type


def ask(cursor: psycopg.Cursor, query: Composed, *values: int) -> int:
    """Return the one number that a query gives."""
    return int(cursor.execute(query, values).fetchall()[0][0])


def make_room(cursor: psycopg.Cursor, table: str, own: Composed, needed: int) -> int:
    """Delete this script's rows of a table; return the first of `needed` ids that are free.

    That is where its rows were, so that a second run gives the same ids; if somebody else has
    rows there by now, it is after all of them.
    """
    gone = SQL(
        "WITH gone AS (DELETE FROM {} WHERE {} RETURNING id) SELECT coalesce(min(id), 0) FROM gone"
    )
    taken = SQL("SELECT count(*) FROM {} WHERE id >= %s AND id < %s").format(Identifier(table))
    after = SQL("SELECT coalesce(max(id), 0) + 1 FROM {}").format(Identifier(table))
    first = ask(cursor, gone.format(Identifier(table), own))
    if first and not ask(cursor, taken, first, first + needed):
        return first
    return ask(cursor, after)


def write_user(cursor: psycopg.Cursor) -> int:
    """Write the mock user, or set it back: others' tasks may refer to it, so it is not deleted."""
    cursor.execute(
        """
        INSERT INTO users (id, email, name, company, created_at, updated_at)
        VALUES (%(id)s, 'test@aideator.local', 'Test User', 'AIdeator', %(at)s, %(at)s)
        ON CONFLICT (id) DO UPDATE SET
            email = excluded.email, name = excluded.name, company = excluded.company,
            created_at = excluded.created_at, updated_at = excluded.updated_at
        """,
        {"id": USER_ID, "at": EPOCH},
    )
    return cursor.rowcount


def copy_rows(
    cursor: psycopg.Cursor, table: str, types: Mapping[str, str], rows: Iterator[Row]
) -> int:
    """Stream the rows into a table and move its sequence past them; return how many they were."""
    columns = SQL(", ").join(map(Identifier, types))
    statement = SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(Identifier(table), columns)
    with cursor.copy(statement) as copy:
        copy.set_types(list(types.values()))
        for row in rows:
            copy.write_row(row)
    written = cursor.rowcount
    moved = SQL("SELECT setval(pg_get_serial_sequence({}, 'id'), max(id)) FROM {}")
    cursor.execute(moved.format(table, Identifier(table)))
    return written


def seed(params: Mapping[str, str], scale: int) -> dict[str, int]:
    """Replace the mock rows in one transaction; return how many were written into each table."""
    tasks, outputs = TASKS_PER_SCALE * scale, OUTPUTS_PER_SCALE * scale
    conninfo = make_conninfo(**{"connect_timeout": "10", **params})
    with psycopg.connect(conninfo) as connection, connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '10s'")
        # The ids are chosen here, not by the sequences: nobody may insert in between.
        cursor.execute("LOCK TABLE users, tasks, task_outputs IN SHARE ROW EXCLUSIVE MODE")
        first_output = make_room(cursor, "task_outputs", OWN_OUTPUTS, outputs)
        first_task = make_room(cursor, "tasks", OWN_TASKS, tasks)
        return {
            "users": write_user(cursor),
            "tasks": copy_rows(cursor, "tasks", TASK_TYPES, mock_tasks(first_task, scale)),
            "task_outputs": copy_rows(
                cursor, "task_outputs", OUTPUT_TYPES, mock_outputs(first_output, first_task, scale)
            ),
        }


def scale_argument(text: str) -> int:
    """Read a whole number that is at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number that is at least 1")
    return int(text)


def read_params() -> Mapping[str, str]:
    """Return libpq's keywords for DATABASE_URL."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        remedy = 'run `invoke seed`, or export DATABASE_URL="$(invoke url)"'
        raise SettingsError([("DATABASE_URL is not set", remedy)])
    return Target.parse(url).params


def explain(error: psycopg.Error) -> str:
    """Say in one line what the server or libpq said, and what to do."""
    what = error.diag.message_primary or str(error).partition("\n")[0]
    return f"{what} → {next(remedy for kind, remedy in REMEDIES if isinstance(error, kind))}"


def main() -> None:
    """Parse the arguments, write the rows, print how many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=scale_argument, default=1, metavar="N", help=SCALE_HELP)
    scale = parser.parse_args().scale
    try:
        written = seed(read_params(), scale)
    except BacksetError as error:
        sys.exit("\n".join(error.lines()))
    except psycopg.Error as error:
        sys.exit(explain(error))
    print(" · ".join(f"{table} {rows}" for table, rows in written.items()))


if __name__ == "__main__":
    main()
