"""Pure: how a database stands to revisions that another one replaces (`replaces` of its script)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.errors import StepFailedError
from backset.revisions.script_files import ancestors, by_id, ordered

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from backset.revisions.script_files import Revision

REBUILD = "`invoke reset-db --carry` rebuilds the database and keeps its rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacedPlace:
    """Where the rows of a version table stand in what one script replaces.

    squash: that script. rows: those of the table that it replaces. beyond: those that have run it
    already, or come after it. rivals: other scripts that replace one of the rows as well.
    """

    squash: Revision
    rows: tuple[str, ...]
    beyond: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()

    @property
    def is_at_end(self) -> bool:
        """Whether all that is replaced has run, and nothing is between that and the new one."""
        return set(self.rows) == set(self.squash.replaced_heads)

    @property
    def problem(self) -> str:
        """Why nobody can tell what has run; empty where that can be told."""
        if self.rivals:
            several = ", ".join((self.squash.id, *self.rivals))
            return f"{', '.join(self.rows)} is replaced by each of {several}"
        if self.beyond:
            both = f"{', '.join(self.rows)} beside {', '.join(self.beyond)}"
            return f"the version table names {both}, and {self.squash.id} replaces the one"
        return ""

    def __str__(self) -> str:
        return f"{', '.join(self.rows)}, which {self.squash.id} replaces ({self._number})"

    @property
    def shown(self) -> str:
        """The rows, and which of those that are replaced they are."""
        return f"{', '.join(self.rows)} ({self._number})"

    @property
    def _number(self) -> str:
        replaces, much = self.squash.replaces, len(self.squash.replaces)
        if self.is_at_end:
            return f"last of {much}" if much > 1 else "the only one"
        at = [replaces.index(each) + 1 for each in self.rows if each in replaces]
        return f"number {max(at)} of {much}" if at else f"before one of {much}"


def replacing(scripts: Iterable[Revision]) -> dict[str, list[Revision]]:
    """Return the scripts that replace a revision, by its id; what has a script is not replaced."""
    several = list(scripts)
    known = {each.id for each in several}
    found: dict[str, list[Revision]] = {}
    for each in several:
        for name in each.replaces:
            if name not in known:
                found.setdefault(name, []).append(each)
    return found


def places(rows: Collection[str], scripts: Sequence[Revision]) -> tuple[ReplacedPlace, ...]:
    """Return how the rows of one version table stand to each script that replaces some of them."""
    by, several = replacing(scripts), sorted(rows)
    for squash in (by[row][0] for row in several if row in by):  # it has run these beside its own
        if squash.is_rebased:
            by |= {row: [squash] for row in squash.replaced_heads if row in rows}
    own: dict[str, list[str]] = {}
    for row in several:
        if row in by:
            own.setdefault(by[row][0].id, []).append(row)
    known = by_id(scripts)
    return tuple(
        ReplacedPlace(
            squash=known[name],
            rows=tuple(some),
            beyond=tuple(each for each in several if _is_beyond(each, known[name], scripts)),
            rivals=tuple(sorted({each.id for row in some for each in by[row]} - {name})),
        )
        for name, some in own.items()
    )


def _is_beyond(row: str, squash: Revision, scripts: Sequence[Revision]) -> bool:
    """Tell whether a row says that a script has run, or one that stands for a part of it."""
    needs = squash.needs if squash.is_rebased else ()
    return squash.id in ancestors([row], scripts) or row in needs


def followed(orphans: Collection[str], scripts: Sequence[Revision]) -> tuple[ReplacedPlace, ...]:
    """Return how orphaned revisions stand to what replaces them; nothing unless all can follow."""
    found = places(orphans, scripts)
    covered = {row for each in found for row in each.rows}
    is_clear = covered == set(orphans) and not any(each.problem for each in found)
    return found if is_clear else ()


def below(
    rows: Collection[str], scripts: Sequence[Revision], find: Callable[[Revision], object]
) -> tuple[ReplacedPlace, ...]:
    """Return how a database stands to a part that was replaced further on than it is.

    It has rows of people, and the old revisions know what becomes of these. find: raises
    StepFailedError where these are nowhere; the new revision is then all that there is. Of several
    parts the nearest is told: the way to the next one begins there.
    """
    done = ancestors(sorted(rows), scripts)
    found = []
    whole = [each for each in scripts if each.replaces and not each.is_rebased]
    for squash in (each for each in whole if each.id not in done):
        reached = ancestors(squash.needs, scripts)
        if own := tuple(sorted(reached.intersection(rows))):
            with suppress(StepFailedError):
                find(squash)
                found.append(ReplacedPlace(squash=squash, rows=own))
    ids = {each.squash.id for each in found}
    return tuple(each for each in found if ids.isdisjoint(ancestors(each.squash.needs, scripts)))


def strangers(rows: Iterable[str], scripts: Sequence[Revision]) -> tuple[str, ...]:
    """Return the rows that no script has, and that none replaces itself.

    One of them may be replaced by a revision that was replaced in its turn.
    """
    known = {each.id for each in scripts} | replacing(scripts).keys()
    return tuple(sorted(set(rows) - known))


def nested(
    rows: Sequence[str], scripts: Sequence[Revision], find: Callable[[Revision], Sequence[Revision]]
) -> list[ReplacedPlace]:
    """Return how strangers stand to what replaces that which has replaced them.

    find: as legs() has it. A row that is nowhere is an orphaned revision, and has no place.
    """
    found = []
    for squash in (each for each in scripts if rows and each.replaces):
        try:
            old = [*before(squash, scripts), *find(squash)]
        except StepFailedError:
            continue
        inner = {row for each in places(rows, old) for row in each.rows}
        inner |= {row for row in rows if row in {each.id for each in old}}
        if inner:
            found.append(ReplacedPlace(squash=squash, rows=tuple(sorted(inner))))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """A part of the way to a script that replaces others: what runs, and then its id is written.

    rows: those of the version table that its id takes the place of, after what is to run.
    chain: the scripts that make one whole chain up to there. pending: those that are to run;
    neither where the database is at the end of what is replaced.
    """

    squash: Revision
    rows: tuple[str, ...]
    chain: tuple[Revision, ...] = ()
    pending: tuple[str, ...] = ()


def legs(
    place: ReplacedPlace,
    scripts: Sequence[Revision],
    find: Callable[[Revision], Sequence[Revision]],
) -> list[Leg]:
    """Return the way from where a database stands to the script that replaces that, in its parts.

    find: returns the scripts that one replaces, with what they need and no file has.
    Raises StepFailedError where there is no way, or more than one.
    """
    squash, rows = place.squash, place.rows
    if place.problem:
        raise StepFailedError(place.problem, REBUILD)
    if place.is_at_end:
        return [Leg(squash=squash, rows=rows)]
    chain = (*before(squash, scripts), *find(squash))
    known = {each.id for each in chain}
    inner: list[Leg] = []
    if not known.issuperset(rows):
        nested = places(rows, chain)
        covered = {row for each in nested for row in each.rows}
        if lost := set(rows) - known - covered:
            what = f"no file, no commit and no archive has {', '.join(sorted(lost))}"
            raise StepFailedError(what, REBUILD)
        for each in nested:
            inner += legs(each, chain, find)
        rows = (*(set(rows) - covered), *(each.squash.id for each in nested))
    while parts := below(rows, chain, find):  # what a part has replaced runs in its place
        for each in parts:
            inner += legs(each, chain, find)
        passed = {row for each in parts for row in each.rows}
        rows = (*(row for row in rows if row not in passed), *(each.squash.id for each in parts))
    wanted = _needed(squash, chain)
    done = ancestors(rows, chain)
    pending = tuple(each for each in wanted if each not in done)
    return [*inner, Leg(squash=squash, rows=ends(squash, chain), chain=chain, pending=pending)]


def _needed(squash: Revision, chain: Sequence[Revision]) -> list[str]:
    """Return what must have run at the end of what is replaced, in its order."""
    known = by_id(chain)
    lost = [each for each in squash.replaced_heads if each not in known]
    whole = ancestors(squash.replaced_heads, chain)
    lost += [down for each in whole for down in known[each].down if down not in known]
    if lost:
        some = ", ".join(sorted(set(lost)))
        raise StepFailedError(f"no file, no commit and no archive has {some}", REBUILD)
    first = [each for each in whole if each not in squash.replaces]
    return [*sorted(first), *(each for each in squash.replaces if each in whole)]


def ends(squash: Revision, chain: Sequence[Revision]) -> tuple[str, ...]:
    """Return the heads of what is replaced without those that another one of them needs."""
    heads = squash.replaced_heads
    return tuple(
        each
        for each in heads
        if not any(each in ancestors([other], chain) for other in heads if other != each)
    )


def before(squash: Revision, scripts: Iterable[Revision]) -> list[Revision]:
    """Return the scripts without this one and all that come after it."""
    several, after = list(scripts), {squash.id}
    for each in ordered(several):
        if not after.isdisjoint(each.needs):
            after.add(each.id)
    return [each for each in several if each.id not in after]
