"""How this run is called where others see it: in pg_stat_activity, errors and the server's log."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

_COMMANDS = frozenset({"invoke", "inv", "backset"})
_NAME_BYTES = 63  # where the server cuts a name, and its end must stay
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PIDS = Path("/proc/self/ns/pid")
_NAME = re.compile(
    r"backset (?P<purpose>\S+) (?P<how>on|for) .*, pid (?P<pid>\d+) #"
    r"(?P<token>(?P<machine>[0-9a-f]{6})[0-9a-f]{8})(?: - .*)?"
)
# Tasks that take no lock and change nothing, and what the server does after we have hung up.
_WITHOUT_LOCK = frozenset({"plan", "verify", "status", "protect", "unprotect", "discard"})

_command = ["invoke", ""]
_began = time.monotonic()


def called(command: str, collection: str = "") -> None:
    """Note by which command this run was started, and in which collection its tasks are: `db.`."""
    _command[:] = [command, collection]


def spoken(text: str) -> str:
    """Return a text with the commands in it, `invoke undo`, as they are to be typed here."""
    if _command == ["invoke", ""]:
        return text
    command, collection = _command
    text = re.sub(r"\binvoke (?=[a-z])", f"{command} {collection}", text)
    return re.sub(r"\binvoke (?=-)", f"{command} ", text)


def is_called_by_invoke() -> bool:
    """Tell whether this process is `invoke` itself, and its words are our tasks'."""
    return is_command() and _command[0] == "invoke"


def is_command() -> bool:
    """Tell whether this process is `invoke` or `backset` itself, and ends when its task does."""
    main = sys.modules["__main__"]
    file = Path(getattr(main, "__file__", None) or "")
    return (file.parent.name if file.stem == "__main__" else file.stem) in _COMMANDS


def age_s() -> float:
    """Return for how many seconds this run has been going on."""
    return time.monotonic() - _began


def application_name(purpose: str, *, is_child: bool = False) -> str:
    """Return the name of a session of this run: `backset reset-db on laptop, pid 4711 #3f9a…`.

    is_child: whether a program that the run has started has it: it can outlive the run.
    """
    begin, end = f"backset {purpose} {'for' if is_child else 'on'} ", f", pid {os.getpid()}"
    room = _NAME_BYTES - len(begin.encode()) - len(end) - len(run_mark())
    return f"{begin}{_host()[:room]}{end}{run_mark()}"


def run_mark() -> str:
    """Return what the name of every session of this run has in it, and of no other: ` #3f9a…`.

    A pooler may have put the address of its client behind that.
    """
    return f" #{token()}"


@cache
def token() -> str:
    """Return what no other run has: neither a host's name nor a pid is that, in containers.

    It begins with what the processes have in common that can see each other.
    """
    return _machine() + secrets.token_hex(4)


def without_token(name: str) -> str:
    """Return the name of a session as people read it."""
    found = _NAME.fullmatch(name)
    return name.replace(f" #{found['token']}", "") if found else name


def works(name: str) -> str:
    """Return the token of the run whose own session has that name, where it may be at work.

    Empty where it only looks, where its process is known to have ended, and for the session of a
    program that a run has started.
    """
    found = _NAME.fullmatch(name)
    if found is None or found["how"] != "on" or found["purpose"] in _WITHOUT_LOCK:
        return ""
    return "" if has_died(name) else found["token"]


def has_died(name: str) -> bool:
    """Tell whether `name` is that of a run whose process we could see, and which has ended."""
    found = _NAME.fullmatch(name)
    return is_of_here(name) and found is not None and not is_alive(int(found["pid"]))


def is_of_here(name: str) -> bool:
    """Tell whether `name` is that of a run whose process we could see, if it has not ended."""
    found = _NAME.fullmatch(name)
    return found is not None and found["machine"] == _machine()


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
    return socket.gethostname().encode("ascii", "replace").decode()


@cache
def _machine() -> str:
    """Return a digest of the boot of this machine, and of the container whose pids we see."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # no Linux: there is no container either
        parts += [_BOOT.read_text(), str(_PIDS.readlink())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:6]
