"""Ignore: noise that the settings silence by name, with a reason and a date. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """An entry of [[tool.backset.ignore]].

    kind: of the findings; a pattern as in file names (`*`, `?`, `[…]`).
    name: a pattern for the name of the object that a finding is about, or for the finding's text.
    until: the last day on which it holds.
    """

    kind: str
    name: str
    reason: str
    until: date

    def covers(self, kind: str, name: str, what: str) -> bool:
        """Tell whether a finding is the noise that is meant."""
        of_kind = fnmatchcase(kind, self.kind)
        return of_kind and any(fnmatchcase(each, self.name) for each in (name, what))

    def has_expired(self, today: date) -> bool:
        """Tell whether its last day is over."""
        return today > self.until

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} ({self.reason})"


KEYS = ("kind", "name", "reason", "until")


def read(raw: object) -> tuple[Ignore, ...]:
    """Return the entries of [[tool.backset.ignore]]. Raises ValueError with what they must be."""
    if not isinstance(raw, list) or not all(isinstance(each, dict) for each in raw):
        raise ValueError("tables that begin with [[tool.backset.ignore]]")
    return tuple(_entry(number, table) for number, table in enumerate(raw, 1))


def _entry(number: int, table: dict[str, object]) -> Ignore:
    if unknown := sorted(table.keys() - set(KEYS)):
        known = ", ".join(KEYS)
        raise ValueError(f"without {unknown[0]!r} in table {number}; known keys: {known}")
    texts = {key: table.get(key) for key in KEYS[:3]}
    for key, value in texts.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"with a text as {key} in table {number}")
    until = _date(table.get("until"))
    if until is None:
        raise ValueError(f"with a last day as until in table {number}, such as until = 2027-06-30")
    return Ignore(**{key: str(value) for key, value in texts.items()}, until=until)


def _date(raw: object) -> date | None:
    if isinstance(raw, datetime):
        return raw.date()
    try:
        return raw if isinstance(raw, date) else date.fromisoformat(str(raw))
    except ValueError:
        return None
