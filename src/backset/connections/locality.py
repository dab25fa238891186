"""Pure: is the server of an open session on this machine? Evidence in, verdict with reason out."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal, TypeAlias

End: TypeAlias = tuple[str, int]  # address and port
_Address: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What both ends of a session say of it, and what this machine's kernel knows.

    ours, peer: the ends of our socket; None on a Unix socket, whose file is `path`.
    client, server: the same two as the server sees them; None on a Unix socket.
    runs_here: whether this kernel runs the very process that serves us; None: it cannot be seen.
    lock_agrees: whether the lock file beside `path` is that of this server; None: unreadable.
    """

    runs_here: bool | None
    ours: End | None = None
    peer: End | None = None
    client: End | None = None
    server: End | None = None
    path: str = ""
    lock_agrees: bool | None = None


@dataclass(frozen=True, slots=True)
class Locality:
    """Whether a server is on this machine, where it says it is, and why we think so.

    doubtful: it looks like a server of this machine, but that cannot be proved.
    address: the server's own, as it says; None on a Unix socket.
    """

    verdict: Literal["local", "doubtful", "remote"]
    where: str
    why: str
    address: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


def judge(evidence: Evidence) -> Locality:
    """Return where the server is.

    Our own end tells little: a tunnel to production ends on 127.0.0.1, or on a Unix socket, too.
    What no tunnel can imitate is that our kernel runs the very process that the server names, or
    that the server's own lock file lies beside the socket. Where processes cannot be seen, the
    server must at least see our very socket.
    """
    if evidence.runs_here:
        address = evidence.server[0] if evidence.server else None
        why = "this machine runs the process that serves us"
        return Locality("local", _where(evidence), why, address)
    if evidence.lock_agrees and not _over_tcp(evidence):
        why = "the lock file beside the socket is that of the server"
        return Locality("local", _where(evidence), why)
    if evidence.runs_here is None and _is_direct(evidence) and _is_own(evidence):
        return Locality("local", _where(evidence), "it sees our very socket, on this machine")
    return _not_proved(evidence)


def _not_proved(evidence: Evidence) -> Locality:
    where = _where(evidence)
    if _looks_published(evidence):
        why = "it looks like a container's published port, but so does a tunnel to one elsewhere"
        return Locality("doubtful", where, why)
    if evidence.runs_here is None and evidence.lock_agrees is None and not _over_tcp(evidence):
        return Locality("doubtful", where, "who listens on the socket cannot be seen")
    if _is_direct(evidence) and not _is_own(evidence):
        return Locality("remote", where, "the address is not one of this machine's")
    return Locality("remote", where, "a tunnel or a proxy stands between")


def _where(evidence: Evidence) -> str:
    if evidence.server is not None:
        address, port = evidence.server
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return evidence.path or "behind a Unix socket"


def _over_tcp(evidence: Evidence) -> bool:
    """Tell whether either end is a TCP socket."""
    return evidence.peer is not None or evidence.client is not None


def _is_direct(evidence: Evidence) -> bool:
    """Tell whether the server sees our very socket: both ends, with their ports."""
    ours, peer, client, server = evidence.ours, evidence.peer, evidence.client, evidence.server
    if ours is None or peer is None or client is None or server is None:
        return False
    return _same(ours, client) and _same(peer, server)


def _is_own(evidence: Evidence) -> bool:
    """Tell whether we are connected to an address of this machine.

    The kernel gives a connection to one of its own addresses that address as its source.
    """
    if evidence.ours is None or evidence.peer is None:
        return False
    peer = _address(evidence.peer[0])
    return peer.is_loopback or _address(evidence.ours[0]) == peer


def _looks_published(evidence: Evidence) -> bool:
    """Tell whether the server sees the gateway of its own private network, and we our loopback."""
    if evidence.peer is None or evidence.client is None or evidence.server is None:
        return False
    client, server = _address(evidence.client[0]), _address(evidence.server[0])
    network = ip_network(f"{server}/16", strict=False)
    is_gateway = client in network and str(client).endswith(".1") and client != server
    is_bridge = server.is_private and not server.is_loopback
    return _address(evidence.peer[0]).is_loopback and is_bridge and is_gateway


def _same(one: End, other: End) -> bool:
    return _address(one[0]) == _address(other[0]) and one[1] == other[1]


def _address(text: str) -> _Address:
    """Return an address without its zone, and as IPv4 where IPv6 only wraps that."""
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
