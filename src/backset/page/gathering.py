"""Looks at a target for the page: its state, its revisions, its tables. Nothing is changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backset.carry import tables as keys
from backset.catalog import columns
from backset.connections.session import explained
from backset.errors import BacksetError
from backset.memory import journal
from backset.page.content import PageContent
from backset.revisions.history import History
from backset.runs.run import Options, Run
from backset.status import diagnosis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.connections.target import Target
    from backset.memory.journal import NotedRun
    from backset.migrate.worker import Worker
    from backset.page.content import RunTold
    from backset.settings.settings import Settings
    from backset.status.diagnosis import Status

_MOST_RUNS = 30


def gather(
    settings: Settings,
    target: Target,
    told: RunTold | None = None,
    *,
    worker: Worker | None = None,
) -> PageContent:
    """Return what a page tells of a target. told: a run. worker: a process that was started ahead.

    Raises BacksetError; a server that does not answer is a state as any other.
    """
    options = Options(drift=True)
    with Run(settings, target, "status", beside=False, worker=worker, options=options) as run:
        found = diagnosis.status(run)
        tables, primary = {}, {}
        if found.server and found.facts.exists and not found.facts.elsewhere:
            with explained(target):
                session = run.work.session()
                tables = columns.read(session)
                names = keys.found(session, [*tables])
            primary = {tables[each.name].shown: each.key for each in names}
        chains = tuple(_histories(run, found))
    return PageContent(
        database=found.database,
        where=found.where,
        server=found.server,
        made_at=datetime.now(UTC),
        state=found.state,
        unlooked=found.unlooked,
        findings=found.findings,
        chains=chains,
        tables=sorted(tables.values(), key=lambda each: each.shown),
        keys=primary,
        models=found.facts.models,
        rows=found.rows,
        run=told,
        runs=_earlier(settings, found.database),
    )


def _earlier(settings: Settings, database: str) -> list[NotedRun]:
    """Return the last runs on the target, the newest first."""
    noted = (each for each in journal.read(settings.backups) if each.database == database)
    return [*noted][-_MOST_RUNS:][::-1]


def _histories(run: Run, found: Status) -> Iterator[History]:
    """Yield the revisions of each chain that can be read, with the database in it."""
    rows = {each.name: each.revisions for each in found.verdict.chains}
    for worker in run.work.workers():
        name = worker.lineage.name
        here = found.facts.recorded if len(run.work.workers()) == 1 else rows.get(name)
        try:
            scripts = worker.scripts
        except BacksetError:  # the state says it
            continue
        yield History(
            name=name,
            scripts=worker.every_script(),
            heads=scripts.heads,
            database=tuple(here) if here is not None and found.server else None,
            traces=tuple(each for each in found.traces if here is None or each.revision in here),
            problems=tuple(f"{each.kind}: {each.text}" for each in scripts.problems),
        )
