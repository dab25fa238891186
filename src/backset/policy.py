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
    direct: whether the server sees our end of the connection; a tunnel shows it another port.
    foreign: databases, not empty, that bear our derived names though backset did not make them.
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
    direct: bool = True
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
    if not consent and not is_local(facts):
        where = facts.server or "behind a forwarded socket"
        remedy = "if this is the right one, add --yes"
        reasons.append((f"{facts.database} may be on another machine ({where})", remedy))
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


def is_local(facts: Circumstances) -> bool:
    """Tell whether the server is on this machine, a container of it included.

    Our end alone does not tell: a tunnel to production ends on 127.0.0.1 too. So the server's own
    view must agree: it sees our very socket, or, behind the published port of a container, the
    first address of its own private network (the bridge). A tunnel to such a container on another
    machine looks the same.
    """
    if facts.peer is None or facts.client is None or facts.server is None:
        return facts.peer is None and facts.client is None
    if not ip_address(facts.peer).is_loopback:
        return False
    ours, its = ip_address(facts.client), ip_address(facts.server)
    if facts.direct:
        return ours == its or (ours.is_loopback and its.is_loopback)
    bridge = ip_network(f"{facts.server}/16", strict=False)
    return its.is_private and not its.is_loopback and ours in bridge and str(ours).endswith(".1")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
