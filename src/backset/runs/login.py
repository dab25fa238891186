"""What our login is in a database that is rebuilt in place: as whom it acts, and what it may write.

Sessions of the same login, an application's mostly, may only read there until the rebuild is done,
and PostgreSQL says so to whoever writes. A setting of the login in that one database is all that a
role may do without rights on the database; it is what every driver gets. Other roles get the right
to write to a new table when all is done.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.catalogs import rights
from backset.connections import activity
from backset.processes.identity import run_mark

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.catalogs.rights import Right
    from backset.connections.session import Session

# PostgreSQL takes the first letters of a word for the word, and keeps what it was given. Spelled
# as nobody else would, the setting is known as that of a run; and whether `role` is the run's, too.
_READS, _WRITES = "tru", "fals"
_ACTING = {_READS: "tr", _WRITES: "fal"}


class Writers:
    """Everybody else who could write to a database that is rebuilt, as far as that is ours to say.

    session: on the server. target: opens one in the database itself.
    are_out: whether our login is kept from writing. were_let_in: whether it was, and is no more.
    stays: the oids of the tables that are not replaced. revoked: the rights of other roles that
    wait until all is done.
    """

    def __init__(self, session: Session, database: str, target: Callable[[], Session]) -> None:
        self._session = session
        self._database = database
        self._target = target
        self.are_out = self.were_let_in = self._acts = False
        self.stays: list[int] = []
        self.revoked: list[Right] = []

    def keep_out(self, *, acts: bool = False) -> None:
        """Let our login only read from now on, where the server lets a role say that of itself.

        acts: whether it is going to act as another role there, until forget() takes that back.
        """
        self._acts = self._acts or acts
        if self.are_out or self._is_said_otherwise():
            return
        with suppress(psycopg.errors.InsufficientPrivilege):
            self._restrict(_READS)
            self.are_out = True

    def revoke(self) -> None:
        """Take the right to write from other roles, but for the tables that stay."""
        self.revoked += rights.revoke(self._target(), self.stays)

    def let_in(self) -> None:
        """Let everybody write who may."""
        self._grant()
        if self.are_out:
            self._restrict(_WRITES)
            self.are_out, self.were_let_in = False, True

    def forget(self, *, is_gone: bool = False) -> None:
        """Take back all that was done here, `role` included; is_gone: the tables are no more."""
        if is_gone:
            self.revoked.clear()
        self._grant()
        if self._acts and not is_set(self._session, self._database):
            _set(self._session, self._database, _RESET_ROLE)
        end(self._session, self._database)
        self.are_out = self._acts = False

    def _is_said_otherwise(self) -> bool:
        """Tell whether somebody has said of our login what its sessions may there."""
        values = {"database": self._database}
        said = self._session.execute(_SAID, values).fetchone() is not None
        return said and not is_set(self._session, self._database)

    def _restrict(self, how: str) -> None:
        _restrict(self._session, self._database, _ACTING[how] if self._acts else how)

    def _grant(self) -> None:
        if self.revoked:
            rights.grant(self._target(), self.revoked)
            self.revoked.clear()


def is_set(session: Session, database: str) -> bool:
    """Tell whether a run has set something for our login in a database, and not taken it back."""
    return _mark(session, database) != ""


def end(session: Session, database: str) -> None:
    """Take back what a run has set for our login in a database, `role` included."""
    mark, acts = _mark(session, database), set(_ACTING.values())
    if mark in {_READS, _ACTING[_READS]}:
        _restrict(session, database, _ACTING[_WRITES] if mark in acts else _WRITES)
    if mark:
        _set(session, database, _RESET_READ_ONLY, *([_RESET_ROLE] if mark in acts else []))


def override(session: Session) -> None:
    """Let a session of our own write, which has begun while those of our login only read."""
    session.execute("SET default_transaction_read_only = off")


def _restrict(session: Session, database: str, how: str) -> None:
    """Restrict new sessions, and end those that are otherwise."""
    _set(session, database, _READ_ONLY.format(sql.Literal(how)))
    activity.end_login(session, database, activity.not_of(run_mark()))


def _mark(session: Session, database: str) -> str:
    values = {"database": database, "marks": [*_ACTING, *_ACTING.values()]}
    (mark,) = session.execute(_MARK, values).fetchone() or ("",)
    return str(mark)


def _set(session: Session, database: str, *settings: sql.SQL | sql.Composed) -> None:
    override(session)
    where = sql.SQL("ALTER ROLE SESSION_USER IN DATABASE {} ").format(sql.Identifier(database))
    with session.transaction():
        session.execute("SET LOCAL ROLE NONE")  # of the role that it acts as, it may be another's
        for each in settings:
            session.execute(where + each)


_READ_ONLY = sql.SQL("SET default_transaction_read_only TO {}")
_RESET_READ_ONLY = sql.SQL("RESET default_transaction_read_only")
_RESET_ROLE = sql.SQL("RESET role")
_OF_LOGIN = """
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
     JOIN pg_roles r ON r.oid = s.setrole AND r.rolname = session_user
"""
_SAID = f"""
SELECT {_OF_LOGIN}, unnest(s.setconfig) each
WHERE d.datname = %(database)s AND starts_with(each, 'default_transaction_read_only=')
"""
_MARK = f"""
SELECT each {_OF_LOGIN}, unnest(%(marks)s::text[]) each
WHERE d.datname = %(database)s
  AND 'default_transaction_read_only=' || each = ANY(s.setconfig)
"""
