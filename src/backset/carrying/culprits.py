"""Culprits: the columns and the first rows in which two tables differ, as far as that is cheap."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

from psycopg import sql

from backset.carrying import digest
from backset.wording import redaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backset.carrying.pair import Pair
    from backset.carrying.transfer import Transfer
    from backset.connections.session import Session

    Side: TypeAlias = tuple[Session, sql.Composable]

_PARTS = 4096  # of a table, by a hash of the key: the rows of a part fit anywhere
_SHOWN_PARTS = 3
_SHOWN_ROWS = 5
_SHOWN_CHARS = 60
_NOTHING = sql.SQL("")
_BY_PART = sql.SQL("GROUP BY 1")


def named(pair: Pair, transfer: Transfer, key: Sequence[str]) -> str:
    """Say which columns differ, and the keys of the first rows that do, after a comma each.

    key: the columns of the new table's primary key, if it has one.
    """
    old, new = (pair.old, transfer.query), (pair.new, digest.table(pair.new, transfer))
    columns = _columns(old, new, transfer)
    words = f", in {', '.join(columns)}" if columns else ""
    if key and {*key} <= {*transfer.columns} - transfer.filled:
        words += ", at " + "; ".join(_rows(old, new, transfer, key))
    return words


def _columns(old: Side, new: Side, transfer: Transfer) -> list[str]:
    compared = [each for each in transfer.columns if each not in transfer.filled]
    sums = _joined(sql.SQL("sum({})").format(digest.of_row([each])) for each in compared)
    (before,), (after,) = (_ask(side, transfer, sums) for side in (old, new))
    both = zip(compared, before, after, strict=True)
    return [column for column, first, second in both if first != second]


def _rows(old: Side, new: Side, transfer: Transfer, key: Sequence[str]) -> list[str]:
    row = digest.of_row(transfer.columns, transfer.filled)
    part = sql.SQL("{} & {}").format(digest.of_row(key), _PARTS - 1)
    sums = sql.SQL("{}, sum({})").format(part, row)
    old_parts, new_parts = ({*_ask(side, transfer, sums, _BY_PART)} for side in (old, new))
    parts = sorted({each for each, _ in old_parts ^ new_parts})[:_SHOWN_PARTS]
    texts = _joined(sql.SQL("{}::text").format(sql.Identifier(each)) for each in key)
    where = sql.SQL("WHERE {} = ANY({})").format(part, parts)
    rows = sql.SQL("{}, {}").format(row, texts)
    before, after = (Counter(_ask(side, transfer, rows, where)) for side in (old, new))
    keys = sorted({tuple(values) for _, *values in (before - after) + (after - before)})
    return [_shown(key, values) for values in keys[:_SHOWN_ROWS]]


def _ask(
    side: Side, transfer: Transfer, wanted: sql.Composable, tail: sql.Composable = _NOTHING
) -> list[tuple[Any, ...]]:
    session, rows = side
    columns = digest.listed(transfer.columns)
    query = sql.SQL("SELECT {} FROM ({}) AS carried ({}) {}").format(wanted, rows, columns, tail)
    return session.execute(query).fetchall()


def _joined(expressions: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(expressions)


def _shown(key: Sequence[str], values: Sequence[str]) -> str:
    pairs = zip(key, values, strict=True)
    return ", ".join(f"{name}={redaction.value(name, text[:_SHOWN_CHARS])}" for name, text in pairs)
