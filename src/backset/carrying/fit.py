"""Fit: whether the values of one column can stand in another, by their types alone. Pure."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backset.catalogs.columns import Column

_MODIFIER = re.compile(r"\((\d+)(?:,(-?\d+))?\)")
_TEXTS = {"text", "character varying"}
# What one means as the other depends on a time zone.
_ZONED = ({"timestamp", "timestamptz"}, {"date", "timestamptz"})
_OF_NO_DAY = {"time", "timetz"}  # whose zone depends on the day, too
_UNLIMITED = {"character": "bpchar", "bit": "bit varying"}  # by these names it would be 1
_SHORT = {
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
    "time with time zone": "timetz",
}
_WIDER = {  # every value of the first is one of the others, too
    "smallint": {"integer", "bigint", "numeric", "real", "double precision"},
    "integer": {"bigint", "numeric", "double precision"},
    "bigint": {"numeric"},
    "real": {"double precision"},
    "date": {"timestamp"},
    "character varying": {"text"},
    "text": {"character varying"},
    "jsonb": {"json"},
    "cidr": {"inet"},
    "macaddr": {"macaddr8"},
}
# What a text often takes the place of: codes, numbers, keys.
_AS_TEXT = {"character", "smallint", "integer", "bigint", "numeric", "uuid"}


class Fit(Enum):
    """How an old column's values come into a new one.

    SAME: as they are. SAFE: by a cast that no value fails or loses something in. ASK: only the
    values can tell, by a cast there and back. ZONED: as ASK, in the time zone of the old database,
    as ALTER TABLE would do it. LABELS: only the values can tell, by the labels of the new enum.
    KEYS: as ASK, but what is lost are keys that an object has twice; its spelling may change.
    DOUBTFUL: every value would be taken, but may mean something else. NEVER: there is no cast that
    can be tried.
    """

    SAME = "same"
    SAFE = "safe"
    ASK = "ask"
    ZONED = "zoned"
    LABELS = "labels"
    KEYS = "keys"
    DOUBTFUL = "doubtful"
    NEVER = "never"


def fit(old: Column, new: Column) -> Fit:
    """Tell how the values of a column of the old schema fit into one of the new schema."""
    if (old.base, old.members) == (new.base, new.members) and set(old.labels) <= set(new.labels):
        return Fit.SAME
    if new.labels:
        return _into_enum(old, new)
    if _plain(new.base) in _TEXTS:  # every value has a text
        length = _modifier(old.base) if _plain(old.base) in _TEXTS else ()
        return Fit.SAFE if _holds("text", length, _modifier(new.base)) else Fit.ASK
    if new.builtin:
        return _of_builtin(old, new) if old.builtin else Fit.NEVER
    return _into_extension(old, new)


def is_kindred(old: Column, new: Column) -> bool:
    """Tell whether one may be the other by another name, as far as their types can tell."""
    before, after = _element(old), _element(new)
    if is_array(old) != is_array(new):
        return False
    ranges = _WIDER.get(before, set()) | {each for each, more in _WIDER.items() if before in more}
    is_zoned = {before, after} in _ZONED
    kind = fit(old, new)
    is_spelled = kind is Fit.SAFE and (before in _AS_TEXT or bool(old.labels))
    is_alike = is_zoned or is_spelled or kind in {Fit.SAME, Fit.LABELS}
    return before == after or after in ranges or is_alike


def _into_enum(old: Column, new: Column) -> Fit:
    if is_array(old) == is_array(new) and old.labels and set(old.labels) <= set(new.labels):
        return Fit.SAME
    alike = is_array(old) == is_array(new)
    return Fit.LABELS if alike and (old.labels or _element(old) in _TEXTS) else Fit.NEVER


def _into_extension(old: Column, new: Column) -> Fit:
    """Tell it for a type of an extension, which may be in another schema, or a user's own."""
    same = _plain(old.base).rpartition(".")[2] == _plain(new.base).rpartition(".")[2]
    if same and old.members == new.members and _modifier(old.base) == _modifier(new.base):
        return Fit.SAME
    is_text = not old.builtin or _plain(old.base) in _TEXTS
    return Fit.DOUBTFUL if is_text and not new.members else Fit.NEVER


def _of_builtin(old: Column, new: Column) -> Fit:
    if is_array(old) != is_array(new):
        return Fit.ASK
    before, after = _element(old), _element(new)
    holds = _holds(after, _modifier(old.base), _modifier(new.base))
    if before == after or after in _WIDER.get(before, ()):
        return Fit.SAFE if holds else Fit.ASK
    if {before, after} == _OF_NO_DAY:
        return Fit.DOUBTFUL
    if (before, after) == ("json", "jsonb"):
        return Fit.KEYS
    is_zoned = {before, after} in _ZONED and not is_array(new)  # of an array a cast does the same
    return Fit.ZONED if is_zoned else Fit.ASK


def _holds(base: str, old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Tell whether a modifier of the type allows at least what another one does."""
    if not new or old == new:
        return True
    if not old:
        return False
    if base == "numeric":
        (precision, scale), (more, finer) = old, new
        return finer >= scale and more - finer >= precision - scale
    return base not in {"character", "bit"} and new >= old


def _plain(base: str) -> str:
    """Return a type without its modifier, and by its short name."""
    name = _MODIFIER.sub("", base)
    return _SHORT.get(name, name)


def _modifier(base: str) -> tuple[int, ...]:
    found = _MODIFIER.search(base)
    return tuple(int(each or 0) for each in found.groups()) if found else ()


def unlimited(column: Column) -> str:
    """Return the type of a column without its modifier, so that no value is cut or rounded."""
    if not _modifier(column.base):
        return column.base
    name = _MODIFIER.sub("", column.base)
    return _UNLIMITED.get(name.removesuffix("[]"), name.removesuffix("[]")) + "[]" * is_array(
        column
    )


def _element(column: Column) -> str:
    """Return the type of a column, or of the elements of an array, without its modifier."""
    return _plain(column.base.removesuffix("[]"))


def is_array(column: Column) -> bool:
    """Tell whether the values of a column are arrays."""
    return column.base.endswith("[]")
