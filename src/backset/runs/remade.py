"""Whether a rebuild makes all rows of the target again: then its dumps are nobody's last ones.

A rebuild without carried rows notes, beside the backups, which database it has made and where the
server's numbers of transactions stood then. What was written later is somebody's.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from backset.backups import backup as backups
from backset.catalogs import batches, catalog

if TYPE_CHECKING:
    from pathlib import Path

    from backset.connections.session import Session
    from backset.runs.build import Build

_NAME = "built.made"
_HALF = 2**31  # so many transactions, and numbers of 32 bits no longer tell before from after


def horizon(build: Build) -> int:
    """Return the number that the next transaction of the server gets, at most."""
    query = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"
    return int(*build.server.session.execute(query).fetchone() or (0,))


def note(build: Build, number: int) -> None:
    """Note that the target was made of migrations and seed alone, before transaction `number`.

    Where it was not, or nothing can be written, its rows count as somebody's.
    """
    made = build.server.databases().get(build.target.database)
    if made is None or not build.makes_all_rows:
        return
    about = {"oid": made.oid, "server_id": build.server_id, "transaction": number}
    with suppress(OSError):
        build.vault.make()
        backups.write(_path(build), json.dumps(about) + "\n")


def is_remade(build: Build, session: Session) -> bool:
    """Tell whether nobody has written to the target since; in the open transaction of `session`."""
    try:
        about: dict[str, Any] = json.loads(_path(build).read_text(encoding="utf-8"))
        number, made = int(about["transaction"]), (int(about["oid"]), str(about["server_id"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    try:
        with session.transaction():
            oid, now = session.execute(_HERE).fetchone() or (0, 0)
            if made != (oid, build.server_id) or now - number >= _HALF:
                return False
            return not _is_written_to(build, session, number)
    except psycopg.Error:  # not every table knows which transaction has written a row
        return False


def give_up(build: Build) -> None:
    """Note of this run's backup that its rows stand nowhere else, once its state is replaced.

    Where a rebuild makes them again, or all were carried, they do. Raises StepFailedError.
    """
    taken = build.taken
    if taken is not None and not (taken.manifest.is_remade or build.is_carried):
        build.taken = backups.replaced(taken)


def _is_written_to(build: Build, session: Session, number: int) -> bool:
    spare = {*catalog.version_tables(session), *build.unreadable}
    tables = [each for each in catalog.tables(session) if each not in spare]
    newer = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE age(xmin) <= age({}::xid))")
    since = str(number % 2**32)
    queries: list[sql.Composable] = [
        sql.SQL("SELECT EXISTS (SELECT FROM pg_largeobject_metadata)"),
        *(newer.format(sql.Identifier(*each), since) for each in tables),
    ]
    return any(is_newer for (is_newer,) in batches.rows(session, queries))


def _path(build: Build) -> Path:
    return build.vault.folder / _NAME


_HERE = """
SELECT oid::int8, pg_snapshot_xmax(pg_current_snapshot())::text::int8
FROM pg_database WHERE datname = current_database()
"""
