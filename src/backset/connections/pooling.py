"""Whether a session is one: a pooler may give each transaction another session of the server.

A lock, a setting and a prepared statement belong to a session, so a run cannot do with that.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg.pq import ExecStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

_ANSWER_S = 5.0
_TRIES = 5  # other clients of the pooler may take the session in between


class Told(NamedTuple):
    """What a new session was told: by who answered it, and by the server itself."""

    pid: int
    servers_pid: int

    @property
    def is_doubtful(self) -> bool:
        """Whether somebody stands between: PgBouncer tells a number of its own to its clients."""
        return self.pid != self.servers_pid


def is_shared(
    session: psycopg.Connection[Any], another: Callable[[], psycopg.Connection[Any]]
) -> bool:
    """Tell whether a session is led to several processes of the server, or to that of another one.

    Tried with PgBouncer: a direct connection and `pool_mode = session` give each its own. Else two
    questions in a row see the pool go round where it does, and a second session comes to the same
    process where it does not.
    """
    with another() as second:
        own: set[int | None] = set()
        others: set[int | None] = set()
        for _ in range(_TRIES):
            own |= {_process(session), _process(session)}
            others.add(_process(second))
            if None in own | others or len(own) > 1 or len(others) > 1 or own & others:
                return True
    return False


def process_of(session: psycopg.Connection[Any]) -> int:
    """Ask a session for the number of the server's process behind it, which is asked itself.

    What the session was told when it was opened may be a number of a pooler's own.
    """
    (pid,) = session.execute("SELECT pg_backend_pid()").fetchone() or (0,)
    return int(pid)


def _process(session: psycopg.Connection[Any]) -> int | None:
    """Return the same; None where the pooler has none to give."""
    line = session.pgconn
    line.send_query(b"SELECT pg_backend_pid()")
    while line.is_busy():
        if not select.select([line.socket], [], [], _ANSWER_S)[0]:
            return None
        line.consume_input()
    answer, number = line.get_result(), None
    while answer:
        number = answer.get_value(0, 0) if answer.status == ExecStatus.TUPLES_OK else None
        answer = line.get_result()
    return None if number is None else int(number)
