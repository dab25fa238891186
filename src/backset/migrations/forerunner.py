"""A Python command of the project, started ahead of its time and told when that has come."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from backset.processes import process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PROGRAM = Path(__file__).parents[1] / "forerunner"
_PYTHONS = frozenset({"python", "python3"})


class Forerunner:
    """The interpreter of a command: it imports the command's libraries, and runs nothing yet.

    argv: the command, with the path of its interpreter. It ends with the block, or with us.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> None:
        self._command: tuple[Sequence[str], Mapping[str, str]] | None = (argv, env)
        self._on_line: Callable[[str], None] = lambda _line: None
        self._link, theirs = socket.socketpair()
        python, *words = argv
        with theirs:
            self._child = process.Child(
                [python, str(_PROGRAM), str(theirs.fileno()), *words],
                env=env,
                cwd=cwd,
                on_line=self._hear,
                pass_fds=[theirs.fileno()],
                tethered=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._link.close()
        self._child.end()

    def _hear(self, line: str) -> None:
        self._on_line(line)

    def waits_for(self, argv: Sequence[str], env: Mapping[str, str]) -> bool:
        """Tell whether it is this command, and can still become it."""
        return self._command == (argv, env) and not self._child.has_ended(0)

    def go(self, on_line: Callable[[str], None]) -> process.Child:
        """Let the command run, once, and return it."""
        self._command = None
        self._on_line = on_line
        with self._link, suppress(ConnectionError):  # it has died: its exit status says so
            self._link.sendall(b"!")
        return self._child


def missing_script(command: Sequence[str], root: Path) -> str:
    """Return the script that a plain Python is to run, and that is not there; else nothing."""
    program, script, *_ = [*command, "", ""]
    is_script = program in _PYTHONS and script and not script.startswith("-")
    return script if is_script and not (root / script).exists() else ""


def can_run(command: Sequence[str], root: Path) -> bool:
    """Tell whether a command is a script or a module of the project for a plain Python."""
    program, *words = [*command, ""]
    if program not in _PYTHONS:
        return False
    if words[0] == "-m":
        return bool(words[1])
    return not words[0].startswith("-") and (root / words[0]).is_file()
