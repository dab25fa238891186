"""How this run is called where others see it: in pg_stat_activity, errors and the server's log."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from pathlib import Path

_COMMANDS = frozenset({"invoke", "inv", "backset"})
_HOST_CHARS = 24  # the server cuts a name at 63 bytes, and its end must stay

_command = ["invoke"]
_began = time.monotonic()


def called(command: str) -> None:
    """Note by which command this run was started."""
    _command[:] = [command]


def spoken(text: str) -> str:
    """Return a text with the commands in it, `invoke undo`, as they are to be typed here."""
    return (
        text if _command == ["invoke"] else re.sub(r"\binvoke (?=[a-z-])", f"{_command[0]} ", text)
    )


def is_command() -> bool:
    """Tell whether this process is `invoke` or `backset` itself, and ends when its task does."""
    main = sys.modules["__main__"]
    file = Path(getattr(main, "__file__", None) or "")
    return (file.parent.name if file.stem == "__main__" else file.stem) in _COMMANDS


def age_s() -> float:
    """Return for how many seconds this run has been going on."""
    return time.monotonic() - _began


def application_name(purpose: str) -> str:
    """Return the name of a session of this run: `backset reset-db on laptop, pid 4711`."""
    return f"backset {purpose}{run_mark()}"


def run_mark() -> str:
    """Return how the name of every session of this run ends: ` on laptop, pid 4711`."""
    return f" on {_host()}, pid {os.getpid()}"


def has_died(name: str) -> bool:
    """Tell whether `name` is that of a run on this machine whose process has ended."""
    _, here, pid = name.rpartition(f" on {_host()}, pid ")
    return bool(here) and pid.isdecimal() and not is_alive(int(pid))


def is_alive(pid: int) -> bool:
    """Tell whether a process of this machine has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _host() -> str:
    return socket.gethostname().encode("ascii", "replace").decode()[:_HOST_CHARS]
