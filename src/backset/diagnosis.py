"""What state a database is in: revision, heads, tables, drift, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset import catalog, seeding, verification
from backset.errors import Finding
from backset.server import explained

if TYPE_CHECKING:
    from backset.build import Build


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of a target.

    revisions: rows of the version table. heads: of the scripts. rows: exact counts by table.
    previous: whether `undo` has something to go back to.
    """

    database: str
    server: str
    revisions: tuple[str, ...]
    heads: tuple[str, ...]
    rows: dict[str, int]
    previous: bool
    findings: tuple[Finding, ...]


def status(build: Build) -> Status:
    """Look at the target; nothing is changed. Raises StepFailedError when it cannot be reached."""
    with explained(build.target):
        return _status(build)


def _status(build: Build) -> Status:
    _ = build.worker  # it imports Alembic while we ask the server
    version = build.server.session.info.parameter_status("server_version") or ""
    if build.old is None:
        rows, revisions, findings = {}, (), [_missing(build)]
    else:
        rows = catalog.row_counts(build.session)
        about = build.worker.ask("describe", build.session)
        revisions = tuple(about["revisions"])
        findings = verification.version_findings(about)
        if not findings:
            findings = verification.drift(about, build.worker, build.session)
            findings += seeding.lagging(build.session)
    return Status(
        database=build.target.database,
        server=version,
        revisions=revisions,
        heads=build.worker.scripts.heads,
        rows=rows,
        previous=build.previous is not None,
        findings=tuple(findings),
    )


def _missing(build: Build) -> Finding:
    return Finding(
        kind="no database",
        what=f"{build.target.database} does not exist",
        why="the application cannot connect",
        remedy="`invoke upgrade` creates it empty, `invoke reset-db` with its mock data",
    )
