"""What programs get of a value: each key is described once, at the field that has it.

`plain` makes JSON of such values. `scripts/schemas.py` makes the JSON Schema of their classes, and
`scripts/reference.py` the reference page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

_Kind = TypeVar("_Kind")
_Getter = TypeVar("_Getter", bound=Callable[..., object])

ABSENT: Any = ...  # of a key that is there only sometimes


@dataclass(frozen=True, slots=True)
class JsonKey:
    """A key of a JSON object.

    what: what it is, for the reference, in Markdown. name: where the field has another one.
    null: whether an empty value is told as null. is_inline: whether the keys of the value stand
    among the others, in place of a key of its own.
    """

    what: str = ""
    name: str = ""
    null: bool = False
    is_inline: bool = False


def key(what: str, name: str = "", *, null: bool = False, **default: Any) -> Any:  # noqa: ANN401
    """Return a field that programs get. default: what dataclasses.field takes."""
    return field(metadata={"key": JsonKey(what, name, null)}, **default)


def inline() -> Any:  # noqa: ANN401  (a field)
    """Return a field of whose value programs get the keys, among those of the object itself."""
    return field(metadata={"key": JsonKey(is_inline=True)})


class Address:
    """Where something is that has no path: programs get the text of it."""

    __slots__ = ()


@dataclass_transform(field_specifiers=(key, inline, field), frozen_default=True)
def described(
    *, frozen: bool = True, slots: bool = True, kw_only: bool = False
) -> Callable[[type[_Kind]], type[_Kind]]:
    """Make a dataclass of a class that says what programs get of it."""
    return dataclass(frozen=frozen, slots=slots, kw_only=kw_only)


def told(what: str, name: str = "", *, null: bool = False) -> Callable[[_Getter], _Getter]:
    """Describe a property that programs get; this stands below `property`."""

    def mark(getter: _Getter) -> _Getter:
        getter.__dict__["key"] = JsonKey(what, name, null)
        return getter

    return mark


@cache
def keys(kind: type) -> dict[str, JsonKey]:
    """Return what programs get of a class, by the names of its fields and properties."""
    found = {each.name: each.metadata.get("key") for each in fields(kind)}
    found |= {
        name: each.fget.__dict__.get("key")
        for name, each in vars(kind).items()
        if isinstance(each, property)
    }
    return {name: each for name, each in found.items() if each}


def plain(value: Any) -> Any:  # noqa: ANN401  (any value, and JSON)
    """Return a value as JSON has it; of what is described, the keys that are there."""
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, (Path, Address)):
        return str(value)
    return _object(value) if is_dataclass(value) else value


def _object(value: Any) -> dict[str, Any]:  # noqa: ANN401  (an instance of a dataclass)
    found: dict[str, Any] = {}
    kind: Any = type(value)
    for name, each in keys(kind).items():
        content = getattr(value, name)
        if each.is_inline:
            found = {**(plain(content) or {}), **found}
        elif content is not ABSENT:
            found[each.name or name] = plain((content or None) if each.null else content)
    return found
