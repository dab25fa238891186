"""Pure: the revisions of one chain drawn as `git log --graph` does, with the database in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from backset.revisions import graph
from backset.revisions.revision import Revision, by_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backset.revisions.traces import Trace


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
        order = graph.newest_first({name: self._needs(each) for name, each in known.items()})
        down = {name: each.down for name, each in known.items()}
        for line, name in drawn(order, down, marks):
            yield f"{line} {self._about(known[name])}" if name else line

    def content(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "name": self.name,
            "revisions": None if self.database is None else list(self.database),
            "heads": list(self.ends),
            "scripts": [each.content() for each in self.scripts],
            "missing": list(self.missing),
            "problems": list(self.problems),
            "orphans": [each.content() for each in self.traces],
        }

    def _needs(self, script: Revision) -> list[str]:
        """Return what stands below a script; `depends_on` may also name a branch or part of an id.

        A label stands for the scripts that have it, the text before `@` for a label.
        """
        known = self.known
        found = [each for each in script.down if each in known or each in self.missing]
        for wanted in script.depends_on:
            name = wanted.rpartition("@")[2]
            found += [each for each in known if each == name or wanted in known[each].labels]
        return [each for each in dict.fromkeys(found) if each != script.id]

    def _labels(self, script: Revision) -> list[str]:
        """Return the labels at the ends of a branch: Alembic gives them to all between as well."""
        below = (self.loaded[name].labels for name in script.down if name in self.loaded)
        inherited = {label for labels in below for label in labels}
        return [each for each in script.labels if script.id in self.ends or each not in inherited]

    def _about(self, script: Revision) -> str:
        words = ["head"] if script.id in self.ends else []
        words += self._labels(script)
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
