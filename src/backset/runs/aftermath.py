"""What stands when a run has failed, in words."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import psycopg

from backset.catalog import versions
from backset.connections.session import connect
from backset.errors import AstrayError, Interrupted, StepFailedError
from backset.servers.server import Server

if TYPE_CHECKING:
    from backset.backups.manifest import Backup
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.servers.server import Database


def look_again(target: Target, purpose: str, old: Database | None) -> bool | None:
    """Tell on a new session whether the target is another than `old`; None if none opens."""
    try:
        with Server(target, purpose) as server:
            now = server.databases().get(server.names.target)
    except (StepFailedError, OSError):
        return None
    return now is not None and (old is None or now.oid != old.oid)


def what_stands(
    target: Target,
    error: StepFailedError | Interrupted,
    *,
    promoted: bool | None,
    rebuilt: bool,
    taken: Backup | None,
) -> str:
    """Return what the target is after that error; the rest is as Build has it."""
    name = target.database
    if rebuilt:
        back = f"; `invoke restore {taken.name} --in-place` goes back" if taken else ""
        return f"{name} has been rebuilt already{back}"
    if promoted is None:
        return f"the server does not say whether {name} has been swapped: ask `invoke status`"
    if promoted:
        return f"{name} has been swapped already; `invoke undo` goes back"
    if isinstance(error, AstrayError):
        back = f"; `invoke restore {taken.name}` takes that back" if taken else ""
        return f"{name} was not swapped, but may have been written to{back}"
    return f"{name} is as it was"


def revisions(session: Session) -> tuple[str, ...]:
    """Return what the version tables of a database name, as far as our role may read them."""
    try:
        found = {row for table in versions.tables(session) for row in table.revisions}
    except psycopg.Error:
        return ()
    return tuple(sorted(found))


def where_it_is(target: Target, purpose: str, step: str, before: tuple[str, ...]) -> str:
    """Return what the live target is after a step that worked on it and failed.

    before: the revisions that it was at. What has not been committed is taken back by the server.
    """
    name = target.database
    if step == "seed":
        return f"{name} keeps what the seed command had committed"
    try:
        with closing(connect(target, purpose)) as session:
            now = revisions(session)
    except (StepFailedError, OSError):
        return f"the server does not say at which revision {name} is: ask `invoke status`"
    there = f"{name} is at {', '.join(now) or 'base'}"
    return (
        f"{there}, as it was"
        if now == before
        else f"{there}; it was at {', '.join(before) or 'base'}"
    )
