"""Which TCP ports the processes of one session of this machine have, where the kernel shows it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_SESSION_FIELD = 3  # of /proc/PID/stat, after the name in brackets: state ppid pgrp session


def ports_of(session_id: int) -> set[int]:
    """Return the local TCP ports of a session's processes; none where there is no /proc."""
    members = [path for path in _PROC.glob("[0-9]*") if _session_of(path) == session_id]
    sockets = {inode for member in members for inode in _sockets_of(member)}
    return {port for member in members[:1] for port, inode in _tcp(member) if inode in sockets}


def _session_of(process: Path) -> int | None:
    with suppress(OSError, ValueError, IndexError):  # it has ended
        text = (process / "stat").read_text(errors="replace")
        return int(text.rpartition(")")[2].split()[_SESSION_FIELD])
    return None


def _sockets_of(process: Path) -> list[str]:
    found = []
    with suppress(OSError):  # it has ended, or is another account's
        for each in (process / "fd").iterdir():
            with suppress(OSError):
                found.append(str(each.readlink()))
    return [name[len("socket:[") : -1] for name in found if name.startswith("socket:[")]


def _tcp(process: Path) -> list[tuple[int, str]]:
    """Return (local port, inode) of every TCP socket in the process's network."""
    found = []
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            lines = (process / "net" / name).read_text().splitlines()[1:]
            rows = [line.split() for line in lines]
            found += [(int(row[1].rpartition(":")[2], 16), row[9]) for row in rows]
    return found
