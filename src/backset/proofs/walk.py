"""Builds a chain from empty in a scratch database, and reads its schema at places on the way."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from backset.catalogs import catalog, difference, partitions, schema
from backset.catalogs.difference import Sides
from backset.configuration.values import ALL_HEADS
from backset.migrations import upgrading
from backset.proofs import scratch
from backset.scripts import graph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from backset.catalogs.difference import Difference, Item
    from backset.migrations.worker import Worker
    from backset.proofs.scratch import Scratch
    from backset.runs.build import Build
    from backset.scripts.revisions import Revision

    Progress = Callable[[str], None]

# Who owns what and who may do what is an administrator's matter as well as the chain's.
_MINOR = frozenset({"owner", "rights", "version", "default acl"})
_BASE = "base"  # Alembic's word for where no revision has run
_SIDES = Sides("the migrations", "the database")


class Live:
    """The target of a build, but for what belongs to others.

    names: a text of its columns. counts: how many tables there may be where these are. rows: those
    of its version tables. Its objects are read when they are asked for, while the chain is built.
    """

    def __init__(self, build: Build) -> None:
        self._session, self._others = build.live, build.sharing
        self._version_tables = catalog.version_tables(self._session)
        has = self._others.has
        known = {*catalog.tables(self._session)} - {*self._version_tables}
        tables = {each for each in known if not has(each)}
        columns = catalog.table_columns(self._session)
        names = sorted(f"{'.'.join(each)}.{own}" for each in tables for own in columns[each])
        self.names = "\n".join(names)
        self.counts = range(len(tables), len(tables) + 1 + max(1, len(self._version_tables)))
        self.rows = place(catalog.revisions(self._session, has))
        self.uncreatable: frozenset[str] = frozenset()

    @cached_property
    def items(self) -> Mapping[str, Item]:
        """Its objects, but for those that the role could not make in a scratch database."""
        found = schema.read(self._session, spare=self._version_tables, others=self._others)
        return {key: each for key, each in found.items() if key not in self.uncreatable}

    @cached_property
    def partitions(self) -> frozenset[str]:
        """The keys of those tables that hold a part of another one's rows."""
        return partitions.keys(self._session)

    def is_invalid(self, key: str) -> bool:
        """Tell whether it is an index that a CREATE INDEX CONCURRENTLY did not finish."""
        return key in self.items and "valid" in self.items[key].aspects

    def watched(self, end: str, *, everywhere: bool) -> dict[str, Any]:
        """Return what a worker is told that looks for it; the end is looked at by itself."""
        signs = [(catalog.TABLE_COUNT, [*self.counts]), (catalog.COLUMN_NAMES, [self.names])]
        return {
            "signs": signs if everywhere else [],
            "recorded": [] if self.rows == end else self.rows.split(),
            "settings": schema.STATEMENTS,
            "schema": schema.ROWS,
        }


@dataclass(frozen=True)
class Reached:
    """A place of the chain: the rows that the version table has there, and the schema.

    live: the target. None: the tables have other columns than the target's, and nothing else was
    read.
    """

    rows: str
    items: Mapping[str, Item] | None
    live: Live

    @cached_property
    def differences(self) -> list[Difference]:
        """How the target differs from what the chain has made up to here."""
        if self.items is None:
            return []
        # Partitions that an application makes while it runs belong to its rows.
        of_rows = self.live.partitions - {*self.items}
        items = {
            key: each
            for key, each in self.live.items.items()
            if not (key in of_rows or each.parent in of_rows)
        }
        return compare(self.items, items)

    @property
    def is_same(self) -> bool:
        """Whether the target could be stamped with these rows."""
        return self.items is not None and is_proved(self.differences)


class Walk:
    """A chain that is being built, since begun() has let Alembic begin.

    is_short: whether of the places on its way only that is looked at which the target names.
    """

    def __init__(self, made: Scratch, live: Live, *, everywhere: bool) -> None:
        self.made = made
        self._live = live
        self.is_short = not everywhere and self.is_plain and self._is_known
        self._passed = [] if live.names else [Reached(_BASE, made.schema(), live)]
        self._end: Callable[[Progress], dict[str, Any]] | None = None
        if self.is_plain:
            worker = made.workers[0]
            to = () if worker.lineage.heads else ALL_HEADS
            end = place(worker.scripts.goal or worker.scripts.heads)
            watched = live.watched(end, everywhere=not self.is_short)
            self._end = upgrading.begin(worker, made.session, to=to, watched=watched)

    @property
    def scripts(self) -> list[Revision]:
        """The revisions of every chain."""
        return [each for worker in self.made.workers for each in worker.scripts.revisions]

    @property
    def is_plain(self) -> bool:
        """Whether Alembic alone builds it, which can be looked at on its way."""
        settings, (worker, *more) = self.made.settings, self.made.workers
        return not (more or settings.init or worker.lineage.init or worker.has_door)

    @property
    def _is_known(self) -> bool:
        """Whether there are scripts of all that the target names."""
        return {each.id for each in self.scripts}.issuperset(self._live.rows.split())

    def places(self, progress: Progress) -> list[Reached]:
        """Wait until the chain is built; return its places, of which the last one is its end.

        Of several chains in one database, and where a command of the project migrates, only the
        beginning and the end are places. Raises StepFailedError.
        """
        made, seen = self.made, []
        if self._end is not None:
            seen = self._end(progress)["places"]
        else:
            made.upgrade(progress)
        made.inheritance.complete(made.session)
        own = schema.keys(made.session, catalog.version_tables(made.session))
        rows, end = [place(each["rows"]) for each in seen], place(catalog.revisions(made.session))
        if len({*rows}) == len(rows):  # else env.py goes through it for each tenant: no places
            self._passed += [
                Reached(row, each["schema"] and schema.items(each["schema"], own), self._live)
                for row, each in zip(rows, seen, strict=True)
                if row != end
            ]
        return [*self._passed, Reached(end, made.schema(), self._live)]

    def is_aside(self, places: Sequence[Reached]) -> bool:
        """Tell whether there is a way to where the database stands, which was not gone."""
        rows, known = self._live.rows.split(), self.scripts
        is_passed = any(each.rows == self._live.rows for each in places)
        # Of tenants, one may be behind another one: no upgrade ends there.
        is_place = self._is_known and not graph.outdated(rows, known)
        return self.is_plain and not is_passed and is_place


@contextmanager
def begun(
    build: Build,
    live: Live,
    versions: Path | None = None,
    *,
    ahead: Sequence[Worker] = (),
    everywhere: bool = False,
) -> Iterator[Walk]:
    """Let Alembic begin to build the chain; nothing is waited for but that its scripts are read.

    versions: a folder of revisions in place of those that the configuration names. everywhere:
    whether each place is looked at that may be like the target, and not only the one that the
    target names.
    """
    name = build.server.names.scratch
    with scratch.made(build, name, versions=versions, ahead=ahead) as made:
        yield Walk(made, live, everywhere=everywhere)


def straight(build: Build, live: Live, versions: Path | None, progress: Progress) -> Reached:
    """Build the chain up to the revisions that the target has and no further; return that place."""
    with scratch.made(build, build.server.names.scratch, versions=versions) as made:
        upgrading.upgrade(made.workers[0], made.session, progress, to=live.rows.split())
        made.inheritance.complete(made.session)
        return Reached(live.rows, made.schema(), live)


def place(rows: Iterable[str]) -> str:
    """Return how a place is called at which the version table has these rows."""
    return " ".join(sorted(rows)) or _BASE


def compare(made: Mapping[str, Item], live: Mapping[str, Item]) -> list[Difference]:
    """Return how a schema differs from what was built; rows and the version table are left out.

    What is `minor` (the order of columns, owners, rights, versions of extensions) is no reason
    against a stamp.
    """
    return difference.between(made, live, _SIDES, minor=_MINOR)


def is_proved(found: Sequence[Difference]) -> bool:
    """Tell whether nothing stands against stamping the database with the chain's heads."""
    return all(each.minor for each in found)
