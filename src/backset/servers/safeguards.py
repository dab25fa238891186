"""What keeps a run from a database: the marker of `protect`, and default_transaction_read_only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.errors import RefusedError, StepFailedError
from backset.servers import swap
from backset.servers.server import PROTECTED
from backset.text.pasted import quoted

if TYPE_CHECKING:
    from backset.connections.session import Session
    from backset.servers.server import Database, Server

SETTING = "default_transaction_read_only"


def said(session: Session, database: str) -> str:
    """Return who has said that a database is only read, in words; empty where nobody has.

    session: of our own, whose setting somebody may have changed since. What is said of roles does
    not count, nor what a run in place has set for our login meanwhile.
    """
    of_it, of_all = session.execute(_SAID, [database]).fetchone() or (False, False)
    if of_it:
        return f"ALTER DATABASE {sql.Identifier(database).as_string(session)} SET {SETTING}"
    return f"{SETTING} of the whole server" if of_all else ""


def lift(session: Session, database: str) -> None:
    """Let our login write to a database that is being built, where it only reads elsewhere."""
    _where_it_is_said(session, database, "SET {} TO off")


def restore(session: Session, database: str) -> None:
    """Take that back."""
    _where_it_is_said(session, database, "RESET {}")


def _where_it_is_said(session: Session, database: str, action: str) -> None:
    if session.execute(_OF_LOGIN).fetchone() != (True,):
        return
    words = sql.SQL("ALTER ROLE SESSION_USER IN DATABASE {} " + action)
    with session.transaction():
        session.execute("SET LOCAL ROLE NONE")  # what the login may say of itself, no other may
        session.execute(words.format(sql.Identifier(database), sql.Identifier(SETTING)))


_ENTRIES = """
FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
     LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) each
WHERE starts_with(each, 'default_transaction_read_only=')
"""
_VALUE = "split_part(each, '=', 2)::bool"
_BEGAN = "(SELECT reset_val::bool FROM pg_settings WHERE name = 'default_transaction_read_only')"
# Of our session counts what it began with, unless that was said of its database or its role.
_OF_SERVER = f"""
{_BEGAN} AND NOT EXISTS (
    SELECT {_ENTRIES} AND coalesce(r.rolname, session_user) = session_user
    AND coalesce(d.datname, current_database()) = current_database())
"""
_SAID = f"""
SELECT coalesce((SELECT {_VALUE} {_ENTRIES} AND s.setrole = 0 AND d.datname = %s), false),
       {_OF_SERVER}
"""
_OF_LOGIN = f"""
SELECT coalesce((SELECT {_VALUE} {_ENTRIES} AND s.setdatabase = 0
                 AND (s.setrole = 0 OR r.rolname = session_user) ORDER BY s.setrole DESC LIMIT 1),
                {_OF_SERVER})
"""


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
