"""Takes each chain of revisions to its heads, in the order of the settings, each in its own way.

Alembic's process does it, or the project's own command. That one is judged by what it leaves in the
database: a command can end with 0 and have migrated another database, or none.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from psycopg import sql

from backset.catalog import catalog, schema, versions
from backset.errors import AlembicError, Finding, StepFailedError
from backset.inherit import cluster_wide
from backset.migrate.answers import Migrated
from backset.migrate.current import Place, place
from backset.revisions import replaced
from backset.text import explanations
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backset.connections.session import Session
    from backset.migrate.project_command import CommandOutcome, ProjectCommand
    from backset.migrate.worker import Worker
    from backset.settings.settings import Settings
    from backset.settings.values import Lineage

    Told = list[Migrated]

_OWN_TABLE = (
    "let env.py of each chain give context.configure() a version_table of its own, and name that "
    "in its [[tool.backset.chains]]"
)
_FOLLOW = (
    "`backset upgrade` follows that one; a chain of your own in tasks.py does so with the step "
    'follow: Chain("upgrade", follow, upgrade)'
)
_STATUS = "exit status"
_MEND = "mend the command, then run this again"
_NAME_IT = (
    "name the chain's version table: version_table in a table of [[tool.backset.chains]], beside "
    "the name"
)
_LOCATE = (
    "name the folders of its scripts, which the command may set by itself: [tool.backset.ini] "
    'version_locations = "…", or recursive_version_locations = "true"'
)


class Progress(Protocol):
    """Tells what a step is doing."""

    def __call__(self, text: str, *, lasting: bool = False) -> None:
        """Tell it; lasting: people want to see it afterwards, too."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What is migrated: the `__next` or the target of a run, or a scratch database.

    workers: a process of Alembic for each chain of revisions, all on the database of `session`.
    command: runs the project's own commands on it.
    """

    settings: Settings
    session: Session
    workers: Sequence[Worker]
    command: ProjectCommand


def migrate(ground: Ground, progress: Progress) -> tuple[Told, list[Finding]]:
    """Run the migrations; return what was done in each chain, and what is doubtful.

    Raises StepFailedError, which names the chain where there are several.
    """
    settings, session, workers = ground.settings, ground.session, ground.workers
    if not settings.init or catalog.tables(session):
        return _each(ground, progress)
    before = [place(each, session).revisions for each in workers]
    doubts = init(ground.command, settings.init, session, progress)
    with _after_init(doubts):
        told, more = _each(ground, progress)
    pairs = zip(told, before, strict=True)
    told = [replace(each, before=rows, init=True) for each, rows in pairs]
    return told, doubts + more


def _each(ground: Ground, progress: Progress) -> tuple[Told, list[Finding]]:
    settings, workers, doubts = ground.settings, ground.workers, []
    if settings.upgrade:
        where = (settings.upgrade, workers, ground.session)
        return _upgrade_by_command(ground.command, *where, progress)
    told = []
    for worker in workers:
        with _named(worker.lineage), _unshared(worker, workers):
            done, more = _one(ground, worker, progress)
        told.append(done)
        doubts += more
    return told, doubts


def _one(ground: Ground, worker: Worker, progress: Progress) -> tuple[Migrated, list[Finding]]:
    lineage, session = worker.lineage, ground.session

    def told(text: str) -> None:
        progress(f"{lineage.label}{text}")

    def each_revision(text: str) -> None:
        lasting = not text.startswith("1/1 ")  # of one alone, the line of the step says all
        progress(f"{lineage.label}{text}", lasting=lasting)

    def migrated() -> tuple[Migrated, list[Finding]]:
        if not lineage.upgrade:
            return upgrade(worker, session, each_revision), []
        (done,), more = _upgrade_by_command(
            ground.command, lineage.upgrade, [worker], session, told
        )
        return done, more

    if not lineage.init or place(worker, session).tables:
        return migrated()
    doubts = init(ground.command, lineage.init, session, told)
    with _after_init(doubts):
        done, more = migrated()
    return replace(done, before=[], init=True), doubts + more


@contextmanager
def _unshared(worker: Worker, workers: Sequence[Worker]) -> Iterator[None]:
    """Say it where the block meets a revision of another chain, or one that a script replaces."""
    try:
        yield
    except AlembicError as error:
        by = replaced.replacing(worker.scripts.revisions)
        for name in by if error.kind == "orphaned revision" else ():
            if f"'{name}'" in error.words:
                what = f"{error.words}: {by[name][0].id} replaces it"
                raise StepFailedError(what, _FOLLOW) from None
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


def upgrade(
    worker: Worker,
    session: Session,
    progress: Callable[[str], None],
    *,
    to: Sequence[str] = (),
    watched: Mapping[str, Any] | None = None,
) -> Migrated:
    """Run the migrations on the database of `session`.

    to: revisions; without them, where the chain ends. watched: what is looked at after each, as
    alembic_worker.compare has it.

    The schema of a version table is made first: Alembic writes to that table before the first
    migration could make its schema. Raises StepFailedError.
    """
    return begin(worker, session, to=to, watched=watched)(progress)


def begin(
    worker: Worker,
    session: Session,
    *,
    to: Sequence[str] = (),
    watched: Mapping[str, Any] | None = None,
) -> Callable[[Callable[[str], None]], Migrated]:
    """Begin what upgrade() does, and wait for nothing; return what waits for the end of it.

    Until that is called, nobody may use the session, nor ask the worker.
    """
    worker.begin_upgrade(session, to=to, watched=watched)

    def end(progress: Callable[[str], None]) -> Migrated:
        made: list[str] = []
        while True:
            try:
                done = worker.upgraded(progress)
            except AlembicError as error:
                if error.kind != "missing schema" or error.words in made:
                    raise
                made.append(error.words)
            else:
                _demand_written(worker, session, done)
                return replace(done, schemas=made)
            session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(made[-1])))
            worker.begin_upgrade(session, to=to, watched=watched)

    return end


def _demand_written(worker: Worker, session: Session, done: Migrated) -> None:
    """Raise StepFailedError where env.py has rolled back what Alembic has done.

    The catalogs are asked first. Where our role does not see the version table, Alembic is.
    """
    if not done.count:
        return
    seen = {row for table in versions.tables(session) for row in table.revisions}
    if seen.issuperset(done.after):
        return
    if not set(worker.current(session)).issuperset(done.after):
        ran = count(done.count, "revision")
        what = f"{ran} ran up to {', '.join(done.after)}, and env.py's transaction was rolled back"
        raise StepFailedError(f"{what}: nothing was written", explanations.COMMIT)


def init(
    project: ProjectCommand,
    command: Sequence[str],
    session: Session,
    on_line: Callable[[str], None],
) -> list[Finding]:
    """Let the project make what its chain cannot start without; return what is doubtful.

    Raises StepFailedError where it has made nothing: no table, schema or extension, no right and
    no role.
    """
    before = _everything(session)
    done = project.run(command, "init", on_line)
    if _everything(session) == before:
        raise StepFailedError(
            f"{_ended(done)}, and created nothing{_seen(done)}", _remedy(done, project)
        )
    return [*project.doubts(done), *_status(done)]


def _everything(session: Session) -> object:
    return schema.read(session), cluster_wide.look(session)


@contextmanager
def _after_init(doubts: Sequence[Finding]) -> Iterator[None]:
    """Let an error of the block begin with the last words of an `init` that has failed.

    doubts: what init() has returned; it may have made enough, so that alone is no error.
    """
    try:
        yield
    except StepFailedError as error:
        if said := [each.what for each in doubts if each.kind == _STATUS]:
            error.what = f"init: {'; '.join(said)}; then {error.what}"
            error.remedy = f"mend what init says first; else {error.remedy}"
        raise


def _upgrade_by_command(
    project: ProjectCommand,
    command: Sequence[str],
    workers: Sequence[Worker],
    session: Session,
    on_line: Callable[[str], None],
) -> tuple[Told, list[Finding]]:
    """Let the project migrate the chains of `workers`; return, of each, what Alembic would.

    Raises StepFailedError when the command went elsewhere, or one of them is not at its end.
    """
    before = [place(each, session) for each in workers]
    done = project.run(command, "upgrade", on_line)
    after = [_judged(each, session, done, project) for each in workers]
    if not _has_content(session):
        what = f"{_ended(done)}, and {project.subject.database} is at head, but has no table"
        raise StepFailedError(what, "look at what the migrations make; is it stamped only?")
    told = [
        Migrated(
            before=old.revisions,
            heads=new.revisions,
            count=max(len(old.pending) - len(new.pending), 0),
            moved=old.tables != new.tables,
        )
        for old, new in zip(before, after, strict=True)
    ]
    return told, [*project.doubts(done), *_status(done)]


def _judged(
    worker: Worker, session: Session, done: CommandOutcome, project: ProjectCommand
) -> Place:
    found, name = place(worker, session), f"{worker.lineage.label}{project.subject.database}"
    if not any(table.revisions for table in found.tables):
        what = f"{name} has no revision in a version table: nothing was migrated there"
        if others := [each.shown for each in versions.tables(session) if each.revisions]:
            what = f"{name} has none of its revisions in {' or '.join(others)}"
            raise StepFailedError(f"{_ended(done)}, but {what}", _NAME_IT)
    elif found.orphans:
        what = f"{name} is at {', '.join(found.orphans)}, which no migration file has"
    elif found.pending:
        what = f"{name} is {count(len(found.pending), 'revision')} before head ({found.shown})"
    else:
        return found
    remedy = _LOCATE if found.orphans and not done.status else _remedy(done, project)
    raise StepFailedError(f"{_ended(done)}, but {what}{_seen(done)}", remedy)


def _has_content(session: Session) -> bool:
    """Tell whether there is a table that is not a version table."""
    made = {(each.schema, each.name) for each in versions.tables(session)}
    return bool(set(catalog.tables(session)) - made)


def _ended(done: CommandOutcome) -> str:
    return done.words if done.status else f"{done.shown} ended with 0"


def _seen(done: CommandOutcome) -> str:
    """Say where the command was seen, if not where it should have been."""
    if done.seen.came:
        return ""
    where = ", ".join(done.seen.elsewhere)
    return f"; it connected to {where}" if where else "; no session of it was seen on this server"


def _remedy(done: CommandOutcome, project: ProjectCommand) -> str:
    return _MEND if done.seen.came or done.status else project.remedy()


def _status(done: CommandOutcome) -> list[Finding]:
    if not done.status:
        return []
    finding = Finding(
        kind=_STATUS,
        what=done.words,
        why="the database is as it should be all the same",
        remedy="let the command end with 0 when it has done its work",
    )
    return [finding]
