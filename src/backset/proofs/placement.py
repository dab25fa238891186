"""Finds where in its chain the live schema really is: by a scratch build, revision by revision."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.catalogs import catalog, difference, partitions, schema
from backset.catalogs.difference import Sides
from backset.checks.drift import LEFTOVER
from backset.configuration.values import ALL_HEADS
from backset.connections.session import explained
from backset.diagnoses.facts import Proof
from backset.errors import RefusedError, StepFailedError
from backset.migrations import standing, upgrading
from backset.proofs import scratch
from backset.scripts import graph, retrieval, row_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from backset.catalogs.difference import Difference, Item
    from backset.migrations.worker import Worker
    from backset.proofs.scratch import Scratch
    from backset.runs.build import Build
    from backset.scripts.recipes import Recipe
    from backset.scripts.revisions import Revision

    Progress = Callable[[str], None]


# Who owns what and who may do what is an administrator's matter as well as the chain's.
_MINOR = frozenset({"owner", "rights", "version", "default acl"})
_BASE = "base"  # Alembic's word for where no revision has run
_SIDES = Sides("the migrations", "the database")


def find(
    build: Build,
    progress: Progress,
    notice: Callable[[str], None] | None = None,
    recipe: Recipe | None = None,
    *,
    ahead: Sequence[Worker] = (),
    differ: bool = True,
) -> Proof:
    """Build the chain in a scratch database, and compare it with the target at every revision.

    Alembic itself runs it, in its own order and with the project's own commands, as a rebuild does;
    it is looked at from inside of the migrations' own transaction.
    What belongs to others is not compared, nor an extension that the role could not make there: the
    proof names it. It wants a build without a session on the target: what stood there before the
    lock is ended.
    The target is only read. A chain that cannot be built proves nothing, and the proof says so.
    notice: is told for whom we wait, if we may wait. recipe: missing files that the chain is built
    with, without bringing them back. ahead: processes of Alembic that were started for it already.
    differ: whether the models differ from the target, so that those are held against the chain as
    well. Raises LockedError.
    """
    name = build.server.names.scratch
    try:
        with explained(build.target):
            scratch.prepare(build, [name], "build the chain to compare it", notice)
            live = _Live.of(build)
        with explained(build.target), _versions(build, recipe) as versions:
            with scratch.made(build, name, versions=versions, ahead=ahead) as made:
                uncreatable = {f"extension {each}" for each in made.inheritance.uncreatable}
                live = live.without(uncreatable)
                is_short = _is_plain(made) and _knows(made, live)
                reached = list(_walk(made, live, progress, everywhere=not is_short))
                agrees = not differ or _agrees(made)
                is_aside = _is_aside(made, live, reached)
                scripts = [each for worker in made.workers for each in worker.scripts.revisions]
            if is_short and not _stands(reached, live):  # so that every place is of interest
                with scratch.made(build, name, versions=versions) as made:
                    reached = list(_walk(made, live, progress, everywhere=True))
            if is_aside:  # Alembic has taken the branches in another order than this database did
                with scratch.made(build, name, versions=versions) as made:
                    reached.insert(0, _straight(made, live, progress))
            same = [each.rows for each in reached if each.is_same(live)]
            if same and not _is_plain(made):  # the places on its way were not looked at
                same = list(dict.fromkeys([_before(same[-1], scripts), *same]))
            unseen, filling = _traceless(scripts, same)
            unrun = _unrun(scripts, same, live.rows)
    except StepFailedError as error:
        return Proof(unbuilt=f"the chain cannot be built: {error.what} → {error.remedy}")
    except RefusedError as error:
        return Proof(unbuilt=f"{error.what} → {error.remedy}")
    at_head = _major(reached[-1].compared(live))
    recorded = next((each for each in reached if each.rows == live.rows), None)
    apart = _major(recorded.compared(live)) if recorded else []
    open_ends = {each.subject for each in at_head}
    of_head = reached[-1].items or {}
    early = [
        each
        for each in apart
        if (each.subject not in open_ends or (each.what == "added" and each.subject in of_head))
        and not live.is_invalid(each.subject)
    ]
    whose = build.sharing.whose
    return Proof(
        same=tuple(same),
        differences=_texts(at_head),
        lacks=any(each.what != "added" for each in at_head),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Live:
    """The target: its objects, a text of its columns, and the rows of its version tables.

    counts: how many tables there may be where these are. partitions: the keys of those tables that
    hold a part of another one's rows.
    """

    items: Mapping[str, Item]
    names: str
    counts: range
    rows: str
    partitions: frozenset[str]

    @classmethod
    def of(cls, build: Build) -> _Live:
        session, others = build.live, build.sharing
        spare = catalog.version_tables(session)
        tables = {each for each in {*catalog.tables(session)} - {*spare} if not others.has(each)}
        columns = catalog.table_columns(session)
        names = sorted(f"{'.'.join(each)}.{own}" for each in tables for own in columns[each])
        return cls(
            items=schema.read(session, spare=spare, others=others),
            names="\n".join(names),
            counts=range(len(tables), len(tables) + 1 + max(1, len(spare))),
            rows=_place(catalog.revisions(session, others.has)),
            partitions=partitions.keys(session),
        )

    def is_invalid(self, key: str) -> bool:
        """Tell whether it is an index that a CREATE INDEX CONCURRENTLY did not finish."""
        return key in self.items and "valid" in self.items[key].aspects

    def without(self, keys: Collection[str]) -> _Live:
        items = {key: each for key, each in self.items.items() if key not in keys}
        return replace(self, items=items)

    def watched(self, *, everywhere: bool) -> dict[str, Any]:
        """Return what a worker is told that looks for it."""
        signs = [(catalog.TABLE_COUNT, [*self.counts]), (catalog.COLUMN_NAMES, [self.names])]
        return {
            "signs": signs if everywhere else [],
            "recorded": self.rows.split(),
            "settings": schema.STATEMENTS,
            "schema": schema.ROWS,
        }


@dataclass(frozen=True, slots=True)
class _Reached:
    """A place of the chain: the rows that the version table has there, and the schema.

    None: the tables have other columns than the target's, and nothing else was read.
    """

    rows: str
    items: Mapping[str, Item] | None

    def compared(self, live: _Live) -> list[Difference]:
        if self.items is None:
            return []
        # Partitions that an application makes while it runs belong to its rows.
        of_rows = live.partitions - {*self.items}
        items = {
            key: each
            for key, each in live.items.items()
            if not (key in of_rows or each.parent in of_rows)
        }
        return compare(self.items, items)

    def is_same(self, live: _Live) -> bool:
        return self.items is not None and is_proved(self.compared(live))


def _is_plain(made: Scratch) -> bool:
    """Tell whether Alembic alone builds it, which can be looked at on its way."""
    settings, (worker, *more) = made.settings, made.workers
    return not (more or settings.init or worker.lineage.init or worker.has_door)


def _is_aside(made: Scratch, live: _Live, reached: Sequence[_Reached]) -> bool:
    """Tell whether there is a way to where the database stands, which was not gone."""
    rows = live.rows.split()
    known = [each for worker in made.workers for each in worker.scripts.revisions]
    is_passed = any(each.rows == live.rows for each in reached)
    # Of tenants, one may be behind another one: no upgrade ends there.
    is_place = {each.id for each in known}.issuperset(rows) and not graph.outdated(rows, known)
    return _is_plain(made) and not is_passed and is_place


def _straight(made: Scratch, live: _Live, progress: Progress) -> _Reached:
    """Build the chain up to the revisions that the database has, and no further."""
    upgrading.upgrade(made.workers[0], made.session, progress, to=live.rows.split())
    made.inheritance.complete(made.session)
    return _Reached(live.rows, made.schema())


def _knows(made: Scratch, live: _Live) -> bool:
    """Tell whether there are scripts of all that the target names."""
    known = {each.id for worker in made.workers for each in worker.scripts.revisions}
    return known.issuperset(live.rows.split())


def _stands(reached: Sequence[_Reached], live: _Live) -> bool:
    """Tell whether the target is what the revisions that it names make."""
    return any(each.rows == live.rows and each.is_same(live) for each in reached)


def _walk(
    made: Scratch, live: _Live, progress: Progress, *, everywhere: bool
) -> Iterator[_Reached]:
    """Build the chain, and yield its places; the last one is its end.

    everywhere: whether each place is looked at that may be like the target, and not only the one
    that the target names.

    Of several chains in one database, and where a command of the project migrates, only the
    beginning and the end are places.
    """
    if not live.names:
        yield _Reached(_BASE, made.schema())
    seen: list[dict[str, Any]] = []
    if _is_plain(made):
        worker = made.workers[0]
        to = () if worker.lineage.heads else ALL_HEADS
        watched = live.watched(everywhere=everywhere)
        told = upgrading.upgrade(worker, made.session, progress, to=to, watched=watched)
        seen = told["places"]
    else:
        made.upgrade(progress)
    made.inheritance.complete(made.session)
    own = schema.keys(made.session, catalog.version_tables(made.session))
    rows, end = [_place(each["rows"]) for each in seen], _place(catalog.revisions(made.session))
    if len({*rows}) == len(rows):  # else env.py goes through it for each tenant: it has no places
        for place, each in zip(rows, seen, strict=True):
            found = each["schema"]
            if place != end:
                yield _Reached(place, found and schema.items(found, own))
    yield _Reached(end, made.schema())


def _place(rows: Iterable[str]) -> str:
    return " ".join(sorted(rows)) or _BASE


def _major(found: Sequence[Difference]) -> list[Difference]:
    return [each for each in found if not each.minor]


def _texts(found: Sequence[Difference]) -> tuple[str, ...]:
    return tuple(each.text for each in found)


@contextmanager
def _versions(build: Build, recipe: Recipe | None) -> Iterator[Path | None]:
    """Give a folder with today's migrations and those of a recipe; None where there is no recipe.

    Raises StepFailedError where a file cannot be had.
    """
    if recipe is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="backset-chain-") as folder:
        for each in build.scripts.revisions:
            shutil.copy(each.path, folder)
        for item, content in retrieval.contents(recipe, build.settings.plain_env):
            Path(folder, item.home.name).write_bytes(content)
        yield Path(folder)


def _traceless(
    known: Sequence[Revision], same: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files of what may have run or not, and of what has filled tables before that."""
    if not same:
        return (), ()
    first, latest = (graph.ancestors(each.split(), known) for each in (same[0], same[-1]))
    texts = {each: _text(each) for each in graph.ordered(known)}
    return (
        tuple(
            each.path.name
            for each, text in texts.items()
            if each.id in latest - first and not row_changes.is_idle(text)
        ),
        tuple(
            each.path.name
            for each, text in texts.items()
            if each.id in first and row_changes.speaks_of_rows(text)
        ),
    )


def _unrun(known: Sequence[Revision], same: Sequence[str], recorded: str) -> tuple[str, ...]:
    """Return the files of what only changes rows, and has not run by what the target records."""
    begun = graph.ancestors(recorded.split(), known)
    if not (same and begun.issuperset(recorded.split())):
        return ()  # an orphaned row, or none, tells nothing of what has run
    passed = graph.ancestors(same[0].split(), known) - begun
    texts = {each: _text(each) for each in graph.ordered(known) if each.id in passed}
    return tuple(
        each.path.name
        for each, text in texts.items()
        if not (row_changes.is_idle(text) or row_changes.shapes(text))
    )


def _before(place: str, known: Sequence[Revision]) -> str:
    """Return the earliest place whose schema, by the texts of what follows, is that of this one."""
    scripts = {each.id: each for each in known}

    def earliest(row: str) -> str:
        each = scripts.get(row)
        if each is None or len(each.needs) != 1 or row_changes.shapes(_text(each)):
            return row
        return earliest(each.needs[0])

    return _place({earliest(each) for each in place.split()})


def _text(script: Revision) -> str:
    """Return the text of a script; nothing of one whose source is gone."""
    is_source = script.path.suffix == ".py"
    return script.path.read_text(encoding="utf-8", errors="replace") if is_source else ""


def compare(made: Mapping[str, Item], live: Mapping[str, Item]) -> list[Difference]:
    """Return how a schema differs from what was built; rows and the version table are left out.

    What is `minor` (the order of columns, owners, rights, versions of extensions) is no reason
    against a stamp.
    """
    return difference.between(made, live, _SIDES, minor=_MINOR)


def is_proved(found: Sequence[Difference]) -> bool:
    """Tell whether nothing stands against stamping the database with the chain's heads."""
    return all(each.minor for each in found)


def _agrees(made: Scratch) -> bool:
    """Tell whether the models agree with what the chain makes, but for tables without a model."""
    for worker in made.workers:
        about = standing.describe(worker, made.session)  # a command may be env.py's only door
        found = worker.ask("check", made.session)["differences"] if about["models"] else ()
        if any(each["kind"] != LEFTOVER for each in found):
            return False
    return True
