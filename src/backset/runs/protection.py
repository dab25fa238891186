"""The marker of a database that no run may replace: made, and removed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.errors import RefusedError, StepFailedError
from backset.runs.policy import quoted
from backset.servers import swap
from backset.servers.server import PROTECTED

if TYPE_CHECKING:
    from backset.servers.server import Database, Server


def protect(server: Server) -> str:
    """Mark the target; return in words what carries the marker.

    A setting of the database, `backset.protected`, that every session sees. From PostgreSQL 15 on
    a role needs a right to make one that the server does not know; where it lacks that right, the
    comment of the database carries the marker, for backset alone. Raises RefusedError.
    """
    target = _target(server)
    try:
        _set(server, target, sql.SQL("SET {} TO 'on'"))
    except psycopg.errors.InsufficientPrivilege:
        swap.comment(server, target.name, swap.marked("protected", target.comment))
        grant = f"GRANT SET ON PARAMETER {PROTECTED} TO {quoted(server.role.name)}"
        return f"by its comment (for the setting {PROTECTED}, as an administrator: {grant})"
    return f"by its setting {PROTECTED}"


def unprotect(server: Server) -> None:
    """Remove the marker in both of its forms. Raises RefusedError."""
    target = _target(server)
    try:
        _set(server, target, sql.SQL("RESET {}"))
    except psycopg.errors.InsufficientPrivilege:
        if server.databases()[target.name].protected and not _is_marked(target):
            remedy = f"as an administrator: ALTER DATABASE {quoted(target.name)} RESET {PROTECTED}"
            raise RefusedError([("this role may not remove the setting", remedy)]) from None
    if _is_marked(target):
        swap.comment(server, target.name, target.comment)


def _is_marked(target: Database) -> bool:
    return target.mark == "protected"


def _set(server: Server, target: Database, what: sql.SQL) -> None:
    parts = [
        sql.SQL("ALTER DATABASE {}").format(sql.Identifier(target.name)),
        what.format(sql.SQL(PROTECTED)),
    ]
    server.session.execute(sql.SQL(" ").join(parts))


def _target(server: Server) -> Database:
    target = server.databases().get(server.names.target)
    if target is None:
        remedy = f"correct {server.target.mended_in}"
        raise StepFailedError(f"the database {server.names.target} does not exist", remedy)
    if not (target.owned or server.role.is_superuser):
        what = f"{target.name} belongs to {target.owner}, not to {server.role.name}"
        raise RefusedError([(what, f"as {target.owner}: invoke protect")])
    return target
