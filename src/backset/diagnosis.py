"""What state a database is in: revision, heads, tables, drift, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backset import catalog, orphans, seeding, verification
from backset.errors import Finding
from backset.session import explained
from backset.verification import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backset.build import Build
    from backset.traces import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of a target.

    heads: of the scripts. rows: exact counts by table. verdict: what verification found.
    previous: whether `undo` has something to go back to. protected: whether it may be replaced.
    traces: where each orphaned revision went.
    """

    database: str
    server: str
    heads: tuple[str, ...]
    rows: dict[str, int]
    previous: bool
    protected: bool
    verdict: Verdict
    traces: tuple[Trace, ...] = ()


def status(build: Build) -> Status:
    """Look at the target; nothing is changed. Raises StepFailedError when it cannot be reached."""
    with explained(build.target):
        return _status(build)


def _status(build: Build) -> Status:
    _ = build.workers  # they import Alembic while we ask the server
    version = build.server.session.info.parameter_status("server_version") or ""
    rows: dict[str, int] = {}
    verdict = Verdict((), 0, compared=False, findings=(_missing(build),))
    if build.old is not None:
        rows = catalog.row_counts(build.session)
        also = seeding.unmet(build.settings, build.session, rows)
        verdict = verification.verify(build.settings, build.workers, build.session, also=also)
        verdict = replace(verdict, findings=_half_built(build) + verdict.findings)
    traces = tuple(
        orphans.trace(each, build.worker.folders, build.settings.environ)
        for each in verdict.orphans
    )
    return Status(
        database=build.target.database,
        server=version,
        heads=build.heads,
        rows=rows,
        previous=build.previous is not None,
        protected=build.old is not None and build.old.protected,
        verdict=replace(verdict, findings=tuple(_traced(verdict.findings, traces))),
        traces=traces,
    )


def _traced(findings: Iterable[Finding], traces: Sequence[Trace]) -> Iterator[Finding]:
    """Add what brings the file back to the remedy of an orphaned revision."""
    commands = " && ".join(each.command for each in traces if each.is_found)
    for each in findings:
        if each.kind == "orphaned revision" and commands:
            yield replace(each, remedy=f"{each.remedy}; its file comes back with: {commands}")
        else:
            yield each


def _half_built(build: Build) -> tuple[Finding, ...]:
    if build.old is None or build.old.mark != "unfinished":
        return ()
    finding = Finding(
        kind="half built",
        what=f"a run in place on {build.old.name} was killed",
        why=f"what stood there is in the backup {build.old.backup or 'of nothing'}",
        remedy="run any other task in the checkout where that was: it brings the backup back first",
    )
    return (finding,)


def _missing(build: Build) -> Finding:
    return Finding(
        kind="no database",
        what=f"{build.target.database} does not exist",
        why="the application cannot connect",
        remedy="`invoke upgrade` creates it empty, `invoke reset-db` with its mock data",
    )
