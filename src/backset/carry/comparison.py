"""Has every row come, unchanged? Count and content of each table, the old one against the new."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from psycopg import sql

from backset.carry import row_errors, tables
from backset.catalog import columns
from backset.connections import workers
from backset.errors import StepFailedError
from backset.text import redaction
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from backset.carry.tables import Name, SessionPair, TableCopy
    from backset.connections.session import Session

    Digests: TypeAlias = "dict[Name, Digest]"
    Side: TypeAlias = tuple[Session, sql.Composable]
    Sides: TypeAlias = tuple[Side, Side]

_REMEDY = (
    "see what the new tables do to their rows, such as a rule; what a type rounds needs one in "
    "[tool.backset.fill]"
)
_PARTS = 4096  # of a table, by a hash of the key: the rows of a part fit anywhere
_SHOWN_PARTS = 3
_SHOWN_ROWS = 5
_SHOWN_COLUMNS = 3
_SHOWN_CHARS = 60
_NOTHING = sql.SQL("")
_BY_PART = sql.SQL("GROUP BY 1")


@dataclass(frozen=True, slots=True)
class Digest:
    """The number of rows, and the sum of a 64-bit number for each of them, in whatever order.

    A row that is lost, doubled or changed changes the sum, but for one case in 2⁶⁴.
    """

    rows: int
    content: int


def compare(
    transfers: Sequence[TableCopy],
    pairs: Sequence[SessionPair],
    *,
    keys: Mapping[Name, Sequence[str]],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[tuple[TableCopy, Digest]]:
    """Demand that the new tables have the rows of the pairs' snapshot; return what these were.

    keys: as copy() gets them. progress: is told how many tables are read, and
    how many there are on both sides. Raises StepFailedError with tables, counts and keys.
    """
    ordered = sorted(transfers, key=lambda each: each.size_bytes, reverse=True)
    sides: tuple[Digests, Digests] = ({}, {})
    jobs = [
        partial(job, each, side)
        for each in ordered
        for job, side in zip((_read_old, _read_new), sides, strict=True)
    ]
    workers.run(
        jobs,
        pairs,
        lambda pair: pair.sessions,
        lambda: progress(sum(map(len, sides)), len(jobs)),
    )
    differences = [
        words
        for each in ordered
        for words in _differences(pairs[0], each, sides, keys.get(each.table, ()))
    ]
    if differences:
        what = f"the new rows are not those that were copied: {'; '.join(differences)}"
        raise StepFailedError(what, _REMEDY)
    return [(each, sides[0][each.table]) for each in transfers]


# One side of a table at a time: so even one large table keeps both hands busy.
def _read_old(transfer: TableCopy, found: Digests, pair: SessionPair) -> None:
    with row_errors.told_of_the_old(transfer.name):
        found[transfer.table] = digest_of_old(pair.old, transfer, recoded=pair.recodes)


def _read_new(transfer: TableCopy, found: Digests, pair: SessionPair) -> None:
    with row_errors.told(transfer.name):
        found[transfer.table] = _digest_of_new(pair.new, transfer, recoded=pair.recodes)


def _differences(
    pair: SessionPair, transfer: TableCopy, sides: Sequence[Digests], key: Sequence[str]
) -> Iterator[str]:
    old, new = (side[transfer.table] for side in sides)
    if old != new:
        rows = f"{count(old.rows, 'row')} in the old database, {new.rows:,} in the new one"
        yield f"{transfer.name} ({rows}{_first_differences(pair, transfer, key)})"


def _first_differences(pair: SessionPair, transfer: TableCopy, key: Sequence[str]) -> str:
    """Say which columns differ, the keys of the first rows that do, and the values of the first.

    key: the columns of the new table's primary key, if it has one.
    """
    sides = (pair.old, transfer.query), (pair.new, _new_rows(pair.new, transfer))
    columns = _columns(sides, transfer, recoded=pair.recodes)
    words = f", in {', '.join(columns)}" if columns else ""
    if key and {*key} <= {*transfer.columns} - transfer.filled:
        keys = _rows(sides, transfer, key, recoded=pair.recodes)
        words += ", at " + "; ".join(_shown(key, values) for values in keys)
        words += _values(sides, transfer, key, keys[0]) if keys else ""
    return words


def _columns(sides: Sides, transfer: TableCopy, *, recoded: bool) -> list[str]:
    compared = _compared(transfer)
    sums = _joined(columns.hashes_of_columns(compared, recoded=recoded))
    (before,), (after,) = (_ask(side, transfer, sums) for side in sides)
    both = zip(compared, before, after, strict=True)
    return [column for column, first, second in both if first != second]


def _compared(transfer: TableCopy) -> list[str]:
    return [each for each in transfer.columns if each not in transfer.filled]


def _rows(
    sides: Sides, transfer: TableCopy, key: Sequence[str], *, recoded: bool
) -> list[tuple[str, ...]]:
    row = columns.hash_of_row(transfer.columns, transfer.filled, recoded=recoded)
    part = sql.SQL("{} & {}").format(columns.hash_of_row(key, recoded=recoded), _PARTS - 1)
    sums = sql.SQL("{}, sum({})").format(part, row)
    old_parts, new_parts = ({*_ask(side, transfer, sums, _BY_PART)} for side in sides)
    parts = sorted({each for each, _ in old_parts ^ new_parts})[:_SHOWN_PARTS]
    where = sql.SQL("WHERE {} = ANY({})").format(part, parts)
    rows = sql.SQL("{}, {}").format(row, _texts(key))
    before, after = (Counter(_ask(side, transfer, rows, where)) for side in sides)
    keys = sorted({tuple(values) for _, *values in (before - after) + (after - before)})
    return keys[:_SHOWN_ROWS]


def _values(sides: Sides, transfer: TableCopy, key: Sequence[str], values: tuple[str, ...]) -> str:
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
    side: Side, transfer: TableCopy, wanted: sql.Composable, tail: sql.Composable = _NOTHING
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


def digest_of_old(session: Session, transfer: TableCopy, *, recoded: bool = False) -> Digest:
    """Return the digest of what the old database sends, as the session sees it.

    recoded: whether the two databases have different encodings; that takes longer.
    """
    return _digest(session, transfer.query, transfer, recoded=recoded)


def _digest_of_new(session: Session, transfer: TableCopy, *, recoded: bool = False) -> Digest:
    """Return the digest of what stands in the new table, over the columns that were carried."""
    return _digest(session, _new_rows(session, transfer), transfer, recoded=recoded)


def _new_rows(session: Session, transfer: TableCopy) -> sql.Composed:
    """Return the query for the rows of the new table, without those of tables that inherit."""
    own = tables.alone(session, transfer.table)
    return sql.SQL("SELECT {} FROM {}").format(tables.listed(transfer.columns), own)


def _digest(
    session: Session, rows: sql.Composable, transfer: TableCopy, *, recoded: bool
) -> Digest:
    query = sql.SQL("SELECT count(*), coalesce(sum({}), 0) FROM ({}) AS carried ({})")
    number = columns.hash_of_row(transfer.columns, transfer.filled, recoded=recoded)
    row = session.execute(query.format(number, rows, tables.listed(transfer.columns))).fetchone()
    assert row is not None  # noqa: S101  (an aggregate has one row)
    return Digest(int(row[0]), int(row[1]))
