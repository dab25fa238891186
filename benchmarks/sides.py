"""Sides that do the same work, measured in turn: A B A B, so that a slow moment meets them all."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.figures import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Side:
    """What is measured is `run`; `prepare` comes before it, `check` after it, and may exit."""

    name: str
    run: Callable[[], object]
    prepare: Callable[[], object] = _nothing
    check: Callable[[], object] = _nothing

    def measure(self) -> float:
        """Return the seconds of one round."""
        self.prepare()
        began = perf_counter()
        self.run()
        seconds = perf_counter() - began
        self.check()
        return seconds


def alternate(sides: Sequence[Side], rounds: int, *, warms_up: bool = True) -> list[Reading]:
    """Measure the sides in turn; return the readings in their order.

    warms_up: a first round is not counted: it fills caches, and compiles what is imported.
    """
    every = [[side.measure() for side in sides] for _ in range(rounds + warms_up)][warms_up:]
    return [Reading(side.name, tuple(each[i] for each in every)) for i, side in enumerate(sides)]
