"""A database at revisions that were replaced: what it has not run of them, and how a copy does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.catalog import versions
from backset.errors import StepFailedError
from backset.revisions import replaced
from backset.squash.retrieved import Retrieved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backset.carry.tables import CarrySides
    from backset.catalog.versions import VersionTable
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.migrate.upgrading import Progress
    from backset.migrate.worker import Worker
    from backset.revisions.replaced import Leg, ReplacedPlace
    from backset.revisions.script_files import Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtaken:
    """A version table that names replaced revisions, and its way to the one that replaces them."""

    table: VersionTable
    place: ReplacedPlace
    legs: Sequence[Leg]
    files: Retrieved

    def pending(self, matters: Callable[[str], bool]) -> list[Revision]:
        """Return the old revisions that have not run, and whose texts matter, in their order."""
        return [
            each
            for leg in self.legs
            for name in leg.pending
            for each in leg.chain
            if each.id == name and matters(self.files.text(each))
        ]


def look(session: Session, worker: Worker, sides: CarrySides) -> list[Overtaken]:
    """Return the version tables of a chain that can follow; of others nothing is known."""
    scripts = worker.scripts.revisions
    return [*_found(session, worker, sides)] if any(each.replaces for each in scripts) else []


def _found(session: Session, worker: Worker, sides: CarrySides) -> Iterator[Overtaken]:
    scripts, files = worker.scripts.revisions, Retrieved(sides.old.settings, worker)
    for table in versions.tables(session):
        lost = replaced.strangers(table.revisions, scripts)
        found = [
            *replaced.places(table.revisions, scripts),
            *replaced.below(table.revisions, scripts, files.find),
            *replaced.nested(lost, scripts, files.find),
        ]
        for place in found:
            try:
                legs = replaced.legs(place, scripts, files.find)
            except StepFailedError:
                continue
            yield Overtaken(table=table, place=place, legs=legs, files=files)


def rows(table: Sequence[str], found: Sequence[Overtaken]) -> list[str]:
    """Return the rows of a version table as they are once that has followed."""
    new = {row: each.place.squash.id for each in found for row in each.place.rows}
    return sorted({new.get(row, row) for row in table})


def follow(
    sides: CarrySides, database: Target, session: Session, found: Overtaken, progress: Progress
) -> None:
    """Let a copy run what is left of the replaced revisions, and write the id of the new one."""
    for leg in found.legs:
        names = (sides.server.purpose, sides.old.target.database)
        found.files.run(leg, database, session, progress, *names)
        table = versions.VersionTable(found.table.schema, found.table.name, leg.rows)
        versions.follow(session, table, leg.rows, leg.squash.id)
