"""What stands in the way of rows that come by COPY: taken away before they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from backset.carrying import constraints, indexes, statements, tables, triggers
from backset.catalogs import inventory

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backset.carrying.constraints import Constraint
    from backset.carrying.indexes import Index
    from backset.carrying.tables import Name, Table, Transfer
    from backset.connections.session import Session

# Measured: with fewer rows the indexes of a table are as quickly filled as built.
_BUILT_AFTER_ROWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """What was taken from the new database, and how `rebuilding` puts it back.

    tables: those that get rows, the largest first. triggers: the statements that wake them.
    """

    tables: Sequence[Table]
    indexes: Sequence[Index]
    constraints: Sequence[Constraint]
    triggers: Sequence[str]

    @property
    def keys(self) -> dict[Name, tuple[str, ...]]:
        """The columns of each table's primary key, which may have been taken away."""
        return {each.name: each.key for each in self.tables}


def set_aside(
    session: Session, transfers: Sequence[Transfer], *, built_after_rows: int = _BUILT_AFTER_ROWS
) -> Aside:
    """Take away what would judge, change or slow down the rows of these.

    The role must own the tables, and need not be a superuser. Nobody else may use the database:
    a run that ends before all is put back leaves it without.
    built_after_rows: from how many rows on the indexes of a table are built after them. One that
    has rows already keeps its indexes, by which these can be told from those that come.
    """
    ordered = sorted(transfers, key=lambda each: each.rows, reverse=True)
    with session.transaction():
        for each in filter(None, map(str.strip, inventory.SETTINGS.split(";"))):
            session.execute(each.encode())
        found = tables.found(session, [each.table for each in ordered])
        large = {each.table for each in ordered if each.rows >= built_after_rows}
        bare = [each for each in found if each.name in large and not _has_rows(session, each)]
        built = indexes.of(session, _family(bare))
        family = _family(found)
        bound = constraints.foreign_keys(session, family) + constraints.not_valid(session, family)
        silence, wake = triggers.read(session, family)
    statements.run(session, silence)
    statements.run(session, [each.drop for each in bound])
    statements.run(session, [each.drop for each in built])
    return Aside(tables=found, indexes=built, constraints=bound, triggers=wake)


def _has_rows(session: Session, table: Table) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(*table.name))
    return session.execute(query).fetchone() == (True,)


def _family(found: Iterable[Table]) -> list[int]:
    return [oid for table in found for oid in table.family]
