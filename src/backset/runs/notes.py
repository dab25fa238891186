"""What a run notes beside the backups: a rebuild in place that is not finished, one that is done.

`in-place.json` says which backup holds the truth while the target is half built, and is written
before anything is dropped. Where one is there already that is about a database of that name on
another server, it has another name.

`built.made` says which database a rebuild without carried rows has made, and where the server's
numbers of transactions stood then: what was written later is somebody's, and where nothing was, its
dumps are nobody's last ones.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from backset.backups import backup as backups
from backset.catalog import catalog
from backset.process import files

if TYPE_CHECKING:
    from pathlib import Path

    from backset.connections.session import Session
    from backset.runs.run import Run


_MADE = "built.made"
_HALF = 2**31  # so many transactions, and numbers of 32 bits no longer tell before from after
_UNFINISHED = "in-place.json"
_IN_PROGRESS = ("in progress",)
_LOOK_EVERY_S = 0.05


def horizon(run: Run) -> int:
    """Return the number that the next transaction of the server gets, at most."""
    query = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"
    return int(*run.server.session.execute(query).fetchone() or (0,))


def note_made(run: Run, number: int) -> None:
    """Note that the target was made of migrations and seed alone, before transaction `number`.

    Where it was not, or nothing can be written, its rows count as somebody's.
    """
    made = run.server.databases().get(run.target.database)
    is_built = run.work.migrates or run.clone.recalled is not None
    brings_others = run.options.carries is not None or run.backups.choice is not None
    if made is None or brings_others or not is_built:
        return
    about = {"oid": made.oid, "server_id": run.server.identifier(), "transaction": number}
    with suppress(OSError):
        run.backups.store.make()
        files.write(_made_path(run), json.dumps(about) + "\n")


def is_remade(run: Run, session: Session) -> bool:
    """Tell whether nobody has written to the target since; in the open transaction of `session`."""
    try:
        about: dict[str, Any] = json.loads(_made_path(run).read_text(encoding="utf-8"))
        number, made = int(about["transaction"]), (int(about["oid"]), str(about["server_id"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    try:
        with session.transaction():
            oid, now = session.execute(_HERE).fetchone() or (0, 0)
            if made != (oid, run.server.identifier()) or now - number >= _HALF:
                return False
            return not _is_written_to(run, session, number)
    except psycopg.Error:  # not every table knows which transaction has written a row
        return False


def give_up(run: Run) -> None:
    """Note of this run's backup that its rows stand nowhere else, once its state is replaced.

    Where a rebuild makes them again, or all were carried, they do. Raises StepFailedError.
    """
    taken = run.backups.taken
    if taken is not None and not (taken.manifest.is_remade or run.outcome.is_carried):
        run.backups.taken = backups.replaced(taken)


def _is_written_to(run: Run, session: Session, number: int) -> bool:
    spare = {*catalog.version_tables(session), *run.current.unreadable()}
    tables = [each for each in catalog.tables(session) if each not in spare]
    newer = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE age(xmin) <= age({}::xid))")
    since = str(number % 2**32)
    queries: list[sql.Composable] = [
        sql.SQL("SELECT EXISTS (SELECT FROM pg_largeobject_metadata)"),
        *(newer.format(sql.Identifier(*each), since) for each in tables),
    ]
    return any(is_newer for (is_newer,) in catalog.rows(session, queries))


def _made_path(run: Run) -> Path:
    return run.backups.store.folder / _MADE


def unfinished(run: Run) -> dict[str, Any] | None:
    """Return the mark, if it is about this very database."""
    mark = _said(unfinished_path(run))
    return (
        mark
        if run.current.database is not None and mark.items() >= _identity(run).items()
        else None
    )


def _said(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _identity(run: Run) -> dict[str, Any]:
    """Return what no other database has; of new servers, the first ones have the same oid."""
    oid = run.current.database.oid if run.current.database else 0
    return {"oid": oid, "server_id": run.server.identifier()}


def has_cleared(session: Session, mark: dict[str, Any]) -> bool:
    """Tell whether the transaction that drops the objects was committed.

    The session of a killed run may be just ending. If it is too long ago for the server to say, or
    the server was set back to a time before it, the answer is no: then nothing is dropped.
    """
    number = {"number": mark["transaction"]}
    while (status := session.execute(_STATUS, number).fetchone()) == _IN_PROGRESS:
        time.sleep(_LOOK_EVERY_S)
    return status == ("committed",)


def unfinished_path(run: Run) -> Path:
    """Return where the mark of this very database is, or would be."""
    usual, server_id = run.backups.store.folder / _UNFINISHED, run.server.identifier()
    own = usual.with_name(f"in-place-{server_id}.json")
    is_others = _said(usual).get("server_id", server_id) != server_id
    return own if is_others or own.exists() else usual


def note_unfinished(run: Run, *, login: bool) -> None:
    """Write the mark, from within the transaction that is to drop the objects.

    login: whether something is set for our login as long as the mark is true.
    """
    run.backups.store.make()
    taken = run.backups.taken.name if run.backups.taken else None
    (number,) = run.current.session().execute("SELECT pg_current_xact_id()::text").fetchone() or (
        "",
    )
    run.server.session.execute(_KEEP)
    about = {"backup": taken, "transaction": number, "login": login}
    text = json.dumps({**about, **_identity(run)})
    files.write(unfinished_path(run), text + "\n")


# pg_xact_status() fails for a number that is still to come.
_STATUS = """
SELECT CASE WHEN %(number)s::xid8 < pg_snapshot_xmax(pg_current_snapshot())
            THEN pg_xact_status(%(number)s::xid8) END
"""
# A crash forgets the number of a transaction that has not reached the disk, and gives it to another
# one, which may well commit. It remembers all numbers below one that is on the disk.
_KEEP = """
BEGIN;
SET LOCAL synchronous_commit = local;
SELECT pg_logical_emit_message(true, 'backset', 'in place');
COMMIT
"""
_HERE = """
SELECT oid::int8, pg_snapshot_xmax(pg_current_snapshot())::text::int8
FROM pg_database WHERE datname = current_database()
"""
