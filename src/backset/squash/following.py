"""Lets a database follow a squash: what is replaced runs to its end, and the new id is written.

look() finds what there is to follow, and changes nothing. Where no script replaces others, nothing
is asked of the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.catalog import versions
from backset.errors import StepFailedError
from backset.revisions import replaced
from backset.revisions.replaced import REBUILD, Leg, ReplacedPlace
from backset.squash import likeness
from backset.squash.retrieved import Retrieved
from backset.text import explanations
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backset.catalog.versions import VersionTable
    from backset.migrate.upgrading import Progress
    from backset.migrate.worker import Worker
    from backset.revisions.script_files import Revision
    from backset.runs.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What one version table goes through to follow a squash; place: where it is now."""

    table: VersionTable
    place: ReplacedPlace
    legs: Sequence[Leg]


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """The version tables of one chain that name what the same script replaces.

    files: the scripts of old revisions, as far as they were needed. ahead: the version tables of
    tenants that have followed already, while for others old revisions are to run.
    """

    worker: Worker
    squash: Revision
    ways: Sequence[Way]
    files: Retrieved
    ahead: Sequence[VersionTable] = ()

    @property
    def pending(self) -> tuple[str, ...]:
        """The old revisions that are to run first."""
        every = (name for way in self.ways for leg in way.legs for name in leg.pending)
        return tuple(dict.fromkeys(every))

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows that stand for the script that replaces them."""
        return tuple(sorted({row for way in self.ways for row in way.place.rows}))

    def lines(self) -> Iterator[str]:
        """Say what follow() would do."""
        label = self.worker.lineage.label
        if self.pending:
            much = count(len(self.pending), "old revision")
            heads = ", ".join(self.ways[0].legs[-1].rows)
            yield f"{label}would run {much} up to {heads}, {self.files.whence}"
        for way in self.ways:
            where = "" if len(self.ways) == 1 else f"{way.table.shown}: "
            rows = ", ".join(way.legs[-1].rows)
            yield f"{label}{where}would compare the schema, and write {self.squash.id} for {rows}"


def look(run: Run) -> list[Following]:
    """Return what the target has to follow; nothing is changed. Raises StepFailedError."""
    workers = run.work.workers()
    if run.current.database is None or not any(_replacing(each) for each in workers):
        return []
    session = run.work.session()
    every = versions.tables(session)
    return [each for worker in workers for each in _of_chain(run, worker, every)]


def _replacing(worker: Worker) -> bool:
    return any(each.replaces for each in worker.scripts.revisions)


def _of_chain(run: Run, worker: Worker, every: Sequence[VersionTable]) -> list[Following]:
    scripts = worker.scripts.revisions
    by, known = replaced.replacing(scripts), {each.id for each in scripts}
    if not by:
        return []
    mine = _tables(run, worker, [each for each in every if each.revisions], {*by, *known})
    found: dict[str, list[tuple[VersionTable, ReplacedPlace]]] = {}
    files = Retrieved(run.settings, worker)
    for table in mine:
        for each in replaced.places(table.revisions, scripts):
            found.setdefault(each.squash.id, []).append((table, each))
        for each in replaced.below(table.revisions, scripts, files.find):
            found.setdefault(each.squash.id, []).append((table, each))
        lost = replaced.strangers(table.revisions, scripts)
        for each in replaced.nested(lost, scripts, files.find):
            found.setdefault(each.squash.id, []).append((table, each))
    _demand_whole(worker, by, wanted=bool(found))
    made = []
    for pairs in found.values():
        ways = [
            Way(table=table, place=each, legs=replaced.legs(each, scripts, files.find))
            for table, each in pairs
        ]
        squash = pairs[0][1].squash
        ahead = _ahead(squash, ways, mine)
        made.append(Following(worker=worker, squash=squash, ways=ways, files=files, ahead=ahead))
    return made


def _ahead(
    squash: Revision, ways: Sequence[Way], tables: Sequence[VersionTable]
) -> list[VersionTable]:
    """Return the tables of tenants that are at the squash already, while old revisions run.

    env.py migrates all tenants at once, and Alembic stops where one names what the old chain does
    not have. Raises StepFailedError where one is further on.
    """
    runs = [leg for way in ways for leg in way.legs if leg.pending]
    others = [each for each in tables if all(way.table != each for way in ways)]
    is_straight = not any(leg.pending for way in ways for leg in way.legs[:-1])
    found = []
    for table in others if runs else ():
        unknown = {row for leg in runs for row in table.revisions if row not in _ids(leg)}
        if unknown == {squash.id} and is_straight:
            found.append(table)
        elif unknown:
            behind = ", ".join(f"{way.table.shown} {', '.join(way.place.rows)}" for way in ways)
            what = f"{table.shown} names {', '.join(sorted(unknown))}, and {behind}: env.py runs"
            what += " both at once, and no chain has both"
            raise StepFailedError(what, f"bring all to {squash.id} by hand; else {REBUILD}")
    return found


def _ids(leg: Leg) -> set[str]:
    return {each.id for each in leg.chain}


def _tables(
    run: Run, worker: Worker, found: Sequence[VersionTable], ids: set[str]
) -> list[VersionTable]:
    """Return the version tables of one chain, by the settings and by what they name."""
    lineage = worker.lineage
    if lineage.version_table or lineage.schema:
        return versions.of(lineage, found, worker.beside)
    told = [each for each in worker.beside if each.version_table or each.schema]
    others = {id(table) for each in told for table in versions.of(each, found)}
    mine = [each for each in found if id(each) not in others]
    if len(mine) > 1:  # else whose it is, is not in question
        sharing = run.current.sharing()
        mine = [each for each in mine if not sharing.has((each.schema, each.name))]
    written = [each for each in mine if ids & set(each.revisions)]
    return written or (mine if len(mine) == 1 else [])


def _demand_whole(worker: Worker, by: dict[str, list[Revision]], *, wanted: bool) -> None:
    """Raise StepFailedError where a script was started before the squash, or the chain is broken.

    wanted: whether there is something to follow; else Alembic says the rest itself.
    """
    for each in worker.scripts.problems:
        if each.kind == "missing file" and each.missing in by:
            raise StepFailedError(each.text, explanations.REBASE)
        if wanted and each.kind != "stale byte code":
            raise StepFailedError(each.text, "mend the chain first: `invoke status`")


def follow(run: Run, one: Following, progress: Progress) -> str:
    """Follow one squash; return what was done. Raises StepFailedError, with what differs."""
    for way in one.ways:
        for leg in way.legs[:-1]:
            _run(run, one, leg, progress)
            versions.follow(run.work.session(), _now(run, way.table), leg.rows, leg.squash.id)
    for table in one.ahead:
        versions.go_back(run.work.session(), table, one.squash.id, one.ways[0].legs[-1].rows)
    longest = max((way.legs[-1] for way in one.ways), key=lambda leg: len(leg.pending))
    _run(run, one, longest, progress)
    rows = ", ".join(longest.rows)
    said = likeness.demand(run, one.worker.lineage, one.squash, rows, progress)
    for way in one.ways:
        _write(run, one, way.table, way.legs)
    for table in one.ahead:
        _write(run, one, table, one.ways[0].legs)
    text = f"{', '.join(one.rows)} → {one.squash.id}, which replaces it"
    if one.pending:
        text += f", after {count(len(one.pending), 'old revision')} {one.files.whence}"
    return one.worker.lineage.label + text + (f" · {said}" if said else "")


def _write(run: Run, one: Following, table: VersionTable, legs: Sequence[Leg]) -> None:
    session = run.work.session()
    if legs[-1].chain or len(legs) > 1:
        table = _now(run, table)
    meant = {*one.squash.replaces, *one.squash.replaced_heads}
    rows = [each for each in table.revisions if each in meant]
    if set(rows) != set(legs[-1].rows):
        what = f"{table.shown} names {', '.join(table.revisions) or 'nothing'}"
        what += f", and not {', '.join(legs[-1].rows)}, after the old revisions have run"
        raise StepFailedError(what, REBUILD)
    versions.follow(session, table, rows, one.squash.id)


def _now(run: Run, table: VersionTable) -> VersionTable:
    """Return a version table as it is by now."""
    place = table.schema, table.name
    found = versions.tables(run.work.session())
    return next(each for each in found if (each.schema, each.name) == place)


def _run(run: Run, one: Following, leg: Leg, progress: Progress) -> None:
    """Run what is still to run of the replaced revisions. Raises StepFailedError."""
    where = run.work.target, run.work.session(), progress, run.purpose, run.target.database
    if done := one.files.run(leg, *where):
        run.in_place.writers.note(done.revoked, was_open=done.was_open)
