"""The order of revisions: which come before which. Pure; a broken chain has an order as well."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from backset.revisions.revision import by_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backset.revisions.revision import Revision


def ordered(revisions: Iterable[Revision]) -> list[Revision]:
    """Return the revisions so that each comes after all that it needs, unless it is in a circle."""
    known = by_id(revisions)
    needs = {each.id: [name for name in each.needs if name in known] for each in known.values()}
    return [known[name] for name in reversed(newest_first(needs))]


def newest_first(needs: Mapping[str, Sequence[str]]) -> list[str]:
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


def ancestors(ids: Sequence[str], revisions: Iterable[Revision]) -> set[str]:
    """Return these revisions and all that they need, as far as there are files of them."""
    known = {each.id: each for each in revisions}
    found: set[str] = set()
    waiting = list(ids)
    while waiting:
        each = waiting.pop()
        if each in known and each not in found:
            found.add(each)
            waiting += known[each].needs
    return found


def outdated(rows: Sequence[str], revisions: Iterable[Revision]) -> set[str]:
    """Return which rows of a version table another one comes after: Alembic refuses such rows."""
    alone = [replace(each, depends_on=()) for each in revisions]
    return {row for row in rows for each in rows if each != row and row in ancestors([each], alone)}


def heads(revisions: Sequence[Revision]) -> set[str]:
    """Return the revisions that no other one follows."""
    return {each.id for each in revisions} - {down for each in revisions for down in each.down}


def fits(found: Sequence[Revision], today: Sequence[Revision]) -> bool:
    """Tell whether found scripts make one whole chain with those of today.

    Those of a chain that was squashed away do not: they bring a second base and a second head.
    """
    union = [*today, *found]
    known = {each.id for each in union}
    gaps = {down for each in union for down in each.down} - known
    bases = {each.id for each in union if not each.down}
    old_bases = {each.id for each in today if not each.down}
    grows = len(bases) > max(1, len(old_bases)) or len(heads(union)) > max(1, len(heads(today)))
    return bool(found) and not gaps and not grows
