"""Asks the same of many tables, in few round trips and within what the server can hold."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.pq import TransactionStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backset.connections.session import Session

# A UNION of n is planned in n² steps, and locks every table with its indexes: a thousand take
# longer to plan than to read, and some thousands do not fit into the server's table of locks.
_AT_ONCE = 50


def rows(session: Session, queries: Sequence[sql.Composable]) -> Iterator[tuple[Any, ...]]:
    """Yield what all queries give, in one snapshot.

    That is the snapshot of the caller's transaction, if there is one and it has one.
    """
    if len(queries) <= _AT_ONCE:
        yield from _union(session, queries)
        return
    with _snapshot(session):
        for first in range(0, len(queries), _AT_ONCE):
            with session.transaction(force_rollback=True):  # which lets go of the locks
                found = _union(session, queries[first : first + _AT_ONCE])
            yield from found


def _union(session: Session, queries: Sequence[sql.Composable]) -> list[tuple[Any, ...]]:
    return session.execute(sql.SQL(" UNION ALL ").join(queries)).fetchall() if queries else []


@contextmanager
def _snapshot(session: Session) -> Iterator[None]:
    if session.info.transaction_status != TransactionStatus.IDLE:
        yield
        return
    with session.transaction():
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
