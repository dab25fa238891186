"""Findings about one database: at head, like the models, sound, as expected; and which count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from backset import baseline, catalog, enums, soundness
from backset.acceptance import Judged, judge
from backset.drift import drift
from backset.errors import Finding, StepFailedError
from backset.quantities import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.migrations import Worker
    from backset.session import Session
    from backset.settings import Settings

ACCEPT = "invoke verify --accept"
ACCEPT_FRESH = "invoke reset-db --accept"
RESET = "`invoke reset-db` rebuilds the database and keeps the old one for `invoke undo`"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found: `compared` tells whether there were models to compare the tables with.

    orphans: the rows of the version table that no migration file has.
    asides: findings that are said, but are no failure.
    accepted, silenced: how many differences the baseline has, and how many findings the settings
    silence. recorded: what was written into the baseline, where that was asked for.
    """

    revisions: tuple[str, ...]
    tables: int
    compared: bool
    findings: tuple[Finding, ...]
    orphans: tuple[str, ...] = ()
    asides: tuple[Finding, ...] = ()
    accepted: int = 0
    silenced: int = 0
    recorded: str = ""

    def __str__(self) -> str:
        agree = "models and database agree" if self.compared else "env.py has no models to compare"
        if self.accepted:
            agree = f"{count(self.accepted, 'accepted difference')}, no other"
        silenced = f" · {count(self.silenced, 'finding')} silenced" if self.silenced else ""
        recorded = f" · {self.recorded}" if self.recorded else ""
        return f"{count(self.tables, 'table')}, {agree}{silenced}{recorded}"


def verify(
    settings: Settings,
    worker: Worker,
    session: Session,
    *,
    also: Sequence[Finding] = (),
    fresh: bool = False,
    accept: bool = False,
) -> Verdict:
    """Hold versions, models and expectations against one database, and judge what is found.

    also: findings of the caller that are judged with them.
    fresh: the database was just built, and what was there before is not.
    accept: the differences become the baseline, unless they cannot be known. Raises OSError.
    """
    about = worker.ask("describe", session)
    versions, models = version_findings(about, worker.lineage.heads), about["models"]
    command = ACCEPT_FRESH if fresh else ACCEPT
    found = [] if versions else comparison(about, worker, session)
    found += soundness.findings(session)
    found += missing_columns(settings, catalog.columns(session))
    is_complete = not versions and models != 0
    if accept and not is_complete:
        versions = [_INCOMPARABLE, *versions]
    found = [_acceptable(each, command) for each in (*found, *also)]
    judge_by = partial(_judge, found, settings, command)
    known, recorded = baseline.read(settings.baseline), ""
    if accept and is_complete:
        old = known
        known = baseline.write(old, judge_by(baseline.Baseline(old.path, {})).findings)
        recorded = baseline.changes(old, known)
    judged = judge_by(known)
    stale = judged.expired + (judged.vanished if is_complete else ())
    unused = judged.unused if is_complete and not fresh else ()
    return Verdict(
        revisions=tuple(about["revisions"]),
        tables=len(catalog.tables(session)),
        compared=models is not None,
        findings=(*versions, *judged.findings, *(() if fresh else stale)),
        orphans=tuple(about["orphans"]),
        asides=stale if fresh else unused,
        accepted=judged.accepted,
        silenced=judged.silenced,
        recorded=recorded,
    )


def _acceptable(finding: Finding, command: str) -> Finding:
    """Let the remedy of a difference say that it can also be accepted."""
    if finding.kind not in baseline.DIFFERENCES:
        return finding
    return replace(finding, remedy=f"{finding.remedy}, or accept it: {command}")


def _judge(
    findings: Sequence[Finding], settings: Settings, command: str, known: baseline.Baseline
) -> Judged:
    today = datetime.now().astimezone().date()
    return judge(findings, settings.ignore, known, today=today, accept=command)


def version_findings(about: Mapping[str, Any], accepted: Sequence[str] = ()) -> list[Finding]:
    """Judge the rows of the version table against the heads of the scripts, some of them accepted.

    Rows and heads need not be the same: a head that another branch depends on has no row.
    """
    revisions, heads = about["revisions"], about["heads"]
    found = ", ".join(revisions) or "base"
    if about["orphans"]:
        return [_orphaned(about, ", ".join(about["orphans"]))]
    if several := several_heads(heads, accepted):
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
        return [
            _finding(
                "behind",
                f"the database is at {found}, head is {', '.join(heads)}",
                "migrations are waiting",
                "invoke upgrade",
            )
        ]
    return []


def comparison(about: Mapping[str, Any], worker: Worker, session: Session) -> list[Finding]:
    """Compare models and database, which is at head; without models there is nothing to say."""
    if about["models"] is None:
        return []
    differences = worker.ask("check", session)["differences"]
    if differences and not about["models"]:
        return [
            _finding(
                "models not loaded",
                "env.py's target_metadata has no table",
                "models and database cannot be compared",
                "import the modules of the models in env.py",
            )
        ]
    found = drift(differences, session)
    return found + enums.findings(about["enums"], session)


def missing_columns(settings: Settings, columns: Mapping[str, set[str]]) -> list[Finding]:
    """Judge the columns against [tool.backset.expect]."""
    missing = [
        f"{table}.{column}"
        for table, expected in settings.expect.items()
        for column in expected
        if column not in columns.get(table, set())
    ]
    return [
        _finding(
            "missing column",
            f"{name} does not exist",
            "[tool.backset.expect] names it",
            "add it in a migration, or correct [tool.backset.expect]",
            name,
        )
        for name in missing
    ]


def demand_destination(worker: Worker) -> None:
    """Raise StepFailedError if the scripts have several heads, and the settings accept none."""
    if found := several_heads(worker.scripts.heads, worker.lineage.heads):
        raise StepFailedError.of(found)


def several_heads(heads: Sequence[str], accepted: Sequence[str]) -> list[Finding]:
    """Judge the heads of the scripts."""
    if len(heads) <= 1 or accepted:
        return []
    return [
        _finding(
            "several heads",
            f"the scripts have the heads {', '.join(sorted(heads))}",
            "`alembic upgrade head` refuses",
            "join them: `invoke alembic -- merge heads -m merge`, "
            'or accept them: heads = "all" in [tool.backset]',
        )
    ]


def _orphaned(about: Mapping[str, Any], orphans: str) -> Finding:
    what = f"{about['version_table']} names {orphans}, which no migration file has"
    return _finding(
        "orphaned revision", what, "alembic upgrade, current and stamp all refuse", RESET
    )


def _finding(kind: str, what: str, why: str, remedy: str, name: str = "") -> Finding:
    return Finding(kind=kind, what=what, why=why, remedy=remedy, name=name)


_INCOMPARABLE = Finding(
    kind="nothing to accept",
    what="the differences of this database cannot be known, for the reasons that follow",
    why="a baseline has those of a database that is at head",
    remedy=f"`{ACCEPT_FRESH}` accepts those of a rebuilt one",
)
