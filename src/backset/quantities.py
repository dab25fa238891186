"""Numbers as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 table`, `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def age(since: timedelta) -> str:
    """Return how long ago something was, in its largest unit: `3 days`."""
    seconds = max(0, int(since.total_seconds()))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return count(seconds // length, unit)
    return count(seconds, "second")


def amount(size_bytes: float) -> str:
    """Return a size in decimal units: `9.8 MB`."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:  # noqa: PLR2004  (the step between decimal units)
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} GB"
