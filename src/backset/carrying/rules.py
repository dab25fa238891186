"""Rules: what the user says of a carry, in settings and flags. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backset.catalogs.columns import Table

    Tables = Mapping[tuple[str, str], Table]

EVERYTHING = ("all",)  # the tables, where no table is named


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which rows are carried, and what becomes of those that do not fit by themselves.

    Tables and columns are named as people write them, `schema.table.column`, without `public`.
    tables: whose rows are carried. rename: the new name of a table or a column → the old one.
    fill: a column of the new schema → an SQL expression over the row of the old table.
    leave: tables and columns of the old schema whose content may be left behind.
    drops: whether everything may be left behind that has no place in the new schema.
    """

    tables: tuple[str, ...] = EVERYTHING
    rename: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    fill: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    leave: tuple[str, ...] = ()
    drops: bool = False

    @property
    def carries_all(self) -> bool:
        """Whether the rows of every table are carried."""
        return self.tables == EVERYTHING

    def carries(self, *names: Table) -> bool:
        """Tell whether the rows of a table are carried; it may have a name in each schema."""
        return self.carries_all or any(each.shown in self.tables for each in names)

    def leaves(self, name: str) -> bool:
        """Tell whether the user agrees that this is left behind."""
        return self.drops or name in self.leave

    def unknown(self, old: Tables, new: Tables) -> list[tuple[str, str]]:
        """Return (key, name) of every name that is not in the schema where it should be.

        What may be left behind, or was renamed, is gone from the schema of the next carry.
        """
        before, after = _names(old), _names(new)
        wanted = [("carry", name, before | after) for name in self.tables if not self.carries_all]
        wanted += [("rename", name, after) for name in self.rename]
        wanted += [("rename", old, before) for new, old in self.rename.items() if new not in before]
        wanted += [("fill", name, after) for name in self.fill]
        return [(key, name) for key, name, known in wanted if name not in known]


def _names(tables: Tables) -> set[str]:
    columns = {f"{t.shown}.{column.name}" for t in tables.values() for column in t.columns}
    return columns | {each.shown for each in tables.values()}
