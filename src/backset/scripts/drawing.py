"""Pure: draws what follows what as `git log --graph` does, the newest first."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def ordered(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return every node before those that it needs, line after line without mixing them.

    In a circle, which has no such order, the first node in `needs` begins.
    """
    waiting = Counter(each for several in needs.values() for each in set(several))
    todo = [each for each in reversed(list(needs)) if not waiting[each]]
    left = dict.fromkeys(needs)
    found = []
    while left:
        node = todo.pop() if todo else next(iter(left))
        if node not in left:
            continue
        del left[node]
        found.append(node)
        for each in dict.fromkeys(needs[node]):
            waiting[each] -= 1
            if each in left and not waiting[each]:
                todo.append(each)
    return found


def drawn(
    order: Sequence[str], parents: Mapping[str, Sequence[str]], marks: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield lines of the drawing, each with the node that stands in it, or with an empty name.

    order: every node before its parents. marks: what is drawn for a node in place of `*`.
    """
    lanes: list[str] = []  # which node each column leads to
    done: set[str] = set()
    for node in order:
        if node not in lanes:
            lanes.append(node)
        here = lanes.index(node)
        while (other := _next(lanes, node, here)) is not None:
            yield from ((line, "") for line in _joined(len(lanes), here, other))
            del lanes[other]
        star = marks.get(node, "*")
        yield " ".join(star if lane == here else "|" for lane in range(len(lanes))), node
        done.add(node)
        onward = [each for each in dict.fromkeys(parents[node]) if each in parents]
        onward = [each for each in onward if each not in done]  # else it is a circle
        lanes[here : here + 1] = onward[:1]
        if not onward and here < len(lanes):
            yield f"{'| ' * here} {_bars('/', len(lanes) - here)}", ""
        for each in reversed(onward[1:]):
            yield _bars("|", here + 1) + _bars("\\", len(lanes) - here), ""
            lanes.insert(here + 1, each)


def _next(lanes: Sequence[str], node: str, here: int) -> int | None:
    """Return the nearest column to the right that leads to the same node."""
    return next((lane for lane in range(here + 1, len(lanes)) if lanes[lane] == node), None)


def _joined(count: int, here: int, other: int) -> Iterator[str]:
    """Yield the lines in which the column `other` joins `here`, under those between them."""
    before, beyond = _bars("|", here + 1), _bars("/", count - other)
    if other == here + 1:
        yield before + beyond
        return
    between = "_".join("|" * (other - here - 1))
    yield f"{before} {between}{beyond}"
    yield f"{before}/{_bars('|', count - here - 2)}"


def _bars(bar: str, count: int) -> str:
    return " ".join(bar * count)
