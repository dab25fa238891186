"""Sessions on the standbys of a server: a swap leaves them in the old database, under a new name.

PostgreSQL ends no session on a standby as it replays a rename. A drop does, once that comes.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from backset.connections import activity
from backset.errors import RefusedError, UnreachableError
from backset.servers.standbys import asking, connected, lacking, words
from backset.text.quantities import count, few

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backset.connections.activity import Backend
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.errors import Finding
    from backset.servers.server import Database, Server

_END_EVERY_S = 0.05
_ENDING_S = 5.0  # as long as RENAME waits for sessions that end


def demand(others: Sequence[Target], named: str) -> None:
    """Raise RefusedError unless one of the hosts is a standby that can be asked.

    named: what names the hosts.
    """
    reasons = []
    for each in others:
        try:
            with asking(each, "") as (_, host):
                if host.is_standby:
                    return
            reasons.append(f"{each.address} is no standby")
        except (UnreachableError, psycopg.Error) as error:
            reasons.append(f"{each.address} cannot be asked: {words(error, each)}")
    what = "sessions can be ended only on a standby among the hosts of " + named
    what += f": {'; '.join(reasons) or 'there is one host'}"
    remedy = "name the standbys there, too, as in postgresql://app@db1,db2/app"
    raise RefusedError([(what, f"{remedy}; or leave --end-standby-sessions out")])


@dataclass(frozen=True, slots=True)
class Readers:
    """Who is connected to a database on another host of the URL, runs aside.

    words: why that is not known; empty where it is.
    """

    address: str
    clients: list[Backend] = field(default_factory=list)
    words: str = ""

    def __str__(self) -> str:
        """Return them by application and role: `api of app (3 sessions)`."""
        return who(self.clients)


def who(clients: Iterable[Backend]) -> str:
    """Return sessions by application and role, with how many each has."""
    number = Counter((each.application, each.user or "") for each in clients)
    texts = (
        f"{f'{name} of {user}' if name else user} ({count(some, 'session')})"
        for (name, user), some in sorted(number.items())
    )
    return few(texts)


def look(others: Sequence[Target], oid: int, server_id: str) -> list[Readers]:
    """Return who is connected to the database of an oid, on each host that is a standby."""
    found = []
    for each in others:
        try:
            with asking(each, server_id) as (session, host):
                if host.is_standby and not host.is_strange:
                    found.append(Readers(each.address, _clients(session, oid)))
        except (UnreachableError, psycopg.Error) as error:
            found.append(Readers(each.address, words=words(error, each)))
    return found


_AGAIN = "let them connect again, or `--end-standby-sessions`"


def planned(
    server: Server, others: Sequence[Target], old: Database, *, are_ended: bool
) -> list[str]:
    """Say whose sessions on the standbys would go on in the old database, or be ended."""
    found, lines = look(others, old.oid, server.identifier()), []
    for each in found:
        if each.words:
            lines.append(f"{each.address} cannot be asked who reads there: {each.words}")
        elif each.clients and are_ended:
            lines.append(f"would end on {each.address}, once it has the new database: {each}")
        elif each.clients:
            would = f"would go on in what is then {server.names.previous}"
            lines.append(f"{each} on {each.address} {would} → {_AGAIN}")
    return [*lines, *_unasked(server, found, "reads")]


def left(
    server: Server, others: Sequence[Target], old: Database
) -> list[tuple[str, Sequence[Backend]]]:
    """Say who is still in the old database on the standbys, each line with these sessions."""
    found = look(others, old.oid, server.identifier())
    lines: list[tuple[str, Sequence[Backend]]] = []
    for each in found:
        if each.words:
            lines.append((f"{each.address} cannot be asked who is in {old.name}: {each.words}", ()))
        elif each.clients:
            lines.append((f"in {old.name} on {each.address}: {each} → {_AGAIN}", each.clients))
    return [*lines, *((each, ()) for each in _unasked(server, found, f"is in {old.name}"))]


def _unasked(server: Server, found: Sequence[Readers], does: str) -> list[str]:
    """Say of how many standbys that is not known, since no host of the URL is one of these."""
    number = len(connected(server.session)) - len([each for each in found if not each.words])
    remedy = f"name each standby in {server.target.mended_in}, beside the primary"
    what = f"who {does} on {count(number, 'standby')}, nobody can ask"
    return [f"{what} → {remedy}"] if number > 0 else []


def end(others: Sequence[Target], oid: int, server_id: str) -> tuple[list[Readers], list[Finding]]:
    """End the sessions on the database of an oid, on each host that is a standby.

    A swap was replayed there: nobody comes to that database any more by the old name. Returns who
    was ended, and a finding for each that is still there.
    """
    ended: list[Readers] = []
    left: list[Finding] = []
    until = time.monotonic() + _ENDING_S
    for each in others:
        try:
            with asking(each, server_id) as (session, host):
                if not host.is_standby or host.is_strange:
                    continue
                seen = {client.pid: client for client in _clients(session, oid)}
                names = activity.not_of_runs(session)
                while activity.end(session, names=names, oids=[oid]) and time.monotonic() < until:
                    time.sleep(_END_EVERY_S)
                stay = _clients(session, oid)
                role = session.info.user
        except (UnreachableError, psycopg.Error) as error:
            what = f"the sessions on {each.address} were not ended: {words(error, each)}"
            left.append(lacking(each.address, what, "look at that server"))
            continue
        pids = {client.pid for client in stay}
        ended.append(Readers(each.address, [seen[pid] for pid in seen if pid not in pids]))
        for client in stay:
            may = "did not end" if client.may_end else f"may not be ended by {role}"
            what = f"{client}, as {client.user} on {each.address}, {may}"
            left.append(lacking(each.address, what, client.remedy(role)))
    return ended, left


def _clients(session: Session, oid: int) -> list[Backend]:
    return activity.clients(session, names=activity.not_of_runs(session), oids=[oid])
