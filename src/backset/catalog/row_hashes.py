"""Which number stands for a row? In SQL: by the sum, rows are compared that nobody fetches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


def of_row(
    columns: Sequence[str], aside: Collection[str] = (), *, recoded: bool = False
) -> sql.Composable:
    """Return the expression of the number that stands for a row, in SQL.

    Each value is hashed with a seed of its own, NULL is a number of its own, and the whole once
    more: so that exchanging values between columns or rows changes the sum. The collation is that
    of bytes, since under one that ignores case the server would give `a` the number of `A`.
    Measured: a third of the time of hashing row(…)::text, which doubles every quote.
    aside: columns that do not count. recoded: whether the numbers are held against those of a
    database of another encoding; that takes longer.
    """
    hashed = sql.SQL("coalesce(hashtextextended({}, {}), {})")
    text = sql.SQL(_RECODED if recoded else _TEXT)
    numbers: list[sql.Composable] = [
        hashed.format(text.format(sql.Identifier(column)), place, ~place)
        for place, column in enumerate(columns, 1)
        if column not in aside
    ]
    return sql.SQL("hashint8extended({}, 0)").format(sql.SQL(" # ").join(numbers or [_NONE]))


def of_columns(columns: Iterable[str], *, recoded: bool = False) -> list[sql.Composable]:
    """Return for each column the sum over its values, as text: it tells which columns differ."""
    each_sum = sql.SQL("sum({})::text")
    return [each_sum.format(of_row([each], recoded=recoded)) for each in columns]


_NONE = sql.SQL("0")
_TEXT = '{}::text COLLATE "C"'
_RECODED = "encode(convert_to({}::text, 'UTF8'), 'escape') COLLATE \"C\""
