"""What the server works out again when a dump is loaded: tried before, and lent what it counts on.

A dump names everything with its schema, and loads with an empty search path. What a function names
is a text in it, and only found when it is called: by a CHECK, a generated column, an index or a
materialized view; from 17 on the server gives itself a safe path for the last two. And a CHECK was
true when its row came, which it need not be any more.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from psycopg import sql

from backset.catalog.catalog import FIRST_OF_A_USER, is_users, shown
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backset.connections.session import Session


class Evaluation(NamedTuple):
    """How a dump of this database would load.

    needs_path: only with the search path of the database. obstacle: why not at all, in words;
    empty where nothing was found.
    """

    needs_path: bool
    obstacle: str


def look(
    session: Session,
    search_path: str,
    spare: Callable[[tuple[str, str]], bool] = lambda _: False,
) -> Evaluation:
    """Work out in the open transaction of `session` what a load of its snapshot would.

    It should only read: a function that writes is not tried, nor what the role may not read.
    search_path: that of the database. spare: which tables are not dumped, by schema and name.
    """
    needs_path = False
    for what, query in _queries(session, spare):
        if _error(session, query, ""):
            if words := _error(session, query, search_path):
                return Evaluation(needs_path, f"{what}: {words}")
            needs_path = True
    return Evaluation(needs_path, "")


def _queries(
    session: Session, spare: Callable[[tuple[str, str]], bool]
) -> Iterator[tuple[str, sql.Composed]]:
    """Yield what to try, as people name it, each with a query that gives how many rows fail."""
    with session.transaction():
        session.execute("SET LOCAL search_path = ''")  # so that all is spelled with its schema
        tables = session.execute(_TABLES).fetchall()
        views = session.execute(_VIEWS).fetchall()
    for schema, name, checks, others in tables:
        if not spare((schema, name)) and (checks or others):
            parts = [f"count(*) FILTER (WHERE NOT ({checks or 'true'}))", *(others or ())]
            query = sql.SQL("SELECT {} FROM ONLY {}")
            counted, table = sql.SQL(", ".join(parts)), sql.Identifier(schema, name)
            yield shown(schema, name), query.format(counted, table)
    for schema, name, definition in views:
        query = sql.SQL("SELECT 0, count(q.*) FROM ({}) AS q")
        yield shown(schema, name), query.format(sql.SQL(definition.rstrip("; ")))


def _error(session: Session, query: sql.Composed, path: str) -> str:
    """Return what the server says against a query, or that rows break a CHECK; else nothing."""
    try:
        with session.transaction(force_rollback=True):
            session.execute(_AS_IF_LOADED)
            session.execute("SELECT set_config('search_path', %s, true)", [path])
            row = session.execute(query).fetchone()
    except _UNTRIED:
        return ""
    except psycopg.Error as error:
        return "; ".join(filter(None, (each.strip() for each in str(error).splitlines())))
    return f"{count(row[0], 'row')} would not pass a CHECK again" if row and row[0] else ""


def give_path(session: Session, path: str | None) -> None:
    """Give our functions a search path for good, in a database that is thrown away.

    path: None for that of the session. It is that of the session afterwards.
    """
    if path is not None:
        session.execute("SELECT set_config('search_path', %s, false)", [path])
    for give, _ in session.execute(_WITHOUT_PATH).fetchall():
        session.execute(give)


@contextmanager
def lent_path(session: Session) -> Iterator[None]:
    """Give our functions without a search path of their own that of the session, for the block.

    In a transaction: an error in the block leaves nothing to be taken back.
    """
    ours = session.execute(_WITHOUT_PATH).fetchall()
    for lend, _ in ours:
        session.execute(lend)
    yield
    for _, take_back in ours:
        session.execute(take_back)


@contextmanager
def checked_later(session: Session) -> Iterator[None]:
    """Take the CHECK constraints of our tables away for the block; then all rows must pass them.

    In a transaction, for tables without rows. One may call a function that looks at other rows,
    which a load brings later.
    """
    again: list[str] = []
    while found := session.execute(_CHECKS).fetchall():  # one that is inherited goes with its own
        for take_away, *statements in found:
            session.execute(take_away)
            again[:0] = statements
    yield
    for each in again:
        session.execute(each)


_OURS = "pg_has_role({}, 'USAGE') AND {} >= " + str(FIRST_OF_A_USER)
_WITHOUT_PATH = f"""
SELECT format('ALTER ROUTINE %s SET search_path FROM CURRENT', p.oid::regprocedure),
       format('ALTER ROUTINE %s RESET search_path', p.oid::regprocedure)
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE {_OURS.format("p.proowner", "p.oid")} AND p.prokind <> 'a'
  AND l.lanname NOT IN ('internal', 'c')
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS s WHERE starts_with(s, 'search_path='))
"""
_CHECKS = f"""
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', c.oid::regclass, k.conname),
       format('ALTER TABLE %s ADD CONSTRAINT %I %s', c.oid::regclass, k.conname,
              pg_get_constraintdef(k.oid)),
       format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, c.oid::regclass,
              obj_description(k.oid, 'pg_constraint'))
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.contype = 'c' AND k.convalidated AND k.conislocal AND k.coninhcount = 0
  AND c.relkind IN ('r', 'p') AND {_OURS.format("c.relowner", "c.oid")}
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY k.oid
"""
_UNTRIED = (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.InsufficientPrivilege)
# What an index has in it is not worked out, nor what a CHECK rules out.
_AS_IF_LOADED = """
SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off;
SET LOCAL enable_bitmapscan = off; SET LOCAL constraint_exclusion = off
"""
# Functions with a search path of their own find everything; triggers are made after the rows.
_LOOSE = f"""
SELECT p.oid FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.oid >= {FIRST_OF_A_USER} AND l.lanname NOT IN ('internal', 'c') AND p.prokind <> 'a'
  AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS s WHERE starts_with(s, 'search_path='))
"""
_TABLES = f"""
WITH loose AS (SELECT EXISTS ({_LOOSE}) AS is_any)
SELECT n.nspname, c.relname,
       (SELECT string_agg(rule, ' AND ') FROM (
            SELECT pg_get_expr(k.conbin, c.oid) AS rule
            FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.convalidated
            UNION ALL
            SELECT pg_get_partition_constraintdef(c.oid) WHERE c.relispartition AND loose.is_any
        ) AS rules),
       (SELECT array_agg(part) FROM (
            SELECT format('count((%I::%s)::%s)', a.attname,
                          format_type(t.typbasetype, t.typtypmod), t.oid::regtype) AS part
            FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND t.typtype = 'd'
              AND t.oid >= {FIRST_OF_A_USER} AND NOT EXISTS (
                  SELECT FROM pg_constraint k WHERE k.contypid = t.oid AND NOT k.convalidated)
            UNION ALL
            SELECT format('count(ROW(%s))', string_agg(pg_get_expr(d.adbin, c.oid), ', '))
            FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
            WHERE a.attrelid = c.oid AND a.attgenerated = 's' HAVING count(*) > 0
            UNION ALL
            SELECT format('count(CASE WHEN %s THEN ROW(%s) END)',
                          coalesce(pg_get_expr(i.indpred, c.oid), 'true'),
                          pg_get_expr(i.indexprs, c.oid))
            FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid
              AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
        ) AS parts WHERE loose.is_any)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN loose
WHERE c.relkind = 'r' AND {is_users("n.nspname")} AND NOT EXISTS (
    SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid
    AND e.deptype = 'e')
ORDER BY 1, 2
"""
_VIEWS = f"""
WITH RECURSIVE loose AS ({_LOOSE}), reached AS (
    SELECT c.oid AS view, 'pg_rewrite'::regclass::oid AS classid, r.oid AS objid
    FROM pg_class c JOIN pg_rewrite r ON r.ev_class = c.oid
    WHERE c.relkind = 'm' AND c.relispopulated
    UNION
    SELECT f.view, x.classid, x.objid
    FROM reached f JOIN pg_depend d ON d.classid = f.classid AND d.objid = f.objid
         CROSS JOIN LATERAL (
             SELECT d.refclassid AS classid, d.refobjid AS objid
             UNION ALL SELECT 'pg_rewrite'::regclass, r.oid FROM pg_rewrite r
             WHERE d.refclassid = 'pg_class'::regclass AND r.ev_class = d.refobjid) AS x
    WHERE x.objid >= {FIRST_OF_A_USER}
)
SELECT n.nspname, c.relname, pg_get_viewdef(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {is_users("n.nspname")} AND EXISTS (
    SELECT FROM reached r JOIN loose ON loose.oid = r.objid
    WHERE r.view = c.oid AND r.classid = 'pg_proc'::regclass)
ORDER BY 1, 2
"""
