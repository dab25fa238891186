"""Runs the project's seed command on one database, and looks at the rows afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.catalog import catalog
from backset.errors import Finding, StepFailedError
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backset.connections.session import Session
    from backset.migrate.project_command import ProjectCommand
    from backset.settings.settings import Settings

_MEND = "mend the seed command, then run this again"
_ASKED = "it asked for input, and stdin is closed: give it arguments or variables instead"


def seed(
    settings: Settings, project: ProjectCommand, session: Session, on_line: Callable[[str], None]
) -> tuple[dict[str, int], list[Finding]]:
    """Run the seed command through `project`; return the rows of its database's tables afterwards.

    Raises StepFailedError when the command fails or goes to the live database, when a table of
    [tool.backset.rows] has too few rows, and when a sequence lags behind its column.
    """
    done = project.run(settings.seed, "seed", on_line)
    doubts = project.doubts(done)
    if done.status != 0:
        raise StepFailedError(done.words, _ASKED if done.asked else _MEND)
    closed = catalog.unreadable(session)
    rows = catalog.row_counts(session, lambda table: table not in closed)
    findings = [*missing_rows(settings, rows), *lagging(session)]
    if findings:
        raise StepFailedError.of(findings)
    return rows, doubts


def seed_again(
    settings: Settings,
    project: ProjectCommand,
    session: Session,
    rows: dict[str, int],
    on_line: Callable[[str], None],
) -> list[Finding]:
    """Run the seed command once more; every table must have the rows that it had.

    Raises StepFailedError when the command fails this time, and with the tables that differ.
    """
    try:
        again, doubts = seed(settings, project, session, on_line)
    except StepFailedError as error:
        error.what = f"a second time: {error.what}"
        raise
    differing = [
        f"{table} {rows.get(table, 0)} → {again.get(table, 0)}"
        for table in sorted(rows.keys() | again.keys())
        if rows.get(table) != again.get(table)
    ]
    if differing:
        finding = Finding(
            kind="seed not repeatable",
            what=f"a second run of the seed command changes the rows: {', '.join(differing)}",
            why="each run adds to what is there",
            remedy="let it replace its own rows, or insert with ON CONFLICT",
        )
        raise StepFailedError.of([finding])
    return doubts


def unmet(settings: Settings, session: Session, rows: Mapping[str, int | None]) -> list[Finding]:
    """Judge the rows and sequences of a database that is in use.

    Where every table of [tool.backset.rows] is empty, nobody has seeded it yet, and that is fine.
    """
    is_seeded = any(rows.get(table) for table in settings.rows)
    known = {table: count for table, count in rows.items() if count is not None}
    return [*(missing_rows(settings, known) if is_seeded else ()), *lagging(session)]


def expected_rows(settings: Settings, session: Session) -> dict[str, int]:
    """Count the tables of [tool.backset.rows], each only as far as it matters."""
    if not settings.rows:
        return {}
    names = [each for each in catalog.tables(session) if catalog.shown(*each) in settings.rows]
    return catalog.counts(session, names, at_most=max(settings.rows.values()) + 1)


def missing_rows(settings: Settings, rows: dict[str, int]) -> list[Finding]:
    """Return a finding for each table of [tool.backset.rows] that has fewer rows than that."""
    return [
        Finding(
            kind="missing rows",
            name=table,
            what=f"{table} has {rows.get(table, 'no table')} of at least {count(least, 'row')}",
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
            name=each.name,
            what=f"{each.name} gives {each.next_value} next, but {each.column} "
            f"already has {each.maximum}",
            why="the next INSERT fails with a duplicate key",
            remedy=f"SELECT setval('{each.name}', {each.maximum}) where the rows are written",
        )
        for each in catalog.lagging_sequences(session)
    ]
