"""Partitions that were made while an application ran, and that no migration makes again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from backset.catalog import catalog

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from backset.connections.session import Session

    Name = tuple[str, str]  # schema and name


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as PostgreSQL describes it: FOR VALUES …, or DEFAULT.

    split_by: how its parent is split, such as RANGE (at). splits: how it is split itself; empty
    where it holds rows. has_own: whether it has rights or row security of its own. has_rows:
    whether it, or one below it, has any.
    """

    parent: Name
    name: Name
    bound: str
    split_by: str
    splits: str
    has_own: bool
    has_rows: bool


def keys(session: Session) -> frozenset[str]:
    """Return all partitions by their keys among the objects of a schema."""
    found = session.execute(
        "SELECT format('table %I.%I', nspname, relname) FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = relnamespace WHERE relispartition AND relkind IN ('r', 'p')"
    )
    return frozenset(key for (key,) in found)


def read(session: Session) -> list[Partition]:
    """Return all partitions, each after its parent."""
    found = session.execute(_PARTITIONS).fetchall()
    parents = {(schema, name): (above, parent) for above, parent, schema, name, *_ in found}
    leaves = [(schema, name) for _, _, schema, name, _, _, splits, _ in found if not splits]
    ask = sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})")
    queries = [ask.format(n, sql.Identifier(*each)) for n, each in enumerate(leaves)]
    filled: set[Name] = set()
    for (number,) in catalog.rows(session, queries):
        each: Name | None = leaves[number]
        while each is not None:
            filled.add(each)
            each = parents.get(each)
    return [_partition(row, filled) for row in found]


def _partition(row: Sequence[Any], filled: Container[Name]) -> Partition:
    above, parent, schema, name, bound, split_by, splits, has_own = row
    name = schema, name
    return Partition((above, parent), name, bound, split_by, splits, has_own, name in filled)


def make(
    session: Session, wanted: Sequence[Partition], renamed: Mapping[Name, Name]
) -> list[Partition]:
    """Make those with rows that are not there; return them.

    They are made under tables that are split in the same way, and have no default partition. Of
    those by hash all are made: without one, rows to come would have no place.
    renamed: the tables of today, by the names that they had.
    """
    used = {each.parent for each in wanted if each.has_rows}
    filled = [
        each
        for each in wanted
        if each.has_rows or (each.split_by.startswith("HASH ") and each.parent in used)
    ]
    bounds = {(each.parent, each.bound) for each in read(session)} if filled else set()
    made = []
    for each in filled:
        parent = renamed.get(each.parent, each.parent)
        has_place = bool({(parent, each.bound), (parent, "DEFAULT")} & bounds)
        about = dict(zip(("schema", "name"), each.name, strict=True))
        about |= {"above": parent[0], "parent": parent[1], "split_by": each.split_by}
        if not has_place and session.execute(_CAN_BE_MADE, about).fetchone() == (True,):
            splits = f" PARTITION BY {each.splits}" if each.splits else ""
            names = sql.Identifier(*each.name), sql.Identifier(*parent)
            create = sql.SQL("CREATE TABLE {} PARTITION OF {} ").format(*names)
            # Where another one has a part of it already, so may its rows.
            with suppress(psycopg.errors.InvalidObjectDefinition), session.transaction():
                session.execute(create + sql.SQL(each.bound + splits))
                made.append(each)
    return made


_PARTITIONS = """
SELECT pn.nspname, p.relname, n.nspname, c.relname, pg_get_expr(c.relpartbound, c.oid),
       pg_get_partkeydef(p.oid), coalesce(pg_get_partkeydef(c.oid), ''),
       c.relrowsecurity OR c.relacl IS NOT NULL AND c.relacl IS DISTINCT FROM p.relacl
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_inherits i ON i.inhrelid = c.oid
     JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE c.relispartition AND c.relkind IN ('r', 'p') AND has_schema_privilege(n.oid, 'USAGE')
  AND has_table_privilege(c.oid, 'SELECT')
ORDER BY (SELECT count(*) FROM pg_partition_ancestors(c.oid)), 1, 2, 3, 4
"""
_CAN_BE_MADE = """
SELECT to_regnamespace(quote_ident(%(schema)s)) IS NOT NULL
       AND to_regclass(format('%%I.%%I', %(schema)s::text, %(name)s::text)) IS NULL
       AND EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE c.relkind = 'p' AND n.nspname = %(above)s AND c.relname = %(parent)s
                     AND pg_get_partkeydef(c.oid) = %(split_by)s)
"""
