"""Whether the version table is at the heads of the scripts, and these are as accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backset.errors import Finding, StepFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.migrate.worker import Worker

RESET = "`invoke reset-db` rebuilds the database and keeps the old one for `invoke undo`"
_ALEMBIC = "invoke alembic --"


def version_findings(
    about: Mapping[str, Any], accepted: Sequence[str] = (), *, alembic: str = _ALEMBIC
) -> list[Finding]:
    """Judge the rows of the version table against the heads of the scripts, some of them accepted.

    alembic: how a command of Alembic on that chain begins.
    Rows and heads need not be the same: a head that another branch depends on has no row.
    """
    revisions, heads = about["revisions"], about["heads"]
    found = ", ".join(revisions) or "base"
    if about["orphans"]:
        return [_orphaned(about["strays"])]
    if several := several_heads(heads, accepted, alembic):
        return several
    if not heads:
        return [
            _finding(
                "no migrations",
                "the versions folder has no revision",
                "there is nothing to build from",
                "restore the files from git",
            )
        ]
    if about["pending"]:
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
