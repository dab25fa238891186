"""The rows that one COPY of the old database sends, in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import generators
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.waiting import Wait

from backset.carrying import binary, row_errors

if TYPE_CHECKING:
    from contextlib import ExitStack

    from psycopg import sql
    from psycopg.abc import PQGen

    from backset.connections.session import Session

_BATCH_BYTES = 32 * 1024  # measured: smaller and larger ones are slower
_LARGE_BYTES = 1024 * 1024  # of a row that is passed on where it is, and not copied


class Rows:
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
            if length > _LARGE_BYTES:
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
        bare = row[len(binary.HEADER) :] if self._begins else row
        self._begins = False
        return bare[:0] if bare == binary.TRAILER else bare

    def _end(self) -> PQGen[int | None]:
        result, *_ = yield from generators.fetch_many(self._old.pgconn)
        if result.status != ExecStatus.COMMAND_OK:
            raise error_from_result(result, encoding="utf-8")
        sent: int | None = result.command_tuples
        return sent
