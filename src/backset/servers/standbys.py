"""The standbys of a server: which follow it, how far they are, and what they have replayed."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from backset.connections.session import connect, one_line
from backset.errors import Finding, UnreachableError
from backset.text.quantities import amount

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backset.connections.session import Session
    from backset.connections.target import Target

_LOOK_EVERY_S = 0.2  # each look at a host of the URL is a login there
HIDDEN = "how far it is, the server shows to members of pg_monitor alone"


@dataclass(frozen=True, slots=True)
class Standby:
    """A standby that is connected, as `pg_stat_replication` shows it.

    name: its application_name. address: empty for a socket. slot: by which the server keeps WAL
    for it; may be empty. lag_bytes: of WAL that it has not replayed; None where our role may not
    see that. is_waited_for: whether commits wait for it, by `synchronous_standby_names`.
    """

    name: str
    address: str
    slot: str
    lag_bytes: int | None
    is_waited_for: bool

    def __str__(self) -> str:
        where = f" at {self.address}" if self.address else ""
        about = [f"slot {self.slot}"] if self.slot else []
        about += ["synchronous"] if self.is_waited_for else []
        about.append(HIDDEN if self.lag_bytes is None else f"{amount(self.lag_bytes)} behind")
        return f"{self.name}{where} ({', '.join(about)})"


def connected(session: Session, position: str | None = None) -> tuple[Standby, ...]:
    """Return the standbys that are connected, by name.

    position: of the WAL, from which on `lag_bytes` counts; None for where the server is now.
    Neither a base backup, nor a program that only receives WAL, nor a subscription is one.
    """
    rows = session.execute(_CONNECTED, [position]).fetchall()
    return tuple(Standby(*row) for row in rows)


def idle_slots(session: Session) -> list[str]:
    """Return in words the physical slots that nobody uses, and how much WAL each keeps."""
    rows = session.execute(_IDLE).fetchall()
    return [f"nobody uses the slot {name}, which keeps {amount(size)}" for name, size in rows]


def position(session: Session) -> str:
    """Return where the server's WAL is now; on a standby, how far that has replayed it."""
    (found,) = session.execute(_POSITION).fetchone() or ("0/0",)
    return str(found)


def await_replay(
    session: Session, others: Sequence[Target], seconds: float, say: Callable[[str], None]
) -> list[Finding]:
    """Wait until each standby has replayed all that was committed; return what has not.

    session: on the primary. others: hosts of the URL beside the primary: of these each standby is
    asked itself, too. seconds: after which the wait is given up. say: is told who is waited for.
    """
    until = time.monotonic() + seconds
    reached, left = position(session), [*others]
    told: list[str] = []
    while True:
        late = [each for each in connected(session, reached) if each.lag_bytes != 0]
        answers = [(each, _asked(each, reached)) for each in left]
        left = [each for each, lack in answers if lack]
        asked = [lack for _, lack in answers if lack]
        lacking = [*map(_late, late), *asked]
        is_told = asked or any(each.lag_bytes is not None for each in late)
        if not is_told or time.monotonic() >= until:
            return lacking
        if (names := [each.name for each in lacking]) != told:  # and not for each byte
            told = names
            say("; ".join(each.what for each in lacking))
        time.sleep(_LOOK_EVERY_S)


def _late(standby: Standby) -> Finding:
    hidden = standby.lag_bytes is None
    remedy = "as a superuser: GRANT pg_monitor TO the role" if hidden else "look at that standby"
    has = "may not have" if hidden else "has not"
    return _finding(standby.name, f"{standby} {has} replayed the swap", remedy)


def _asked(target: Target, reached: str) -> Finding | None:
    """Ask another host of the URL; None where it has replayed that, or is no standby."""
    try:
        with closing(connect(target.named("postgres"), "standbys")) as session:
            row = session.execute(_REPLAYED, [reached]).fetchone()
    except (UnreachableError, psycopg.Error) as error:
        words = error.words if isinstance(error, UnreachableError) else one_line(error, target)
        what = f"{target.address} may not have replayed the swap, and cannot be asked: {words}"
        return _finding(target.address, what, "look at that server, or correct the list of hosts")
    if row == (True,):
        return None
    what = f"{target.address} has not replayed the swap"
    return _finding(target.address, what, "look at that standby")


def _finding(name: str, what: str, remedy: str) -> Finding:
    why = "who reads there is in the old database, which is now the previous one"
    return Finding(kind="standby", name=name, what=what, why=why, remedy=remedy)


_CONNECTED = """
SELECT r.application_name, coalesce(host(r.client_addr), ''), coalesce(s.slot_name::text, ''),
       CASE WHEN r.replay_lsn IS NOT NULL
            THEN greatest(0, coalesce(%s::pg_lsn, pg_current_wal_lsn()) - r.replay_lsn)::int8 END,
       coalesce(r.sync_state IN ('sync', 'quorum'), false)
FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
WHERE coalesce(r.state <> 'backup' AND (r.state = 'startup' OR r.replay_lsn IS NOT NULL), true)
  AND coalesce(s.slot_type = 'physical', true)
ORDER BY 1, 2, r.pid
"""
_IDLE = """
SELECT slot_name, greatest(0, coalesce(pg_current_wal_lsn() - restart_lsn, 0))::int8
FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active ORDER BY 1
"""
_POSITION = """
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END
"""
_REPLAYED = """
SELECT NOT pg_is_in_recovery() OR coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, false)
"""
