"""The journal of a fleet's run: a line for each thing that has happened, on the disk at once.

It is `backups/.fleet/<action>.jsonl`. Where it and a database disagree, the database is right.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from backset.process import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.fleet.members import FleetMember

_FORMAT = 1
GOES_ON_FOR = timedelta(days=1)  # after that a second run begins anew: what was done is old
DONE, BEGUN, VERIFIED, OVER = "done", "begun", "verified", "over"


@dataclass(slots=True)
class PastRun:
    """What the run before has left to be gone on with.

    at: when it began. done, verified: keys of members. begun: the oid of each that was begun, and
    of which nobody knows how it ended.
    """

    at: datetime | None = None
    done: set[str] = field(default_factory=set)
    verified: set[str] = field(default_factory=set)
    begun: dict[str, int] = field(default_factory=dict)


class FleetJournal:
    """Lines that are added, each on the disk before add() returns. Nobody else writes meanwhile."""

    def __init__(self, path: Path, past: PastRun, descriptor: int) -> None:
        self.path = path
        self.past = past
        self._descriptor = descriptor

    def add(self, event: str, member: FleetMember | None = None, **more: Any) -> None:  # noqa: ANN401  (JSON)
        """Write a line, and wait until it is on the disk."""
        named = {"key": member.key, "database": member.label} if member else {}
        line = {"event": event, **named, **more, "at": _now().isoformat()}
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")
        os.fsync(self._descriptor)


def read(path: Path, about: dict[str, Any]) -> PastRun:
    """Return what a run has left that was about the same, in the last day, and is not over."""
    lines = _lines(path)
    head = lines[0] if lines else {}
    at = datetime.fromisoformat(head["at"]) if "at" in head else None
    is_same = head.get("about") == about and head.get("format") == _FORMAT
    if at is None or not is_same or _now() - at > GOES_ON_FOR or lines[-1]["event"] == OVER:
        return PastRun()
    past = PastRun(at)
    for line in lines[1:]:
        _note(past, line)
    return past


def _note(past: PastRun, line: dict[str, Any]) -> None:
    key = line.get("key", "")
    if line["event"] == BEGUN:
        past.begun[key] = line["oid"]
        return
    past.begun.pop(key, None)
    if line["event"] in {DONE, VERIFIED}:
        past.done.add(key)
    if line["event"] == VERIFIED:
        past.verified.add(key)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines; a crash may have torn the last one of a run."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


@contextmanager
def opened(path: Path, about: dict[str, Any], past: PastRun) -> Iterator[FleetJournal]:
    """Go on with a journal, or begin a new one where nothing is left of it.

    Raises LockedError where another run writes it.
    """
    files.make(path.parent)
    files.hide(path.parent)
    with files.locked(path.parent, f"the journal {path.name}"):
        if past.at is None:
            head = {"event": "fleet", "format": _FORMAT, "about": about, "at": _now().isoformat()}
            files.write(path, json.dumps(head) + "\n")
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            if past.at is not None:
                os.write(descriptor, b"\n" if _is_torn(path) else b"")
            yield FleetJournal(path, past, descriptor)
        finally:
            os.close(descriptor)


def _is_torn(path: Path) -> bool:
    return not path.read_bytes().endswith(b"\n")


def _now() -> datetime:
    return datetime.now(UTC)
