"""Leftovers: what has no place in the new schema, and how much of it there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from backset.carrying import expressions, mapping, obstacles
from backset.catalogs import configured, past
from backset.catalogs.catalog import shown
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backset.carrying.mapping import Pair, Tables
    from backset.configuration.rules import Rules
    from backset.connections.session import Session
    from backset.errors import Finding


@dataclass(frozen=True, slots=True)
class Left:
    """What stays behind, and how much of it.

    what: `table` and `extension`, of which the rows are counted, `column`, the values, or
    `large objects`.
    candidates: the names that it may have in the new schema, the likeliest first. is_computed:
    whether the new schema has that column, as a generated one.
    """

    what: str
    name: str
    count: int
    candidates: tuple[str, ...] = ()
    is_computed: bool = False

    def __str__(self) -> str:
        unit = {"table": "row", "extension": "row", "column": "value"}.get(self.what, "object")
        return f"{self.name} ({count(self.count, unit)})"

    def problem(self, left_already: tuple[str, ...]) -> Finding:
        """Say that nobody has agreed to it. left_already: what the settings leave behind so far."""
        if self.is_computed:
            return obstacles.computed(self.name, str(self), left_already)
        return obstacles.left(self.what, self.name, str(self), self.candidates, left_already)


def find(
    old: Session,
    before: Tables,
    after: Tables,
    large_objects: int,
    pairs: Sequence[Pair],
    rules: Rules,
) -> Iterator[Left]:
    """Yield what has no place in the new schema, where there is any of it.

    before, after: the tables of the old database, and of the new one. large_objects: how many of
    them the old one has.
    """
    for table in mapping.left_tables(before, pairs, rules):
        (rows,) = expressions.counts(old, table)
        if rows:
            candidates = mapping.renamed_tables(before, after, table, rules)
            yield Left("table", table.shown, rows, candidates)
    for table, homeless in mapping.left_columns(pairs).items():
        present = [sql.SQL("{} IS NOT NULL").format(sql.Identifier(c.name)) for c in homeless]
        _, *values = expressions.counts(old, table, present)
        for column, number in zip(homeless, values, strict=True):
            is_computed = mapping.computes(pairs, table, column)
            candidates = () if is_computed else mapping.renamed_columns(pairs, table, column)
            if number:
                name = f"{table.shown}.{column.name}"
                yield Left("column", name, number, candidates, is_computed=is_computed)
    if rules.carries_all and large_objects:  # then these are content, too
        yield Left("large objects", past.LARGE_OBJECTS, large_objects)


def of_extensions(old: Session, new: Session, rules: Rules) -> Iterator[Left]:
    """Yield the rows in tables of extensions that the role may not write to the new database."""
    if rules.carries_all and old.info.dbname != new.info.dbname:  # in place it is known by now
        ours = {shown(each.schema, each.name) for each in configured.tables(new) if each.may_write}
        there = configured.counts(new)
        for name, number in configured.counts(old).items():
            if name not in ours and number > there.get(name, 0):
                yield Left("extension", name, number)
