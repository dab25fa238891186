"""Proves a squash: two chains built in scratch databases, compared in schema and in rows."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.catalogs import catalog, difference
from backset.catalogs.difference import Difference, Sides
from backset.connections.session import explained
from backset.errors import Finding, Overdue, StepFailedError
from backset.migrations import bygone
from backset.migrations.bygone import Chain
from backset.processes import signals
from backset.proofs import rows, scratch
from backset.servers import companions
from backset.steps import Done
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backset.catalogs.catalog import LaggingSequence
    from backset.catalogs.difference import Item
    from backset.chain import Watcher
    from backset.proofs.rows import Rows
    from backset.runs.build import Build
    from backset.runs.guard import Answer

    Progress = Callable[[str], None]

SIDES = Sides("the old chain", "the new chain")
_PURPOSE = "prove a squash"
_OLDER = "name a commit whose chain runs, or a copy of the old revisions in which that is mended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a chain has made: its schema, the rows, and where the sequences stand."""

    revisions: int
    schema: Mapping[str, Item]
    rows: Mapping[str, Rows]
    sequences: Mapping[str, str]
    lagging: tuple[LaggingSequence, ...]

    def __str__(self) -> str:
        total = sum(each.total for each in self.rows.values())
        objects = f"{count(len(self.schema), 'object')}, {count(total, 'row')}"
        return f"{count(self.revisions, 'revision')}, {objects}"

    def content(self) -> dict[str, int]:
        """Return the numbers for programs."""
        total = sum(each.total for each in self.rows.values())
        return {"revisions": self.revisions, "objects": len(self.schema), "rows": total}


def prove(build: Build, old: str, watcher: Watcher, answer: Answer) -> list[Finding]:
    """Build both chains, compare what they made, and return the differences; minor ones are told.

    old: what bygone.opened() takes. answer: whether a lock is waited for, and how long a step.
    """
    names = build.server.names
    scratch.prepare(build, names.scratches, _PURPOSE, watcher.notice if answer.wait else None)
    today = Chain(settings=build.settings, shown="as it is on disk")
    with bygone.opened(build.settings, old) as before, explained(build.target):
        both = {SIDES.old: (before, names.scratch_old), SIDES.new: (today, names.scratch)}

        def make(side: str) -> Made:
            with _limited(watcher, answer.timeout_s) as progress:
                return _made(build, side, *both[side], progress)

        def again(side: str) -> Made:
            watcher.progress(f"building {side} again, to see what each build makes anew")
            return make(side)

        made = []
        for side, step in ((SIDES.old, "old"), (SIDES.new, "new")):
            watcher.begin(step)
            made.append(make(side))
            watcher.end(
                step, Done(f"{both[side][0].shown} · {made[-1]}", {"made": made[-1].content()})
            )
        watcher.begin("compare")
        found = compare(made[0], made[1], again)
    for each in found:
        if each.minor:
            watcher.notice(each.text)
    findings = [_finding(each) for each in found if not each.minor]
    minor = len(found) - len(findings)
    watcher.end("compare", Done(_verdict(len(findings), minor), {"minor": minor}))
    return findings


def plan(build: Build, old: str) -> list[tuple[str, str]]:
    """Return (step, what it would do). Nothing is changed. Raises as prove() would."""
    names = build.server.names
    companions.refuse_scratch(build.server, names.scratches, build.databases, _PURPOSE)
    before = bygone.named(build.settings, old)
    return [
        ("old", f"would build {before} in {names.scratch_old}, and drop that"),
        ("new", f"would build the chain as it is on disk in {names.scratch}, and drop that"),
        ("compare", "would compare every object, and the rows that migrations insert"),
    ]


def _made(build: Build, side: str, chain: Chain, name: str, progress: Progress) -> Made:
    """Build a chain in the scratch database `name`, read that, and drop it.

    Raises StepFailedError that says whose chain it is: it may be broken itself.
    """
    try:
        with scratch.made(build, name, settings=chain.settings, versions=chain.versions) as one:
            return Made(
                revisions=one.upgrade(progress),
                schema=one.schema(),
                rows=rows.read(one.session),
                sequences=rows.sequences(one.session),
                lagging=tuple(catalog.lagging_sequences(one.session)),
            )
    except StepFailedError as error:
        what = f"{side} ({chain.shown}) cannot be built on an empty database: {error.what}"
        remedy = _OLDER if side == SIDES.old else error.remedy
        raise StepFailedError(what, remedy) from None


@contextmanager
def _limited(watcher: Watcher, limit_s: float) -> Iterator[Progress]:
    """Give the block so many seconds, and what it tells its progress to."""
    doing = ""

    def progress(text: str) -> None:
        nonlocal doing
        doing = text
        watcher.progress(text)

    try:
        with signals.limited(limit_s):
            yield progress
    except Overdue as error:
        error.doing = doing
        raise


def _verdict(findings: int, minor: int) -> str:
    text = f"{count(findings, 'difference')}" if findings else "both chains make the same"
    return text + (f", and {minor} that matter less" if minor else "")


def compare(old: Made, new: Made, again: Callable[[str], Made]) -> list[Difference]:
    """Return how what two chains have made differs; none is good.

    again: builds one of SIDES anew. It is asked for only where rows differ: what differs between
    two builds of the same chain, such as the times of their rows, is no difference of the chains.
    """
    found = difference.between(old.schema, new.schema, SIDES)
    volatile: dict[str, set[str]] = {}
    differing = rows.between(old.rows, new.rows, SIDES, volatile)
    for side, made in ((SIDES.new, new), (SIDES.old, old)):
        if any(not each.minor for each in differing):
            for table, columns in rows.unstable(made.rows, again(side).rows).items():
                volatile.setdefault(table, set()).update(columns)
            differing = rows.between(old.rows, new.rows, SIDES, volatile)
    return [*found, *differing, *_sequences(old, new)]


def _sequences(old: Made, new: Made) -> list[Difference]:
    """Compare where sequences stand: it matters where the next value is one that is there."""
    found = [
        Difference(
            subject=each.name,
            what="sequence",
            text=f"sequence {each.name} would give {each.next_value} next in {SIDES.new}, and "
            f"{each.column} has {each.maximum} already",
        )
        for each in new.lagging
        if each.name not in {other.name for other in old.lagging}
    ]
    for name in sorted(old.sequences.keys() & new.sequences.keys()):
        before, after = old.sequences[name], new.sequences[name]
        if before != after:
            text = f"sequence {name} stands at {before} in {SIDES.old}, {after} in {SIDES.new}"
            found.append(Difference(subject=name, what="sequence", text=text, minor=True))
    return found


def _finding(each: Difference) -> Finding:
    """Return a difference as a finding."""
    return Finding(
        kind="squash differs",
        name=difference.shown(each.subject),
        what=each.text,
        why="the two chains do not make the same database",
        remedy="mend the new chain, unless this is what it is for",
    )
