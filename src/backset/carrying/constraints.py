"""The constraints that must not judge rows while they come: foreign keys, and what is NOT VALID."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.rows import kwargs_row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.connections.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A constraint, and the statements that the server has made of it; empty where there is none.

    table: as SQL names it. add: makes it again, but does not ask about rows that are there;
    validate: does. name, of, columns: of a foreign key, and of its table, schema and name; other,
    referred: of what it refers to.
    orphans: a query for the keys of the rows that refer to nothing, with the number of these rows.
    """

    table: str
    drop: str
    add: str
    comment: str
    validate: str = ""
    name: str = ""
    of: Sequence[str] = ()
    columns: Sequence[str] = ()
    referred: Sequence[str] = ()
    other: Sequence[str] = ()
    orphans: str = ""


def foreign_keys(session: Session, tables: Sequence[int]) -> list[Constraint]:
    """Return the foreign keys from these tables or to them, in the order of their creation.

    That is the order in which PostgreSQL asks them, so it has to stay.
    The search path must be empty. tables: by their oids, partitions too.
    """
    since = {"may_wait": session.info.server_version >= _PARTITIONED_MAY_WAIT}
    return _read(session, _FOREIGN_KEYS, {"tables": tables, **since})


def not_valid(session: Session, tables: Sequence[int]) -> list[Constraint]:
    """Return the checks that old rows need not hold: rows that are carried are old ones.

    Of the tables, and of domains; the search path must be empty.
    """
    return _read(session, _NOT_VALID, {"tables": tables})


def _read(session: Session, query: str, parameters: Mapping[str, object]) -> list[Constraint]:
    cursor = session.cursor(row_factory=kwargs_row(Constraint))
    return cursor.execute(query.encode(), parameters).fetchall()


_PARTITIONED_MAY_WAIT = 180000  # before, no foreign key of a partitioned table may be NOT VALID
_FOREIGN_KEYS = """
SELECT place AS "table", format('ALTER TABLE %%s DROP CONSTRAINT %%I', place, k.conname) AS drop,
       format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s%%s', place, k.conname,
              pg_get_constraintdef(k.oid), CASE WHEN waits THEN ' NOT VALID' END) AS add,
       coalesce('COMMENT ON CONSTRAINT ' || quote_ident(k.conname) || ' ON ' || place || ' IS ' ||
                quote_literal(obj_description(k.oid, 'pg_constraint')), '') AS comment,
       CASE WHEN waits THEN format('ALTER TABLE %%s VALIDATE CONSTRAINT %%I', place, k.conname)
            ELSE '' END AS validate,
       k.conname AS name, ARRAY[n.nspname, c.relname]::text[] AS of, columns, referred,
       ARRAY[rn.nspname, r.relname]::text[] AS other,
       format('SELECT %%s, sum(count(*)) OVER () FROM %%s%%s AS ours WHERE ROW(%%s) IS NOT NULL'
              ' AND NOT EXISTS (SELECT FROM %%s AS theirs WHERE (%%s) = (%%s))'
              ' GROUP BY %%s ORDER BY %%s LIMIT 6', -- one more than is shown
              texts, CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END, place, ours,
              k.confrelid::regclass, theirs, ours, ours, ours) AS orphans
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace,
     LATERAL (SELECT k.conrelid::regclass::text,
                     k.convalidated AND (c.relkind <> 'p' OR %(may_wait)s)) x (place, waits),
     LATERAL (SELECT array_agg(a.attname::text ORDER BY n),
                     array_agg(b.attname::text ORDER BY n),
                     string_agg(format('ours.%%I', a.attname), ', ' ORDER BY n),
                     string_agg(format('ours.%%I::text', a.attname), ', ' ORDER BY n),
                     string_agg(format('theirs.%%I', b.attname), ', ' ORDER BY n)
              FROM unnest(k.conkey, k.confkey) WITH ORDINALITY AS each (mine, other, n)
                   JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = mine
                   JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = other
             ) y (columns, referred, ours, texts, theirs)
WHERE k.contype = 'f' AND k.conparentid = 0
  AND (k.conrelid = ANY (%(tables)s) OR k.confrelid = ANY (%(tables)s))
ORDER BY k.oid
"""
_NOT_VALID = """
SELECT place AS "table",
       format('ALTER %%s %%s DROP CONSTRAINT %%I', kind, place, k.conname) AS drop,
       format('ALTER %%s %%s ADD CONSTRAINT %%I %%s', kind, place, k.conname,
              pg_get_constraintdef(k.oid)) AS add,
       coalesce('COMMENT ON CONSTRAINT ' || quote_ident(k.conname) || ' ON ' ||
                CASE kind WHEN 'DOMAIN' THEN 'DOMAIN ' ELSE '' END || place || ' IS ' ||
                quote_literal(obj_description(k.oid, 'pg_constraint')), '') AS comment
FROM pg_constraint k,
     LATERAL (SELECT CASE k.contypid WHEN 0 THEN 'TABLE' ELSE 'DOMAIN' END,
                     CASE k.contypid WHEN 0 THEN k.conrelid::regclass::text
                     ELSE k.contypid::regtype::text END) x (kind, place)
WHERE k.contype IN ('c', 'n') AND NOT k.convalidated AND k.coninhcount = 0
  AND (k.conrelid = ANY (%(tables)s) OR k.contypid <> 0)
ORDER BY k.oid
"""
