"""The order of revisions: which come before which. Pure; a broken chain has an order as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backset.migrations import Revision


def ordered(revisions: Iterable[Revision]) -> list[Revision]:
    """Return the revisions so that each comes after all that it needs, else as they were given."""
    waiting = list(revisions)
    done: list[Revision] = []
    known = {each.id for each in waiting}
    while waiting:
        told = {each.id for each in done}
        ready = [each for each in waiting if not ({*each.down, *each.depends_on} & known) - told]
        done += ready or waiting
        waiting = [each for each in waiting if each not in done]
    return done


def ancestors(ids: Sequence[str], revisions: Iterable[Revision]) -> set[str]:
    """Return these revisions and all that they need, as far as there are files of them."""
    known = {each.id: each for each in revisions}
    found: set[str] = set()
    waiting = [each for each in ids if each in known]
    while waiting:
        each = waiting.pop()
        if each in known and each not in found:
            found.add(each)
            waiting += [*known[each].down, *known[each].depends_on]
    return found
