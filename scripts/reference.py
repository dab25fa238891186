"""What docs/reference says of tasks, settings, exit codes and JSON, as the code has it.

Its pages call these functions, and cog puts their text there:
`cog -r -I scripts docs/reference/*.md`.
"""

from __future__ import annotations

import inspect
import re
import signal
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NotRequired,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from backset import errors
from backset.report import shape
from backset.settings.keys import KEYS, PREFIX, Key
from backset.tasks import namespace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from invoke.parser.argument import Argument
    from invoke.tasks import Task


_WORDS = {str: "text", int: "integer", float: "number", bool: "boolean", type(None): "null"}


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
    flag = f"--{str(argument.name).rstrip('_').replace('_', '-')}"  # `from_` is --from
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
            (
                f"`{128 + signal.SIGPIPE}`",
                "Nobody reads any more, as after `… | head -1`.",
            ),
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


def json_report() -> str:
    """Return the objects of the JSON report, the whole one first: each key and what it is."""
    defined = [each for each in vars(shape).values() if is_typeddict(each)]
    named = [each for each in defined if not each.__name__.startswith("_")]
    ordered = [shape.Content, *(each for each in named if each is not shape.Content)]
    return "\n\n".join(map(_object, ordered))


def _object(kind: type) -> str:
    hints = get_type_hints(kind, include_extras=True)
    rows = [_entry(name, hint) for name, hint in hints.items()]
    table = _table(("key", "type", "what it is"), rows)
    return "\n\n".join((f"## {kind.__name__}", inspect.getdoc(kind) or "", table))


def _entry(name: str, hint: Any) -> tuple[str, str, str]:  # noqa: ANN401  (what typing gives)
    sometimes = get_origin(hint) is NotRequired
    annotated = get_args(hint)[0] if sometimes else hint
    kind, what = get_args(annotated)
    key = f"`{name}`" + (" (sometimes)" if sometimes else "")
    return key, _type(kind), what


def _type(kind: Any) -> str:  # noqa: ANN401  (what typing gives)
    """Return a type in the words of JSON; one of ours as a link to its section."""
    if is_typeddict(kind):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    origin, inner = get_origin(kind), get_args(kind)
    if origin is list:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"object: {_type(inner[1])} by name"
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in inner)
    if inner:  # a union
        return " or ".join(_type(each) for each in inner)
    return _WORDS[kind]
