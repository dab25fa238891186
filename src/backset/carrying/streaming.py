"""The rows on their way: COPY to COPY, two tables at a time, never a whole table in memory."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.carrying import binary, parallel, row_errors, tables
from backset.carrying.reading import Rows
from backset.carrying.sessions import Pair, adopt
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import LiteralString

    from psycopg import Copy

    from backset.carrying.tables import Transfer
    from backset.connections.session import Session

# A server says what is wrong with a row only when COPY ends; so it ends now and then.
_SPAN_BYTES = 32 * 1024 * 1024
# From here on it is faster to give the table a new file, whose rows are frozen from the start:
# whoever reads them first need not write each page again.
_FROZEN_FROM_BYTES = 8 * 1024 * 1024

Name = tuple[str, str]


def copy(
    transfers: Sequence[Transfer],
    snapshot: str,
    old: Callable[[], Session],
    new: Callable[[], Session],
    *,
    keys: Mapping[Name, Sequence[str]],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[Name, int]:
    """Copy the rows of every transfer, the largest first; return how many each new table got.

    snapshot: of the old database, by its name, whose holder outlives this call. old, new: open
    sessions, which are closed again. keys: the columns by which a row of a table is told from
    others. progress: is told the bytes that are done, and all of them, in this thread.
    Raises StepFailedError with table, rule and key; nothing of that table stays.
    What is written is safe from a crash of the server only after its next checkpoint.
    """
    total = sum(each.size_bytes for each in transfers)
    counts: dict[Name, int] = {}
    ordered = sorted(transfers, key=lambda each: each.size_bytes, reverse=True)
    with ExitStack() as opened:
        number = min(len(ordered), parallel.WORKERS)
        pairs = parallel.hands(lambda: Pair.opened(old, new, opened), number) if ordered else []
        for pair in pairs:
            pair.agree()
            adopt(pair.old, snapshot)
        parallel.run(
            [partial(_carry, each, keys.get(each.table, ()), counts) for each in ordered],
            pairs,
            lambda pair: pair.sessions,
            lambda: progress(sum(pair.done_bytes for pair in pairs), total),
        )
    return counts


def _carry(transfer: Transfer, key: Sequence[str], counts: dict[Name, int], pair: Pair) -> None:
    """Copy one table in one transaction."""
    key = key if set(key) <= set(transfer.columns) else ()
    columns = [*key, *(each for each in transfer.columns if each not in key)]
    holders = partial(row_errors.holders, pair.old, transfer, key)
    with row_errors.told(transfer.name, key, holders):
        if not _copied_as_bytes(transfer, columns, counts, pair):
            with pair.new.transaction():
                counts[transfer.table] = _copied(pair, transfer, columns)
    pair.past_bytes += transfer.size_bytes
    pair.now_bytes = 0


def _copied_as_bytes(
    transfer: Transfer, columns: Sequence[str], counts: dict[Name, int], pair: Pair
) -> bool:
    """Copy a table in binary form, if that suits it; tell whether it is done.

    Of a row that it does not take, the server can say more where it comes as text.
    """
    with row_errors.told_of_the_old(transfer.name):
        if not binary.suits(pair, transfer):
            return False
    with suppress(psycopg.IntegrityError, psycopg.DataError):
        with pair.old.transaction(), pair.new.transaction():
            counts[transfer.table] = _copied(pair, transfer, columns, is_binary=True)
        return True
    return False


def _copied(
    pair: Pair, transfer: Transfer, columns: Sequence[str], *, is_binary: bool = False
) -> int:
    """Copy the rows; return how many there were."""
    form = ["FORMAT binary"] if is_binary else []
    frozen = ["FREEZE"] if _give_new_file(pair.new, transfer) else []
    sink = sql.SQL("COPY {} ({}) FROM STDIN" + _options([*form, *frozen])).format(
        sql.Identifier(*transfer.table), tables.listed(columns)
    )
    source = _source(transfer, columns) + sql.SQL(_options(form))
    return _stream(pair, transfer, source, sink, is_binary=is_binary)


def _options(words: Sequence[str]) -> LiteralString:
    return f" ({', '.join(words)})" if words else ""


def _source(transfer: Transfer, columns: Sequence[str]) -> sql.Composed:
    """Return what sends the rows, the key first: of a bad row the server quotes the beginning."""
    return sql.SQL("COPY (SELECT {} FROM ({}) AS carried ({})) TO STDOUT").format(
        tables.listed(columns), transfer.query, tables.listed(transfer.columns)
    )


def _give_new_file(new: Session, transfer: Transfer) -> bool:
    """Empty an empty table, if it is large: COPY can freeze the rows of a file that is new."""
    if transfer.size_bytes < _FROZEN_FROM_BYTES:
        return False
    table = sql.Identifier(*transfer.table)
    (may,) = new.execute(_MAY_FREEZE, transfer.table).fetchone() or (False,)
    has_rows = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {})").format(table)
    if not may or new.execute(has_rows).fetchone() != (False,):
        return False
    new.execute(sql.SQL("TRUNCATE ONLY {}").format(table))
    return True


def _stream(
    pair: Pair, transfer: Transfer, source: sql.Composed, sink: sql.Composed, *, is_binary: bool
) -> int:
    """Carry all rows; return how many. Raises StepFailedError where fewer come than were sent."""
    count = 0
    with ExitStack() as opened:
        rows = Rows(pair.old, transfer.name, source, opened, is_binary=is_binary)
        while rows.sent is None:
            with pair.new.cursor() as writer:
                with writer.copy(sink) as span:
                    span.write(binary.HEADER if is_binary else b"")
                    _fill(span, rows, pair, transfer.size_bytes)
                    span.write(binary.TRAILER if is_binary else b"")
                count += writer.rowcount
    if count != rows.sent:
        what = f"{transfer.name}: {rows.sent} rows were sent, and {count} came"
        raise StepFailedError(what, "see what the new table does to its rows, such as a trigger")
    return count


def _fill(span: Copy, rows: Rows, pair: Pair, size_bytes: int) -> None:
    written = 0
    while written < _SPAN_BYTES and (batch := rows.batch()):
        span.write(batch)
        written += len(batch)
        pair.now_bytes = min(pair.now_bytes + len(batch), size_bytes)
        del batch  # a large row, before the next one comes


_MAY_FREEZE = """
SELECT c.relkind = 'r' AND NOT EXISTS (
    SELECT FROM pg_constraint k WHERE k.contype = 'f' AND k.confrelid = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""
