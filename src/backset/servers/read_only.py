"""Who has said that sessions only read (default_transaction_read_only), and what follows from it.

Of a database it is a wish that it be left alone. Of a role it is nobody's wish about a database
that is being built: our login may write there until that is the target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from backset.connections.session import Session

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
