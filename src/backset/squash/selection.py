"""Pure: which revisions one squash replaces, what the new one takes over, and what is refused.

Replaced is what lies between two places of the graph: the first ones, all that need these and that
the last ones need, and the last ones. `down_revision` and `depends_on` count alike for that, as
they do where Alembic runs them. The rest of the graph must stay one in which a database can stand:
what follows the new revision needs all of what that replaces.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from backset.errors import SettingsError, StepFailedError
from backset.revisions import script_files
from backset.revisions.script_files import by_id
from backset.text.quantities import few

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from backset.revisions.script_files import Revision

FIRST, LAST = "--from", "--to"
_LOOK = "`history` draws the revisions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The revisions that one new revision replaces, in the order in which they run.

    down: what the new one follows. depends_on: what it needs besides, as the replaced ones name it.
    labels: its branch labels. heads: those of the replaced ones that no other one of them needs,
    which are the rows of a database that has run them all. followers: the scripts that name one of
    the replaced ones, and have to name the new one. replaces: all that the new one stands for,
    those that an earlier squash has replaced included.
    """

    replaced: tuple[Revision, ...]
    down: tuple[str, ...]
    depends_on: tuple[str, ...]
    labels: tuple[str, ...]
    heads: tuple[str, ...]
    followers: tuple[Revision, ...]
    replaces: tuple[str, ...]

    def renamed(self, new: str) -> dict[str, str]:
        """Return what `rebased` is to exchange in the followers, for the new revision's id."""
        return dict.fromkeys((each.id for each in self.replaced), new)


def select(scripts: Sequence[Revision], *, first: str = "", last: str = "") -> Selection:
    """Return what is replaced from `first` to `last`, both included.

    They are what a person gave: an id or its beginning, `head`, `heads`, `base`, a branch label, or
    one of these behind `label@`. Without `first` it begins at the base: of the branch, where `last`
    names one. Without `last` it ends at all heads. A label alone is the revision that has it, or as
    `last` the head of its branch. Raises SettingsError where they name no such revisions, and
    StepFailedError where these cannot be replaced.
    """
    graph = _graph(scripts)
    ends = graph.ends(last or "heads")
    starts = graph.starts(first, last)
    chosen = graph.above(ends)
    if starts:
        after = graph.below(starts)
        stray = [each for each in starts if each not in chosen]
        if stray or not after.intersection(ends):
            begin, end = few(stray or starts), few(ends)
            what = f"{FIRST} {begin} is no ancestor of {LAST} {end}"
            raise SettingsError([(what, f"name two revisions of one line: {_LOOK}")])
        chosen &= after
    if len(chosen) == 1:
        what = f"{next(iter(chosen))} is one revision alone, so that there is nothing to squash"
        raise SettingsError([(what, f"name an earlier {FIRST}, or a later {LAST}")])
    graph.demand_whole(chosen)
    return graph.selection(chosen)


def _graph(scripts: Sequence[Revision]) -> _Graph:
    if not scripts:
        raise StepFailedError("there is no migration file", "check where Alembic looks for them")
    twice = [name for name, times in Counter(each.id for each in scripts).items() if times > 1]
    if twice:
        raise StepFailedError(f"several files have the id {few(twice)}", "keep one file of each id")
    graph = _Graph(by_id(scripts))
    for each in scripts:
        for name in each.needs:
            if graph.meant(name) is None:
                what = f"{each.id} follows {name}, which no file has"
                raise StepFailedError(what, f"bring its file back first: {_LOOK}")
    if circle := graph.circle():
        what = f"the revisions follow each other in a circle: {few(circle)}"
        raise StepFailedError(what, "correct the down_revision of one of them")
    return graph


@dataclass(frozen=True)
class _Graph:
    """The revisions of one chain, and which needs which."""

    known: Mapping[str, Revision]

    @cached_property
    def labelled(self) -> dict[str, str]:
        """The revision that has each branch label."""
        return {label: each.id for each in self.known.values() for label in each.own_labels}

    @cached_property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """What must have run before each."""
        return {
            name: tuple(dict.fromkeys(filter(None, map(self.meant, each.needs))))
            for name, each in self.known.items()
        }

    @cached_property
    def down(self) -> dict[str, tuple[str, ...]]:
        """What each follows by `down_revision`."""
        return {name: each.down for name, each in self.known.items()}

    @cached_property
    def needed_by(self) -> dict[str, list[str]]:
        """What needs each, the other way round."""
        return _turned(self.needs)

    @cached_property
    def order(self) -> list[str]:
        """All of them, each behind what it needs."""
        return script_files.newest_first(dict(reversed(self.needs.items())))[::-1]

    @cached_property
    def heads(self) -> list[str]:
        """Those that no other one follows, as Alembic has them: what depends on one counts not."""
        followed = {name for down in self.down.values() for name in down}
        return [name for name in self.order if name not in followed]

    def meant(self, name: str) -> str | None:
        """Return which one a script means: by its id, a label, or the beginning of an id."""
        if name in self.known:
            return name
        if name in self.labelled:
            return self.labelled[name]
        beginning = name.rpartition("@")[2]
        found = [each for each in self.known if beginning and each.startswith(beginning)]
        return found[0] if len(found) == 1 else None

    def circle(self) -> list[str]:
        """Return what has no order, because it is in a circle or behind one."""
        waiting = {name: len(needs) for name, needs in self.needs.items()}
        ready = [name for name, count in waiting.items() if not count]
        while ready:
            for each in self.needed_by.get(ready.pop(), ()):
                waiting[each] -= 1
                ready += [each] if not waiting[each] else []
        return [name for name, count in waiting.items() if count]

    def above(self, names: Iterable[str]) -> set[str]:
        """Return these and all that they need."""
        return _reached(names, self.needs)

    def below(self, names: Iterable[str]) -> set[str]:
        """Return these and all that need them."""
        return _reached(names, self.needed_by)

    def starts(self, first: str, last: str) -> list[str]:
        """Return where to begin; nothing means at the beginning of all that `last` needs."""
        branch = last.rpartition("@")[0] or last
        if not first and branch in self.labelled:
            first = f"{branch}@base"
        if first in {"", "base"}:
            return []
        return self.named(first, FIRST)

    def ends(self, last: str) -> list[str]:
        """Return where to end."""
        if last in self.labelled and last not in self.known:
            last = f"{last}@head"
        return self.named(last, LAST)

    def named(self, text: str, flag: str) -> list[str]:
        """Return what a person has named. Raises SettingsError where that is unclear."""
        branch, _, name = text.rpartition("@")
        among = list(self.known)
        if branch:
            [root] = self._one(branch, list(self.known), f"{flag} {text}")
            line = _reached([root], self.down) | _reached([root], _turned(self.down))
            among = [each for each in self.order if each in line]
        heads = [each for each in among if each in self.heads]
        if name == "base":
            bases = [each for each in among if not self.down[each]]
            return bases if branch else self._unknown(f"{flag} {text}")
        if name == "head" and len(heads) > 1:
            what = f"{flag} {text}: there are several heads, {few(heads)}"
            raise SettingsError([(what, "name one of them, or `heads` for all")])
        return heads if name in {"head", "heads"} else self._one(name, among, f"{flag} {text}")

    def _one(self, name: str, among: Sequence[str], flag: str) -> list[str]:
        if name in among:
            return [name]
        if self.labelled.get(name) in among:
            return [self.labelled[name]]
        found = [each for each in among if name and each.startswith(name)]
        if len(found) > 1:
            what = f"{flag}: several revisions begin so, {few(found)}"
            raise SettingsError([(what, "write more of the one that you mean")])
        return found or self._unknown(flag)

    def _unknown(self, flag: str) -> list[str]:
        raise SettingsError([(f"{flag}: no revision here is called so", _LOOK)])

    def demand_whole(self, chosen: Collection[str]) -> None:
        """Raise StepFailedError if something that stays needs a part of what would be gone.

        A database may have run that part, and what stays, and nothing of the rest: the new
        revision cannot stand for that.
        """
        problems = []
        for name, each in self.known.items():
            gone = [need for need in self.needs[name] if need in chosen]
            if name not in chosen and gone and not self.above([name]).issuperset(chosen):
                latest = max(gone, key=self.order.index)
                verb = "follows" if latest in each.down else "depends on"
                problems.append((f"{name} {verb} {latest}", latest, name))
        if problems:
            texts = few(text for text, _latest, _name in problems)
            _text, latest, name = problems[0]
            what = f"{texts}, which would be gone"
            raise StepFailedError(
                what, f"squash up to {latest} ({LAST} {latest}), or rebase {name}"
            )

    def selection(self, chosen: Collection[str]) -> Selection:
        """Return what the new revision takes over of these."""
        replaced = [self.known[name] for name in self.order if name in chosen]
        inside = {name for each in chosen for name in self.needs[each]}
        down = self._parents(replaced, chosen)
        replaces = [name for each in replaced for name in (*each.replaces, each.id)]
        return Selection(
            replaced=tuple(replaced),
            down=down,
            depends_on=self._dependencies(replaced, chosen, down),
            labels=tuple(dict.fromkeys(label for each in replaced for label in each.own_labels)),
            heads=tuple(each.id for each in replaced if each.id not in inside),
            followers=tuple(
                self.known[name]
                for name in self.order
                if name not in chosen and not {*self.known[name].needs}.isdisjoint(chosen)
            ),
            replaces=tuple(dict.fromkeys(replaces)),
        )

    def _parents(self, replaced: Iterable[Revision], chosen: Collection[str]) -> tuple[str, ...]:
        """Return what they follow, but for what another one of these follows itself."""
        found = dict.fromkeys(name for each in replaced for name in each.down if name not in chosen)
        above = {name for each in found for name in _reached(self.down[each], self.down)}
        return tuple(name for name in found if name not in above)

    def _dependencies(
        self, replaced: Iterable[Revision], chosen: Collection[str], down: Iterable[str]
    ) -> tuple[str, ...]:
        """Return what they depend on, but for what has run before that anyway.

        Alembic would write such a one into the version table beside what comes after it, when it
        downgrades, and stop at that later.
        """
        found: dict[str, str] = {}
        for name in (name for each in replaced for name in each.depends_on):
            meant = self.meant(name)
            if meant is not None and meant not in chosen:
                found.setdefault(meant, name if name in self.labelled else meant)
        before = self.above(down)
        before |= {name for each in found for name in self.above(self.needs[each])}
        self._demand_rows(down, [each for each in found if each not in before])
        return tuple(name for meant, name in found.items() if meant not in before)

    def _demand_rows(self, down: Iterable[str], depends_on: Iterable[str]) -> None:
        """Raise StepFailedError if the new one follows what comes before something it needs.

        Alembic would look for the row of the one, which is gone once the other one has run.
        """
        for each in (*down, *depends_on):
            for earlier in self.above(self.needs[each]).intersection(down):
                what = f"the new revision would follow {earlier}, and {each} that comes after it"
                raise StepFailedError(what, f"squash from {earlier} on ({FIRST} {earlier})")


def _turned(edges: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, several in edges.items():
        for each in dict.fromkeys(several):
            found[each].append(name)
    return dict(found)


def _reached(names: Iterable[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
    """Return these, and all that a way leads to from them."""
    seen: set[str] = set()
    todo = list(names)
    while todo:
        each = todo.pop()
        if each not in seen:
            seen.add(each)
            todo += edges.get(each, ())
    return seen
