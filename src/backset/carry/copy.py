"""The rows on their way: COPY to COPY, two tables at a time, never a whole table in memory."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

import psycopg
from psycopg import generators, sql
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.waiting import Wait

from backset.carry import row_errors, tables
from backset.connections import workers
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import LiteralString

    from psycopg import Copy
    from psycopg.abc import PQGen

    from backset.carry.tables import Name, SessionPair, TableCopy
    from backset.connections.session import Session

# A server says what is wrong with a row only when COPY ends; so it ends now and then.
_SPAN_BYTES = 32 * 1024 * 1024
# From here on it is faster to give the table a new file, whose rows are frozen from the start:
# whoever reads them first need not write each page again.
_FROZEN_FROM_BYTES = 8 * 1024 * 1024
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no extension: PostgreSQL has none yet
_TRAILER = b"\xff\xff"
_LARGE_VALUE_BYTES = 8 * 1024 * 1024
_BYTES = psycopg.adapters.types["bytea"].oid
# Their binary form is the same in every version, and has no number of the catalog in it.
_PLAIN = frozenset(
    psycopg.adapters.types[name].oid
    for name in (
        *("bool", "bytea", "int2", "int4", "int8", "float4", "float8", "numeric", "uuid"),
        *("text", "varchar", "bpchar", "json", "jsonb"),
        *("date", "time", "timetz", "timestamp", "timestamptz", "interval"),
    )
)
_BATCH_BYTES = 32 * 1024  # measured: smaller and larger ones are slower
_LARGE_ROW_BYTES = 1024 * 1024  # of a row that is passed on where it is, and not copied


def copy(
    transfers: Sequence[TableCopy],
    pairs: Sequence[SessionPair],
    *,
    keys: Mapping[Name, Sequence[str]],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[Name, int]:
    """Copy the rows of every transfer, the largest first; return how many each new table got.

    keys: the columns by which a row of a table is told from others.
    progress: is told the bytes that are done, and all of them, in this thread.
    Raises StepFailedError with table, rule and key; nothing of that table stays.
    What is written is safe from a crash of the server only after its next checkpoint.
    """
    total = sum(each.size_bytes for each in transfers)
    counts: dict[Name, int] = {}
    ordered = sorted(transfers, key=lambda each: each.size_bytes, reverse=True)
    workers.run(
        [partial(_carry, each, keys.get(each.table, ()), counts) for each in ordered],
        pairs,
        lambda pair: pair.sessions,
        lambda: progress(sum(pair.done_bytes for pair in pairs), total),
    )
    return counts


def _carry(
    transfer: TableCopy, key: Sequence[str], counts: dict[Name, int], pair: SessionPair
) -> None:
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
    transfer: TableCopy, columns: Sequence[str], counts: dict[Name, int], pair: SessionPair
) -> bool:
    """Copy a table in binary form, if that suits it; tell whether it is done.

    Of a row that it does not take, the server can say more where it comes as text.
    """
    with row_errors.told_of_the_old(transfer.name):
        if not _suits_binary(pair, transfer):
            return False
    with suppress(psycopg.IntegrityError, psycopg.DataError):
        with pair.old.transaction(), pair.new.transaction():
            counts[transfer.table] = _copied(pair, transfer, columns, is_binary=True)
        return True
    return False


def _suits_binary(pair: SessionPair, transfer: TableCopy) -> bool:
    """Tell whether a row has large bytes, of which text has two each, and all else can go as well.

    The binary form is no other way for what can go as text: types must be the same on both sides,
    and a server does not quote the row that it does not take.
    """
    types = _types(pair.old, transfer.query)
    large = [c for c, each in zip(transfer.columns, types, strict=True) if each == _BYTES]
    if not large or not _PLAIN.issuperset(types):
        return False
    names = tables.listed(transfer.columns)
    there = sql.SQL("SELECT {} FROM {}").format(names, sql.Identifier(*transfer.table))
    return types == _types(pair.new, there) and _has_large(pair.old, transfer, large)


def _types(session: Session, query: sql.Composable) -> list[int]:
    cursor = session.execute(sql.SQL("SELECT * FROM ({}) AS carried LIMIT 0").format(query))
    return [each.type_code for each in cursor.description or ()]


def _has_large(session: Session, transfer: TableCopy, columns: Sequence[str]) -> bool:
    """Look for large bytes; their length is beside the row, so that they are not read."""
    is_large = sql.SQL(" OR ").join(
        sql.SQL("octet_length({}) > {}").format(sql.Identifier(each), _LARGE_VALUE_BYTES)
        for each in columns
    )
    query = sql.SQL("SELECT EXISTS (SELECT FROM ({}) AS carried ({}) WHERE {})")
    names = tables.listed(transfer.columns)
    return session.execute(query.format(transfer.query, names, is_large)).fetchone() == (True,)


def _copied(
    pair: SessionPair, transfer: TableCopy, columns: Sequence[str], *, is_binary: bool = False
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


def _source(transfer: TableCopy, columns: Sequence[str]) -> sql.Composed:
    """Return what sends the rows, the key first: of a bad row the server quotes the beginning."""
    return sql.SQL("COPY (SELECT {} FROM ({}) AS carried ({})) TO STDOUT").format(
        tables.listed(columns), transfer.query, tables.listed(transfer.columns)
    )


def _give_new_file(new: Session, transfer: TableCopy) -> bool:
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
    pair: SessionPair,
    transfer: TableCopy,
    source: sql.Composed,
    sink: sql.Composed,
    *,
    is_binary: bool,
) -> int:
    """Carry all rows; return how many. Raises StepFailedError where fewer come than were sent."""
    count = 0
    with ExitStack() as opened:
        rows = _Rows(pair.old, transfer.name, source, opened, is_binary=is_binary)
        while rows.sent is None:
            with pair.new.cursor() as writer:
                with writer.copy(sink) as span:
                    span.write(_HEADER if is_binary else b"")
                    _fill(span, rows, pair, transfer.size_bytes)
                    span.write(_TRAILER if is_binary else b"")
                count += writer.rowcount
    if count != rows.sent:
        what = f"{transfer.name}: {rows.sent} rows were sent, and {count} came"
        raise StepFailedError(what, "see what the new table does to its rows, such as a trigger")
    return count


def _fill(span: Copy, rows: _Rows, pair: SessionPair, size_bytes: int) -> None:
    written = 0
    while written < _SPAN_BYTES and (batch := rows.batch()):
        span.write(batch)
        written += len(batch)
        pair.now_bytes = min(pair.now_bytes + len(batch), size_bytes)
        del batch  # a large row, before the next one comes


class _Rows:
    """What the old database sends for one table; `sent` is how many rows there were, at the end.

    psycopg's own reading costs four times as much, since it is asked for each row.
    """

    def __init__(
        self,
        old: Session,
        name: str,
        source: sql.Composed,
        opened: ExitStack,
        *,
        is_binary: bool = False,
    ) -> None:
        self.sent: int | None = None
        self._is_binary, self._begins = is_binary, is_binary
        self._old = old
        self._name = name
        self._buffer = bytearray()
        self._large: memoryview | None = None
        with row_errors.told_of_the_old(name):
            opened.enter_context(opened.enter_context(old.cursor()).copy(source))

    def batch(self) -> bytearray | memoryview:
        """Return the next rows, as they came, which the next call overwrites; nothing at the end.

        A large row comes alone, and is in memory once, beside what the session has read of it: let
        go of it before the next call. Raises StepFailedError with what the server says.
        """
        self._buffer.clear()
        if self.sent is None and self._large is None:
            with row_errors.told_of_the_old(self._name):
                self._old.wait(self._read())
        if self._buffer or self._large is None:
            return self._buffer
        large, self._large = self._large, None
        return large

    def _read(self) -> PQGen[None]:
        connection = self._old.pgconn
        while len(self._buffer) < _BATCH_BYTES:
            length, row = connection.get_copy_data(1)
            if self._is_binary and length > 0:
                row = self._bare(row)
            if length > _LARGE_ROW_BYTES:
                self._large = row
                return
            if length > 0:
                self._buffer += row
            elif length < 0:
                self.sent = yield from self._end()
                return
            else:
                while not (yield Wait.R):
                    pass
                connection.consume_input()

    def _bare(self, row: memoryview) -> memoryview:
        """Return a row of the binary form, without what stands before the first and after all."""
        bare = row[len(_HEADER) :] if self._begins else row
        self._begins = False
        return bare[:0] if bare == _TRAILER else bare

    def _end(self) -> PQGen[int | None]:
        result, *_ = yield from generators.fetch_many(self._old.pgconn)
        if result.status != ExecStatus.COMMAND_OK:
            raise error_from_result(result, encoding="utf-8")
        sent: int | None = result.command_tuples
        return sent


_MAY_FREEZE = """
SELECT c.relkind = 'r' AND NOT EXISTS (
    SELECT FROM pg_constraint k WHERE k.contype = 'f' AND k.confrelid = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""
