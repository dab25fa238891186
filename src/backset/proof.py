"""Proves a backup: restores it into a scratch database of its own, compares, and drops that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset import companions, restoration, signals, swap
from backset.errors import RefusedError, StepFailedError

if TYPE_CHECKING:
    from backset.manifest import Backup
    from backset.programs import Programs
    from backset.server import Database, Server


def refuse(server: Server, scratch: Database | None) -> None:
    """Raise RefusedError where no scratch database can be made.

    scratch: the database of that name, if there is one.
    """
    role = server.role
    if not role.may_create:
        what = f"the role {role.name} may not create databases, so it cannot prove a backup"
        remedy = "take one without --prove, or let an administrator give the role CREATEDB"
        raise RefusedError([(what, remedy)])
    if scratch and companions.is_foreign(server, scratch):
        what = f"the database {scratch.name} exists and backset did not make it"
        raise RefusedError([(what, "rename or drop it, if nobody needs it")])


def prove(backup: Backup, server: Server, like: Database | None, programs: Programs) -> None:
    """Restore `backup` beside the target and compare rows and catalog with its manifest.

    like: the database whose owner, encoding and locale the scratch database gets.
    Raises StepFailedError with the differences; the scratch database is dropped in any case.
    """
    name = server.names.scratch
    companions.drop(server, name)  # what refuse() let pass
    try:
        with signals.deferred():
            swap.create(server, name, like)
            swap.comment(server, name, swap.marked("scratch"))
        restoration.load(backup, server.target.named(name), server.major, programs)
    except BaseException as error:
        _drop_after(server, name, error)
        raise
    companions.drop(server, name)


def _drop_after(server: Server, name: str, error: BaseException) -> None:
    try:
        companions.drop(server, name)
    except (StepFailedError, OSError) as second:
        error.add_note(f"{second}; the next run removes {name}")
