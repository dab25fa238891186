"""Proves a backup: restores it into a scratch database of its own, compares, and drops that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset import catalog, restoration, signals, swap
from backset.errors import RefusedError, StepFailedError
from backset.session import connect

if TYPE_CHECKING:
    from backset.manifest import Backup
    from backset.programs import Programs
    from backset.server import Database, Server


def refuse(server: Server, scratch: Database | None) -> None:
    """Raise RefusedError where no scratch database can be made.

    scratch: the database of that name, if there is one. It may be unmarked when it is empty: so a
    run leaves it that was killed between two statements.
    """
    role = server.role
    if not role.may_create:
        what = f"the role {role.name} may not create databases, so it cannot prove a backup"
        remedy = "take one without --prove, or let an administrator give the role CREATEDB"
        raise RefusedError([(what, remedy)])
    if scratch and not (scratch.mark or scratch.is_invalid or _is_empty(server, scratch)):
        what = f"the database {scratch.name} exists and backset did not make it"
        raise RefusedError([(what, "rename or drop it, if nobody needs it")])


def prove(backup: Backup, server: Server, like: Database | None, programs: Programs) -> None:
    """Restore `backup` beside the target and compare rows and catalog with its manifest.

    like: the database whose owner, encoding and locale the scratch database gets.
    Raises StepFailedError with the differences; the scratch database is dropped in any case.
    """
    name = server.names.scratch
    drop(server, name)  # what refuse() let pass
    try:
        with signals.deferred():
            swap.create(server, name, like)
            swap.comment(server, name, swap.marked("scratch"))
        restoration.load(backup, server.target.named(name), server.major, programs)
    except BaseException as error:
        _drop_after(server, name, error)
        raise
    drop(server, name)


def drop(server: Server, name: str) -> None:
    """Drop a scratch database; an interrupted DROP would leave an invalid one behind."""
    with signals.deferred():
        swap.drop(server, name)


def _is_empty(server: Server, database: Database) -> bool:
    with connect(server.target.named(database.name), "backup") as session:
        return catalog.is_empty(session)


def _drop_after(server: Server, name: str, error: BaseException) -> None:
    try:
        drop(server, name)
    except (StepFailedError, OSError) as second:
        error.add_note(f"{second}; the next run removes {name}")
