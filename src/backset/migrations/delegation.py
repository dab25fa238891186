"""The upgrade by the project's own commands, judged by what they leave in the database.

An exit status proves nothing: a command can end with 0 and have migrated another database, or none.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from backset.catalogs import catalog, schema, versions
from backset.errors import Finding, StepFailedError
from backset.migrations.standing import Place, place
from backset.properties import cluster_wide
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backset.connections.session import Session
    from backset.migrations.door import Door, Outcome
    from backset.migrations.worker import Worker

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


def init(
    door: Door, command: Sequence[str], session: Session, on_line: Callable[[str], None]
) -> list[Finding]:
    """Let the project make what its chain cannot start without; return what is doubtful.

    Raises StepFailedError where it has made nothing: no table, schema or extension, no right and
    no role.
    """
    before = _everything(session)
    done = door.run(command, "init", on_line)
    if _everything(session) == before:
        raise StepFailedError(
            f"{_ended(done)}, and created nothing{_seen(done)}", _remedy(done, door)
        )
    return [*door.doubts(done), *_status(done)]


def _everything(session: Session) -> object:
    return schema.read(session), cluster_wide.look(session)


@contextmanager
def after_init(doubts: Sequence[Finding]) -> Iterator[None]:
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


def upgrade(
    door: Door,
    command: Sequence[str],
    workers: Sequence[Worker],
    session: Session,
    on_line: Callable[[str], None],
) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Let the project migrate the chains of `workers`; return, of each, what Alembic would.

    Raises StepFailedError when the command went elsewhere, or one of them is not at its end.
    """
    before = [place(each, session) for each in workers]
    done = door.run(command, "upgrade", on_line)
    after = [_judged(each, session, done, door) for each in workers]
    if not _has_content(session):
        what = f"{_ended(done)}, and {door.subject.database} is at head, but has no table"
        raise StepFailedError(what, "look at what the migrations make; is it stamped only?")
    told = [
        {
            "before": old.revisions,
            "heads": new.revisions,
            "count": max(len(old.pending) - len(new.pending), 0),
            "moved": old.tables != new.tables,
            "schemas": [],
        }
        for old, new in zip(before, after, strict=True)
    ]
    return told, [*door.doubts(done), *_status(done)]


def _judged(worker: Worker, session: Session, done: Outcome, door: Door) -> Place:
    found, name = place(worker, session), f"{worker.lineage.label}{door.subject.database}"
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
    remedy = _LOCATE if found.orphans and not done.status else _remedy(done, door)
    raise StepFailedError(f"{_ended(done)}, but {what}{_seen(done)}", remedy)


def _has_content(session: Session) -> bool:
    """Tell whether there is a table that is not a version table."""
    made = {(each.schema, each.name) for each in versions.tables(session)}
    return bool(set(catalog.tables(session)) - made)


def _ended(done: Outcome) -> str:
    return done.words if done.status else f"{done.shown} ended with 0"


def _seen(done: Outcome) -> str:
    """Say where the command was seen, if not where it should have been."""
    if done.seen.came:
        return ""
    where = ", ".join(done.seen.elsewhere)
    return f"; it connected to {where}" if where else "; no session of it was seen on this server"


def _remedy(done: Outcome, door: Door) -> str:
    return _MEND if done.seen.came or done.status else door.remedy()


def _status(done: Outcome) -> list[Finding]:
    if not done.status:
        return []
    finding = Finding(
        kind=_STATUS,
        what=done.words,
        why="the database is as it should be all the same",
        remedy="let the command end with 0 when it has done its work",
    )
    return [finding]
