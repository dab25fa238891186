"""Numbers as people read them."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 table`, `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def amount(size_bytes: float) -> str:
    """Return a size in decimal units: `9.8 MB`."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:  # noqa: PLR2004  (the step between decimal units)
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} GB"
