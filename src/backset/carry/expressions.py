"""Expressions: what the old database is asked for a column, and what could be wrong with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from psycopg import errors, sql

from backset.carry import mapping
from backset.carry.mapping import Cast, cast_of, is_array, unlimited

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import LiteralString

    from backset.carry.mapping import ColumnMapping, TableMapping, Tables, Uses
    from backset.catalog.columns import Column, Table
    from backset.connections.session import Session
    from backset.settings.rules import Rules


def query(pair: TableMapping) -> sql.Composed:
    """Return the SELECT whose columns the new table takes, in the order of the pair's ways."""
    values = sql.SQL(", ").join(value(way) for way in pair.ways)
    return sql.SQL("SELECT {} FROM {}").format(values, rows(pair.old))


def rows(table: Table) -> sql.Composed:
    """Return what stands after FROM: a table that others inherit from, without their rows."""
    only = sql.SQL("" if table.partitioned else "ONLY ")
    return sql.SQL("{}{}").format(only, sql.Identifier(*(table.place or table.key)))


def value(way: ColumnMapping) -> sql.Composable:
    """Return the expression of a way over the row of the old table, in the type of the new column.

    Where only the new database may know that type, it is the text that the type reads.
    What fills a column is not cut to its length: the server would refuse it rather.
    """
    if way.old is None:
        wide = unlimited(way.new) if way.new.builtin else "text"
        return sql.SQL("({})::{}").format(raw(way.fill), raw(wide))
    if way.is_empty:
        return sql.SQL("NULL::text")
    name, kind = sql.Identifier(way.old.name), cast_of(way.old, way.new)
    if kind is Cast.ZONED:
        return _cast(_moved(name, way.old.base, way.zone), way)
    return name if kind is Cast.SAME else _cast(name, way)


def changed(way: ColumnMapping) -> sql.Composable | None:
    """Return the condition of the rows whose value would not come through; None if all would.

    A cast that a value fails raises the server's error.
    """
    if way.old is None:
        return None
    name, kind = sql.Identifier(way.old.name), cast_of(way.old, way.new)
    if kind is Cast.LABELS:
        labels = sql.SQL("label <> ALL({})").format(list(way.new.labels))
        return _with_label(way.old, labels)
    if kind is Cast.KEYS:
        rows = "SELECT unnest({})" if is_array(way.old) else "SELECT {}"
        every = sql.SQL(rows).format(name)
        return sql.SQL(_TWICE).format(value(way), every)
    if kind is Cast.ZONED:
        back = _moved(value(way), way.new.base, way.zone)
        return sql.SQL("{}::{} IS DISTINCT FROM {}").format(back, raw(way.old.base), name)
    if kind is not Cast.ASK:
        return None
    there_and_back = sql.SQL("{}::{}::{}::text IS DISTINCT FROM {}::text")
    return there_and_back.format(name, raw(way.new.base), raw(way.old.base), name)


def cut(way: ColumnMapping) -> sql.Composable | None:
    """Return the condition of the rows whose filling a cast would cut or round; None if of none.

    It is evaluated once, since it may have another value each time.
    """
    narrow, wide = raw(way.new.base), raw(unlimited(way.new))
    if way.new.builtin and way.new.base in _INTEGERS:
        differs = sql.SQL(_ROUNDED).format(narrow)
    elif way.new.builtin and narrow != wide:
        differs = sql.SQL("v::{0}::{1} IS DISTINCT FROM v::{1}").format(narrow, wide)
    else:
        return None
    # Without OFFSET the server would put the expression in twice.
    once = sql.SQL("(SELECT {} FROM (SELECT ({}) AS v OFFSET 0) AS filled)")
    return once.format(differs, raw(way.fill))


def gone(way: ColumnMapping) -> list[str]:
    """Return the labels of an enum that the new one does not have."""
    labels = way.old.labels if way.old and way.new.labels else ()
    return [label for label in labels if label not in way.new.labels]


def having(way: ColumnMapping, label: str) -> sql.Composable:
    """Return the condition of the rows that have a label of the old enum."""
    assert way.old is not None  # noqa: S101  (only such ways have one)
    return _with_label(way.old, sql.SQL("label = {}").format(label))


def _with_label(column: Column, condition: sql.Composable) -> sql.Composed:
    """Return the condition of the rows of which a label, or one in an array, fulfils another."""
    text = "unnest({}::text[])" if is_array(column) else "unnest(ARRAY[{}::text])"
    labels = sql.SQL(text).format(sql.Identifier(column.name))
    return sql.SQL("EXISTS (SELECT FROM {} AS label WHERE {})").format(labels, condition)


def counts(session: Session, table: Table, conditions: Sequence[sql.Composable] = ()) -> list[int]:
    """Return how many rows a table has, and how many of them fulfil each condition.

    An error, as of a cast that a value fails, leaves the transaction of the session usable.
    """
    counted = [sql.SQL("count(*) FILTER (WHERE {})").format(each) for each in conditions]
    wanted = sql.SQL(", ").join([sql.SQL("count(*)"), *counted])
    with session.transaction():
        found = session.execute(sql.SQL("SELECT {} FROM {}").format(wanted, rows(table)))
        return list(found.fetchone() or ())


def raw(text: str) -> sql.SQL:
    """Return SQL as it is: the name of a type from the catalog, or what the user's settings say."""
    return sql.SQL(cast("LiteralString", text))  # type: ignore[redundant-cast]


def _moved(expression: sql.Composable, base: str, zone: str) -> sql.Composed:
    """Return a time with a zone as the local time there, and a local time as that moment."""
    time = sql.SQL("{}::timestamp" if base == "date" else "{}").format(expression)
    return sql.SQL("({} AT TIME ZONE {})").format(time, zone)


def _cast(expression: sql.Composable, way: ColumnMapping) -> sql.Composed:
    kind = way.new.base if way.new.builtin else "text"
    return sql.SQL("{}::{}").format(expression, raw(kind))


def used_columns(session: Session, old: Tables, new: Tables, rules: Rules) -> Uses:
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
        return _error(session, fill, rows(table)) is not None
    return error is not None


def _error(session: Session, fill: str, source: sql.Composable) -> Exception | None:
    """Return what the server has against an expression over some rows, none of which it reads."""
    query = sql.SQL("EXPLAIN SELECT ({}) FROM {}").format(raw(fill), source)
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
    return sql.SQL("(SELECT {} FROM {}) AS {}").format(listed, rows(table), alias)


_INTEGERS = {"smallint", "integer", "bigint"}
_ROUNDED = "jsonb_typeof(to_jsonb(v)) = 'number' AND to_jsonb(v) <> to_jsonb(v::{})"
# The cast fails at what jsonb cannot hold, and so is in the condition of each row.
_TWICE = """
CASE WHEN ({}) IS NOT NULL THEN EXISTS (
    WITH RECURSIVE nodes (node) AS (
        {} UNION ALL SELECT inner_node.value FROM nodes CROSS JOIN LATERAL (
            SELECT value FROM json_each(CASE json_typeof(node) WHEN 'object' THEN node END)
            UNION ALL SELECT value
            FROM json_array_elements(CASE json_typeof(node) WHEN 'array' THEN node END)
        ) AS inner_node
    )
    SELECT FROM nodes WHERE (
        SELECT count(*) > count(DISTINCT key)
        FROM json_object_keys(CASE json_typeof(node) WHEN 'object' THEN node END) AS key)
) END"""
