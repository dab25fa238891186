"""Numbers as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

_BAR_CHARS = 20


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 table`, `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def few(names: Iterable[str], at_most: int = 5, *, between: str = ", ") -> str:
    """Return some names for a line for people, and how many more there are."""
    several = list(names)
    more = len(several) - at_most
    return between.join(several[:at_most]) + (f" and {more:,} more" if more > 0 else "")


def about(number: int) -> str:
    """Return an estimate: `≈ 12 M`, `≈ 1.2 G`."""
    scaled = float(number)
    for unit in ("", " k", " M"):
        if scaled < 1000:  # noqa: PLR2004  (the step between the units)
            return f"≈ {scaled:.2g}{unit}"
        scaled /= 1000
    return f"≈ {scaled:.2g} G"


def amount(size_bytes: float) -> str:
    """Return a size in decimal units: `9.8 MB`."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:  # noqa: PLR2004  (the step between decimal units)
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} GB"


def bar(done_bytes: float, all_bytes: float) -> str:
    """Return how far something is: `━━━━━───── 51 % of 1.02 GB`; the whole may be an estimate."""
    part = min(done_bytes / all_bytes, 1.0) if all_bytes else 1.0
    full = int(part * _BAR_CHARS)
    line = "━" * full + "─" * (_BAR_CHARS - full)
    return f"{line} {part:.0%} of {amount(all_bytes)}"


def age(seconds: float) -> str:
    """Return how long something lasts, in the largest whole unit: `12 s`, `3 min`, `2 h`, `5 d`."""
    for unit, size_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size_s:
            return f"{seconds // size_s:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def moment(since: datetime) -> str:
    """Return the local time of a moment of today; of another day with its date and zone."""
    ours = since.astimezone()
    today = ours.date() == ours.now(ours.tzinfo).date()
    return f"{ours:%H:%M:%S}" if today else f"{ours:%Y-%m-%d %H:%M:%S %Z}"
