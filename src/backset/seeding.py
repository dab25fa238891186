"""Runs the project's seed command on one database, and looks at the rows afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset import catalog
from backset.errors import Finding, StepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.door import Door
    from backset.session import Session
    from backset.settings import Settings


def seed(
    settings: Settings, door: Door, session: Session, on_line: Callable[[str], None]
) -> tuple[dict[str, int], list[Finding]]:
    """Run the seed command through `door`; return the rows of its database's tables afterwards.

    Raises StepFailedError when the command fails or goes to the live database, when a table of
    [tool.backset.rows] has too few rows, and when a sequence lags behind its column.
    """
    done = door.run(settings.seed, "seed", on_line)
    doubts = door.doubts(done)
    if done.status != 0:
        raise StepFailedError(done.words, "mend the seed command, then run this again")
    rows = catalog.row_counts(session)
    findings = [*missing_rows(settings, rows), *lagging(session)]
    if findings:
        raise StepFailedError.of(findings)
    return rows, doubts


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
