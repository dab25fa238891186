"""Pure: may this run touch that target? Facts in, refusals out; no input and no output."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

SYSTEM_DATABASES = frozenset({"postgres", "template0", "template1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What policy needs to know of a run.

    peer: the address that our socket is connected to; None on a Unix socket.
    client, server: our and its address as the server sees them; None on a Unix socket.
    foreign: databases that bear our derived names though backset did not make them.
    """

    database: str
    in_recovery: bool
    may_create: bool
    owns: bool
    role: str
    owner: str
    peer: str | None
    client: str | None
    server: str | None
    foreign: tuple[str, ...] = ()


def refusals(facts: Circumstances, *, consent: bool) -> list[tuple[str, str]]:
    """Return every reason, with its remedy, why the target may not be replaced; none is a yes."""
    reasons = []
    if facts.database in SYSTEM_DATABASES:
        remedy = "name the application's own database in DATABASE_URL"
        reasons.append((f"{facts.database} belongs to PostgreSQL itself", remedy))
    if facts.in_recovery:
        reasons.append(("the server is in recovery, so it is read-only", "connect to the primary"))
    reasons += _missing_rights(facts)
    for name in facts.foreign:
        remedy = "rename or drop it, if nobody needs it"
        reasons.append((f"the database {name} exists and backset did not make it", remedy))
    if not consent and not is_local(facts.peer, facts.client, facts.server):
        remedy = "if this is the right one, add --yes"
        reasons.append((f"{facts.database} is on another machine ({facts.peer})", remedy))
    return reasons


def _missing_rights(facts: Circumstances) -> list[tuple[str, str]]:
    reasons = []
    if not facts.may_create:
        remedy = f"as an administrator: ALTER ROLE {_quoted(facts.role)} CREATEDB"
        reasons.append((f"the role {facts.role} may not create databases", remedy))
    if not facts.owns:
        remedy = f"ALTER DATABASE {_quoted(facts.database)} OWNER TO {_quoted(facts.role)}"
        what = f"the role {facts.role} does not own {facts.database} ({facts.owner} does)"
        reasons.append((what, f"as an administrator: {remedy}"))
    return reasons


def is_local(peer: str | None, client: str | None, server: str | None) -> bool:
    """Tell whether the server is on this machine, a container of it included.

    Our end alone does not tell: a tunnel to production ends on 127.0.0.1 too. So the server's own
    view must agree: the same address on both sides, or, behind a published container port, the
    first address of its own private network (the bridge) as the client.
    """
    if peer is None:
        return True
    if not ip_address(peer).is_loopback or client is None or server is None:
        return False
    ours, its = ip_address(client), ip_address(server)
    if ours == its or (ours.is_loopback and its.is_loopback):
        return True
    bridge = ip_network(f"{server}/16", strict=False)
    return its.is_private and ours in bridge and str(ours).endswith(".1")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
