"""How this run is called where others see it: in pg_stat_activity, errors and the server's log."""

from __future__ import annotations

import os
import socket

_HOST_CHARS = 24  # the server cuts a name at 63 bytes, and its end must stay


def application_name(purpose: str) -> str:
    """Return the name of a session of this run: `backset reset-db on laptop, pid 4711`."""
    return f"backset {purpose}{run_mark()}"


def run_mark() -> str:
    """Return how the name of every session of this run ends: ` on laptop, pid 4711`."""
    host = socket.gethostname().encode("ascii", "replace").decode()
    return f" on {host[:_HOST_CHARS]}, pid {os.getpid()}"
