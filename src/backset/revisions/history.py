"""Pure: the revisions of one chain drawn as `git log --graph` does, with the database in it.

And where a revision went that no file has: what orphans.py has found of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from backset.described import ABSENT, described, inline, key, told
from backset.revisions import replaced, script_files
from backset.revisions.script_files import Revision, by_id
from backset.text.quantities import count, few

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backset.revisions.git import Commit
    from backset.revisions.replaced import ReplacedPlace
    from backset.revisions.restore import Recipe


@dataclass(frozen=True, kw_only=True)
class History:
    """One chain of revisions.

    name: the chain's; empty where there is one only. scripts: in any order. heads: as Alembic has
    them; none of a broken chain. database: the rows of the version table; None: not known.
    traces: where those of them went that no file has. problems: what is wrong, a line each.
    """

    scripts: tuple[Revision, ...]
    name: str = ""
    heads: tuple[str, ...] = ()
    database: tuple[str, ...] | None = None
    traces: tuple[Trace, ...] = ()
    problems: tuple[str, ...] = ()

    @cached_property
    def loaded(self) -> dict[str, Revision]:
        """The scripts that Alembic loads, by their ids."""
        return by_id(self.scripts)

    @cached_property
    def squashed(self) -> dict[str, list[ReplacedPlace]]:
        """Where the database stands in what a script replaces, by the id of that script."""
        found: dict[str, list[ReplacedPlace]] = {}
        for each in replaced.places(self.database or (), self.scripts):
            found.setdefault(each.squash.id, []).append(each)
        return found

    @cached_property
    def gone(self) -> dict[str, Revision]:
        """The orphaned revisions and what they need, as far as their scripts were found."""
        found = {each.revision: Revision(id=each.revision) for each in self.traces}
        found |= by_id(script for each in self.traces for script in each.scripts)
        return {name: each for name, each in found.items() if name not in self.loaded}

    @cached_property
    def known(self) -> dict[str, Revision]:
        """All whose scripts are there, or were found elsewhere."""
        return self.loaded | self.gone

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """The revisions that a script follows, and that were found nowhere."""
        followed = dict.fromkeys(name for each in self.known.values() for name in each.down)
        return tuple(name for name in followed if name not in self.known)

    @cached_property
    def ends(self) -> tuple[str, ...]:
        """The heads; of a broken chain those scripts that no other one follows."""
        followed = {name for each in self.scripts for name in each.down}
        return self.heads or tuple(name for name in self.loaded if name not in followed)

    def lines(self) -> Iterator[str]:
        """Yield the drawing: a line for each revision, the newest first, and those between."""
        known = self.known | {name: Revision(id=name) for name in self.missing}
        marks = dict.fromkeys(self.gone, "x") | dict.fromkeys(self.missing, "?")
        order = script_files.newest_first({name: self.needs(each) for name, each in known.items()})
        down = {name: each.down for name, each in known.items()}
        for line, name in drawn(order, down, marks):
            yield f"{line} {self._about(known[name])}" if name else line

    @property
    def told(self) -> ToldChain:
        """What programs get of it."""
        return ToldChain(
            name=self.name,
            revisions=self.database,
            heads=self.ends,
            scripts=self.scripts,
            missing=self.missing,
            problems=self.problems,
            orphans=self.traces,
        )

    def needs(self, script: Revision) -> list[str]:
        """Return what stands below a script; `depends_on` may also name a branch or part of an id.

        A label stands for the scripts that have it, the text before `@` for a label.
        """
        known = self.known
        found = [each for each in script.down if each in known or each in self.missing]
        for wanted in script.depends_on:
            name = wanted.rpartition("@")[2]
            found += [each for each in known if each == name or wanted in known[each].labels]
        return [each for each in dict.fromkeys(found) if each != script.id]

    def labels(self, script: Revision) -> list[str]:
        """Return the labels at the ends of a branch: Alembic gives them to all between as well."""
        below = (self.loaded[name].labels for name in script.down if name in self.loaded)
        inherited = {label for labels in below for label in labels}
        return [each for each in script.labels if script.id in self.ends or each not in inherited]

    def _about(self, script: Revision) -> str:
        words = ["head"] if script.id in self.ends else []
        words += self.labels(script)
        if script.replaces:
            words.append(f"replaces {count(len(script.replaces), 'revision')}")
        if script.depends_on:
            words.append(f"depends on {', '.join(script.depends_on)}")
        if script.id in self.gone:
            is_orphan = any(each.revision == script.id for each in self.traces)
            words.append("orphaned: no migration file has it" if is_orphan else "gone")
        if script.id in self.missing:
            words.append("missing: no migration file has it")
        marks = f" ({', '.join(words)})" if words else ""
        doc = f" {script.doc.splitlines()[0]}" if script.doc.strip() else ""
        here = " ← database" if script.id in (self.database or ()) else ""
        here += "".join(f" ← database at {each.shown}" for each in self.squashed.get(script.id, ()))
        return f"{script.id}{marks}{doc}{here}"


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


@described(kw_only=True)
class ToldChain:
    """One chain of revisions, in `chains`."""

    name: str = key("of `[[tool.backset.chains]]`; empty where there is only one chain")
    revisions: Sequence[str] | None = key(
        "the rows of its version table; null where `history` could not ask the database"
    )
    heads: Sequence[str] = key("the heads of its scripts")
    scripts: tuple[Revision, ...] = key("`history`: its scripts", default=ABSENT)
    missing: tuple[str, ...] = key(
        "`history`: those that a script follows, and no file has", default=ABSENT
    )
    problems: tuple[str, ...] = key("`history`: what keeps Alembic from loading it", default=ABSENT)
    orphans: tuple[Trace, ...] = key(
        "`history`: where those of its revisions went that no file has", default=ABSENT
    )


@described(kw_only=True)
class Removal:
    """The commit that took a revision's file away, in the `removal` of an orphan."""

    commit: Commit = inline()
    path: str = key("where the file was, from the top of git's repository")
    renamed_to: str = key("where it went; null unless it was renamed", null=True)
    replaced_by: tuple[Revision, ...] = key("the scripts that the same commit added")
    is_ours: bool = key("whether what is checked out comes after this commit", "in_head")

    def line(self) -> str:
        """Return in one line what happened, when and by whom."""
        commit = self.commit
        how = "given another id" if self.path in commit.changed else "removed"
        how = f"renamed to {self.renamed_to}" if self.renamed_to else how
        text = f"{self.path} was {how} by {commit.short} {commit.subject!r}"
        text += f" of {commit.author} on {commit.moment[:10]}"
        if self.replaced_by:
            text += f", which added {few(f'{each.id} ({each.path})' for each in self.replaced_by)}"
        return text if self.is_ours else f"{text}, on another branch"


@described(kw_only=True)
class Packed:
    """A script in a tar of `backup` or `archive`, in the `archives` of an orphan."""

    file: str = key("the path of the tar")
    member: str = key("the script's name in it")


@described(kw_only=True)
class Generation:
    """One of several scripts that have had one id, in `generations`."""

    path: str = key("its file")
    commit: str = key("a commit that has it; null for a copy in the project", null=True)
    after: tuple[str, ...] = key("the revisions that it needs")
    doc: str = key("the first line of its docstring")
    command: str = key("the command line that brings it back")
    is_meant: bool = key("whether it is the one that fits today's scripts", "meant")

    def __str__(self) -> str:
        where = f" of {self.commit}" if self.commit else ""
        after = f"after {few(self.after)}" if self.after else "the first of its chain"
        return f"{self.path}{where} ({after}{f', {self.doc!r}' if self.doc else ''})"


@described(kw_only=True)
class Trace:
    """Where a revision went that no migration file has, in `orphans`.

    scripts: its script and those of its companions, where they are.
    recipe: what brings them back; None where nothing was found, and where a person has to choose.
    """

    revision: str = key("its id")
    doc: str = key("the first line of its docstring; empty where that is not known", default="")
    copies: tuple[str, ...] = key("files of the project that still have it", default=())
    archives: tuple[Packed, ...] = key(
        "tars of `backup` or `archive` that have it; looked at where nothing else has it",
        default=(),
    )
    removal: Removal | None = key(
        "the commit that took its file away; null where none is known", default=None
    )
    uncommitted: str = key(
        "its path, where it was deleted and that is not committed; else null", null=True, default=""
    )
    refs: tuple[str, ...] = key("branches and tags that still have it", default=())
    companions: tuple[str, ...] = key("other missing revisions that come back with it", default=())
    scripts: tuple[Revision, ...] = ()
    recipe: Recipe | None = None
    generations: tuple[Generation, ...] = key(
        "the scripts that have had this id, where there are several: all else is about the one "
        "that fits, and empty where a person has to choose",
        default=(),
    )
    gaps: tuple[str, ...] = key(
        "what could not be looked at, such as git's history", "not_searched", default=()
    )

    @property
    @told("the command line that brings it back; null where none does", null=True)
    def command(self) -> str:
        """The command line that brings it back; empty where there is none."""
        return self.recipe.command if self.recipe else ""

    @property
    def is_found(self) -> bool:
        """Whether there is a way to bring it back."""
        return self.recipe is not None

    def lines(self) -> list[str]:
        """Each thing that was found in one line, without the command."""
        found = [f"a copy is {few(self.copies)}"] if self.copies else []
        found += [self.removal.line()] if self.removal else []
        if self.uncommitted:
            found.append(f"{self.uncommitted} was deleted, and that is not committed")
        found += [f"it is still on {few(self.refs)}"] if self.refs else []
        if self.archives and not found:
            found += [f"{each.file} has it as {each.member}" for each in self.archives[:1]]
        if self.companions:
            found.append(f"it needs {few(self.companions)}, which no migration file has either")
        found = self._several() + found
        if not found:
            found.append("no folder, no commit and no backup here has its file")
        return found + [f"not searched: {gap}" for gap in self.gaps]

    def _several(self) -> list[str]:
        if not self.generations:
            return []
        meant = next((each for each in self.generations if each.is_meant), None)
        names = "; ".join(map(str, self.generations))
        line = f"{len(self.generations)} scripts have had this id: {names}"
        if meant:
            return [f"{line}; what follows is about {meant.path}{_at(meant)}, which fits here"]
        return [
            f"{line}; it does not show which of them has run here: choose one by its command",
            *(f"{each.path}{_at(each)}: {each.command}" for each in self.generations),
        ]


def _at(generation: Generation) -> str:
    return f" of {generation.commit}" if generation.commit else ""
