"""Is the server of an open session on this machine? Evidence of both its ends, and the verdict.

Nothing here reads a URL or a setting: only the open connection counts.
"""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import psycopg


End: TypeAlias = tuple[str, int]  # address and port
_Address: TypeAlias = IPv4Address | IPv6Address


_PROC = Path("/proc")
_FIRST_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of the kernel: it shows every process
_STARTED_WITHIN_S = 0.5  # two readings of one moment; measured: 0.006
_LOCKED_WITHIN_S = 5.0  # whole seconds, and the file is written a moment after the start


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


def gather(session: psycopg.Connection[Any]) -> Evidence:
    """Return what this session's two ends say, and what our kernel knows of its server."""
    client, client_port, server, server_port, pid, started, postmaster_started = _about(session)
    ours, peer = _ends(session)
    path = "" if peer else f"{session.info.host}/.s.PGSQL.{session.info.port}"
    return Evidence(
        runs_here=_runs_here(pid, started),
        ours=ours,
        peer=peer,
        client=(client, client_port) if client else None,
        server=(server, server_port) if server else None,
        path=path,
        lock_agrees=_lock_agrees(path, postmaster_started) if path else None,
    )


def _about(session: psycopg.Connection[Any]) -> tuple[Any, ...]:
    """Return what the server says of a session; a role that was SET may not see its own login's."""
    with session.transaction():
        session.execute("SET LOCAL ROLE NONE")
        row = session.execute(_SERVER).fetchone()
    assert row is not None  # noqa: S101  (everyone sees the row of their own session)
    return tuple(row)


def is_neighbour(locality: Locality, client: str) -> bool:
    """Tell whether a client is beside the server in a container's network on this machine.

    Such a network is the server's own where the server is proved to be here and yet has an address
    that this machine has not.
    """
    if locality.verdict != "local" or locality.address is None or _is_ours(locality.address):
        return False
    network = ip_network(f"{locality.address}/16", strict=False)
    return network.is_private and ip_address(client) in network


def _is_ours(address: str) -> bool:
    """Tell whether this machine has an address: nobody can listen on another one's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with suppress(OSError), socket.socket(family) as probe:
        probe.bind((address, 0))
        return True
    return False


def _ends(session: psycopg.Connection[Any]) -> tuple[End | None, End | None]:
    """Return our end and the other of our socket; None for both on a Unix socket."""
    with socket.socket(fileno=os.dup(session.fileno())) as ours:
        if ours.family == socket.AF_UNIX:
            return None, None
        return ours.getsockname()[:2], ours.getpeername()[:2]


def _runs_here(pid: int, started: float) -> bool | None:
    """Tell whether our kernel runs the process that the server says it serves us with.

    Its number and the moment of its start must both agree, so that the process of another machine
    finds no double here. It is found inside a container too, and behind any proxy or NAT.
    """
    processes = chain([_PROC / str(pid)], _PROC.glob("[0-9]*"))
    if any(_is_backend(process, pid, started) for process in processes):
        return True
    return False if _sees_every_process() else None


def _is_backend(process: Path, pid: int, started: float) -> bool:
    with suppress(OSError):  # it has ended, or is hidden from us
        status = (process / "status").read_text(errors="replace")
        name = status.partition("\n")[0]
        if ("postgres" in name or "postmaster" in name) and _inner_pid(status) == pid:
            fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
            return abs(_moment(int(fields[19])) - started) < _STARTED_WITHIN_S
    return False


def _inner_pid(status: str) -> int | None:
    """Return a process's number in its own namespace, as a container's server names it."""
    match = re.search(r"^NSpid:.*?(\d+)$", status, re.MULTILINE)
    return int(match[1]) if match else None


def _moment(ticks: int) -> float:
    """Return what the kernel counts from its boot as seconds since 1970."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + ticks / os.sysconf("SC_CLK_TCK")


def _sees_every_process() -> bool:
    """Tell whether a process that we do not find is not on this machine.

    In a container we see our own only; and an administrator can hide those of others (hidepid).
    """
    with suppress(OSError):
        (_PROC / "1" / "status").read_bytes()
        return (_PROC / "self" / "ns" / "pid").readlink() == Path(_FIRST_NAMESPACE)
    return False


def _lock_agrees(path: str, postmaster_started: float) -> bool | None:
    """Tell whether the lock file beside a socket has the moment at which this server started.

    A server keeps one there (pid, folder, start in seconds since 1970, port); a forwarder does not.
    """
    try:
        started = int(Path(f"{path}.lock").read_text(errors="replace").splitlines()[2])
    except FileNotFoundError:
        return False
    except (OSError, ValueError, IndexError):
        return None
    return abs(started - postmaster_started) < _LOCKED_WITHIN_S


_SERVER = """
SELECT host(inet_client_addr()), inet_client_port(), host(inet_server_addr()), inet_server_port(),
       pid, extract(epoch FROM backend_start)::float8,
       extract(epoch FROM pg_postmaster_start_time())::float8
FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""
