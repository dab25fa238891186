"""What is not sound in a database by itself: invalid indexes, unchecked rows, disabled triggers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.catalog.catalog import is_users, shown
from backset.errors import Finding
from backset.text.pasted import quoted_if_needed

if TYPE_CHECKING:
    from backset.connections.session import Session


def findings(session: Session) -> list[Finding]:
    """Return a finding for each, from one query."""
    return [_invalid(*row) for row in session.execute(_QUERY).fetchall()]


def _invalid(kind: str, schema: str, table: str, name: str) -> Finding:
    words, what, why, remedy = _WORDS[kind]
    home = () if schema == "public" else (schema,)
    return Finding(
        kind=words,
        name=name,
        what=what.format(name=name, table=shown(schema, table)),
        why=why,
        remedy=remedy.format(
            name=quoted_if_needed(name),
            table=quoted_if_needed(*home, table),
            schema=quoted_if_needed(schema),
        ),
    )


# kind in the query: the finding's kind, what, why, remedy
_WORDS = {
    "index": (
        "invalid index",
        "index {name} of {table} is not valid",
        "no query uses it, yet every write pays for it; its CREATE INDEX CONCURRENTLY had failed",
        "REINDEX INDEX CONCURRENTLY {schema}.{name}, or drop it and let a migration make it again",
    ),
    "partitioned index": (
        "invalid index",
        "index {name} of the partitioned table {table} is not valid",
        "a partition has no index attached to it",
        "CREATE INDEX on each partition and ALTER INDEX {schema}.{name} ATTACH PARTITION",
    ),
    "not valid": (
        "not valid constraint",
        "constraint {name} of {table} is NOT VALID",
        "rows from before it may break it",
        "ALTER TABLE {table} VALIDATE CONSTRAINT {name}, in a migration",
    ),
    "not enforced": (
        "not valid constraint",
        "constraint {name} of {table} is NOT ENFORCED",
        "no row is held against it",
        "ALTER TABLE {table} ALTER CONSTRAINT {name} ENFORCED, in a migration",
    ),
    "trigger": (
        "disabled trigger",
        "trigger {name} of {table} is disabled",
        "what it keeps in order is not kept so",
        "ALTER TABLE {table} ENABLE TRIGGER {name}",
    ),
    "replica trigger": (
        "disabled trigger",
        "trigger {name} of {table} fires in replicas only",
        "what it keeps in order is not kept so",
        "ALTER TABLE {table} ENABLE TRIGGER {name}",
    ),
    "foreign key": (
        "disabled trigger",
        "the triggers of the foreign key {name} are disabled on {table}",
        "rows that break it can be written",
        "ALTER TABLE {table} ENABLE TRIGGER ALL, once the rows are right",
    ),
}


_OF_AN_EXTENSION = """(SELECT FROM pg_depend x
    WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e')"""


# `conenforced` came with PostgreSQL 18. A part of a partitioned table has what its parent has.
_QUERY = f"""
WITH ours AS (
    SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {is_users("n.nspname")} AND c.relkind IN ('r', 'p', 'm')
      AND NOT EXISTS {_OF_AN_EXTENSION})
SELECT CASE o.relkind WHEN 'p' THEN 'partitioned index' ELSE 'index' END, o.schema, o.name,
       x.relname
FROM pg_index i JOIN ours o ON o.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
WHERE NOT (i.indisvalid AND i.indisready AND i.indislive)
UNION ALL
SELECT CASE to_jsonb(k) ->> 'conenforced' WHEN 'false' THEN 'not enforced' ELSE 'not valid' END,
       o.schema, o.name, k.conname
FROM pg_constraint k JOIN ours o ON o.oid = k.conrelid WHERE NOT k.convalidated AND k.conislocal
UNION ALL
SELECT CASE t.tgenabled WHEN 'D' THEN 'trigger' ELSE 'replica trigger' END, o.schema, o.name,
       t.tgname
FROM pg_trigger t JOIN ours o ON o.oid = t.tgrelid
WHERE t.tgenabled IN ('D', 'R') AND NOT t.tgisinternal AND NOT EXISTS
    (SELECT FROM pg_trigger p WHERE p.oid = t.tgparentid AND p.tgenabled = t.tgenabled)
UNION ALL
SELECT DISTINCT 'foreign key', o.schema, o.name, k.conname
FROM pg_trigger t JOIN ours o ON o.oid = t.tgrelid JOIN pg_constraint k ON k.oid = t.tgconstraint
WHERE t.tgenabled IN ('D', 'R') AND t.tgisinternal AND k.contype = 'f'
ORDER BY 1, 2, 3, 4
"""
