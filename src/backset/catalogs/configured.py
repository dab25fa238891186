"""Rows of a user's in the tables of extensions: those that the extension has pg_dump dump.

An extension says so of a table with pg_extension_config_dump(), such as PostGIS of its spatial
reference systems; pg_extension keeps that in extconfig and extcondition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from backset.catalogs import batches
from backset.catalogs.catalog import shown

if TYPE_CHECKING:
    from backset.connections.session import Session


def rows(session: Session) -> dict[str, int]:
    """Return how many such rows each table has that has any, by its shown name."""
    found = session.execute(_TABLES).fetchall()
    # The condition is SQL of the extension's own script, which a superuser has let in.
    queries = [
        sql.SQL("SELECT {}, count(*) FROM {} {}").format(
            number, sql.Identifier(schema, name), sql.SQL(condition)
        )
        for number, (schema, name, condition) in enumerate(found)
    ]
    counts = dict(batches.rows(session, queries))
    return {shown(*each[:2]): counts[n] for n, each in enumerate(found) if counts[n]}


_TABLES = """
SELECT n.nspname, c.relname, coalesce(nullif(condition, ''), '')
FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS config (relation, condition)
     JOIN pg_class c ON c.oid = config.relation JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND has_schema_privilege(n.oid, 'USAGE')
  AND has_table_privilege(c.oid, 'SELECT')
ORDER BY 1, 2
"""
