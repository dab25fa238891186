"""The indexes of large tables, keys included: taken away before the rows, built from them after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.rows import kwargs_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.connections.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index, and the statements that the server has made of it; empty where there is none.

    root: the index of the partitioned table that it is a part of, or itself; depth: how far down.
    is_parent: whether it consists of those of partitions. table: as SQL names it.
    drop: takes the whole tree away. build: makes this one alone, in its tablespace; bind: gives it
    to its constraint; attach: makes it a part of its parent. details: such as its comment.
    is_exclusive: whether nobody else may work on the table while it is built.
    columns, duplicates: what may be there once, and the query for what is there more often.
    stays: whether it cannot be made again exactly, or something else needs it.
    """

    oid: int
    root: int
    depth: int
    is_parent: bool
    table: str
    drop: str
    build: str
    bind: str
    attach: str
    details: Sequence[str]
    is_exclusive: bool
    columns: Sequence[str]
    duplicates: str
    stays: bool


def of(session: Session, tables: Sequence[int]) -> list[Index]:
    """Return the indexes of these tables that can be made again exactly, table by table.

    One that something else needs stays, such as the primary key of a view's GROUP BY.
    The search path must be empty. tables: by their oids, with all partitions.
    """
    cursor = session.cursor(row_factory=kwargs_row(Index))
    found = cursor.execute(_INDEXES.encode(), {"tables": list(tables)}).fetchall()
    staying = {each.root for each in found if each.stays}
    return [each for each in found if each.root not in staying]


# A constraint that is no B-tree cannot be given an index that is there already.
_INDEXES = """
SELECT i.indexrelid AS oid, root, depth, c.relkind = 'I' AS is_parent, place AS "table",
       CASE WHEN root <> i.indexrelid THEN ''
            WHEN k.oid IS NULL THEN format('DROP INDEX %%s', me)
            ELSE format('ALTER TABLE %%s DROP CONSTRAINT %%I', place, k.conname) END AS drop,
       format('SET default_tablespace = %%L; ', coalesce(s.spcname, '')) ||
           CASE WHEN is_whole THEN format('ALTER TABLE ONLY %%s ADD CONSTRAINT %%I %%s', place,
                                          k.conname, pg_get_constraintdef(k.oid))
                ELSE pg_get_indexdef(i.indexrelid) END AS build,
       CASE WHEN is_whole OR k.oid IS NULL THEN ''
            ELSE format('ALTER TABLE ONLY %%s ADD CONSTRAINT %%I %%s USING INDEX %%I%%s', place,
                        k.conname, CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END,
                        c.relname, CASE WHEN k.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED'
                                        WHEN k.condeferrable THEN ' DEFERRABLE' END) END AS bind,
       CASE WHEN h.inhparent IS NULL THEN ''
            ELSE format('ALTER INDEX %%s ATTACH PARTITION %%s', h.inhparent::regclass, me)
       END AS attach,
       array_remove(ARRAY[
           'COMMENT ON INDEX ' || me || ' IS ' ||
               quote_literal(obj_description(i.indexrelid, 'pg_class')),
           'COMMENT ON CONSTRAINT ' || quote_ident(k.conname) || ' ON ' || place || ' IS ' ||
               quote_literal(obj_description(k.oid, 'pg_constraint')),
           CASE WHEN i.indisreplident THEN format(
               'ALTER TABLE ONLY %%s REPLICA IDENTITY USING INDEX %%I', place, c.relname) END,
           CASE WHEN i.indisclustered THEN format(
               'ALTER TABLE %%s CLUSTER ON %%I', place, c.relname) END
       ], NULL) || ARRAY(
           SELECT format('ALTER INDEX %%s ALTER COLUMN %%s SET STATISTICS %%s',
                         me, a.attnum, a.attstattarget)
           FROM pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0
       ) AS details,
       is_whole AS is_exclusive, columns,
       CASE WHEN i.indisunique THEN format(
           'SELECT %%s, count(*) OVER () FROM ONLY %%s WHERE (%%s) AND (%%s) GROUP BY %%s'
           ' HAVING count(*) > 1 ORDER BY %%s LIMIT 6', -- one more than is shown
           array_to_string(columns, '::text, ') || '::text', place,
           CASE WHEN to_jsonb(i) ->> 'indnullsnotdistinct' = 'true' THEN 'true'
                ELSE format('ROW(%%s) IS NOT NULL', listed) END,
           coalesce(pg_get_expr(i.indpred, i.indrelid), 'true'), listed, listed) ELSE ''
       END AS duplicates,
       NOT i.indisvalid OR EXISTS (
           SELECT FROM pg_depend d
           WHERE d.deptype = 'x' AND (d.classid, d.objid) = ('pg_class'::regclass, i.indexrelid)
              OR d.classid NOT IN ('pg_class'::regclass, 'pg_constraint'::regclass,
                                   'pg_trigger'::regclass)
                 AND (d.refclassid, d.refobjid) IN (('pg_class'::regclass, i.indexrelid),
                                                    ('pg_constraint'::regclass, k.oid))
       ) OR root <> i.indexrelid AND k.conparentid = 0 OR i.indisunique AND EXISTS (
           SELECT FROM pg_index other -- a foreign key to these columns takes the older one
           WHERE other.indrelid = i.indrelid AND other.indexrelid <> i.indexrelid
             AND other.indisunique
             AND ARRAY(SELECT unnest(other.indkey[0:other.indnkeyatts - 1]) ORDER BY 1)
               = ARRAY(SELECT unnest(i.indkey[0:i.indnkeyatts - 1]) ORDER BY 1)
       ) AS stays
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
     LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
     LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
     LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid,
     LATERAL (SELECT i.indexrelid::regclass::text, i.indrelid::regclass::text,
                     coalesce(pg_partition_root(i.indexrelid), i.indexrelid)::oid,
                     (SELECT count(*) FROM pg_partition_ancestors(i.indexrelid)),
                     k.oid IS NOT NULL
                     AND (c.relkind = 'I' OR k.contype = 'x' OR m.amname <> 'btree')
     ) x (me, place, root, depth, is_whole),
     LATERAL (SELECT array_agg(pg_get_indexdef(i.indexrelid, n, false) ORDER BY n),
                     string_agg(pg_get_indexdef(i.indexrelid, n, false), ', ' ORDER BY n)
              FROM generate_series(1, i.indnkeyatts) AS each (n)) y (columns, listed)
WHERE i.indrelid = ANY (%(tables)s)
ORDER BY array_position(%(tables)s::oid[], i.indrelid), i.indexrelid
"""
