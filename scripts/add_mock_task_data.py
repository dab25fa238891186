"""Write the mock user, tasks and outputs into DATABASE_URL: all or nothing, the same every time.

The rows of an earlier run are replaced, with whatever was written under its tasks since;
rows of anyone else are never changed. While many rows are written, nobody else can read
the tables.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

import mock_rows
import progress
from backset.connections.target import Target
from backset.errors import BacksetError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from psycopg.sql import Composed

    from mock_rows import Row

    Connection = psycopg.Connection[Any]

# From so many outputs on, and while there are not more of other people's, it is faster to build
# indexes and foreign keys after the rows.
MANY = 10_000
INTERRUPTED = 130

OWN_TASKS = SQL("user_id = {} AND starts_with(internal_run_id, {})").format(
    mock_rows.USER_ID, mock_rows.RUN_PREFIX
)
OWN_OUTPUTS = SQL("task_id IN (SELECT id FROM tasks WHERE {})").format(OWN_TASKS)

SCALE_HELP = (
    f"write N times {mock_rows.TASKS_PER_SCALE} tasks and {mock_rows.OUTPUTS_PER_SCALE} outputs "
    "(default: 1); 33334 make a million outputs, about half a gigabyte"
)
REMEDIES: tuple[tuple[type[psycopg.Error], str], ...] = (  # the first that fits
    (errors.UndefinedTable, "run `invoke reset-db`, or `invoke alembic -- upgrade head`"),
    (errors.UndefinedColumn, "run `invoke reset-db`: the tables are not those of app/models.py"),
    (errors.UniqueViolation, "nothing was written; remove or rename the row that is in the way"),
    (errors.LockNotAvailable, "nothing was written; end the session that holds the tables"),
    (psycopg.OperationalError, "start the server, or correct DATABASE_URL"),
    (psycopg.Error, "nothing was written; run `invoke status` to see what is wrong"),
)


def ask(connection: Connection, query: Composed, *values: int) -> int:
    """Return the one number that a query gives."""
    return int(connection.execute(query, values).fetchall()[0][0])


def lock(connection: Connection, *, outputs: int) -> None:
    """Keep others from writing; the ids are chosen here, not by the sequences.

    Where indexes will be dropped, nobody may read either: a stronger lock that is taken later
    could make a deadlock.
    """
    mode = SQL("ACCESS EXCLUSIVE" if outputs >= MANY else "SHARE ROW EXCLUSIVE")
    connection.execute("SET LOCAL lock_timeout = '10s'")
    connection.execute(SQL("LOCK TABLE users, tasks, task_outputs IN {} MODE").format(mode))


def is_much(connection: Connection, *, outputs: int) -> bool:
    """Tell whether so many outputs come that indexes are better built after them."""
    others = SQL("SELECT count(*) FROM task_outputs WHERE NOT {}").format(OWN_OUTPUTS)
    return outputs >= MANY and outputs >= ask(connection, others)


@contextmanager
def loading(connection: Connection, *, outputs: int) -> Iterator[progress.Track]:
    """Give what tracks the rows; where much comes, indexes and foreign keys are built after it."""
    if not is_much(connection, outputs=outputs):
        yield progress.silent
        return
    import secondary  # noqa: PLC0415  (thirty rows do not pay for it)

    with progress.shown() as track:
        building = partial(track, description="indexes and keys")
        with secondary.built_afterwards(connection, ("tasks", "task_outputs"), building):
            yield track


def make_room(connection: Connection, table: str, own: Composed, needed: int) -> int:
    """Delete this script's rows of a table; return the first of `needed` ids that are free.

    That is where its rows were, so that a second run gives the same ids; if somebody else has
    rows there by now, it is after all of them.
    """
    gone = SQL(
        "WITH gone AS (DELETE FROM {} WHERE {} RETURNING id) SELECT coalesce(min(id), 0) FROM gone"
    )
    taken = SQL("SELECT count(*) FROM {} WHERE id >= %s AND id < %s").format(Identifier(table))
    after = SQL("SELECT coalesce(max(id), 0) + 1 FROM {}").format(Identifier(table))
    first = ask(connection, gone.format(Identifier(table), own))
    if first and not ask(connection, taken, first, first + needed):
        return first
    return ask(connection, after)


def write_user(connection: Connection) -> int:
    """Write the mock user, or set it back: others' tasks may refer to it, so it is not deleted."""
    return connection.execute(
        """
        INSERT INTO users (id, email, name, company, created_at, updated_at)
        VALUES (%(id)s, 'test@aideator.local', 'Test User', 'AIdeator', %(at)s, %(at)s)
        ON CONFLICT (id) DO UPDATE SET
            email = excluded.email, name = excluded.name, company = excluded.company,
            created_at = excluded.created_at, updated_at = excluded.updated_at
        """,
        {"id": mock_rows.USER_ID, "at": mock_rows.EPOCH},
    ).rowcount


def copy_rows(
    connection: Connection, table: str, types: Mapping[str, str], rows: Iterable[Row]
) -> int:
    """Stream the rows into a table and move its sequence past them; return how many they were."""
    columns = SQL(", ").join(map(Identifier, types))
    statement = SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(Identifier(table), columns)
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            copy.set_types(list(types.values()))
            for row in rows:
                copy.write_row(row)
        written = cursor.rowcount
    moved = SQL("SELECT setval(pg_get_serial_sequence({}, 'id'), max(id)) FROM {}")
    connection.execute(moved.format(table, Identifier(table)))
    return written


def seed(params: Mapping[str, str], scale: int) -> dict[str, int]:
    """Replace the mock rows in one transaction; return how many were written into each table."""
    tasks, outputs = mock_rows.TASKS_PER_SCALE * scale, mock_rows.OUTPUTS_PER_SCALE * scale
    conninfo = make_conninfo(**{"connect_timeout": "10", **params})
    with psycopg.connect(conninfo) as connection:
        lock(connection, outputs=outputs)
        with loading(connection, outputs=outputs) as track:
            first_output = make_room(connection, "task_outputs", OWN_OUTPUTS, outputs)
            first_task = make_room(connection, "tasks", OWN_TASKS, tasks)
            users = write_user(connection)
            rows = track(mock_rows.tasks(first_task, scale), tasks, description="tasks")
            tasks = copy_rows(connection, "tasks", mock_rows.TASK_TYPES, rows)
            made = mock_rows.task_outputs(first_output, first_task, scale)
            rows = track(made, outputs, description="task_outputs")
            outputs = copy_rows(connection, "task_outputs", mock_rows.OUTPUT_TYPES, rows)
    return {"users": users, "tasks": tasks, "task_outputs": outputs}


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
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        sys.exit(INTERRUPTED)
    print(" · ".join(f"{table} {rows}" for table, rows in written.items()))


if __name__ == "__main__":
    main()
