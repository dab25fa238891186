"""The lower rung: the objects of the target are dropped, and come back from the backup on failure.

While the target is half built, `in-place.json` beside its backups names the backup that holds the
truth. A run that is killed leaves that file behind, and the next one restores the backup first.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from backset import backup as backups
from backset import objects, refilling, signals, swap
from backset.errors import BacksetError, Interrupted, RestoredError
from backset.session import explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from backset.build import Build
    from backset.manifest import Backup

_MARK = "in-place.json"


def freeze(build: Build) -> None:
    """Keep writers out of the target's tables until clear() is done, so that no row is lost.

    Without this, what is written after the dump has begun would be nowhere afterwards.
    """
    build.live.execute("BEGIN")  # it ends in clear(), or with the session
    with _evicting(build):
        build.frozen = objects.freeze(build.live)


def clear(build: Build) -> int:
    """Drop the objects of the target that the role may drop; return how many there were.

    Before that is committed, the backup's definitions are made again, and given up again: what the
    role could not bring back must not go. From then on the target is not the truth, and
    `build.cleared` says so. Raises StepFailedError, with nothing dropped.
    """
    _write_mark(build)
    with signals.deferred():
        with _evicting(build):
            count = objects.drop_ours(build.live, build.frozen)
            if build.taken is not None:
                refilling.rehearse(build, build.taken)
        build.live.execute("COMMIT")
        build.cleared = True
    return count


@contextmanager
def safety(build: Build) -> Iterator[None]:
    """Restore the backup if the block fails after clear(). Raises RestoredError then."""
    guard = _Safety(build)
    with guard:
        yield
    if build.cleared:
        _mark(build).unlink(missing_ok=True)


class _Safety:
    """A class, since __exit__ sees every kind of failure, a bug of ours included."""

    def __init__(self, build: Build) -> None:
        self._build = build

    def __enter__(self) -> None:
        """Nothing to do yet."""

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if error is None or not self._build.cleared:
            return
        note = _rescued(self._build)
        if not isinstance(error, (BacksetError, Interrupted)):
            error.add_note(note)
            return
        lines = error.lines()
        what, _, remedy = lines[0].rpartition(" → ")
        what, remedy = (what, remedy) if what else (lines[0], "run it again")
        restored = RestoredError(what, remedy, findings=error.findings)
        restored.add_note(note)
        raise restored from None


def _rescued(build: Build) -> str:
    """Put the old content back, whatever signals come; say how that went."""
    name, taken = build.target.database, build.taken
    try:
        signals.ignore()
        build.close_sessions()
        bring_back(build, taken)
    except BacksetError as second:
        how = f"invoke restore {taken.name} --in-place" if taken else "invoke reset-db"
        return f"{name} is half built, and the backup could not be restored: {second} → {how}"
    if taken is None:
        return f"{name} is empty, as it was"
    return f"{name} was restored from {taken.name}, and is as its manifest says"


def bring_back(build: Build, taken: Backup | None) -> None:
    """Make the target what it was: drop what is half built, load the backup, compare the two."""
    with explained(build.target):
        with _evicting(build):
            objects.drop_ours(build.live)
        if taken is not None:
            taken.check()
            refilling.load(build, taken, own=True)
        _mark(build).unlink(missing_ok=True)


def finish(build: Build, notice: Callable[[str], None]) -> None:
    """Bring back the content of a target that a killed run left half built."""
    mark = _read_mark(build)
    if mark is None:
        return
    taken = build.vault.find(mark["backup"]) if mark["backup"] else None
    how = f"from {taken.name}" if taken else "to being empty"
    notice(f"a run in place was killed: bringing {build.target.database} back {how}")
    with signals.deferred():
        bring_back(build, taken)
    build.close_sessions()


def _read_mark(build: Build) -> dict[str, Any] | None:
    """Return the mark, if it is about this very database."""
    try:
        mark: dict[str, Any] = json.loads(_mark(build).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return mark if build.old is not None and mark.get("oid") == build.old.oid else None


def _mark(build: Build) -> Path:
    return build.vault.folder / _MARK


def _write_mark(build: Build) -> None:
    build.vault.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    taken = build.taken.name if build.taken else None
    text = json.dumps({"backup": taken, "oid": build.old.oid if build.old else 0})
    backups.write(_mark(build), text + "\n")


def _evicting(build: Build) -> AbstractContextManager[None]:
    """End all sessions on the target but our own, until the block is left."""
    spare = build.live.info.backend_pid
    return swap.evicting(build.server, [build.target.database], spare=spare)
