"""The rows that one COPY of the old database sends, in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import generators
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.waiting import Wait

from backset.carrying import violations

if TYPE_CHECKING:
    from contextlib import ExitStack

    from psycopg import sql
    from psycopg.abc import PQGen

    from backset.connections.session import Session

_BATCH_BYTES = 32 * 1024  # measured: smaller and larger ones are slower


class Rows:
    """What the old database sends for one table; `sent` is how many rows there were, at the end.

    psycopg's own reading costs four times as much, since it is asked for each row.
    """

    def __init__(self, old: Session, name: str, source: sql.Composed, opened: ExitStack) -> None:
        self.sent: int | None = None
        self._old = old
        self._name = name
        self._buffer = bytearray()
        with violations.told_of_the_old(name):
            opened.enter_context(opened.enter_context(old.cursor()).copy(source))

    def batch(self) -> bytearray:
        """Return the next rows, as they came, which the next call overwrites; nothing at the end.

        Raises StepFailedError with what the server says.
        """
        self._buffer.clear()
        if self.sent is None:
            with violations.told_of_the_old(self._name):
                self._old.wait(self._read())
        return self._buffer

    def _read(self) -> PQGen[None]:
        connection = self._old.pgconn
        while len(self._buffer) < _BATCH_BYTES:
            length, row = connection.get_copy_data(1)
            if length > 0:
                self._buffer += row
            elif length < 0:
                self.sent = yield from self._end()
                return
            else:
                while not (yield Wait.R):
                    pass
                connection.consume_input()

    def _end(self) -> PQGen[int | None]:
        result, *_ = yield from generators.fetch_many(self._old.pgconn)
        if result.status != ExecStatus.COMMAND_OK:
            raise error_from_result(result, encoding="utf-8")
        sent: int | None = result.command_tuples
        return sent
