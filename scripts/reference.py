"""What docs/reference says of the tasks, the settings and the exit codes, as the code has it.

Its pages call these functions, and cog puts their text there: `cog -r docs/reference/*.md`.
"""

from __future__ import annotations

import inspect
import re
import signal
from typing import TYPE_CHECKING, Any

from backset import errors
from backset.configuration.keys import KEYS, PREFIX, Key
from backset.tasks import namespace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from invoke.parser.argument import Argument
    from invoke.tasks import Task


def tasks() -> str:
    """Return every task, in alphabetical order: what it does, and its flags."""
    return "\n\n".join(_task(name, namespace[name]) for name in sorted(namespace.task_names))


def _task(name: str, task: Task[Any]) -> str:
    arguments = task.get_arguments()
    rows = sorted((f"`{_spelled(each)}`", each.help or "") for each in arguments)
    table = _table(("flag", "what it does"), rows) if rows else ""
    return "\n\n".join(filter(None, (f"## {name}", inspect.getdoc(task), table)))


def _spelled(argument: Argument) -> str:
    if argument.positional:
        return str(argument.name).upper()
    flag = f"--{str(argument.name).replace('_', '-')}"
    return flag if argument.kind is bool else f"{flag}=…"


def settings() -> str:
    """Return the keys of [tool.backset]: variable, default, and what each is."""
    head = ("key", "variable", "if not set", "what it is")
    return _table(head, [_key(name, key) for name, key in KEYS.items()])


def _key(name: str, key: Key) -> tuple[str, ...]:
    variable = f"`{PREFIX}{name.upper()}`" if key.variable else ""
    return f"`{name}`", variable, key.unset or f"`{key.default}`", key.what


def exit_codes() -> str:
    """Return what a task's exit code says."""
    family = [each for each in _below(errors.BacksetError) if "exit_code" in vars(each)]
    rows = [(f"`{each.exit_code}`", _said(each)) for each in family]
    stopped = sorted(128 + each for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))
    codes = " ".join(f"`{each}`" for each in stopped)
    return _table(
        ("code", "meaning"),
        [
            ("`0`", "Done."),
            ("`1`", "A bug, with its traceback; or a task or flag that does not exist."),
            *rows,
            (codes, f"HUP, INT, TERM. {_said(errors.Interrupted)}"),
        ],
    )


def _below(family: type[errors.BacksetError]) -> Iterable[type[errors.BacksetError]]:
    for each in family.__subclasses__():
        yield each
        yield from _below(each)


def _said(kind: type) -> str:
    """Return what a class says of itself, without what it says of its fields."""
    paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
    prose = [each for each in paragraphs if not re.match(r"\w+: ", each)]
    return " ".join(" ".join(prose).split())


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(each) for each in row)} |" for row in cells)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
