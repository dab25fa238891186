"""Lookups: rows that the migrations wrote into tables that are carried, such as a list of roles.

The old rows win where both have the same key; a row that only the migrations know stays beside,
unless the settings say that the old ones are to be there alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from backset.carrying import tables
from backset.catalogs.catalog import shown
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backset.connections.session import Session


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows of one table, in a temporary one of the session.

    columns: those that can be written. is_keyed: whether some key tells its rows from others.
    makes_way: whether none of them comes back.
    """

    table: tuple[str, str]
    number: int
    columns: tuple[str, ...]
    is_keyed: bool
    makes_way: bool

    @property
    def place(self) -> sql.Identifier:
        """The temporary table."""
        return _place(self.number)


def keep(
    session: Session,
    names: Iterable[tuple[str, str]],
    makes_way: Callable[[str], bool] = lambda _name: False,
) -> list[Kept]:
    """Set the rows of the tables of these names aside, where there are any, and empty these.

    session: on the new database, and open until bring_back(). Foreign keys are set aside before.
    Those of a table that inherits from one of these are left to it.
    makes_way: tells of a table, by its shown name, whether its rows are not to come back.
    """
    kept = []
    for number, table in enumerate(names):
        own = tables.alone(session, table)
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(own)
        if session.execute(query).fetchone() == (True,):
            copy = sql.SQL("CREATE TEMPORARY TABLE {} AS SELECT * FROM {}")
            session.execute(copy.format(_place(number), own))
            session.execute(sql.SQL("DELETE FROM {}").format(own))
            values = {"schema": table[0], "table": table[1]}
            columns, is_keyed = session.execute(_ABOUT, values).fetchone() or ((), False)
            kept.append(Kept(table, number, tuple(columns), is_keyed, makes_way(shown(*table))))
    return kept


def bring_back(session: Session, kept: Iterable[Kept]) -> list[str]:
    """Write again those rows that no old row stands for; say in a line each how many there were."""
    lines = []
    for each in kept:
        own = tables.alone(session, each.table)
        if each.makes_way:
            gone = session.execute(sql.SQL("SELECT FROM {}").format(each.place)).rowcount
            lines.append(f"{shown(*each.table)}: {count(gone, 'row')} of the migrations made way")
            continue
        stayed = session.execute(_insert(each, own)).rowcount
        if stayed:
            lines.append(f"{shown(*each.table)}: {count(stayed, 'row')} of the migrations beside")
    return lines


def _insert(kept: Kept, own: sql.Composed) -> sql.Composed:
    columns = sql.SQL(", ").join(map(sql.Identifier, kept.columns))
    statement = sql.SQL("INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE {rows} {rest}")
    rows = sql.SQL("SELECT {} FROM {}").format(columns, kept.place)
    if not kept.is_keyed:  # then the whole row is what tells it from others
        texts = sql.SQL("ROW({})::text").format(columns)
        there = sql.SQL("SELECT {} FROM {}").format(texts, own)
        rows = sql.SQL("{} WHERE {} NOT IN ({})").format(rows, texts, there)
    return statement.format(
        table=sql.Identifier(*kept.table),
        columns=columns,
        rows=rows,
        rest=sql.SQL("ON CONFLICT DO NOTHING" if kept.is_keyed else ""),
    )


def _place(number: int) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"backset_kept_{number}")


_ABOUT = """
SELECT ARRAY(SELECT attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
             ORDER BY attnum),
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND indisunique)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s
"""
