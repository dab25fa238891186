"""Transfer: which rows of the old database go into which table of the new one, and how. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.catalogs.catalog import shown

if TYPE_CHECKING:
    from psycopg import sql


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

    source: tuple[str, str]
    table: tuple[str, str]
    columns: tuple[str, ...]
    query: sql.Composable
    rows: int
    size_bytes: int
    filled: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The name of the new table, as it is shown to people."""
        return shown(*self.table)
