"""JSON Schemas of what people and programs write and read: `python scripts/schemas.py`.

They are derived from what the code itself has: the keys of [tool.backset] with their checks, and
what the classes of the JSON report say of their keys (`backset.described`). The files are part of
the package, in `src/backset/schemas/`.
"""

from __future__ import annotations

import collections.abc
import inspect
import json
import pkgutil
import re
import typing
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from functools import cache
from importlib import import_module
from itertools import chain
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

import backset
from backset import described
from backset.backups.manifest import RemoteDump  # told as its address
from backset.report.report_json import Content, ToldEvent, ToldMember
from backset.settings import fleets, values
from backset.settings.settings import KEYS, Key

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[1] / "src/backset/schemas"
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TEXT = {"type": "string", "minLength": 1}
_NAME = {**_TEXT, "maxLength": 63}
_WORDS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_FILLED = {"type": "object", "additionalProperties": _TEXT}
_NAMES = {
    str: "string",
    Path: "string",
    datetime: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
# The names of those classes in reports that have another one in the code.
_TITLES = {
    "Backend": "Session",
    "Look": "ServerLog",
    "State": "Repair",
    "ToldChain": "Chain",
    "ToldError": "Problem",
    "ToldStep": "Step",
    "Trace": "Orphan",
}
_TYPES = {**vars(typing), **vars(collections.abc), "Path": Path}  # which annotations name
# What each check takes; that the two agree is held by a test.
CHECKED: dict[Any, dict[str, Any]] = {
    values.name: _NAME,
    values.text: _TEXT,
    values.place: _TEXT,
    values.recipients: {**_WORDS, "items": {**_TEXT, "pattern": "^(age1|ssh-ed25519 |ssh-rsa )"}},
    values.flag: {"type": "boolean"},
    values.argv: _WORDS,
    values.arguments: _WORDS,
    values.names: _WORDS,
    values.table_patterns: _WORDS,
    values.patterns: {"type": "array", "items": {**_TEXT, "pattern": "^[^/~]"}},
    values.noise: {"type": "array", "items": _TEXT},
    values.heads: {"anyOf": [{"const": "all"}, _WORDS]},
    values.tables: {"anyOf": [_TEXT, {**_WORDS, "items": _TEXT}]},
    values.templates: {"type": "object", "additionalProperties": {"type": "string"}},
    values.columns: {"type": "object", "additionalProperties": _WORDS},
    values.counts: {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
    values.renames: _FILLED,
    values.fillings: _FILLED,
    fleets.url: _TEXT,
    fleets.names: {**_WORDS, "items": _NAME},
    fleets.patterns: {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]},
    fleets.excluded: {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]},
}


def settings() -> dict[str, Any]:
    """Return the schema of the table [tool.backset]."""
    properties = {name: {"description": key.what, **_key(key)} for name, key in KEYS.items()}
    return {"$schema": _DRAFT, "title": "[tool.backset]", **_closed(properties)}


def _key(key: Key) -> dict[str, Any]:
    default = {"default": key.default} if isinstance(key.default, (str, int)) else {}
    return {**_checked(key.check), **(default if key.default != "" else {})}


def _checked(check: Any) -> dict[str, Any]:  # noqa: ANN401  (a check)
    if isinstance(check, values.AtLeast):
        return {"type": "integer", "minimum": check.least}
    if isinstance(check, values.OneOf):
        return {"enum": list(check.words)}
    if check is values.read:
        chain = _closed({name: _checked(each) for name, each in values.KEYS.items()}, "name")
        return {"type": "array", "items": chain}
    if check is fleets.read:
        table = _closed({name: _checked(each) for name, each in fleets.KEYS.items()})
        one = [{"required": [each]} for each in fleets.WAYS]
        return {"type": "array", "items": {**table, "oneOf": one}}
    if check is values.ignored:  # a day is one of TOML's own types, or a text
        entry = {**dict.fromkeys(values.IGNORE_KEYS, _TEXT), "until": {"format": "date"}}
        return {"type": "array", "items": _closed(entry, *values.IGNORE_KEYS)}
    return CHECKED[check]


def report() -> dict[str, Any]:
    """Return the schema of what a task prints with --json."""
    whole, *others = dict.fromkeys([*_below(Content), ToldEvent, ToldMember])
    defined = {_title(each): _object(each) for each in others}
    return {"$schema": _DRAFT, "title": "backset --json", **_object(whole), "$defs": defined}


def _object(kind: type) -> dict[str, Any]:
    every = _keys(kind)
    properties = {
        key: {"description": each.what, **_type(each.kind)} for key, each in every.items()
    }
    required = [key for key, each in every.items() if not each.is_optional]
    return {"description": _said(kind), **_closed(properties, *required)}


def _type(kind: Any) -> dict[str, Any]:  # noqa: ANN401  (what typing gives)
    if is_dataclass(kind):
        assert isinstance(kind, type)  # noqa: S101  (nothing else is in an annotation)
        return {"$ref": f"#/$defs/{_title(kind)}"}
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in {Union, UnionType}:
        kinds = [_type(each) for each in inner if each is not RemoteDump]
        return {"anyOf": kinds} if len(kinds) > 1 else kinds[0]
    if origin in {dict, Mapping}:
        return {"type": "object", "additionalProperties": _type(inner[1])}
    return {"type": "array", "items": _type(inner[0])} if origin else {"type": _NAMES[kind]}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A key: the type of its value, what it is, and whether it is there only sometimes."""

    kind: Any
    what: str
    is_optional: bool


def _title(kind: type) -> str:
    """Return what an object is called, there and here."""
    return _TITLES.get(kind.__name__, kind.__name__)


def _said(kind: type) -> str:
    """Return what a class says of itself, without what it says of its other fields."""
    paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
    return "\n\n".join(each for each in paragraphs if not re.match(r"\w+: ", each))


def _below(kind: Any) -> Iterator[type]:  # noqa: ANN401  (what typing gives)
    if is_dataclass(kind):
        assert isinstance(kind, type)  # noqa: S101  (for mypy: nothing else is in an annotation)
        yield kind
        for each in _keys(kind).values():
            yield from _below(each.kind)
    for part in get_args(kind):
        yield from _below(part)


@cache
def _keys(kind: type) -> dict[str, _Entry]:
    """Return the keys of an object; all that the details of steps have are the keys of a step."""
    found: dict[str, _Entry] = {}
    defaults = {each.name: each.default for each in fields(kind)}
    for name, each in described.keys(kind).items():
        of = _hint(kind, name)
        if each.is_inline:
            parts = [
                one for one in (of, *get_args(of)) if inspect.isclass(one) and is_dataclass(one)
            ]
            found |= {key: one for part in parts for key, one in _inline(part).items()}
        else:
            found[each.name or name] = _Entry(
                kind=of | None if each.null else of,
                what=each.what,
                is_optional=defaults.get(name) is described.ABSENT,
            )
    return found


def _inline(kind: Any) -> dict[str, _Entry]:  # noqa: ANN401  (a class)
    """Return the keys that stand among others: of all classes below `kind`, where it has some."""
    below = [each for each in _classes().values() if issubclass(each, kind) and each is not kind]
    if not below:
        return _keys(kind)
    below.sort(key=lambda each: not each.__module__.startswith("backset.steps"))
    found: dict[str, list[_Entry]] = defaultdict(list)
    for key, entry in chain.from_iterable(_keys(each).items() for each in below):
        found[key].append(entry)
    return {key: _merged(several) for key, several in found.items()}


def _merged(several: list[_Entry]) -> _Entry:
    (kind,) = {each.kind for each in several}  # one key is one type, whatever the step
    what = "; ".join(dict.fromkeys(each.what for each in several))
    return _Entry(kind=kind, what=what, is_optional=True)


def _hint(kind: type, name: str) -> Any:  # noqa: ANN401  (what typing gives)
    attribute = vars(kind).get(name)
    source = attribute.fget if isinstance(attribute, property) else kind
    names = {**_TYPES, **_classes(), **vars(import_module(kind.__module__))}
    return get_type_hints(source, localns=names)["return" if source is not kind else name]


@cache
def _classes() -> dict[str, type]:
    """Return every class of backset by its name, which no other one has."""
    names = [each.name for each in pkgutil.walk_packages(backset.__path__, "backset.")]
    modules = [import_module(each) for each in names if not re.search(r"_worker|__main", each)]
    found = [(module, each) for module in modules for each in vars(module).values()]
    return {
        each.__name__: each
        for module, each in found
        if inspect.isclass(each) and each.__module__ == module.__name__
    }


def _closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """Return the schema of an object that has no other keys."""
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "properties": properties, "additionalProperties": False, **needed}


SCHEMAS = {"tool-backset.json": settings, "report.json": report}


def text(name: str) -> str:
    """Return what the file of that name is to have."""
    return json.dumps(SCHEMAS[name](), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name in SCHEMAS:
        (FOLDER / name).write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
