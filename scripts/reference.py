"""What docs/reference says of tasks, settings, exit codes and JSON, as the code has it.

Its pages call these functions, and cog puts their text there:
`cog -r -I scripts docs/reference/*.md`.
"""

from __future__ import annotations

import inspect
import re
import signal
from itertools import starmap
from typing import TYPE_CHECKING, Any

import schemas

from backset import errors
from backset.settings.settings import KEYS, PREFIX, Key
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
    whole = schemas.report()
    return "\n\n".join(starmap(_object, {"Content": whole, **whole["$defs"]}.items()))


def _object(name: str, schema: dict[str, Any]) -> str:
    always = schema.get("required", ())
    rows = [
        (f"`{key}`" + ("" if key in always else " (sometimes)"), _type(each), each["description"])
        for key, each in schema["properties"].items()
    ]
    table = _table(("key", "type", "what it is"), rows)
    return f"## {name}\n\n{schema['description']}\n\n{table}"


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a value in words; one of ours as a link to its section."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if schema["type"] == "object":
        return f"object: {_type(schema['additionalProperties'])} by name"
    return "text" if schema["type"] == "string" else str(schema["type"])
