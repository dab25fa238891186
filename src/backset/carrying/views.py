"""The materialized views of the new database: filled anew when the rows have come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.catalogs.catalog import shown
from backset.errors import Finding

if TYPE_CHECKING:
    from collections.abc import Collection

    from backset.connections.session import Session


def refresh(session: Session, populated: Collection[tuple[str, str]]) -> list[Finding]:
    """Fill every materialized view that the migrations filled, or that had rows in the old one.

    One that reads another comes after it. Return a finding for each that cannot be filled: it stays
    as it is, and so do the rows of the tables.
    populated: those of the old database that could be read.
    """
    wanted = [[name[place] for name in populated] for place in (0, 1)]
    found = []
    for schema, name in session.execute(_VIEWS, wanted).fetchall():
        try:
            view = sql.Identifier(schema, name)
            session.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(view))
        except psycopg.Error as error:
            if session.broken:
                raise
            found.append(_unfilled(shown(schema, name), error))
    return found


def _unfilled(name: str, error: psycopg.Error) -> Finding:
    words = (error.diag.message_primary or str(error)).partition("\n")[0]
    return Finding(
        kind="unfilled view",
        name=name,
        what=f"the materialized view {name} could not be filled: {words}",
        why="it does not show the rows that were carried",
        remedy=f"mend that, then REFRESH MATERIALIZED VIEW {name}",
    )


# How deep a view stands on others, plain ones included.
_VIEWS = """
WITH RECURSIVE reads (view, source) AS (
    SELECT DISTINCT r.ev_class, d.refobjid FROM pg_rewrite r
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
         AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
), depths (view, depth) AS (
    SELECT oid, 0 FROM pg_class WHERE relkind IN ('m', 'v')
    UNION SELECT reads.view, depth + 1 FROM depths JOIN reads ON reads.source = depths.view
)
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN depths ON depths.view = c.oid
WHERE c.relkind = 'm'
  AND (c.relispopulated
       OR (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[])))
  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass
                  AND x.objid = c.oid AND x.deptype = 'e')
GROUP BY 1, 2 ORDER BY max(depth), 1, 2
"""
