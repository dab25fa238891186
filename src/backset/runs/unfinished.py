"""The mark of a run in place: which backup holds the truth while the target is half built.

`in-place.json` stands beside the target's backups, and is written before anything is dropped. Where
one is there already that is about a database of that name on another server, it has another name.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from backset.backups import backup as backups

if TYPE_CHECKING:
    from pathlib import Path

    from backset.connections.session import Session
    from backset.runs.build import Build

_NAME = "in-place.json"
_IN_PROGRESS = ("in progress",)
_LOOK_EVERY_S = 0.05


def read(build: Build) -> dict[str, Any] | None:
    """Return the mark, if it is about this very database."""
    mark = _said(path(build))
    return mark if build.old is not None and mark.items() >= _identity(build).items() else None


def _said(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _identity(build: Build) -> dict[str, Any]:
    """Return what no other database has; of new servers, the first ones have the same oid."""
    oid = build.old.oid if build.old else 0
    return {"oid": oid, "server_id": build.server_id}


def has_cleared(session: Session, mark: dict[str, Any]) -> bool:
    """Tell whether the transaction that drops the objects was committed.

    The session of a killed run may be just ending. If it is too long ago for the server to say, or
    the server was set back to a time before it, the answer is no: then nothing is dropped.
    """
    number = {"number": mark["transaction"]}
    while (status := session.execute(_STATUS, number).fetchone()) == _IN_PROGRESS:
        time.sleep(_LOOK_EVERY_S)
    return status == ("committed",)


def path(build: Build) -> Path:
    """Return where the mark of this very database is, or would be."""
    usual, server_id = build.vault.folder / _NAME, build.server_id
    own = usual.with_name(f"in-place-{server_id}.json")
    is_others = _said(usual).get("server_id", server_id) != server_id
    return own if is_others or own.exists() else usual


def write(build: Build, *, login: bool) -> None:
    """Write the mark, from within the transaction that is to drop the objects.

    login: whether something is set for our login as long as the mark is true.
    """
    build.vault.make()
    taken = build.taken.name if build.taken else None
    (number,) = build.live.execute("SELECT pg_current_xact_id()::text").fetchone() or ("",)
    build.server.session.execute(_KEEP)
    about = {"backup": taken, "transaction": number, "login": login}
    text = json.dumps({**about, **_identity(build)})
    backups.write(path(build), text + "\n")


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
