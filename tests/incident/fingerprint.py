"""What a database holds, as a value to compare: the proof that every row is still there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLES = """
    SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind = 'r' AND nspname <> 'information_schema' AND NOT starts_with(nspname, 'pg_')
    ORDER BY nspname, relname
"""
# (r.*) is the row even where the table has a column r; "C" sorts alike on every platform.
ROWS = SQL("""
    SELECT count(*), md5(string_agg((r.*)::text, chr(10) ORDER BY (r.*)::text COLLATE "C"))
    FROM {} AS r
""")
# What the text of a row depends on, and what a database or a role may have set otherwise.
PINNED = "SET LOCAL datestyle = ISO; SET LOCAL intervalstyle = iso_8601; SET LOCAL timezone = UTC"


def fingerprint(database: str | Mapping[str, str]) -> dict[str, tuple[int, str | None]]:
    """Return row count and hash of the ordered rows for every user table of every schema.

    database: a libpq connection string or URL, or libpq's keywords. An empty table has no hash.
    """
    conninfo = database if isinstance(database, str) else make_conninfo(**database)
    with psycopg.connect(conninfo) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute(PINNED)
        tables = connection.execute(TABLES).fetchall()
        rows = [connection.execute(ROWS.format(Identifier(*table))).fetchall() for table in tables]
        return {".".join(table): row for table, (row,) in zip(tables, rows, strict=True)}
