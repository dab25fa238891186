"""Culprits: the columns and the first rows in which two tables differ, as far as that is cheap."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from psycopg import sql

from backset.carrying import digest, tables
from backset.wording import redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from backset.carrying.pair import Pair
    from backset.carrying.tables import Transfer
    from backset.connections.session import Session

    Side: TypeAlias = tuple[Session, sql.Composable]
    Sides: TypeAlias = tuple[Side, Side]
    Number: TypeAlias = Callable[..., sql.Composable]  # digest.of_row()

_PARTS = 4096  # of a table, by a hash of the key: the rows of a part fit anywhere
_SHOWN_PARTS = 3
_SHOWN_ROWS = 5
_SHOWN_COLUMNS = 3
_SHOWN_CHARS = 60
_NOTHING = sql.SQL("")
_BY_PART = sql.SQL("GROUP BY 1")


def named(pair: Pair, transfer: Transfer, key: Sequence[str]) -> str:
    """Say which columns differ, the keys of the first rows that do, and the values of the first.

    key: the columns of the new table's primary key, if it has one.
    """
    sides = (pair.old, transfer.query), (pair.new, digest.table(pair.new, transfer))
    number = partial(digest.of_row, recoded=pair.recodes)
    columns = _columns(sides, transfer, number)
    words = f", in {', '.join(columns)}" if columns else ""
    if key and {*key} <= {*transfer.columns} - transfer.filled:
        keys = _rows(sides, transfer, key, number)
        words += ", at " + "; ".join(_shown(key, values) for values in keys)
        words += _values(sides, transfer, key, keys[0]) if keys else ""
    return words


def _columns(sides: Sides, transfer: Transfer, number: Number) -> list[str]:
    compared = _compared(transfer)
    sums = _joined(sql.SQL("sum({})").format(number([each])) for each in compared)
    (before,), (after,) = (_ask(side, transfer, sums) for side in sides)
    both = zip(compared, before, after, strict=True)
    return [column for column, first, second in both if first != second]


def _compared(transfer: Transfer) -> list[str]:
    return [each for each in transfer.columns if each not in transfer.filled]


def _rows(
    sides: Sides, transfer: Transfer, key: Sequence[str], number: Number
) -> list[tuple[str, ...]]:
    row = number(transfer.columns, transfer.filled)
    part = sql.SQL("{} & {}").format(number(key), _PARTS - 1)
    sums = sql.SQL("{}, sum({})").format(part, row)
    old_parts, new_parts = ({*_ask(side, transfer, sums, _BY_PART)} for side in sides)
    parts = sorted({each for each, _ in old_parts ^ new_parts})[:_SHOWN_PARTS]
    where = sql.SQL("WHERE {} = ANY({})").format(part, parts)
    rows = sql.SQL("{}, {}").format(row, _texts(key))
    before, after = (Counter(_ask(side, transfer, rows, where)) for side in sides)
    keys = sorted({tuple(values) for _, *values in (before - after) + (after - before)})
    return keys[:_SHOWN_ROWS]


def _values(sides: Sides, transfer: Transfer, key: Sequence[str], values: tuple[str, ...]) -> str:
    """Say what differs in one row, unless it is on one side alone, or may be a secret."""
    compared = _compared(transfer)
    where = sql.SQL("WHERE ({}) = ({})").format(_texts(key), _joined(map(sql.Literal, values)))
    before, after = (_ask(side, transfer, _texts(compared), where) for side in sides)
    if (len(before), len(after)) != (1, 1):
        return ""
    both = zip(compared, before[0], after[0], strict=True)
    found = [(name, *map(_cut, pair)) for name, *pair in both if pair[0] != pair[1]]
    if any(redaction.value(name, "") for name, *_ in found):  # it may have come to another column
        return ""
    listed = (f"{name} {old} → {new}" for name, old, new in found[:_SHOWN_COLUMNS])
    return f" (the first: {', '.join(listed)})"


def _ask(
    side: Side, transfer: Transfer, wanted: sql.Composable, tail: sql.Composable = _NOTHING
) -> list[tuple[Any, ...]]:
    session, rows = side
    columns = tables.listed(transfer.columns)
    query = sql.SQL("SELECT {} FROM ({}) AS carried ({}) {}").format(wanted, rows, columns, tail)
    return session.execute(query).fetchall()


def _joined(expressions: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(expressions)


def _texts(columns: Iterable[str]) -> sql.Composed:
    return _joined(sql.SQL("{}::text").format(sql.Identifier(each)) for each in columns)


def _cut(text: str | None) -> str:
    return "null" if text is None else " ".join(text.split())[:_SHOWN_CHARS] or "''"


def _shown(key: Sequence[str], values: Sequence[str]) -> str:
    pairs = zip(key, values, strict=True)
    return ", ".join(f"{name}={redaction.value(name, text[:_SHOWN_CHARS])}" for name, text in pairs)
