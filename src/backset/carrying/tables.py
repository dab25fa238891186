"""The tables of a carry: which gets the rows of which, and what its own database knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from backset.catalogs.catalog import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.connections.session import Session


Name = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One table's way from the old database into the new one.

    source: (schema, name) in the old database; table: the same in the new one. A partitioned table
    stands for its partitions.
    columns: the columns of the new table that get a value, in the order of the query's.
    query: a SELECT in the old database; each of its columns has the type of the new table's column,
    or one whose text that type reads. It has no ORDER BY, and no condition: every row is carried.
    filled: those of the columns that get what an expression of the settings says. They cannot be
    compared with the old rows: it may have another value each time.
    rows: how many rows the old table has. size_bytes: what they take in the old database, without
    indexes, which is about what goes through; an estimate.
    """

    source: Name
    table: Name
    columns: tuple[str, ...]
    query: sql.Composable
    rows: int
    size_bytes: int
    filled: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The name of the new table, as it is shown to people."""
        return shown(*self.table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table, or a partitioned one with all its partitions.

    name: schema and name; spelled: the same as SQL. key: the columns of its primary key.
    family: its oid, and those of its partitions, and of theirs.
    """

    name: Name
    spelled: str
    key: tuple[str, ...]
    family: tuple[int, ...]


def found(session: Session, names: Sequence[Name]) -> list[Table]:
    """Return these tables, in the same order."""
    schemas, tables = ([name[place] for name in names] for place in (0, 1))
    rows = session.execute(_TABLES, [schemas, tables]).fetchall()
    return [
        Table(
            name=(schema, table),
            spelled=spelled,
            key=tuple(key),
            family=tuple(family),
        )
        for schema, table, spelled, key, family in rows
    ]


def alone(session: Session, name: Name) -> sql.Composed:
    """Return how SQL names a table without those that inherit from it.

    A partitioned one has its rows in its partitions alone.
    """
    (is_partitioned,) = session.execute(_IS_PARTITIONED, name).fetchone() or (False,)
    return sql.SQL("" if is_partitioned else "ONLY ") + sql.Identifier(*name)


def listed(columns: Sequence[str]) -> sql.Composed:
    """Return names as SQL lists them."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))


_TABLES = """
SELECT n.nspname, c.relname, format('%%I.%%I', n.nspname, c.relname), ARRAY(
    SELECT a.attname::text FROM pg_constraint k
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (k.conkey)
    WHERE k.conrelid = c.oid AND k.contype = 'p' ORDER BY array_position(k.conkey, a.attnum)
), ARRAY(
    SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)
)
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS wanted (schema, name, place)
     JOIN pg_namespace n ON n.nspname = wanted.schema
     JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
ORDER BY place
"""
_IS_PARTITIONED = """
SELECT c.relkind = 'p' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""
