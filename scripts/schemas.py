"""JSON Schemas of what people and programs write and read: `python scripts/schemas.py`.

They are derived from what the code itself has: the keys of [tool.backset] with their checks, and
the types of the JSON report. The files are part of the package, in `src/backset/schemas/`.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Literal, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

from backset.report import shape
from backset.settings import values
from backset.settings.keys import KEYS, Key

FOLDER = Path(__file__).parents[1] / "src/backset/schemas"
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TEXT = {"type": "string", "minLength": 1}
_NAME = {**_TEXT, "maxLength": 63}
_WORDS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_FILLED = {"type": "object", "additionalProperties": _TEXT}
# What each check takes; that the two agree is held by a test.
CHECKED: dict[Any, dict[str, Any]] = {
    values.name: _NAME,
    values.text: _TEXT,
    values.flag: {"type": "boolean"},
    values.argv: _WORDS,
    values.arguments: _WORDS,
    values.names: _WORDS,
    values.table_patterns: _WORDS,
    values.patterns: {"type": "array", "items": {**_TEXT, "pattern": "^[^/~]"}},
    values.heads: {"anyOf": [{"const": "all"}, _WORDS]},
    values.tables: {"anyOf": [_TEXT, {**_WORDS, "items": _TEXT}]},
    values.templates: {"type": "object", "additionalProperties": {"type": "string"}},
    values.columns: {"type": "object", "additionalProperties": _WORDS},
    values.counts: {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
    values.renames: _FILLED,
    values.fillings: _FILLED,
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
    if check is values.read:
        chain = _closed({name: _checked(each) for name, each in values.KEYS.items()}, "name")
        return {"type": "array", "items": chain}
    if check is values.ignored:  # a day is one of TOML's own types, or a text
        entry = {**dict.fromkeys(values.IGNORE_KEYS, _TEXT), "until": {"format": "date"}}
        return {"type": "array", "items": _closed(entry, *values.IGNORE_KEYS)}
    return CHECKED[check]


def report() -> dict[str, Any]:
    """Return the schema of what a task prints with --json."""
    kinds = [each for each in vars(shape).values() if is_typeddict(each)]
    named = {each.__name__: each for each in kinds if not each.__name__.startswith("_")}
    defined = {name: _object(kind) for name, kind in named.items()}
    whole = defined.pop(shape.Content.__name__)
    return {"$schema": _DRAFT, "title": "backset --json", **whole, "$defs": defined}


def _object(kind: Any) -> dict[str, Any]:  # noqa: ANN401  (a TypedDict)
    properties, required = {}, []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        is_optional = get_origin(hint) is NotRequired
        inner, what = get_args(get_args(hint)[0] if is_optional else hint)
        properties[name] = {"description": what, **_type(inner)}
        required += [] if is_optional else [name]
    return {"description": inspect.getdoc(kind) or "", **_closed(properties, *required)}


def _type(kind: Any) -> dict[str, Any]:  # noqa: ANN401  (what typing gives)
    names = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    if is_typeddict(kind):
        return {"$ref": f"#/$defs/{kind.__name__}"}
    origin, inner = get_origin(kind), get_args(kind)
    if origin is list:
        return {"type": "array", "items": _type(inner[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(inner[1])}
    if origin is Literal:
        return {"enum": list(inner)}
    if inner:  # a union
        return {"anyOf": [_type(each) for each in inner]}
    return {"type": names[kind]} if kind in names else {}


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
