"""Takes each chain of revisions to its heads, in the order of the settings, each in its own way."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from backset.catalogs import catalog
from backset.errors import AlembicError, StepFailedError
from backset.migrations import delegation, upgrading
from backset.migrations.standing import place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backset.configuration.lineage import Lineage
    from backset.configuration.settings import Settings
    from backset.connections.session import Session
    from backset.errors import Finding
    from backset.migrations.door import Door
    from backset.migrations.worker import Worker

    Told = list[dict[str, Any]]


_OWN_TABLE = (
    "let env.py of each chain give context.configure() a version_table of its own, and name that "
    "in its [[tool.backset.chains]]"
)


class Progress(Protocol):
    """Tells what a step is doing."""

    def __call__(self, text: str, *, lasting: bool = False) -> None:
        """Tell it; lasting: people want to see it afterwards, too."""


class Ground(Protocol):
    """What is migrated: the `__next` or the target of a build, or a scratch database.

    workers: a process of Alembic for each chain of revisions, all on the database of `session`.
    door: runs the project's own commands on it.
    """

    @property
    def settings(self) -> Settings:
        """Those of the project."""

    @property
    def session(self) -> Session:
        """Our own session on it."""

    @property
    def workers(self) -> Sequence[Worker]:
        """One for each chain of revisions."""

    @property
    def door(self) -> Door:
        """The project's own commands."""


def migrate(ground: Ground, progress: Progress) -> tuple[Told, list[Finding]]:
    """Run the migrations; return what was done in each chain, and what is doubtful.

    Raises StepFailedError, which names the chain where there are several.
    """
    settings, session, workers = ground.settings, ground.session, ground.workers
    if not settings.init or catalog.tables(session):
        return _each(ground, progress)
    before = [place(each, session).revisions for each in workers]
    doubts = delegation.init(ground.door, settings.init, session, progress)
    with delegation.after_init(doubts):
        told, more = _each(ground, progress)
    told = [{**each, "before": rows, "init": True} for each, rows in zip(told, before, strict=True)]
    return told, doubts + more


def _each(ground: Ground, progress: Progress) -> tuple[Told, list[Finding]]:
    settings, workers, doubts = ground.settings, ground.workers, []
    if settings.upgrade:
        where = (settings.upgrade, workers, ground.session)
        return delegation.upgrade(ground.door, *where, progress)
    told = []
    for worker in workers:
        with _named(worker.lineage), _unshared(worker, workers):
            done, more = _one(ground, worker, progress)
        told.append(done)
        doubts += more
    return told, doubts


def _one(
    ground: Ground, worker: Worker, progress: Progress
) -> tuple[dict[str, Any], list[Finding]]:
    lineage, session = worker.lineage, ground.session

    def told(text: str) -> None:
        progress(f"{lineage.label}{text}")

    def each_revision(text: str) -> None:
        lasting = not text.startswith("1/1 ")  # of one alone, the line of the step says all
        progress(f"{lineage.label}{text}", lasting=lasting)

    def migrated() -> tuple[dict[str, Any], list[Finding]]:
        if not lineage.upgrade:
            return upgrading.upgrade(worker, session, each_revision), []
        (done,), more = delegation.upgrade(ground.door, lineage.upgrade, [worker], session, told)
        return done, more

    if not lineage.init or place(worker, session).tables:
        return migrated()
    doubts = delegation.init(ground.door, lineage.init, session, told)
    with delegation.after_init(doubts):
        done, more = migrated()
    return {**done, "before": [], "init": True}, doubts + more


@contextmanager
def _unshared(worker: Worker, workers: Sequence[Worker]) -> Iterator[None]:
    """Say it where the block meets the revision that another chain has put into its table."""
    try:
        yield
    except AlembicError as error:
        for other in workers:
            ids = {f"'{each.id}'" for each in other.scripts.revisions if other is not worker}
            if error.kind == "orphaned revision" and any(each in error.words for each in ids):
                what = f"{error.words}: it is of {other.lineage.name}, in the same version table"
                raise StepFailedError(what, _OWN_TABLE) from None
        raise


@contextmanager
def _named(lineage: Lineage) -> Iterator[None]:
    """Let an error of the block begin with the chain that it is about."""
    try:
        yield
    except StepFailedError as error:
        if not error.what.startswith(lineage.label):
            error.what = f"{lineage.label}{error.what}"
        raise
