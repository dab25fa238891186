"""What a column of a table may name: domains, composite types, sequences, and functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.catalog.catalog import is_users
from backset.inherit.property import Property, Source

if TYPE_CHECKING:
    from collections.abc import Mapping


def _routine(row: Mapping[str, Any]) -> Property:
    # The body of a function may name a table, which is not there yet.
    unchecked = sql.SQL("SET LOCAL check_function_bodies = off; ")
    statement = unchecked + sql.SQL(row["statement"])
    return Property(
        kind="routine",
        name=row["statement"],
        value=(),
        statements=lambda _database: [statement],
    )


def _own(catalog: str, *kinds: str) -> str:
    """Return the condition for what is a user's, and hangs on no other object in these ways."""
    listed = ", ".join(f"'{each}'" for each in kinds)
    return f"""{is_users("n.nspname")} AND NOT EXISTS (SELECT FROM pg_depend x
        WHERE x.classid = '{catalog}'::regclass AND x.objid = o.oid AND x.deptype IN ({listed}))"""


# In the order in which they were made.
ROUTINES = (
    Source(
        f"""
SELECT statement FROM (
    SELECT o.oid, CASE o.typtype
        WHEN 'd' THEN format('CREATE DOMAIN %%I.%%I AS %%s', n.nspname, o.typname,
            format_type(o.typbasetype, o.typtypmod))
        ELSE format('CREATE TYPE %%I.%%I AS (%%s)', n.nspname, o.typname,
            (SELECT string_agg(format('%%I %%s', attname, format_type(atttypid, atttypmod)), ', '
                               ORDER BY attnum)
             FROM pg_attribute WHERE attrelid = o.typrelid AND NOT attisdropped)) END AS statement
    FROM pg_type o JOIN pg_namespace n ON n.oid = o.typnamespace
         LEFT JOIN pg_class c ON c.oid = o.typrelid
    WHERE (o.typtype = 'd' OR c.relkind = 'c') AND {_own("pg_type", "e")}
    UNION ALL
    SELECT o.oid, format('CREATE SEQUENCE %%I.%%I', n.nspname, o.relname)
    FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace
    WHERE o.relkind = 'S' AND {_own("pg_class", "e", "a", "i")}
    UNION ALL
    SELECT o.oid, pg_get_functiondef(o.oid)
    FROM pg_proc o JOIN pg_namespace n ON n.oid = o.pronamespace
    WHERE o.prokind IN ('f', 'p') AND {_own("pg_proc", "e")}
) AS found ORDER BY oid""",
        _routine,
    ),
)
