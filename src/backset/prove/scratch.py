"""Builds a chain in a scratch database beside the target, which is looked at and never changed.

And takes the chain back to base there, and builds it again: what a downgrade leaves is a finding.
"""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from backset.catalog import catalog, past, schema
from backset.catalog.schema import Sides
from backset.connections.session import connect
from backset.errors import Finding, Overdue, StepFailedError
from backset.inherit import cluster_wide
from backset.inherit.inheritance import EVERYTHING, Inheritance
from backset.migrate import upgrading
from backset.migrate.project_command import ProjectCommand
from backset.migrate.upgrading import Ground
from backset.migrate.worker import Worker
from backset.process import signals
from backset.prove import rows
from backset.servers import derived
from backset.text.pasted import bare, parts
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backset.catalog.schema import Difference, Item
    from backset.chain import Watcher
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.inherit.property import Source
    from backset.runs.databases import CurrentDatabase
    from backset.runs.run import Run
    from backset.servers.server import Server
    from backset.settings.settings import Settings

    Progress = Callable[[str], None]


def _silent(_text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """A scratch database with what the target has from an administrator, and nothing else yet.

    workers: a process of Alembic for each chain of revisions, all on this database.
    command: runs the project's own commands on it.
    """

    settings: Settings
    target: Target
    session: Session
    workers: Sequence[Worker]
    command: ProjectCommand
    inheritance: Inheritance

    def upgrade(self, progress: Progress = _silent) -> int:
        """Run every migration, each chain in its own way; return how many there were."""
        ground = Ground(self.settings, self.session, self.workers, self.command)
        told, _ = upgrading.migrate(ground, lambda text, **_: progress(text))
        return sum(each.count for each in told)

    def downgrade(self, progress: Progress = _silent) -> int:
        """Take every migration back, those of the last chain first; return how many there were."""
        return sum(each.downgrade(self.session, progress) for each in reversed(self.workers))

    def schema(self) -> dict[str, Item]:
        """Return the objects in it, but for the version tables."""
        return schema.read(self.session, spare=catalog.version_tables(self.session))


def prepare(
    run: Run,
    names: Sequence[str],
    purpose: str,
    notice: Callable[[str], None] | None = None,
) -> None:
    """Take the lock of the target, and make sure that scratch databases can be made.

    purpose: what for, such as `prove a squash`. notice: is told for whom we wait, if we may wait.
    Raises LockedError or RefusedError. The lock is held until the run is closed.
    """
    run.lock(notice)
    run.server.end_dead_runs()
    derived.refuse_scratch(run.server, names, run.server.databases(), purpose)
    derived.clear_scratch(run.server, run.server.databases())


@contextmanager
def created(
    run: Run,
    name: str,
    *,
    settings: Settings | None = None,
    versions: Path | None = None,
    ahead: Sequence[Worker] = (),
    sources: Sequence[Source] = EVERYTHING,
    is_made: bool = False,
) -> Iterator[Scratch]:
    """Make a scratch database in the likeness of the target for the block; prepare() comes before.

    It is dropped whatever happens; after a kill -9, the next run does it.
    settings: of the project whose chain it is, if not the target's. versions: a folder of revisions
    in place of those that the configuration names. ahead: processes of Alembic that were started
    for it already. sources: what of the target's it gets. is_made: whether the database is there.
    """
    settings = settings or run.settings
    server, current = run.server, run.current
    meant = server.target.named(name)
    with (
        _begun(server, current, meant, settings, versions, ahead) as workers,
        derived.scratch(server, name, current.database, is_made=is_made) as target,
        _opened(server, current, target, sources, settings, workers) as scratch,
    ):
        yield scratch


@contextmanager
def opened(
    server: Server, current: CurrentDatabase, target: Target, sources: Sequence[Source]
) -> Iterator[Scratch]:
    """Begin to work on a scratch database; it gets of the target's what `sources` tell."""
    with (
        _begun(server, current, target, current.settings) as workers,
        _opened(server, current, target, sources, current.settings, workers) as scratch,
    ):
        yield scratch


@contextmanager
def _begun(
    server: Server,
    current: CurrentDatabase,
    target: Target,
    settings: Settings,
    versions: Path | None = None,
    ahead: Sequence[Worker] = (),
) -> Iterator[Sequence[Worker]]:
    """Let Alembic's processes read the scripts for a database, which need not be there yet."""
    with ExitStack() as stack:
        workers = [*ahead] or [Worker(settings, each, versions) for each in settings.lineages]
        for worker in workers:
            stack.enter_context(worker)
            worker.begin(target, server.purpose, current.target.database)
        yield workers


@contextmanager
def _opened(
    server: Server,
    current: CurrentDatabase,
    target: Target,
    sources: Sequence[Source],
    settings: Settings,
    workers: Sequence[Worker],
) -> Iterator[Scratch]:
    with closing(connect(target, server.purpose)) as session:
        names = replace(server.names, next=target.database)
        is_there = current.database is not None
        inheritance = Inheritance(current.target, names, sources if is_there else ())
        if is_there:
            inheritance.begin(current.session(), session, partial(_folders, workers))
        yield Scratch(
            settings=settings,
            target=target,
            session=session,
            workers=workers,
            command=ProjectCommand(settings, target, current.target, server.session),
            inheritance=inheritance,
        )


def _folders(workers: Sequence[Worker]) -> list[Path]:
    return [folder for worker in workers for folder in worker.scripts.folders]


_PURPOSE = "take the migrations back"
_LEFT = Sides("the empty database", "the database at base")
_AGAIN = Sides("the first build", "the second one")
_HALF_WAY = "let downgrade() take back what upgrade() did, or leave this check out"


def findings(run: Run, progress: Callable[[str], None]) -> list[Finding]:
    """Build the chain, take it back to base, and build it again; the target is not touched.

    Raises LockedError, RefusedError where the role cannot make a database, and StepFailedError
    where the chain cannot even be built.
    """
    name = run.server.names.scratch
    prepare(run, [name], _PURPOSE)
    with created(run, name) as made:
        return list(_there_and_back(made, progress))


def refuse(run: Run) -> None:
    """Raise RefusedError where no scratch database can be made."""
    names = [run.server.names.scratch]
    derived.refuse_scratch(run.server, names, run.current.databases, _PURPOSE)


def _there_and_back(made: Scratch, progress: Callable[[str], None]) -> Iterator[Finding]:
    empty, before = made.schema(), cluster_wide.look(made.session)
    made.upgrade(progress)
    first = made.schema()
    try:
        made.downgrade(progress)
    except StepFailedError as error:
        yield _failure(error)
        return
    left, inserted = made.schema(), rows.read(made.session)
    # Alembic leaves its own table, and needs the schema of that before the first migration.
    own = {("schema", name) for name, _ in catalog.version_tables(made.session)}
    for each in schema.between(empty, left, _LEFT):
        kind, _, identity = each.subject.partition(" ")
        names = [*map(bare, parts(identity))]
        if (kind, *names) in own:
            continue
        table = catalog.shown(*names) if kind == "table" else ""
        there = inserted[table].total if table in inserted else 0
        yield _leftover(each, f", with {count(there, 'row')}" if there else "")
    if large := inserted[past.LARGE_OBJECTS].total:
        verb = "is" if large == 1 else "are"
        what = f"{count(large, 'large object')} {verb} left at base"
        yield _finding("downgrade leaves", "", what)
    for role in cluster_wide.made(before, cluster_wide.look(made.session)):
        yield _finding("downgrade leaves", role.name, f"{role.name} is left on the server")
    yield from _second(made, first, progress)


def _second(
    made: Scratch, first: dict[str, Item], progress: Callable[[str], None]
) -> Iterator[Finding]:
    """Go up again: it must succeed, and make the same."""
    try:
        made.upgrade(progress)
    except StepFailedError as error:
        what = f"after a downgrade to base the upgrade fails: {error.what}"
        yield _finding("downgrade leaves", "", what)
        return
    for each in schema.between(first, made.schema(), _AGAIN):
        if not each.minor:
            what = f"after a downgrade to base the upgrade makes something else: {each.text}"
            yield _finding("downgrade leaves", schema.shown(each.subject), what)


def _failure(error: StepFailedError) -> Finding:
    return Finding(
        kind="downgrade fails",
        name="",
        what=f"the downgrade to base fails: {error.what}",
        why="nobody can go back past that revision",
        remedy=_HALF_WAY,
    )


def _leftover(each: Difference, rows: str) -> Finding:
    name = schema.shown(each.subject)
    if each.what == "added":
        what = f"{name} is left at base{rows}"
    elif each.what == "missing":
        what = f"{name} was there before the first migration, and is gone at base"
    else:
        what = each.text
    return _finding("downgrade leaves", name, what)


def _finding(kind: str, name: str, what: str) -> Finding:
    why = "the next upgrade meets it"
    return Finding(kind=kind, name=name, what=what, why=why, remedy=_HALF_WAY)


@contextmanager
def limited(watcher: Watcher, limit_s: float) -> Iterator[Progress]:
    """Give the block so many seconds, and what it tells its progress to."""
    doing = ""

    def progress(text: str) -> None:
        nonlocal doing
        doing = text
        watcher.progress(text)

    try:
        with signals.limited(limit_s):
            yield progress
    except Overdue as error:
        error.doing = doing
        raise
