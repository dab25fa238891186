"""The task `history`: draws the revisions; it needs no database."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from backset.cli import opened, settled
from backset.errors import AlembicError, BacksetError, StepFailedError
from backset.migrations.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.configuration.settings import Settings
    from backset.connections.target import Target
    from backset.reports.report import Report
    from backset.scripts.history import History


def history(*, as_json: bool) -> None:
    """Draw the revisions of every chain, with the database's own place in it."""
    with opened("history", as_json=as_json) as (settings, told):
        drawn = list(_histories(settings, told))
        told.note(chains=[each.content() for each in drawn])
        for each in drawn:
            _tell(each, told)


def _tell(history: History, told: Report) -> None:
    if history.name:
        told.say(f"chain {history.name}")
    for line in history.lines():
        told.say(line)
    if not history.loaded:
        told.say("there is no migration file")
    if history.database == ():
        told.say("base ← database")
    for problem in history.problems:
        told.notice(problem)
    for trace in history.traces:
        for line in trace.lines():
            told.notice(f"{trace.revision}: {line}")
        if trace.is_found:
            told.notice(f"{trace.revision} comes back with: {trace.command}")


def _histories(settings: Settings, told: Report) -> Iterator[History]:
    settings, target = _reached(settings, told)
    for lineage in settings.lineages:
        with Worker(settings, lineage) as worker:
            if target is None:
                worker.begin_alone()
            else:
                worker.begin(target, "history")
            yield _history(settings, worker, _asked(settings, worker, target, told))


def _history(settings: Settings, worker: Worker, database: tuple[str, ...] | None) -> History:
    from backset.scripts import orphans
    from backset.scripts.history import History

    found = worker.scripts.revisions
    if worker.scripts.problems:  # Alembic stops at the first file that it cannot read
        known = {each.id for each in found}
        found += tuple(each for each in worker.folders.current() if each.id not in known)
    lost = {*(database or ())} - {each.id for each in found}
    return History(
        name=worker.lineage.name,
        scripts=found,
        heads=worker.scripts.heads,
        database=database,
        traces=tuple(
            orphans.trace(each, worker.folders, settings.environ) for each in sorted(lost)
        ),
        problems=tuple(f"{each.kind}: {each.text}" for each in worker.scripts.problems),
    )


def _reached(settings: Settings, told: Report) -> tuple[Settings, Target | None]:
    """Return the target where there is one to ask; else say why the scripts are drawn alone."""
    from backset.connections.session import connect
    from backset.servers import location

    try:
        settings = settled(settings)
        target = location.peek(settings)
        if target is None:
            raise StepFailedError("the embedded PostgreSQL is not running", "invoke start")
        connect(target, "history").close()
    except BacksetError as error:
        told.notice(f"the scripts alone: {error.what}")
        return settings, None
    return settings, target


def _asked(
    settings: Settings, worker: Worker, target: Target | None, told: Report
) -> tuple[str, ...] | None:
    """Return the rows of the version table; None where they cannot be known."""
    from backset.catalogs import catalog
    from backset.connections.session import connect, explained

    if target is None:
        return None
    with explained(target), closing(connect(target, "history")) as session:
        try:
            return tuple(worker.ask("current", session)["revisions"])
        except AlembicError as error:
            told.notice(f"env.py cannot be asked: {error.what}")
            alone = len(settings.lineages) == 1  # else the rows could be another chain's
            return tuple(catalog.revisions(session)) if alone else None
