"""The lower rung: the objects of the target are dropped, and come back from the backup on failure.

While the target is half built, `in-place.json` beside its backups names the backup that holds the
truth. A run that is killed leaves that file behind, and the next one restores the backup first.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset import backup as backups
from backset import objects, privileges, restoration, signals, swap
from backset.errors import BacksetError, Interrupted, RestoredError
from backset.session import explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

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

    From now on the target is not the truth, and `build.cleared` says so.
    """
    _write_mark(build)
    with signals.deferred():
        with _evicting(build):
            count = objects.drop_ours(build.live, build.frozen)
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
            load(build, taken, own=True)
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


def load(build: Build, taken: Backup, *, own: bool) -> None:
    """Load a backup into the cleared target, but for what was not dropped there.

    own: whether the backup is of this very database, so that its oids mean the same objects.
    """
    privileges.forget_defaults(build.live)
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "toc"
        wanted = _missing(build, _table_of_contents(build, taken, listing), own=own)
        listing.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        where = (build.target, build.server.major, build.programs)
        restoration.load(taken, *where, entries=listing, exactly=own)


def _table_of_contents(build: Build, taken: Backup, listing: Path) -> list[str]:
    pg_restore = build.programs.find("pg_restore", build.server.major)
    build.programs.run(pg_restore, "--list", "--file", os.fspath(listing), os.fspath(taken.dump))
    lines = listing.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(";")]


def _missing(build: Build, entries: list[str], *, own: bool) -> list[str]:
    """Leave out the entries of what was not dropped: extensions, schemas, other people's objects.

    An entry is `dump id; catalog oid, object oid, type, schema, name, owner`. The data of a table
    has the table's oid and no catalog; comments, grants and sequence values have neither.
    """
    parsed = {line: _parse(line) for line in entries}
    numbered = [(catalog, oid) for catalog, oid, _ in parsed.values() if catalog]
    alive = objects.surviving(build.live, numbered) if own else set()
    kept = objects.kept_names(build.live)
    alive |= {(catalog, oid) for catalog, oid, text in parsed.values() if text.startswith(kept)}
    tables = {oid for _, oid in alive}
    names = [
        name
        for catalog, oid, text in parsed.values()
        if (catalog, oid) in alive
        for name in _names(text)
    ]
    return [
        line
        for line, (catalog, oid, text) in parsed.items()
        if not ((catalog, oid) in alive if catalog else oid in tables)
        and not (not catalog and not oid and any(name in text for name in names))
    ]


def _parse(line: str) -> tuple[int, int, str]:
    _, _, rest = line.partition("; ")
    catalog, oid, text = rest.split(" ", 2)
    return int(catalog), int(oid), f"{text} "


def _names(text: str) -> tuple[str, str]:
    """Return how entries without a number speak of an object: with its type, or without."""
    words = text.split(" ")
    length = next(number for number, word in enumerate(words) if not word.isupper())
    kind, (schema, *name) = " ".join(words[:length]), words[length:-2]
    return f" {schema} {kind} {' '.join(name)} ", f" {schema} {' '.join(name)} "
