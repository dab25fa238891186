"""The materialized views of the new database, which the migrations filled before the rows came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from backset.connections.session import Session


def refresh(session: Session) -> int:
    """Fill every materialized view anew that was filled; return how many there are.

    One that reads another comes after it.
    """
    views = session.execute(_VIEWS).fetchall()
    for schema, name in views:
        view = sql.Identifier(schema, name)
        session.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(view))
    return len(views)


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
WHERE c.relkind = 'm' AND c.relispopulated
  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass
                  AND x.objid = c.oid AND x.deptype = 'e')
GROUP BY 1, 2 ORDER BY max(depth), 1, 2
"""
