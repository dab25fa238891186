"""Finds where in its chain the live schema really is: by a scratch build, revision by revision."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self

from backset.catalog import catalog, past, schema
from backset.catalog.schema import Sides
from backset.checks.differences import LEFTOVER
from backset.connections.session import explained
from backset.errors import RefusedError, StepFailedError
from backset.migrate import current, upgrading
from backset.process import files
from backset.prove import scratch
from backset.revisions import operations, restore, script_files
from backset.settings.values import ALL_HEADS
from backset.status.facts import Proof

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from backset.catalog.schema import Difference, Item
    from backset.migrate.answers import Migrated
    from backset.migrate.worker import Worker
    from backset.prove.scratch import Scratch
    from backset.revisions.restore import Recipe
    from backset.revisions.script_files import Revision
    from backset.runs.run import Run

    Progress = Callable[[str], None]

# Who owns what, who may do what, and where it is kept is an administrator's matter as well as the
# chain's.
_MINOR = schema.OF_AN_ADMINISTRATOR | schema.KINDS_OF_AN_ADMINISTRATOR
_BASE = "base"  # Alembic's word for where no revision has run
_SIDES = Sides("the migrations", "the database")
# Ours on two databases, Alembic's on two more, and one for what env.py may open beside.
_SESSIONS = 6


class _Live:
    """The target of a run, but for what belongs to others.

    names: a text of its columns. counts: how many tables there may be where these are. rows: those
    of its version tables. Its objects are read when they are asked for, while the chain is built.
    """

    def __init__(self, run: Run) -> None:
        self._session, self._others = run.current.session(), run.current.sharing()
        self._version_tables = catalog.version_tables(self._session)
        has = self._others.has
        known = {*catalog.tables(self._session)} - {*self._version_tables}
        tables = {each for each in known if not has(each)}
        columns = catalog.table_columns(self._session)
        names = sorted(f"{'.'.join(each)}.{own}" for each in tables for own in columns[each])
        self.names = "\n".join(names)
        self.counts = range(len(tables), len(tables) + 1 + max(1, len(self._version_tables)))
        self.rows = _place(catalog.revisions(self._session, has))
        self.uncreatable: frozenset[str] = frozenset()

    @cached_property
    def items(self) -> Mapping[str, Item]:
        """Its objects, but for those that the role could not make in a scratch database."""
        found = schema.read(self._session, spare=self._version_tables, others=self._others)
        return {key: each for key, each in found.items() if key not in self.uncreatable}

    @cached_property
    def partitions(self) -> frozenset[str]:
        """The keys of those tables that hold a part of another one's rows."""
        return past.keys(self._session)

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
class _Reached:
    """A place of the chain: the rows that the version table has there, and the schema.

    live: the target. None: the tables have other columns than the target's, and nothing else was
    read.
    """

    rows: str
    items: Mapping[str, Item] | None
    live: _Live

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


class _Walk:
    """A chain that is being built, since _begun() has let Alembic begin.

    is_short: whether of the places on its way only that is looked at which the target names.
    """

    def __init__(self, made: Scratch, live: _Live, *, everywhere: bool) -> None:
        self.made = made
        self._live = live
        self.is_short = not everywhere and self.is_plain and self._is_known
        self._passed = [] if live.names else [_Reached(_BASE, made.schema(), live)]
        self._end: Callable[[Progress], Migrated] | None = None
        if self.is_plain:
            worker = made.workers[0]
            to = () if worker.lineage.heads else ALL_HEADS
            end = _place(worker.scripts.goal or worker.scripts.heads)
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

    def places(self, progress: Progress) -> list[_Reached]:
        """Wait until the chain is built; return its places, of which the last one is its end.

        Of several chains in one database, and where a command of the project migrates, only the
        beginning and the end are places. Raises StepFailedError.
        """
        made = self.made
        seen: Sequence[Mapping[str, Any]] = ()
        if self._end is not None:
            seen = self._end(progress).places
        else:
            made.upgrade(progress)
        made.inheritance.complete(made.session)
        own = schema.keys(made.session, catalog.version_tables(made.session))
        rows, end = [_place(each["rows"]) for each in seen], _place(catalog.revisions(made.session))
        if len({*rows}) == len(rows):  # else env.py goes through it for each tenant: no places
            self._passed += [
                _Reached(row, each["schema"] and schema.items(each["schema"], own), self._live)
                for row, each in zip(rows, seen, strict=True)
                if row != end
            ]
        return [*self._passed, _Reached(end, made.schema(), self._live)]

    def is_aside(self, places: Sequence[_Reached]) -> bool:
        """Tell whether there is a way to where the database stands, which was not gone."""
        rows, known = self._live.rows.split(), self.scripts
        is_passed = any(each.rows == self._live.rows for each in places)
        # Of tenants, one may be behind another one: no upgrade ends there.
        is_place = self._is_known and not script_files.outdated(rows, known)
        return self.is_plain and not is_passed and is_place


@contextmanager
def _begun(
    run: Run,
    live: _Live,
    versions: Path | None = None,
    *,
    ahead: Sequence[Worker] = (),
    everywhere: bool = False,
) -> Iterator[_Walk]:
    """Let Alembic begin to build the chain; nothing is waited for but that its scripts are read.

    versions: a folder of revisions in place of those that the configuration names. everywhere:
    whether each place is looked at that may be like the target, and not only the one that the
    target names.
    """
    name = run.server.names.scratch
    with scratch.created(run, name, versions=versions, ahead=ahead) as made:
        yield _Walk(made, live, everywhere=everywhere)


def _straight(run: Run, live: _Live, versions: Path | None, progress: Progress) -> _Reached:
    """Build the chain up to the revisions that the target has and no further; return that place."""
    with scratch.created(run, run.server.names.scratch, versions=versions) as made:
        upgrading.upgrade(made.workers[0], made.session, progress, to=live.rows.split())
        made.inheritance.complete(made.session)
        return _Reached(live.rows, made.schema(), live)


def _place(rows: Iterable[str]) -> str:
    """Return how a place is called at which the version table has these rows."""
    return " ".join(sorted(rows)) or _BASE


def compare(made: Mapping[str, Item], live: Mapping[str, Item]) -> list[Difference]:
    """Return how a schema differs from what was built; rows and the version table are left out.

    What is `minor` (the order of columns, owners, rights, versions of extensions) is no reason
    against a stamp.
    """
    return schema.between(made, live, _SIDES, minor=_MINOR)


def is_proved(found: Sequence[Difference]) -> bool:
    """Tell whether nothing stands against stamping the database with the chain's heads."""
    return all(each.minor for each in found)


class Placement:
    """A proof: the chain is built in a scratch database, and held against the target on its way.

    Alembic itself runs it, in its own order and with the project's own commands, as a rebuild does;
    it is looked at from inside of the migrations' own transaction.
    What belongs to others is not compared, nor an extension that the role could not make there: the
    proof names it. The target is only read.
    notice: is told for whom we wait, if we may wait. recipe: missing files that the chain is built
    with, without bringing them back. ahead: processes of Alembic that were started for it already.
    """

    def __init__(
        self,
        run: Run,
        progress: Progress,
        notice: Callable[[str], None] | None = None,
        recipe: Recipe | None = None,
        *,
        ahead: Sequence[Worker] = (),
    ) -> None:
        self._run = run
        self._progress = progress
        self._notice = notice
        self._recipe = recipe
        self._ahead = ahead
        self._unbuilt = ""
        self._is_crowded = False
        self._first: _Walk | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(error_type, error, trace)

    def begin(self) -> None:
        """Take the lock of the target; where sessions are not few, begin to build the chain.

        The end of that is not waited for: the target can be looked at meanwhile.
        Raises LockedError.
        """
        self._attempt(self._begin)

    def proof(self, *, differ: bool = True) -> Proof:
        """Build the chain to its end, compare, and return what that proves.

        A chain that cannot be built proves nothing, and the proof says so.
        differ: whether the models differ from the target, so that those are held against the chain
        as well. Raises LockedError.
        """
        proof = None if self._unbuilt else self._attempt(partial(self._proof, differ=differ))
        return proof or Proof(unbuilt=self._unbuilt)

    def _attempt(self, work: Callable[[], Proof | None]) -> Proof | None:
        try:
            with explained(self._run.target):
                return work()
        except StepFailedError as error:
            self._unbuilt = f"the chain cannot be built: {error.what} → {error.remedy}"
        except RefusedError as error:
            self._unbuilt = f"{error.what} → {error.remedy}"
        return None

    def _begin(self) -> None:
        if self._run.current.database is None:
            return
        self._prepare()
        self._is_crowded = self._run.server.free_sessions()[0] < _SESSIONS
        if not self._is_crowded:
            self._first = self._begun()

    def _prepare(self) -> None:
        names = [self._run.server.names.scratch]
        scratch.prepare(self._run, names, "build the chain to compare it", self._notice)

    def _begun(self) -> _Walk:
        where = self._run, self._live, self._versions
        return self._building.enter_context(_begun(*where, ahead=self._ahead))

    @cached_property
    def _building(self) -> ExitStack:
        _ = self._versions  # which is there for longer
        return self._open.enter_context(ExitStack())

    @cached_property
    def _live(self) -> _Live:
        return _Live(self._run)

    @cached_property
    def _versions(self) -> Path | None:
        return self._open.enter_context(_versions(self._run, self._recipe))

    def _proof(self, *, differ: bool) -> Proof:
        run, progress = self._run, self._progress
        if self._is_crowded:
            run.work.leave()  # what has looked at the target makes room
        if self._first is None:
            self._prepare()
        first, live = self._first or self._begun(), self._live
        uncreatable = {f"extension {each}" for each in first.made.inheritance.uncreatable}
        live.uncreatable = frozenset(uncreatable)
        _ = live.items  # while the chain is built
        reached = first.places(progress)
        agrees = not differ or _agrees(first.made)
        is_aside, is_plain, scripts = first.is_aside(reached), first.is_plain, first.scripts
        self._building.close()
        if first.is_short and not _stands(reached, live):  # so that every place is of interest
            with _begun(run, live, self._versions, everywhere=True) as again:
                reached = again.places(progress)
        if is_aside:  # Alembic has taken the branches in another order than this database did
            reached.insert(0, _straight(run, live, self._versions, progress))
        same = [each.rows for each in reached if each.is_same]
        if same and not is_plain:  # the places on its way were not looked at
            same = list(dict.fromkeys([_before(same[-1], scripts), *same]))
        unseen: tuple[str, ...] = ()
        filling, unrun = unseen, unseen
        if live.rows not in same:  # else there is nothing to stamp
            unseen, filling = operations.traceless(scripts, same)
            unrun = operations.unrun(scripts, same, live.rows)
        at_head = _major(reached[-1].differences)
        recorded = next((each for each in reached if each.rows == live.rows), None)
        apart = _major(recorded.differences) if recorded else []
        open_ends = {each.subject for each in at_head}
        of_head = reached[-1].items or {}
        early = [
            each
            for each in apart
            if (each.subject not in open_ends or (each.what == "added" and each.subject in of_head))
            and not live.is_invalid(each.subject)
        ]
        whose = run.current.sharing().whose
        return Proof(
            same=tuple(same),
            differences=_texts(at_head),
            apart=_texts(apart),
            early=_texts(early),
            reached=recorded is not None,
            stands=recorded is not None
            and all(each.what == "added" and each not in early for each in apart),
            agrees=agrees,
            unseen=unseen,
            filling=filling,
            unrun=unrun,
            spare=(*sorted(uncreatable), *([whose] if whose else [])),
        )


def _stands(reached: Sequence[_Reached], live: _Live) -> bool:
    """Tell whether the target is what the revisions that it names make."""
    return any(each.rows == live.rows and each.is_same for each in reached)


def _major(found: Sequence[Difference]) -> list[Difference]:
    return [each for each in found if not each.minor]


def _texts(found: Sequence[Difference]) -> tuple[str, ...]:
    return tuple(each.text for each in found)


@contextmanager
def _versions(run: Run, recipe: Recipe | None) -> Iterator[Path | None]:
    """Give a folder with today's migrations and those of a recipe; None where there is no recipe.

    Raises StepFailedError where a file cannot be had.
    """
    if recipe is None:
        yield None
        return
    with files.temporary() as folder:
        for each in run.work.scripts().revisions:
            shutil.copy(each.path, folder)
        for item, content in restore.contents(recipe, run.settings.plain_env):
            (folder / item.home.name).write_bytes(content)
        yield folder


def _before(at: str, known: Sequence[Revision]) -> str:
    """Return the earliest place whose schema, by the texts of what follows, is that of this one."""
    scripts = {each.id: each for each in known}

    def earliest(row: str) -> str:
        each = scripts.get(row)
        if each is None or len(each.needs) != 1 or operations.shapes(operations.source_of(each)):
            return row
        return earliest(each.needs[0])

    return _place({earliest(each) for each in at.split()})


def _agrees(made: Scratch) -> bool:
    """Tell whether the models agree with what the chain makes, but for tables without a model."""
    for worker in made.workers:
        about = current.describe(worker, made.session)  # a command may be env.py's only door
        found = worker.differences(made.session)["differences"] if about.models else ()
        if any(each["kind"] != LEFTOVER for each in found):
            return False
    return True
