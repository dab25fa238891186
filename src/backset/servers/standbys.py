"""Synchronous standbys: a swap keeps nobody out while it waits for them, which it does after it."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg

from backset.connections.session import connect
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from backset.connections.session import Session
    from backset.servers.server import Server

LIMIT_S = 10.0


def awaited(session: Session) -> str:
    """Return the server's `synchronous_standby_names`, where a commit of our login waits for them.

    session: what it has set itself, such as Server.session, does not count.
    """
    row = session.execute(_AWAITED).fetchone()
    return str(row[0]) if row else ""


def confirm(server: Server) -> str:
    """Wait until the standbys have all that was committed; return in words what is not known.

    It commits something that means nothing, as every application would: whatever was committed
    before is in the log before it. The wait is seen by activity.Waits, and ends after LIMIT_S: a
    standby that is away may never come back.
    """
    late = threading.Event()
    try:
        if not (names := awaited(server.session)):
            return ""
        with closing(connect(server.maintenance, "standbys")) as session:
            session.execute("RESET synchronous_commit")  # as an application has it
            session.add_notice_handler(lambda _: late.set())  # the server warns of what is given up
            timer = threading.Timer(LIMIT_S, _give_up, [session, late])
            timer.daemon = True
            timer.start()
            try:
                session.execute(_COMMIT)
            finally:
                timer.cancel()
                timer.join()
    except (psycopg.Error, StepFailedError):  # it is done, and durable on the server itself
        late.set()
    if not late.is_set():
        return ""
    return f"on the server's own disk, and not yet on a standby ({names}) as far as is known"


def lacking(server: Server) -> str:
    """Return in words what the standbys may not have of a target that is another one by now."""
    missing = confirm(server)
    return f"{server.names.target} is {missing}" if missing else ""


def _give_up(session: Session, late: threading.Event) -> None:
    late.set()
    session.cancel_safe(timeout=LIMIT_S)


_AWAITED = """
SELECT current_setting('synchronous_standby_names')
WHERE current_setting('synchronous_standby_names') <> ''
  AND (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit') NOT IN ('off', 'local')
"""
_COMMIT = "SELECT pg_logical_emit_message(true, 'backset', 'swapped')"
