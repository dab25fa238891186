"""Where a database stands in one chain of revisions: env.py's own words, else the catalogs'.

Some env.py runs only behind a command of the project, and some fails. Its version tables and the
scripts can still be held against each other; its models cannot be compared then, and that is said.
What is wrong with its place is judged here, too, and whether the heads of the scripts are accepted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backset.catalog import versions
from backset.errors import AlembicError, Finding, StepFailedError
from backset.migrate.answers import Description
from backset.revisions import replaced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.catalog.versions import VersionTable
    from backset.connections.session import Session
    from backset.migrate.worker import Worker
    from backset.revisions.script_files import Revision

_OF_SCRIPTS = frozenset(
    {"broken chain", "unreadable file", "no configuration", "no section", "several heads"}
)
_BEHIND = "env.py runs only behind the project's own command"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database stands in one chain, by its version tables and the scripts.

    strays: the orphaned revisions of each version table that has some. pending: what is to be run,
    in some of the tables.
    """

    tables: tuple[VersionTable, ...]
    strays: Mapping[str, Sequence[str]]
    pending: tuple[str, ...]

    @property
    def orphans(self) -> tuple[str, ...]:
        """The rows of all its version tables that no script has."""
        return tuple(sorted({each for rows in self.strays.values() for each in rows}))

    @property
    def revisions(self) -> list[str]:
        """The rows of all its version tables."""
        return sorted({row for table in self.tables for row in table.revisions})

    @property
    def shown(self) -> str:
        """The version tables with their rows, for people."""
        return "; ".join(
            f"{each.shown}: {', '.join(each.revisions) or 'empty'}" for each in self.tables
        )


def place(worker: Worker, session: Session) -> Place:
    """Read the version tables of the worker's chain, and hold them against its scripts."""
    return placed(worker, versions.tables(session))


def placed(worker: Worker, every: Sequence[VersionTable]) -> Place:
    """Hold the version tables of the worker's chain, of every one there is, against its scripts."""
    scripts = worker.scripts.revisions
    known = {each.id for each in scripts} | replaced.replacing(scripts).keys()
    where = (worker.lineage, every, known, worker.beside)
    found = tuple(versions.likely(*where, is_behind=worker.has_door))
    places = [worker.place(table.revisions) for table in found] or [worker.place(())]
    pairs = zip(found, places, strict=False)
    strays = {table.shown: place.orphans for table, place in pairs if place.orphans}
    return Place(found, strays, tuple(each for place in places for each in place.pending))


def describe(worker: Worker, session: Session, *, only_looks: bool = False) -> Description:
    """Ask env.py for versions and models; where a command is its door, fall back on the catalogs.

    only_looks: an env.py that fails is a finding, and stops nothing. Raises StepFailedError.
    """
    try:
        about = worker.describe(session)
    except AlembicError as error:
        if error.kind in _OF_SCRIPTS or not (
            worker.has_door or _is_told(error, only_looks=only_looks)
        ):
            raise
        if not worker.has_door:
            found = _by_catalogs(worker, session, "env.py fails")
            return replace(found, failure=_failure(error))
        said = f"it opens {error.words}" if error.kind == "wrong target" else error.words
        return _by_catalogs(worker, session, f"{_BEHIND}: {said}")
    if worker.has_door and about.models == 0:  # the command imports them, and env.py does not
        why = f"{_BEHIND}: it loads no model by itself"
        about = replace(about, models=None, uncompared=why)
    if about.revisions or not worker.has_door:
        return about
    why = f"{_BEHIND}: it does not see the version tables by itself"
    found = _by_catalogs(worker, session, why)
    return found if found.revisions else about


def together(several: Sequence[Description], labels: Sequence[str]) -> Description:
    """Return the descriptions of several chains as if they were one.

    labels: how a line about each of them begins.
    """
    if len(several) == 1:
        return several[0]
    counts = [each.models for each in several if each.models is not None]
    return Description(
        revisions=[row for each in several for row in each.revisions],
        orphans=[row for each in several for row in each.orphans],
        pending=[each for about in several for each in about.pending],
        strays={
            f"{label}{table}": rows
            for label, each in zip(labels, several, strict=True)
            for table, rows in each.strays.items()
        },
        columns={name: own for each in several for name, own in each.columns.items()},
        version_table=", ".join(each.version_table for each in several),
        models=sum(counts) if counts else None,
    )


def _is_told(error: AlembicError, *, only_looks: bool) -> bool:
    return only_looks and error.kind != "wrong target"  # which is a state of its own


def _failure(error: AlembicError) -> Finding:
    why = "the versions were read in the catalogs, and the models were not compared"
    return Finding(kind="env.py fails", what=error.what, why=why, remedy=error.remedy)


def _by_catalogs(worker: Worker, session: Session, why: str) -> Description:
    found = place(worker, session)
    return Description(
        revisions=found.revisions,
        orphans=found.orphans,
        strays=found.strays,
        pending=found.pending,
        heads=worker.scripts.heads,
        version_table=", ".join(each.shown for each in found.tables) or "no version table",
        models=None,
        uncompared=why,
    )


RESET = "`invoke reset-db` rebuilds the database and keeps the old one for `invoke undo`"
_ALEMBIC = "invoke alembic --"


def version_findings(
    about: Description,
    accepted: Sequence[str] = (),
    *,
    alembic: str = _ALEMBIC,
    scripts: Sequence[Revision] = (),
) -> list[Finding]:
    """Judge the rows of the version table against the heads of the scripts, some of them accepted.

    alembic: how a command of Alembic on that chain begins. scripts: which may replace such a row.
    Rows and heads need not be the same: a head that another branch depends on has no row.
    """
    revisions, heads = about.revisions, about.heads
    found = ", ".join(revisions) or "base"
    if squashed := replaced.followed(about.orphans, scripts):
        return [
            _finding(
                "squashed",
                f"the database is at {each}",
                "Alembic does not know the row until the new id is written",
                "invoke upgrade",
            )
            for each in squashed
        ]
    if about.orphans:
        return [_orphaned(about.strays)]
    if several := several_heads(heads, accepted, alembic):
        return several
    if not heads:
        return [
            _finding(
                "no migrations",
                "the versions folder has no revision",
                "there is nothing to build from",
                f"write the first one: `{alembic} revision --autogenerate -m initial`; or bring "
                "the files back, where there were some",
            )
        ]
    if about.pending:
        there = "" if revisions else "; `invoke repair`, if its tables are there already"
        return [
            _finding(
                "behind",
                f"the database is at {found}, head is {', '.join(heads)}",
                "migrations are waiting",
                f"invoke upgrade{there}",
            )
        ]
    return []


def passed_over(workers: Sequence[Worker]) -> list[Finding]:
    """Say of scripts in folders below that the chain was taken to be without them."""
    return [
        _finding(
            "scripts below",
            f"{each.lineage.label}{each.scripts.passed_over}",
            "the heads are those of the folder itself, as Alembic sees it",
            f"if they are of the chain: {RECURSIVE}; if not: `invoke archive`, or move them away",
            ", ".join(str(path) for path in each.scripts.locations),
        )
        for each in workers
        if each.scripts.below
    ]


RECURSIVE = "recursive_version_locations = true in Alembic's configuration"


def demand_destination(workers: Sequence[Worker]) -> None:
    """Raise StepFailedError if a chain has heads that the settings do not accept."""
    for worker in workers:
        if found := _several(worker):
            raise StepFailedError.of(found)


def _several(worker: Worker) -> list[Finding]:
    scripts = worker.scripts
    return several_heads(scripts.heads, scripts.goal, worker.lineage.alembic)


def several_heads(
    heads: Sequence[str], goal: Sequence[str], alembic: str = _ALEMBIC
) -> list[Finding]:
    """Judge the heads of the scripts; goal: the accepted ones, where the settings name some."""
    merge = f"{alembic} merge -m merge {' '.join(sorted(heads))}"
    if not goal and len(heads) > 1:
        return [
            _finding(
                "several heads",
                f"the scripts have the heads {', '.join(sorted(heads))}",
                "`alembic upgrade head` refuses",
                f'join them: `{merge}`, or accept them: heads = "all" in [tool.backset]',
            )
        ]
    unexpected = sorted(set(heads) - set(goal)) if goal else []
    return [
        _finding(
            "unexpected head",
            f"the scripts have the head {each}, and [tool.backset] heads has {', '.join(goal)}",
            "upgrade would leave it out",
            f"join it: `{merge}`, or add it to heads",
            each,
        )
        for each in unexpected
    ]


def _orphaned(strays: Mapping[str, Sequence[str]]) -> Finding:
    named = "; ".join(f"{table} names {', '.join(rows)}" for table, rows in strays.items())
    what = f"{named}, which no migration file has"
    return _finding(
        "orphaned revision", what, "alembic upgrade, current and stamp all refuse", RESET
    )


def _finding(kind: str, what: str, why: str, remedy: str, name: str = "") -> Finding:
    return Finding(kind=kind, what=what, why=why, remedy=remedy, name=name)
