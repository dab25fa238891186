"""Findings about one database: version at head, models and database alike, expected columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backset import catalog
from backset.errors import Finding
from backset.quantities import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backset.migrations import Worker
    from backset.session import Session
    from backset.settings import Settings

RESET = "`invoke reset-db` rebuilds the database and keeps the old one for `invoke undo`"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found: `compared` tells whether there were models to compare the tables with.

    orphans: the rows of the version table that no migration file has.
    """

    revisions: tuple[str, ...]
    tables: int
    compared: bool
    findings: tuple[Finding, ...]
    orphans: tuple[str, ...] = ()

    def __str__(self) -> str:
        agree = "models and database agree" if self.compared else "env.py has no models to compare"
        return f"{count(self.tables, 'table')}, {agree}"


def verify(settings: Settings, worker: Worker, session: Session) -> Verdict:
    """Hold versions, models and expectations against one database; nothing is changed."""
    about = worker.ask("describe", session)
    findings = version_findings(about) or drift(about, worker, session)
    findings += missing_columns(settings, catalog.columns(session))
    compared = about["models"] is not None
    revisions, tables = tuple(about["revisions"]), len(catalog.tables(session))
    return Verdict(revisions, tables, compared, tuple(findings), tuple(about["orphans"]))


def version_findings(about: Mapping[str, Any]) -> list[Finding]:
    """Judge the rows of the version table against the heads of the scripts."""
    revisions, heads = about["revisions"], about["heads"]
    found = ", ".join(revisions) or "base"
    if about["orphans"]:
        return [_orphaned(about, ", ".join(about["orphans"]))]
    if len(heads) > 1:
        return [
            _finding(
                "several heads",
                f"the scripts have the heads {', '.join(heads)}",
                "`alembic upgrade head` refuses",
                "invoke alembic -- merge heads -m merge",
            )
        ]
    if not heads:
        return [
            _finding(
                "no migrations",
                "the versions folder has no revision",
                "there is nothing to build from",
                "restore the files from git",
            )
        ]
    if revisions != heads:
        return [
            _finding(
                "behind",
                f"the database is at {found}, head is {heads[0]}",
                "migrations are waiting",
                "invoke upgrade",
            )
        ]
    return []


def drift(about: Mapping[str, Any], worker: Worker, session: Session) -> list[Finding]:
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
    return [
        _finding(
            "drift",
            text,
            "models and migrations disagree",
            "invoke alembic -- revision --autogenerate -m '…', or " + RESET,
        )
        for text in differences
    ]


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
        )
        for name in missing
    ]


def _orphaned(about: Mapping[str, Any], orphans: str) -> Finding:
    what = f"{about['version_table']} names {orphans}, which no migration file has"
    return _finding(
        "orphaned revision", what, "alembic upgrade, current and stamp all refuse", RESET
    )


def _finding(kind: str, what: str, why: str, remedy: str) -> Finding:
    return Finding(kind=kind, what=what, why=why, remedy=remedy)
