"""Which host a backup is dumped from: the primary, or a standby that has all that is committed."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import psycopg

from backset.connections.heartbeat import Heartbeat
from backset.connections.session import connect, one_line
from backset.errors import StepFailedError, UnreachableError
from backset.servers.standbys import LOOK_EVERY_S, PURPOSE, asking, position, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backset.connections.target import Target
    from backset.servers.server import Server


def caught_up(
    server: Server, others: Sequence[Target], seconds: float, say: Callable[[str], None]
) -> Target:
    """Return the target at the first standby that has replayed all that is committed by now.

    Raises StepFailedError where none has within `seconds`. say: is told who is waited for.
    """
    until = time.monotonic() + seconds
    # Commits that do not wait for the disk are on it with this one, and so on their way.
    server.session.execute("SELECT pg_logical_emit_message(true, 'backset', 'backup')")
    reached, is_said = position(server.session), False
    while True:
        why, is_late = [], False
        for each in others:
            try:
                with asking(each, server.identifier(), reached) as (_, host):
                    if not host.is_standby or host.is_strange:
                        why.append(f"{each.address} is no standby of this server")
                    elif host.has_replayed:
                        return each
                    else:
                        why.append(f"{each.address} has not replayed what is committed")
                        is_late = True
            except (UnreachableError, psycopg.Error) as error:
                why.append(f"{each.address} cannot be asked: {words(error, each)}")
        if not is_late or time.monotonic() >= until:
            what = f"no standby can be dumped: {'; '.join(why)}"
            raise StepFailedError(what, f"look at that standby, or {FROM_PRIMARY}")
        if not is_said:
            say("; ".join(why))
            is_said = True
        time.sleep(LOOK_EVERY_S)


FROM_PRIMARY = "dump the primary this time: BACKSET_BACKUP_FROM=primary"
_CANCELLED = "conflict with recovery"  # postgres.c: ProcessRecoveryConflictInterrupt()


@contextmanager
def dumping(target: Target) -> Iterator[None]:
    """Say what to do where a standby ends a dump, which keeps what is replayed waiting.

    That of the run asks the primary only, so the standby has a heartbeat of its own.
    Raises StepFailedError.
    """
    with closing(connect(target, PURPOSE)) as session, Heartbeat(session):
        try:
            yield
        except (StepFailedError, psycopg.OperationalError) as error:
            told = error.what if isinstance(error, StepFailedError) else one_line(error, target)
            is_other = isinstance(error, (StepFailedError, psycopg.errors.LockNotAvailable))
            if is_other and _CANCELLED not in told:
                raise
            what = f"the standby {target.address} has ended the dump: {told}"
            remedy = "if that was to replay, SET hot_standby_feedback = on there, or raise "
            remedy += f"max_standby_streaming_delay; or {FROM_PRIMARY}"
            raise StepFailedError(what, remedy) from None
