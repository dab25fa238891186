"""Gathers the evidence of where a session's server is: both ends of it, and this machine's kernel.

Nothing here reads a URL or a setting: only the open connection counts.
"""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import suppress
from ipaddress import ip_address, ip_network
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.connections.locality import Evidence

if TYPE_CHECKING:
    import psycopg

    from backset.connections.locality import End, Locality

_PROC = Path("/proc")
_FIRST_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of the kernel: it shows every process
_STARTED_WITHIN_S = 0.5  # two readings of one moment; measured: 0.006
_LOCKED_WITHIN_S = 5.0  # whole seconds, and the file is written a moment after the start


def evidence(session: psycopg.Connection[Any]) -> Evidence:
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
    if locality.verdict != "local" or locality.address is None or _is_own(locality.address):
        return False
    network = ip_network(f"{locality.address}/16", strict=False)
    return network.is_private and ip_address(client) in network


def _is_own(address: str) -> bool:
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
