"""The standbys of a server: how far they are, what they have replayed.

What a server shows of its standbys is how far they are. A standby that is among the hosts of the
URL is asked itself, too.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from backset.catalog import catalog
from backset.connections.session import connect, one_line
from backset.errors import Finding, UnreachableError
from backset.text.quantities import amount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.servers.server import Server

WAIT_S = 60.0  # a standby that is well is behind by less than a second
LOOK_EVERY_S = 0.2  # each look at a host of the URL is a login there
PURPOSE = "standbys"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a standby has that has replayed a swap.

    position: of the WAL. name, oid, revisions: of the target. server_id: of the server that it
    follows; empty where that is not known.
    """

    position: str
    name: str
    oid: int
    revisions: tuple[str, ...]
    server_id: str

    @classmethod
    def by(cls, server: Server) -> Expected:
        """Return what the target is by now; a position that is asked last has all of it."""
        name = server.names.target
        with closing(connect(server.target, PURPOSE)) as session:
            revisions = tuple(catalog.revisions(session))
        return cls(
            name=name,
            oid=server.databases()[name].oid,
            revisions=revisions,
            server_id=server.identifier(),
            position=position(server.session),
        )


class Replayed(NamedTuple):
    """What came of waiting: what is lacking where, and who has it all, in words."""

    lacking: list[Finding]
    words: str


class _Answer(NamedTuple):
    """What a host of the URL lacks, and whether waiting cannot help; what it is, in words."""

    lack: Finding | None = None
    is_final: bool = False
    has: str = ""


def await_replay(
    session: Session,
    expected: Expected,
    others: Sequence[Target],
    seconds: float,
    say: Callable[[str], None],
) -> Replayed:
    """Wait until each standby has replayed all that was committed; see what has not.

    session: on the primary. others: hosts of the URL beside the primary: of these each standby is
    asked itself, too, whether the database of that name is the expected one. seconds: after which
    the wait is given up. say: is told who is waited for.
    """
    until = time.monotonic() + seconds
    left, wrong, having = [*others], list[Finding](), list[str]()
    told: list[str] = []
    while True:
        there = connected(session, expected.position)
        late = [each for each in there if each.lag_bytes != 0]
        answers = [(each, _asked(each, expected)) for each in left]
        left = [each for each, answer in answers if answer.lack and not answer.is_final]
        wrong += [answer.lack for _, answer in answers if answer.lack and answer.is_final]
        having += [answer.has for _, answer in answers if answer.has]
        asked = [answer.lack for _, answer in answers if answer.lack and not answer.is_final]
        missing = [*map(_late, late), *asked]
        is_told = asked or any(each.lag_bytes is not None for each in late)
        if not is_told or time.monotonic() >= until:
            done = [f"{each.name} has replayed it" for each in there if each not in late]
            if not (there or others):
                done = ["no standby is connected, and none was waited for"]
            return Replayed([*missing, *wrong], ", ".join(having or done))
        if (names := [each.name for each in missing]) != told:  # and not for each byte
            told = names
            say("; ".join(each.what for each in missing))
        time.sleep(LOOK_EVERY_S)


def _late(standby: Standby) -> Finding:
    hidden = standby.lag_bytes is None
    remedy = "as a superuser: GRANT pg_monitor TO the role" if hidden else "look at that standby"
    has = "may not have" if hidden else "has not"
    return lacking(standby.name, f"{standby} {has} replayed the swap", remedy)


def _asked(target: Target, expected: Expected) -> _Answer:
    """Ask another host of the URL what the database of that name is there."""
    where, name, revisions = target.address, expected.name, expected.revisions
    try:
        with asking(target, expected.server_id, expected.position) as (session, host):
            row = session.execute(_OID, [name]).fetchone()
        if not host.is_standby:
            return _Answer()
        if not (host.has_replayed or host.is_strange):
            lack = lacking(where, f"{where} has not replayed the swap", "look at that standby")
            return _Answer(lack)
        if row == (expected.oid,) and not host.is_strange:
            with closing(connect(target.named(name), PURPOSE)) as session:
                revisions = tuple(catalog.revisions(session))
    except (UnreachableError, psycopg.Error) as error:
        what = f"{where} may not have replayed the swap, and cannot be asked: "
        what += words(error, target)
        return _Answer(lacking(where, what, "look at that server, or correct the list of hosts"))
    at = f"at {', '.join(revisions)}" if revisions else "without revision"
    wrong = ""
    if host.is_strange:
        wrong = f"{where} is the standby of another server"
    elif row != (expected.oid,):
        wrong = f"{name} on {where} is not the new database"
    elif revisions != expected.revisions:
        wrong = f"{name} on {where} is {at}, not as here"
    if wrong:
        remedy = "correct the list of hosts, or look at that server"
        return _Answer(lacking(where, wrong, remedy), is_final=True)
    return _Answer(has=f"{where} has it, {at}")


def lacking(name: str, what: str, remedy: str) -> Finding:
    """Return what a standby, or another host of the URL, has not."""
    why = "who reads there is in the old database, which is now the previous one"
    return Finding(kind="standby", name=name, what=what, why=why, remedy=remedy)


class Host(NamedTuple):
    """What a host of the URL is.

    is_strange: whether it is of another server than the one that was named.
    """

    is_standby: bool
    has_replayed: bool
    is_strange: bool


@contextmanager
def asking(target: Target, server_id: str, reached: str = "0/0") -> Iterator[tuple[Session, Host]]:
    """Give a session beside the target of a host, and what that host is.

    reached: a position of the WAL that it has replayed, or not. Raises UnreachableError,
    psycopg.Error.
    """
    with closing(connect(target.named("postgres"), PURPOSE)) as session:
        is_standby, has_replayed = session.execute(_HOST, [reached]).fetchone() or (False, False)
        found = catalog.server_id(session) if server_id else ""
        is_strange = bool(found) and found != server_id
        yield session, Host(is_standby, has_replayed, is_strange)


def words(error: UnreachableError | psycopg.Error, target: Target) -> str:
    """Return in one line why a host could not be asked."""
    return error.words if isinstance(error, UnreachableError) else one_line(error, target)


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
_HOST = """
SELECT pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, false)
"""
_OID = "SELECT oid::int8 FROM pg_database WHERE datname = %s"
