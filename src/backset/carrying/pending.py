"""Pending revisions that change old rows: the new database runs them before it has any of these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.carrying.obstacles import going_without
from backset.catalogs import versions
from backset.errors import RefusedError, StepFailedError
from backset.revisions import graph, operations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.connections.session import Session
    from backset.migrations.worker import Worker
    from backset.revisions.revision import Revision
    from backset.runs.build import Build


def found(session: Session, build: Build) -> list[Revision]:
    """Return them in their order, as far as the version tables of a database say where it stands.

    Of an orphaned database, or one without a version, nothing is known, and nothing is pending.
    What only inserts rows of its own has done so in the new database. It counts where the settings
    let old rows replace those, and where a command of the project made that database: one that
    creates all tables and stamps the head has run no migration.
    """
    rules = build.options.carries
    places = [each.revisions for each in versions.tables(session) if each.revisions]
    if rules is None or not places:
        return []
    heads = set(build.scripts.heads)  # which needs no process of Alembic where a clone is taken
    if all(heads == set(rows) for rows in places):
        return []
    return [
        each
        for worker in build.workers
        for each in _of(worker, places)
        if each.id not in rules.unmigrated
        and _matters(each, alone=not (rules.replace or _is_by_command(build, worker)))
    ]


def _of(worker: Worker, places: Sequence[Sequence[str]]) -> list[Revision]:
    """Return every pending revision of a chain."""
    scripts = worker.scripts
    known = {each.id for each in scripts.revisions}
    ends = scripts.goal if scripts.goal and known.issuperset(scripts.goal) else scripts.heads
    wanted = graph.ancestors(ends, scripts.revisions)
    waiting: set[str] = set()
    for rows in places:
        if known.issuperset(rows):
            waiting |= wanted - graph.ancestors(rows, scripts.revisions)
    return [each for each in graph.ordered(scripts.revisions) if each.id in waiting]


def _is_by_command(build: Build, worker: Worker) -> bool:
    return bool(build.settings.init or worker.lineage.init or worker.has_door)


def _matters(revision: Revision, *, alone: bool) -> bool:
    """Tell whether old rows need it. alone: the rows that it inserts are there in any case."""
    text = operations.source_of(revision)
    return (operations.depends_on_rows if alone else operations.speaks_of_rows)(text)


def files(revisions: Sequence[Revision]) -> str:
    """Return the names of their files, for people."""
    return ", ".join(each.path.name for each in revisions)


def refuse_in_place(build: Build) -> None:
    """Note what is pending before the target is cleared; refuse what could not be done then.

    Raises RefusedError where the role may not make the copy in which the old rows go through these.
    """
    build.pending = found(build.live, build)
    if build.pending and not build.server.role.may_create:
        what = (
            f"{build.target.database} has not run {files(build.pending)}, which would change its "
            "rows, and these would come back as they are"
        )
        raise RefusedError([(what, going_without([each.id for each in build.pending]))])


def failed(revisions: Sequence[Revision], error: StepFailedError | RefusedError) -> StepFailedError:
    """Return the error where the copy could not go through these."""
    what = f"the old rows could not go through {files(revisions)} in a copy: {error.what}"
    return StepFailedError(what, going_without([each.id for each in revisions]))
