"""Usage: which columns of an old table the expressions of the settings use; the server tells."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg import errors, sql

from backset.carrying import expressions, mapping

if TYPE_CHECKING:
    from backset.carrying.mapping import Tables, Uses
    from backset.catalogs.columns import Column, Table
    from backset.configuration.rules import Rules
    from backset.connections.session import Session


def ask(session: Session, old: Tables, new: Tables, rules: Rules) -> Uses:
    """Return the old columns that each filling uses, by the name of the new column.

    Nothing is executed and nothing is written: it works on a standby, too.
    """
    return {
        name: frozenset(each.name for each in source.columns if _uses(session, source, fill, each))
        for source, table in mapping.sources(old, new, rules)
        for column in table.columns
        if (fill := rules.fill.get(name := f"{table.shown}.{column.name}"))
    }


def _uses(session: Session, table: Table, fill: str, column: Column) -> bool:
    """Tell whether an expression of that name in it cannot do without the column.

    One that is wrong in itself counts as using what it names: then it is tried, and told. By its
    schema and table nothing but the table itself can be named, so that is not known to be used.
    """
    name = re.escape(column.name.replace('"', '""'))
    if not re.search(rf"(?<!\w){name}(?!\w)", fill, re.IGNORECASE):
        return False
    error = _error(session, fill, _without(table, column))
    if isinstance(error, errors.UndefinedTable):
        return _error(session, fill, expressions.rows(table)) is not None
    return error is not None


def _error(session: Session, fill: str, rows: sql.Composable) -> Exception | None:
    """Return what the server has against an expression over some rows, none of which it reads."""
    query = sql.SQL("EXPLAIN SELECT ({}) FROM {}").format(expressions.raw(fill), rows)
    try:
        with session.transaction():
            session.execute(query)
    except errors.Error as error:
        return error
    return None


def _without(table: Table, column: Column) -> sql.Composed:
    """Return what stands after FROM for a table without a column.

    A table of the column's name gets another: its name would mean the row where there is no column.
    """
    _, name = table.place or table.key
    others = [sql.Identifier(each.name) for each in table.columns if each.name != column.name]
    listed = sql.SQL(", ").join([sql.SQL("tableoid"), sql.SQL("ctid"), *others])
    alias = sql.Identifier(f"{name}_" if name == column.name else name)
    return sql.SQL("(SELECT {} FROM {}) AS {}").format(listed, expressions.rows(table), alias)
