"""In which order objects are made: what is needed comes first, else as a person would put them."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(kw_only=True)
class Unit:
    """What is made in one go: its code, and the numbers of the units that it needs.

    rank: when it comes where nothing else decides; place: among those of one rank. loose: what its
    foreign keys refer to, by their names; they may be made later. up, down: pieces of code.
    """

    number: int
    rank: int
    place: tuple[int, int]
    needs: set[int] = field(default_factory=set)
    loose: dict[str, set[int]] = field(default_factory=dict)
    up: list[str] = field(default_factory=list)
    down: list[str] = field(default_factory=list)


def tied(units: Mapping[int, Unit]) -> Sequence[int]:
    """Return the units that need each other, in a circle; none is good."""
    try:
        TopologicalSorter({each.number: each.needs for each in units.values()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return ()


def ends(units: Mapping[int, Unit]) -> list[tuple[int, str]]:
    """Return the foreign keys that cannot be made with their tables, since these go in a circle.

    What the others refer to is from now on needed by their units.
    """
    found = []
    for unit in sorted(units.values(), key=lambda each: each.place):
        for name, others in sorted(unit.loose.items()):
            if any(unit.number in _reached(units, other) for other in others - {unit.number}):
                found.append((unit.number, name))
            else:
                unit.needs |= others - {unit.number}
    return found


def _reached(units: Mapping[int, Unit], start: int) -> set[int]:
    seen, waiting = {start}, deque([start])
    while waiting:
        new = units[waiting.popleft()].needs - seen
        seen |= new
        waiting.extend(new)
    return seen


def ordered(units: Mapping[int, Unit]) -> list[Unit]:
    """Return them so that each stands behind all that it needs."""
    users: dict[int, list[int]] = {each: [] for each in units}
    for unit in units.values():
        for need in unit.needs:
            users[need].append(unit.number)
    # What something early needs is as early.
    ranks: dict[int, int] = {}
    for number in reversed([*_stable(units)]):
        ranks[number] = min([units[number].rank, *(ranks[each] for each in users[number])])
    missing = {number: len(unit.needs) for number, unit in units.items()}
    ready = [(ranks[n], units[n].place, n) for n, number in missing.items() if not number]
    heapq.heapify(ready)
    found = []
    while ready:
        *_, number = heapq.heappop(ready)
        found.append(units[number])
        for user in users[number]:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, (ranks[user], units[user].place, user))
    return found


def _stable(units: Mapping[int, Unit]) -> Iterator[int]:
    yield from TopologicalSorter({n: each.needs for n, each in units.items()}).static_order()
