"""Runs the project's seed command on one database, and looks at the rows afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset import catalog, process
from backset.errors import Finding, StepFailedError
from backset.identity import application_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.session import Session
    from backset.settings import Settings
    from backset.target import Target


def seed(
    settings: Settings,
    target: Target,
    session: Session,
    on_line: Callable[[str], None],
) -> dict[str, int]:
    """Run the seed command against `target`; return the rows of its tables afterwards.

    Raises StepFailedError when the command fails, when a table of [tool.backset.rows] has too few
    rows, and when a sequence lags behind its column.
    """
    argv = settings.command(settings.seed)
    env = {**settings.child_env(target), "PGAPPNAME": application_name("seed")}
    status, lines = process.run(
        argv,
        env=env,
        cwd=settings.root,
        on_line=lambda line: on_line(settings.redact(target, line)),
        tethered=True,  # it would write into the database that the next run builds
    )
    if status != 0:
        what = f"{' '.join(settings.seed)} ended with {status}: {process.last_words(lines)}"
        remedy = "mend the seed command, then run this again"
        if any("EOF" in line for line in lines[-3:]):
            remedy = "it asked for input, and stdin is closed: give it arguments or variables"
        raise StepFailedError(settings.redact(target, what), remedy)
    rows = catalog.row_counts(session)
    findings = [*missing_rows(settings, rows), *lagging(session)]
    if findings:
        raise StepFailedError.of(findings)
    return rows


def missing_rows(settings: Settings, rows: dict[str, int]) -> list[Finding]:
    """Return a finding for each table of [tool.backset.rows] that has fewer rows than that."""
    return [
        Finding(
            kind="missing rows",
            what=f"{table} has {rows.get(table, 'no table')} of at least {least} rows",
            why="the application expects them",
            remedy="look at the seed command, or at [tool.backset.rows]",
        )
        for table, least in settings.rows.items()
        if rows.get(table, -1) < least
    ]


def lagging(session: Session) -> list[Finding]:
    """Return a finding for each sequence that is not ahead of its column's maximum."""
    return [
        Finding(
            kind="lagging sequence",
            what=f"{each.name} gives {each.next_value} next, but {each.column} "
            f"already has {each.maximum}",
            why="the next INSERT fails with a duplicate key",
            remedy=f"SELECT setval('{each.name}', {each.maximum}) where the rows are written",
        )
        for each in catalog.lagging_sequences(session)
    ]
