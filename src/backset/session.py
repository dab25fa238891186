"""The only maker of connections: one session on one database, and what its errors mean."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg

from backset.errors import SettingsError, StepFailedError
from backset.target import ONE_HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.target import Target

Session: TypeAlias = psycopg.Connection[Any]


def connect(target: Target, purpose: str) -> Session:
    """Open an autocommit session on `target`. Raises StepFailedError or SettingsError, in one line.

    purpose: what other people see of us in pg_stat_activity.
    """
    params = {"connect_timeout": "10", **target.params}
    params["application_name"] = f"backset {purpose} on {socket.gethostname()}"[:63]
    try:
        session = psycopg.connect(**params, autocommit=True)  # type: ignore[arg-type]
        _lift_timeouts(session)
    except psycopg.Error as error:
        raise StepFailedError(
            f"{target.shown}: {one_line(error, target)}",
            "start the server, or correct DATABASE_URL",
        ) from None
    _demand_one_host(session)
    return session


def _demand_one_host(session: Session) -> None:
    """Refuse a list of hosts that neither the URL nor a variable names, but a service file."""
    hosts = (each.val for each in session.pgconn.info if each.keyword in {b"host", b"hostaddr"})
    if any(b"," in (host or b"") for host in hosts):
        session.close()
        raise SettingsError([("the service file names several hosts", ONE_HOST)])


@contextmanager
def explained(target: Target) -> Iterator[None]:
    """Turn what a server or a file system says in the block into StepFailedError, in one line."""
    try:
        yield
    except psycopg.Error as error:
        what = f"{target.shown}: {one_line(error, target)}"
        raise StepFailedError(what, "see the server's log, then run this again") from None
    except OSError as error:
        raise StepFailedError.from_system(error) from None


def one_line(error: BaseException, target: Target) -> str:
    """Return a server's error in one line, without passwords."""
    lines = [line.strip() for line in str(error).splitlines()]
    return target.redact("; ".join(filter(None, lines)) or type(error).__name__)


# A timeout that the role or the database has for its application would end a run, or its lock.
_TIMEOUTS = {
    "statement_timeout": 0,
    "idle_in_transaction_session_timeout": 0,
    "idle_session_timeout": 140000,  # the server's version that brought it
    "client_connection_check_interval": 140000,
    "transaction_timeout": 170000,
}


def _lift_timeouts(session: Session) -> None:
    version = session.info.server_version
    settings = (f"SET {name} = 0" for name, since in _TIMEOUTS.items() if version >= since)
    session.execute("; ".join(settings).encode())
