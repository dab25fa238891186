"""Backups in a bucket, beside the same ones in a folder: an S3 over HTTP on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks import memory, rows
from benchmarks.figures import Absent, Comparison, Reading
from benchmarks.sides import Side, alternate
from tests import buckets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.amounts import Amounts
    from benchmarks.figures import Found
    from benchmarks.place import Place

MEMORY_MB = 120
_SLOWER = 1.3
_NAME = "shared"


class _Stored:
    """The backups of one database in one of two places. peaks: of memory, in MB."""

    def __init__(self, place: Place, where: Mapping[str, str]) -> None:
        self._place = place
        self._env = {"BACKSET_DATABASE": _NAME, "BACKSET_KEEP": "1", **where}
        self._env["BACKSET_ASK_ABOVE"] = str(10**12)
        self.peaks: list[float] = []

    def run(self, *words: str) -> None:
        """Run a task that must do its work."""
        said, peak = memory.watched(self._place, "invoke", *words, "--json", env=self._env)
        self.peaks.append(peak)
        if not json.loads(said)["steps"]:
            raise SystemExit(f"{words} did nothing: {said}")

    def backup(self) -> None:
        """Take a backup."""
        self.run("backup")

    def restore(self) -> None:
        """Restore the newest one."""
        self.run("restore", "--yes")


def shared(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield backup and restore, and the memory that they take."""
    size_mb = amounts.sizes_mb[-1]
    place.invoke("reset-db", BACKSET_DATABASE=_NAME)
    rows.fill(place, _NAME, size_mb * rows.ROWS_PER_MB)
    with buckets.served() as endpoint:
        bucket = _Stored(place, buckets.made(endpoint, "team").env)
        folder = _Stored(place, {"BACKSET_BACKUPS": "backups"})
        for word in ("backup", "restore"):
            sides = [Side("S3", getattr(bucket, word)), Side("a folder", getattr(folder, word))]
            ours, theirs = alternate(sides, amounts.few, warms_up=False)
            yield Comparison(f"{word}, {size_mb} MB in S3", "s", ours, theirs, _SLOWER)
    if all(bucket.peaks):
        peaks = Reading("parent", (max(bucket.peaks),))
        yield Comparison(f"peak memory, {size_mb} MB in S3", "MB", peaks, goal=MEMORY_MB)
    else:
        yield Absent("peak memory", memory.WHY_NOT)
