"""Where a sequence goes on once rows have come: behind the old one and behind them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backset.catalogs.counters import Position


def behind(new: Position, old: Iterable[Position], furthest: int | None) -> tuple[int, bool] | None:
    """Return what setval() needs to let a sequence go on behind the old ones; None: it does.

    furthest: the greatest value of its columns, or the least where it counts downwards.
    It never goes back, and keeps to the lane of whoever is ahead, as with odd and even numbers.
    One that begins anew at its limit takes the place of the old one: its columns say nothing.
    """
    theirs = [each.next_value for each in old]
    if new.cycles:
        return new.moved(theirs[0]) if theirs and new.low <= theirs[0] <= new.high else None
    within = [each for each in theirs if new.low <= each <= new.high]
    ahead = max if new.step > 0 else min
    start = ahead([new.next_value, *within])
    if furthest is not None and (furthest - start) * new.step >= 0:
        start += ((furthest - start) // new.step + 1) * new.step
    return new.moved(start)
