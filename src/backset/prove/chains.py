"""What a revision chain makes in a scratch database, and whether another one makes the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.catalog import catalog, schema
from backset.catalog.schema import Difference, Sides
from backset.described import described, key
from backset.errors import Finding
from backset.prove import rows
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backset.catalog.catalog import LaggingSequence
    from backset.catalog.schema import Item
    from backset.prove.rows import TableRows
    from backset.prove.scratch import Scratch

SIDES = Sides("the old chain", "the new chain")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltChain:
    """What a chain has made: its schema, the rows, and where the sequences stand."""

    revisions: int
    schema: Mapping[str, Item]
    rows: Mapping[str, TableRows]
    sequences: Mapping[str, str]
    lagging: tuple[LaggingSequence, ...]

    @classmethod
    def of(cls, made: Scratch, revisions: int) -> BuiltChain:
        """Read what so many revisions have made in a scratch database."""
        return cls(
            revisions=revisions,
            schema=made.schema(),
            rows=rows.read(made.session),
            sequences=rows.sequences(made.session),
            lagging=tuple(catalog.lagging_sequences(made.session)),
        )

    @property
    def made(self) -> Made:
        """How much that is."""
        total = sum(each.total for each in self.rows.values())
        return Made(revisions=self.revisions, objects=len(self.schema), rows=total)


@described(kw_only=True)
class Made:
    """How much a chain has made, in the `made` of the steps `old` and `new` of `prove-squash`."""

    revisions: int = key("how many revisions ran")
    objects: int = key("how many objects they made")
    rows: int = key("how many rows they inserted, of all tables together")

    def __str__(self) -> str:
        objects = f"{count(self.objects, 'object')}, {count(self.rows, 'row')}"
        return f"{count(self.revisions, 'revision')}, {objects}"


def compare(
    old: BuiltChain, new: BuiltChain, again: Callable[[str], BuiltChain]
) -> list[Difference]:
    """Return how what two chains have made differs; none is good.

    again: builds one of SIDES anew. It is asked for only where rows differ: what differs between
    two builds of the same chain, such as the times of their rows, is no difference of the chains.
    """
    found = schema.between(old.schema, new.schema, SIDES)
    volatile: dict[str, set[str]] = {}
    differing = rows.between(old.rows, new.rows, SIDES, volatile)
    for side, made in ((SIDES.new, new), (SIDES.old, old)):
        if any(not each.minor for each in differing):
            for table, columns in rows.unstable(made.rows, again(side).rows).items():
                volatile.setdefault(table, set()).update(columns)
            differing = rows.between(old.rows, new.rows, SIDES, volatile)
    return [*found, *differing, *_sequences(old, new)]


def _sequences(old: BuiltChain, new: BuiltChain) -> list[Difference]:
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


def finding(each: Difference) -> Finding:
    """Return a difference as a finding."""
    return Finding(
        kind="squash differs",
        name=schema.shown(each.subject),
        what=each.text,
        why="the two chains do not make the same database",
        remedy="mend the new chain, unless this is what it is for",
    )
