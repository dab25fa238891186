"""Which runs there were: a line in `backups/.runs.jsonl` as each begins, and one as it ends.

The file is of bounded size: the oldest lines go. A run that was killed has no second line.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from backset.described import described, key
from backset.errors import BacksetError, Interrupted
from backset.process import files, identity, streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

NAME = ".runs.jsonl"
_MOST_BYTES = 512 * 1024  # about a thousand runs
_numbers = count()  # of the runs of this process
_UNKNOWN = "at work, or killed"


@described(kw_only=True)
class NotedRun:
    """A run of a task that changes something, in `runs`; the oldest first."""

    began: str = key("when it began: ISO 8601, UTC")
    task: str = key("the task, as it is typed")
    database: str = key("the name of its target")
    url: str = key("the URL of that without its password")
    who: str = key("the account and the machine")
    result: str = key("`done`, `failed`, `at work`, `killed`, or `at work, or killed`: elsewhere")
    seconds: float | None = key("how long it took; null where its end is not known")
    exit_code: int | None = key("that of the program; beside `seconds`")
    error: str = key("the first line of what ended it; empty where nothing did")
    backup: str = key("the backup that it took; empty where it took none")
    digest: str = key("of the facts that its consent was about; empty where none was needed")


@contextmanager
def noted(
    folder: Path, task: str, about: Mapping[str, str], came_to: Callable[[], Mapping[str, str]]
) -> Iterator[None]:
    """Note the run that the block is. Nothing that goes wrong with that ends a run.

    folder: of backups. about, came_to: the fields of NotedRun that are known before, and after.
    """
    began, run = datetime.now(UTC), f"{identity.token()}-{next(_numbers)}"
    first = {"began": began.isoformat(timespec="seconds"), "task": task, "who": _who(), **about}
    session = identity.application_name(task.replace(" ", "-"))  # one word, as is_of_here() has it
    _add(folder, {"run": run, **first, "session": session})
    code, error = 0, ""
    try:
        yield
    except (BacksetError, Interrupted) as problem:
        code, error = problem.exit_code, problem.lines()[0]
        raise
    except BaseException as problem:
        code, error = 1, type(problem).__name__
        raise
    finally:
        seconds = round((datetime.now(UTC) - began).total_seconds(), 1)
        last = {"seconds": seconds, "exit_code": code, "error": streams.concealed(error)}
        _add(folder, {"run": run, **last, **came_to()})


def read(folder: Path) -> list[NotedRun]:
    """Return the runs that are noted in a folder of backups, the oldest first."""
    found: dict[str, dict[str, Any]] = {}
    for line in _lines(folder / NAME):
        found.setdefault(str(line.pop("run", "")), {}).update(line)
    told = [_told(each) for each in found.values() if _is_whole(each)]
    return sorted(told, key=lambda each: each.began)


def _is_whole(noted: Mapping[str, Any]) -> bool:
    """Tell whether lines say what a run has; a person may have changed them."""
    with suppress(TypeError, ValueError):
        datetime.fromisoformat(noted.get("began"))  # type: ignore[arg-type]
        return all(isinstance(noted.get(each, 0), int | float) for each in ("seconds", "exit_code"))
    return False


def _told(noted: Mapping[str, Any]) -> NotedRun:
    code = noted.get("exit_code")
    texts = ("began", "task", "database", "url", "who", "error", "backup", "digest")
    return NotedRun(
        **{each: str(noted.get(each, "")) for each in texts},
        result=_unended(str(noted.get("session", ""))) if code is None else _result(code),
        seconds=noted.get("seconds"),
        exit_code=code,
    )


def _result(code: int) -> str:
    return "failed" if code else "done"


def _unended(session: str) -> str:
    """Return what is known of a run whose end is not noted, by the name of its sessions."""
    if identity.has_died(session):
        return "killed"
    return "at work" if identity.is_of_here(session) else _UNKNOWN


def _who() -> str:
    with suppress(OSError, KeyError):  # an account without a name
        return f"{getpass.getuser()}@{socket.gethostname()}"
    return f"{os.geteuid()}@{socket.gethostname()}"


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return what can be read; a crash may have torn a line."""
    with suppress(OSError):
        texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [each for each in map(_parsed, texts) if each]
    return []


def _parsed(text: str) -> dict[str, Any]:
    with suppress(ValueError):
        found = json.loads(text)
        return found if isinstance(found, dict) else {}
    return {}


def _add(folder: Path, line: Mapping[str, Any]) -> None:
    """Add a line under a lock, and let the older half go where there are too many."""
    with suppress(OSError):
        files.make(folder)
        files.hide(folder)
        descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            content = json.dumps(line).encode() + b"\n"
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a full disk has torn it
                content = b"\n" + content
            if size > _MOST_BYTES:
                file.seek(size - _MOST_BYTES // 2)
                kept = file.read().partition(b"\n")[2]
                file.truncate(0)
                content = kept + content
            file.write(content)
