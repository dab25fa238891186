"""What was measured: readings, two of them compared, and curves. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of one side, one for each round."""

    name: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value in the middle."""
        return median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the largest value."""
        return min(self.values), max(self.values)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of the table: a reading, and another one that it is held against.

    goal: the most that the ratio of the medians may be; of a reading alone, the median itself.
    """

    what: str
    unit: str
    ours: Reading
    theirs: Reading | None = None
    goal: float | None = None

    @property
    def ratio(self) -> float | None:
        """Our median divided by theirs."""
        return self.ours.median / self.theirs.median if self.theirs else None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if self.goal is None:
            return None
        return (self.ours.median if self.ratio is None else self.ratio) <= self.goal


@dataclass(frozen=True, slots=True)
class Absent:
    """What could not be measured, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Curve:
    """How something grows: a reading for each x, such as the number of revisions."""

    what: str
    over: str
    points: tuple[tuple[float, Reading], ...]

    @property
    def line(self) -> list[tuple[float, float]]:
        """The medians, in the order of x."""
        return sorted((x, reading.median) for x, reading in self.points)

    @property
    def lines(self) -> list[Comparison]:
        """The points as lines of a table."""
        return [Comparison(f"{self.what}, {x:g} {self.over}", "s", own) for x, own in self.points]


Found: TypeAlias = "Comparison | Absent | Curve"
_KINDS: Mapping[str, type[Found]] = {"line": Comparison, "absent": Absent, "curve": Curve}


def content(found: Found) -> dict[str, Any]:
    """Return it as JSON has it: a line has its ratio, too."""
    kind = next(name for name, family in _KINDS.items() if isinstance(found, family))
    more = {"ratio": found.ratio} if isinstance(found, Comparison) else {}
    return {"kind": kind, **_rounded(asdict(found) | more)}


def of(written: Mapping[str, Any]) -> Found:
    """Return what content() has made JSON of."""
    fields = {key: value for key, value in written.items() if key not in {"kind", "ratio"}}
    if written["kind"] == "curve":
        points = tuple((x, _reading(each)) for x, each in fields["points"])
        return Curve(**{**fields, "points": points})
    if written["kind"] == "absent":
        return Absent(**fields)
    theirs = fields["theirs"] and _reading(fields["theirs"])
    return Comparison(**{**fields, "ours": _reading(fields["ours"]), "theirs": theirs})


def _reading(written: Mapping[str, Any]) -> Reading:
    return Reading(written["name"], tuple(written["values"]))


def _rounded(value: Any) -> Any:  # noqa: ANN401  (JSON values)
    """Return it with four digits after the point, which is more than any clock here knows."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return value
