"""Rows of another database, which may be on a standby, of another version, or only for reading."""

from __future__ import annotations

import secrets
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from backset.carrying.source import Source
from backset.connections.session import connect, explained
from backset.errors import RefusedError, StepFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.runs.build import Build

_OLDEST = 12  # pg_partition_tree(), and generated columns


def check(build: Build, database: Target) -> None:
    """Raise StepFailedError or RefusedError where no rows can be carried from there."""
    with closing(_connected(build, database)) as session, explained(database):
        major = session.info.server_version // 10000
        if major < _OLDEST:
            remedy = "take a dump with its pg_dump --format=custom, and carry --from that"
            what = f"{database.shown} is PostgreSQL {major}, and rows are read from {_OLDEST} on"
            raise StepFailedError(what, remedy)
        _refuse_own(build, session)


def _refuse_own(build: Build, session: Session) -> None:
    """Refuse the target, and what this run drops; by a lock that no other server can show.

    A standby and a copy of the files have the target's name and its server's identifier.
    """
    key = secrets.randbits(63)
    build.server.session.execute("SELECT pg_advisory_lock(%s)", [key])
    is_here, name = session.execute(_SEES, [key]).fetchone() or (False, "")
    build.server.session.execute("SELECT pg_advisory_unlock(%s)", [key])
    names = build.server.names
    if is_here and name == names.target:
        remedy = "`invoke reset-db --carry` carries the rows of the database itself"
        raise RefusedError([(f"--from is {name} itself", remedy)])
    if is_here and name in {names.next, names.discard, *names.scratches}:
        what = f"--from is {name}, which every run makes anew"
        raise RefusedError([(what, "give it another name first, if its rows are needed")])


@contextmanager
def opened(build: Build, database: Target) -> Iterator[Source]:
    """Open it for the block."""
    connected = partial(_connected, build, database)
    with closing(connected()) as session, explained(database):
        yield Source(database, session, connected)


def _connected(build: Build, database: Target) -> Session:
    """Open a session that cannot write, whatever it is told."""
    session = connect(database, build.purpose)
    session.execute("SET default_transaction_read_only = on")
    return session


_SEES = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
               AND (classid::bigint << 32) | objid::bigint = %s), current_database()
"""
