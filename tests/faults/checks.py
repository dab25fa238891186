"""What every trial must keep: each check returns the promises that it found broken, in words."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from tests.faults.run import wait_for_none
from tests.faults.world import CLEAN, PREVIOUS, TARGET, TCP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.faults.faults import Fault
    from tests.faults.run import Run
    from tests.faults.world import Fingerprint, World

_GRACE_S = 10.0  # for the children of a killed run, and for the server's own dropping
_LOCKED_S = 20  # the longest that a run which vanished in the swap may lock others out
_AS_IT_WAS = f"{TARGET} is as it was"
_RESTORED, _HALF = f"{TARGET} was restored from", f"{TARGET} is half built"
_SWAPPED = f"{TARGET} has been swapped already"
_REBUILT = f"{TARGET} has been rebuilt already"


@dataclass(frozen=True, slots=True)
class Stand:
    """What the target holds after the strike: `before`, `after`, or neither of them."""

    word: str
    content: Fingerprint | None


def stand(world: World, before: Fingerprint, after: Fingerprint, database: str = TARGET) -> Stand:
    """Look at a database: it accepts its application, and holds one of the two."""
    try:
        psycopg.connect(world.url(TCP, database), connect_timeout=_LOCKED_S).close()
        found = world.content(database)
    except psycopg.Error as error:
        return Stand(f"unreachable: {str(error).strip()}", None)
    word = "before" if found == before else "after" if found == after else "neither"
    return Stand(word, found)


def ending(run: Run, fault: Fault, stands: Stand) -> Iterator[str]:
    """The run ends, with a documented code, and what it says of the target is so.

    In place the target is half built for a while: a run that is killed leaves it so, and one that
    cannot restore the backup says so.
    """
    is_in_place = "--in-place" in run.words
    if run.is_hung:
        yield "the run hung"
        return
    codes = fault.codes | ({5} if is_in_place else set())
    is_pythons = run.code == 1 and run.errors[:1] == ["Could not import runpy module"]
    if run.code not in codes and not is_pythons:  # interrupted before our first line
        yield f"exit code {run.code}, documented are {sorted(codes)}"
    half = is_in_place and (run.code == 137 or _HALF in run.error)
    if stands.word not in {"before", "after"} and not half:
        yield f"the target is neither what it was nor the new one: {stands.word}"
    if fault.must not in {"", stands.word}:
        yield f"the target has to be the one of {fault.must}"
    said_done = any(line.text.startswith(" done in") for line in run.lines)
    claims = {
        "after": said_done or _SWAPPED in run.error or _REBUILT in run.error,
        "before": _AS_IT_WAS in run.error or _RESTORED in run.error or run.code == 3,
    }
    for word, claimed in claims.items():
        if claimed and word != stands.word:
            yield f"the run says that the target is the one of {word}; it is {stands.word}"
    if run.code == 0 and not said_done:
        yield "exit code 0 without being done"
    if "Traceback" in run.error and run.lines:
        yield "a traceback"


def children(run: Run) -> Iterator[str]:
    """No process of the run is alive after a grace."""
    for process in wait_for_none(run.mark, _GRACE_S):
        yield f"still alive: {process.pid} {' '.join(process.cmdline())}"


def backups(world: World) -> Iterator[str]:
    """Every complete backup is, byte for byte, what its manifest says."""
    for dump in dumps(world):
        about = json.loads(dump.with_name(f"{name(dump)}.json").read_text())
        content = dump.read_bytes()
        if about["size_bytes"] != len(content) or about["sha256"] != _sha256(content):
            yield f"{dump.name} is not what its manifest says"


def dumps(world: World) -> list[Path]:
    """Return the dumps of all complete backups."""
    found = (each for suffix in ("dump", "dump.zst") for each in world.backups.rglob(f"*.{suffix}"))
    return sorted(found)


def name(dump: Path) -> str:
    """Return the name of a backup."""
    return dump.name.partition(".dump")[0]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def reachable(world: World, wanted: Mapping[str, Fingerprint]) -> Iterator[str]:
    """Every content that is wanted is in the target, in previous, or in a dump."""
    names = {TARGET, PREVIOUS} & set(world.names())
    present = [stand(world, {}, {}, name).content for name in names]
    missing = {what: content for what, content in wanted.items() if content not in present}
    loaded = [world.loaded(dump) for dump in dumps(world)] if missing else []
    for what, content in missing.items():
        if content not in loaded:
            yield f"the rows of {what} are nowhere: not in the databases, not in a dump"


def recovery(run: Run, world: World) -> Iterator[str]:
    """The next reset-db works, and leaves the target, previous, whole backups, and nothing else.

    But for the template of what it has verified.
    """
    if run.is_hung or run.code != 0:
        yield f"the next reset-db ends with {run.code}: {run.error.strip()}"
        return
    deadline = time.monotonic() + _GRACE_S
    wanted = [TARGET, CLEAN, PREVIOUS]
    while (names := world.names()) != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    if names != wanted:
        yield f"the next reset-db leaves {', '.join(names)}"
    if stand(world, world.new, world.new).content != world.new:
        yield "the next reset-db does not build the new database"
    complete = dumps(world)
    suffixes = (".json", ".scripts.tar.gz")
    whole = {f"{name(dump)}{suffix}" for dump in complete for suffix in suffixes}
    whole |= {"clean.template", "built.made"}  # what the kept build was made from, and when
    for path in world.backups.glob("*/*"):
        if path not in complete and path.name not in whole:
            yield f"the next reset-db leaves {path.name} behind"


def folders(run: Run, world: World) -> Iterator[str]:
    """A folder of the server that belongs to no database is named."""
    with world.superuser as session:
        here = {int(name) for (name,) in session.execute(_FOLDERS) if name.isdigit()}
        known = {oid for (oid,) in session.execute("SELECT oid FROM pg_database")}
    for oid in here - known:
        if f"base/{oid} " not in "".join(line.text for line in run.lines):
            yield f"base/{oid} belongs to no database, and the next reset-db does not say so"


_FOLDERS = "SELECT pg_ls_dir('base')"
