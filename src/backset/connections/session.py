"""The only maker of connections: one session on one database, and what its errors mean.

A pooler may give each transaction another session of the server. A lock, a setting and a prepared
statement belong to a session, so a run cannot do with that.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
import traceback
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import psycopg
import psycopg.conninfo
from psycopg.pq import ExecStatus

from backset.connections.target import CONNECT_TIMEOUT_S, ENV_PY, ONE_HOST
from backset.errors import (
    HeldUpError,
    Interrupted,
    SettingsError,
    StepFailedError,
    UnreachableError,
)
from backset.process import signals
from backset.process.identity import application_name
from backset.text import explanations
from backset.text.explanations import GRANTED, UNHIDDEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backset.connections.target import Target


Session: TypeAlias = psycopg.Connection[Any]

LOCK_TIMEOUT_S = 60  # for every lock that a statement of ours waits for, pg_dump's included
# An end that has vanished without a word is noticed after a minute: by us, and, since a server
# that believes in a dead holder would keep its lock, by the server too.
_IN_TIME = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
_ENDING_S = 3.0  # for so long a session that was left may still count
_ANSWER_S = 5.0
_FIRST_S = 60.0  # for the first answers of a session
_TRIES = 5  # other clients of the pooler may take the session in between


def connect(target: Target, purpose: str, *, is_disposable: bool = False) -> Session:
    """Open an autocommit session on `target`. Raises UnreachableError or SettingsError.

    purpose: what other people see of us in pg_stat_activity. is_disposable: the database is thrown
    away if the run fails, so that no commit waits for the disk; that of the swap does for all.
    """
    params = {**_IN_TIME, **target.params}
    params["application_name"] = application_name(purpose)
    params["client_encoding"] = "UTF8"  # of a SQL_ASCII database psycopg would read bytes, not text
    with ExitStack() as unwanted:  # what is not returned is closed
        try:
            session = unwanted.enter_context(closing(_opened(params)))
            with in_time(session):
                pid = _set(session, target, is_disposable=is_disposable)
                told = SessionPids(session.info.backend_pid, pid)
                is_pooled = told.is_doubtful and is_shared(session, lambda: _opened(params))
        except psycopg.Error as error:
            words = one_line(error, target)
            remedy = explanations.unreached(words, target.mended_in)
            raise UnreachableError(f"{target.shown}: {words}", remedy, words) from None
        except Interrupted as error:
            # Its frames hold a session that is half open, for as long as the error lives. The
            # server waits a minute for the password, and every DROP DATABASE waits for that.
            traceback.clear_frames(error.__traceback__)
            raise
        _demand_one_host(session)
        if is_pooled:
            what = f"{target.shown} is a pooler that gives each transaction another session"
            name = "DATABASE_URL" if target.source == ENV_PY else target.mended_in
            raise SettingsError([(what, f"give {name} the address of PostgreSQL itself")])
        unwanted.pop_all()
    _processes[session] = pid
    return session


_open: WeakKeyDictionary[Session, None] = WeakKeyDictionary()  # also one that is being set
_processes: WeakKeyDictionary[Session, int] = WeakKeyDictionary()
_ended: set[int] = set()


def process_of(session: Session) -> int:
    """Ask which process of the server a session has, and demand that it is the one from before.

    Ask again before whatever depends on that: a lock, who is left alone, what nobody else may do.
    Raises StepFailedError where a pooler has given the session to another process meanwhile.
    """
    pid = _asked(session)
    if _processes.setdefault(session, pid) != pid:
        what = "a pooler has given our session to somebody else, and the lock of this run with it"
        raise StepFailedError(what, "give DATABASE_URL the address of PostgreSQL itself")
    return pid


def _opened(params: Mapping[str, str]) -> Session:
    until = time.monotonic() + _ENDING_S
    while True:
        try:
            session = psycopg.connect(**params, autocommit=True)  # type: ignore[arg-type]
        except psycopg.OperationalError as error:
            if not explanations.is_full(str(error)) or time.monotonic() > until:
                raise
        else:
            _open[session] = None
            return session
        time.sleep(0.1)


def _demand_one_host(session: Session) -> None:
    """Refuse a list of hosts that neither the URL nor a variable names, but a service file."""
    hosts = (each.val for each in session.pgconn.info if each.keyword in {b"host", b"hostaddr"})
    if any(b"," in (host or b"") for host in hosts):
        raise SettingsError([("the service file names several hosts", ONE_HOST)])


def conninfo(target: Target, purpose: str) -> str:
    """Return the connection string of a program of PostgreSQL, named and without its secrets."""
    given = psycopg.conninfo.conninfo_to_dict(target.conninfo)
    name = application_name(purpose, is_child=True)
    named = {**_IN_TIME, **given, "application_name": name}
    return psycopg.conninfo.make_conninfo("", **named)


def end(session: Session) -> None:
    """Close a session, and that of the server behind it, which a pooler would keep."""
    with closing(session), suppress(psycopg.Error):
        _ended.add(session.info.backend_pid)
        if session.info.backend_pid != _processes.get(session):
            session.rollback()
            session.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def cut() -> None:
    """Break the line of every session that is open, from any thread: who waits on one fails."""
    for reference in _open.keyrefs():
        session = reference()
        if session is not None:
            _cut(session)


def _cut(session: Session) -> None:
    with suppress(psycopg.Error, OSError):  # it is closed
        line = socket.socket(fileno=os.dup(session.fileno()))
        with line:
            line.shutdown(socket.SHUT_RDWR)


@contextmanager
def in_time(session: Session) -> Iterator[None]:
    """Cut a session whose first questions are not answered: nobody asks for its server yet."""
    timer = threading.Timer(_FIRST_S, _cut, [session])
    timer.daemon = True
    with signals.deferred():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def was_ended(pid: int) -> bool:
    """Tell whether a server's process was behind a session of ours: it may see the end later."""
    return pid in _ended


@contextmanager
def explained(target: Target) -> Iterator[None]:
    """Turn what a server or a file system says in the block into StepFailedError, in one line."""
    try:
        yield
    except psycopg.Error as error:
        what = f"{target.shown}: {one_line(error, target)}"
        if isinstance(error, psycopg.errors.LockNotAvailable):
            raise HeldUpError(what, "wait until that lock is free, then run this again") from None
        raise StepFailedError(what, _remedy(error)) from None
    except OSError as error:
        raise StepFailedError.from_system(error) from None


def _remedy(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return denied(error)
    if isinstance(error, psycopg.errors.OutOfMemory):
        return "raise max_locks_per_transaction of the server, restart it, and run this again"
    return "see the server's log, then run this again"


# Of the server: what it says itself depends on its lc_messages.
_OF_ROW_SECURITY = frozenset({"check_enable_rls", "ExecWithCheckOptions"})


def denied(error: psycopg.Error) -> str:
    """Return the remedy where a role may not do something: of row security no GRANT is one."""
    if error.diag.source_function in _OF_ROW_SECURITY:
        return UNHIDDEN
    return GRANTED


def one_line(error: BaseException, target: Target) -> str:
    """Return a server's error in one line, without passwords."""
    lines = [line.strip() for line in str(error).splitlines()]
    return target.redact("; ".join(filter(None, lines)) or type(error).__name__)


# A timeout that the role or the database has for its application would end a run, or its lock;
# and `discard` counts on a server that goes on after we hang up.
_LIFTED = {
    "statement_timeout": 0,
    "idle_in_transaction_session_timeout": 0,
    "idle_session_timeout": 140000,  # the server's version that brought it
    "client_connection_check_interval": 140000,
    "transaction_timeout": 170000,
}
# How the server reads a backslash in a literal, and the word NULL in an array.
_READ_AS_EVER = {"standard_conforming_strings": "on", "array_nulls": "on"}


def _set(session: Session, target: Target, *, is_disposable: bool) -> int:
    """Set all that, and return the number of the process that the server gave us, in one go."""
    version = session.info.server_version
    settings = {name: "0" for name, since in _LIFTED.items() if version >= since}
    settings |= _READ_AS_EVER
    settings |= {"synchronous_commit": "off"} if is_disposable else {}
    # In place, a commit that waits for a standby would keep everybody out; see swap.py.
    settings |= (
        {"default_transaction_read_only": "off", "synchronous_commit": "local"}
        if target.writes
        else {}
    )
    settings["lock_timeout"] = f"'{LOCK_TIMEOUT_S}s'"
    if target.params.get("keepalives") != "0":  # a server sets nothing on a Unix socket
        settings |= {
            "tcp_keepalives_idle": "30",
            "tcp_keepalives_interval": "10",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": "60000",
        }
    statements = [*(f"SET {k} = {v}" for k, v in settings.items()), "SELECT pg_backend_pid()"]
    cursor = session.execute("; ".join(statements).encode())
    while cursor.nextset():
        pass
    return int(cursor.fetchone()[0])  # type: ignore[index]


class SessionPids(NamedTuple):
    """What a new session was told: by who answered it, and by the server itself."""

    pid: int
    servers_pid: int

    @property
    def is_doubtful(self) -> bool:
        """Whether somebody stands between: PgBouncer tells a number of its own to its clients."""
        return self.pid != self.servers_pid


def is_shared(
    session: psycopg.Connection[Any], another: Callable[[], psycopg.Connection[Any]]
) -> bool:
    """Tell whether a session is led to several processes of the server, or to that of another one.

    Tried with PgBouncer: a direct connection and `pool_mode = session` give each its own. Else two
    questions in a row see the pool go round where it does, and a second session comes to the same
    process where it does not.
    """
    with another() as second:
        own: set[int | None] = set()
        others: set[int | None] = set()
        for _ in range(_TRIES):
            own |= {_answered(session), _answered(session)}
            others.add(_answered(second))
            if None in own | others or len(own) > 1 or len(others) > 1 or own & others:
                return True
    return False


def _asked(session: psycopg.Connection[Any]) -> int:
    """Ask a session for the number of the server's process behind it, which is asked itself.

    What the session was told when it was opened may be a number of a pooler's own.
    """
    (pid,) = session.execute("SELECT pg_backend_pid()").fetchone() or (0,)
    return int(pid)


def _answered(session: psycopg.Connection[Any]) -> int | None:
    """Return the same; None where the pooler has none to give."""
    line = session.pgconn
    line.send_query(b"SELECT pg_backend_pid()")
    while line.is_busy():
        if not select.select([line.socket], [], [], _ANSWER_S)[0]:
            return None
        line.consume_input()
    answer, number = line.get_result(), None
    while answer:
        number = answer.get_value(0, 0) if answer.status == ExecStatus.TUPLES_OK else None
        answer = line.get_result()
    return None if number is None else int(number)
