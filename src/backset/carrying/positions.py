"""Where a sequence goes on once rows have come: behind the old one and behind them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Position:
    """How a sequence stands. step: what it adds, which may be negative; low, high: its limits."""

    last_value: int
    is_called: bool
    step: int
    low: int
    high: int
    cycles: bool

    @property
    def next_value(self) -> int:
        """What it would give, if its limits allow that."""
        return self.last_value + self.step if self.is_called else self.last_value

    def moved(self, next_value: int) -> tuple[int, bool] | None:
        """Return what setval() needs to let this one give that value; None if it does anyway.

        Beyond its limit it will give none: it is used up, as the old one was.
        """
        if next_value == self.next_value:
            return None
        if not self.low <= next_value <= self.high:
            return (self.high if self.step > 0 else self.low), True
        before = next_value - self.step
        return (before, True) if self.low <= before <= self.high else (next_value, False)


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
