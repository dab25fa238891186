"""Of several hosts in a URL, the primary: one address, which every program of a run gets."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from backset.connections.session import connect, in_time
from backset.connections.target import CONNECT_TIMEOUT_S
from backset.errors import StepFailedError, UnreachableError
from backset.text import explanations

if TYPE_CHECKING:
    from backset.connections.session import Session
    from backset.connections.target import Target

_PURPOSE = "find"
_STANDBY = "is a standby"
_DATABASES = ("postgres", "template1")  # where the target is still to be made


def pinned(target: Target, *, is_read: bool = False) -> Target:
    """Return the target at the first of its hosts that takes writes; with one host, as it is.

    is_read: whether a standby will do. Each connection of libpq would choose among them anew, and
    go to another server in the middle of a run after a failover. Raises StepFailedError.
    """
    if not target.names_several_hosts:
        return target
    found, hosts = [], target.at_each_host()
    for each in hosts:
        why = _why_not(each)
        if not why or (is_read and why == _STANDBY):
            return replace(each, others=tuple(other for other in hosts if other is not each))
        found.append(f"{each.address} {why}")
    wanted = "no server" if is_read else "no primary"
    what = f"{wanted} among the hosts of {target.mended_in}: {'; '.join(found)}"
    raise StepFailedError(what, "start the primary, promote a standby, or correct the list")


def _why_not(target: Target) -> str:
    """Say why a host is not the primary; empty where it is."""
    params = {"connect_timeout": CONNECT_TIMEOUT_S, **target.params}
    secret = make_conninfo("", **params).encode()
    if pq.PGconn.ping(secret) == pq.Ping.NO_RESPONSE:
        return "does not answer"
    words = ""
    for name in (target.database, *_DATABASES):
        try:
            with closing(connect(target.named(name), _PURPOSE)) as session:
                return _STANDBY if _is_standby(session) else ""
        except UnreachableError as error:
            words = words or error.words
            if explanations.is_answer(error.words):  # another try is another failed login
                break
    return f"refuses: {words}"


def _is_standby(session: Session) -> bool:
    try:
        with in_time(session):
            return session.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
    except psycopg.Error:
        return True
