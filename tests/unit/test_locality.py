"""Where a server is: what both ends and the kernel say in, verdict and reason out."""

from __future__ import annotations

from typing import Any

import pytest

from backset.connections.locality import End, Evidence, judge

SOCKET = "/tmp/.s.PGSQL.5432"
OURS, PEER = ("127.0.0.1", 40001), ("127.0.0.1", 5432)
GATEWAY, CONTAINER = ("172.17.0.1", 50002), ("172.17.0.2", 5432)


def tcp(ours: End, peer: End, client: End | None, server: End | None) -> dict[str, End | None]:
    """Return the ends of a TCP connection: as we see them, and as the server does."""
    return {"ours": ours, "peer": peer, "client": client, "server": server}


UNIX = {"path": SOCKET}
DIRECT = tcp(OURS, PEER, OURS, PEER)
TUNNEL = tcp(OURS, PEER, ("127.0.0.1", 40002), PEER)
PUBLISHED = tcp(OURS, PEER, GATEWAY, CONTAINER)


@pytest.mark.parametrize(
    "ends",
    [
        UNIX,
        DIRECT,
        TUNNEL,
        PUBLISHED,
        tcp(OURS, PEER, ("10.0.2.100", 4), ("10.0.2.100", 5432)),  # podman without root
        {**UNIX, "client": OURS, "server": PEER},  # a pooler of this machine
    ],
)
def test_a_server_that_our_kernel_runs_is_local(ends: dict[str, Any]) -> None:
    """However the connection gets there: what the kernel itself runs cannot be elsewhere."""
    assert judge(Evidence(runs_here=True, **ends)).verdict == "local"


@pytest.mark.parametrize(
    "ends",
    [
        {**UNIX, "lock_agrees": True},
        DIRECT,
        tcp(("::1", 4), ("::1", 5432), ("::1", 4), ("::1", 5432)),
        tcp(("192.168.1.5", 4), ("192.168.1.5", 5432), ("192.168.1.5", 4), ("192.168.1.5", 5432)),
        tcp(("::ffff:127.0.0.1", 4), ("::ffff:127.0.0.1", 5432), ("127.0.0.1", 4), PEER),
        tcp(("fe80::1%eth0", 4), ("fe80::1%eth0", 5432), ("fe80::1", 4), ("fe80::1", 5432)),
        tcp(OURS, ("127.0.0.2", 5432), OURS, ("127.0.0.2", 5432)),
    ],
)
def test_where_no_process_can_be_seen_both_ends_must_agree(ends: dict[str, Any]) -> None:
    """On macOS and in a container: our very socket, or the server's own lock file."""
    assert judge(Evidence(runs_here=None, **ends)).verdict == "local"


@pytest.mark.parametrize(
    ("runs_here", "ends"),
    [
        (None, UNIX),  # a socket that is mounted from another container
        (None, PUBLISHED),  # Docker Desktop: the container is in a machine of its own
        (False, PUBLISHED),  # likewise on Linux; or a tunnel to such a container elsewhere
    ],
)
def test_what_cannot_be_told_is_doubtful(*, runs_here: bool | None, ends: dict[str, Any]) -> None:
    """It is neither waved through nor called remote."""
    assert judge(Evidence(runs_here=runs_here, **ends)).verdict == "doubtful"


@pytest.mark.parametrize(
    ("runs_here", "ends", "where"),
    [
        (False, UNIX, SOCKET),  # ssh -L with a socket at both ends
        (None, {**UNIX, "lock_agrees": False}, SOCKET),  # the same, seen from a container
        (None, {**UNIX, "client": OURS, "server": PEER}, "127.0.0.1:5432"),  # Cloud SQL's proxy
        (None, {**UNIX, "lock_agrees": True, "client": OURS, "server": PEER}, "127.0.0.1:5432"),
        (None, TUNNEL, "127.0.0.1:5432"),
        (False, DIRECT, "127.0.0.1:5432"),  # a tunnel that happened on the same port
        (None, tcp(OURS, PEER, None, None), "behind a Unix socket"),  # ssh -L port:/its/socket
        (None, tcp(OURS, PEER, ("10.2.0.7", 4), ("10.2.0.9", 5432)), "10.2.0.9:5432"),
        (None, tcp(OURS, PEER, ("8.8.8.1", 4), ("8.8.8.8", 5432)), "8.8.8.8:5432"),
        (None, tcp(OURS, PEER, CONTAINER, CONTAINER), "172.17.0.2:5432"),
        (None, tcp(GATEWAY, CONTAINER, GATEWAY, CONTAINER), "172.17.0.2:5432"),
        (None, tcp(("fd00::5", 4), ("fd00::9", 1), ("fd00::5", 4), ("fd00::9", 1)), "[fd00::9]:1"),
    ],
)
def test_everything_else_is_remote(
    *, runs_here: bool | None, ends: dict[str, Any], where: str
) -> None:
    """The URL's text plays no part, and a tunnel to production does not look local."""
    found = judge(Evidence(runs_here=runs_here, **ends))
    assert (found.verdict, found.where) == ("remote", where)
