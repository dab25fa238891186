"""Databases of some size: backed up, restored, rebuilt, swapped, beside PostgreSQL's tools."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import bare, memory, peers, rebuilds, rows
from benchmarks.figures import Absent, Comparison, Curve, Reading
from benchmarks.sides import Side, alternate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.amounts import Amounts
    from benchmarks.figures import Found
    from benchmarks.place import Place

SMALL_MB = 1
_SLOW_MB = 200  # a round to warm up would only take its time
_LARGE_MB = 1000
_BACKUP_GOALS = {10: 1.0, _LARGE_MB: 0.10}


class Sized:
    """A database of about so many MB, and a copy of it for the work by hand."""

    def __init__(self, place: Place, size_mb: int) -> None:
        self.place, self.size_mb = place, size_mb
        self.name, self.copy = f"size_{size_mb}", f"by_hand_{size_mb}"
        self.env = {"BACKSET_DATABASE": self.name, "BACKSET_KEEP": "1"}
        self.env["BACKSET_ASK_ABOVE"] = str(10**12)
        self.readings: dict[str, Reading] = {}
        self.promoting: list[float] = []
        self.peaks: list[float] = []
        self.file_mb = 0.0
        self.dump = place.folder / f"{self.copy}.dump"
        place.invoke("reset-db", **self.env)
        rows.fill(place, self.name, size_mb * rows.ROWS_PER_MB)

    def read(self, *words: str) -> dict[str, Any]:
        """Run a task of the project, and return what it says as JSON."""
        said, peak = memory.watched(self.place, "invoke", *words, "--json", env=self.env)
        self.peaks.append(peak)
        told: dict[str, Any] = json.loads(said)
        return told

    def backup(self) -> None:
        """Take a backup, and remember how large it is."""
        (step,) = self.read("backup")["steps"]
        self.file_mb = _size_mb(Path(step["file"]))

    def rebuild(self) -> None:
        """Rebuild it, so that the large database is the previous one, and keep the seconds."""
        *_, last = self.read(*rebuilds.cold(self.place))["steps"]
        self.promoting.append(last["seconds"])

    def undo(self) -> None:
        """Swap the two; each is the other's previous one."""
        self.place.invoke("undo", **self.env)

    def renew_copy(self) -> None:
        """Make the copy anew."""
        self.place.renew(self.copy, self.name)

    def pg_restore(self) -> None:
        """Do by hand what `restore` does, without its comparison."""
        self.place.renew(self.copy)
        into = ["-d", self.place.url(self.copy), str(self.dump)]
        self.place.run("pg_restore", "-j2", *into)

    def pg_dump(self) -> None:
        """Dump it by hand."""
        self.place.run("pg_dump", "-Fc", "-d", self.place.url(self.name), "-f", str(self.dump))

    def pg_dump_jobs(self) -> None:
        """Dump it by hand with two jobs, which need a folder."""
        folder = self.place.folder / f"{self.copy}.jobs"
        into = ["-d", self.place.url(self.name), "-f", str(folder)]
        self.place.run("pg_dump", "-Fd", "-j2", *into)
        shutil.rmtree(folder)

    def runbook(self) -> None:
        """Rebuild the copy by hand."""
        url = self.place.url(self.copy)
        for command in peers.runbook(url):
            self.place.run(*command, env={"DATABASE_URL": url})

    def measure(self, few: int) -> Iterator[Found]:
        """Yield the lines of this size."""
        rounds, warms_up = few, self.size_mb < _SLOW_MB
        shown = f"{self.size_mb} MB"
        is_large = self.size_mb >= _LARGE_MB
        floors = bare.large(self.place, self.name, f"bare_copy_{self.size_mb}")
        backup = [Side("invoke backup", self.backup), Side("pg_dump -Fc", self.pg_dump), floors[0]]
        if is_large:
            backup.append(Side("pg_dump -Fd -j2", self.pg_dump_jobs))
        ours, theirs, floor, *jobs = alternate(backup, rounds, warms_up=warms_up)
        yield Comparison(f"backup, {shown}", "s", ours, theirs, _BACKUP_GOALS.get(self.size_mb))
        for each in jobs:
            yield Comparison(f"backup, {shown}, against two jobs", "s", ours, each)
        yield Comparison(f"a bare script: backup, {shown}", "s", floor, theirs)
        yield from self._peak(f"backup of {shown}")
        dump = Reading("pg_dump -Fc", (_size_mb(self.dump),))
        file = Reading("invoke backup", (self.file_mb,))
        yield Comparison(f"the file of a backup, {shown}", "MB", file, dump, 1.15)
        restore = [
            Side("invoke restore", lambda: self.read("restore", "--yes")),
            Side("dropdb, createdb, pg_restore -j2", self.pg_restore),
            floors[1],
        ]
        ours, theirs, floor = alternate(restore, rounds, warms_up=warms_up)
        yield Comparison(f"restore, {shown}", "s", ours, theirs, 0.8 if is_large else None)
        yield Comparison(f"a bare script: restore, {shown}", "s", floor, theirs)
        yield from self._peak(f"restore of {shown}")
        whole = [
            Side("reset-db, cold", self.rebuild, check=self.undo),
            Side("the runbook by hand", self.runbook, prepare=self.renew_copy),
        ]
        ours, theirs = alternate(whole, rounds, warms_up=warms_up)
        yield Comparison(f"reset-db, {shown}", "s", ours, theirs, 0.12 if is_large else None)
        yield from self._peak(f"reset-db of {shown}")
        self.readings |= {"reset-db": ours, "promote": Reading("promote", tuple(self.promoting))}
        self.place.drop(self.copy, f"bare_copy_{self.size_mb}")
        self.dump.unlink()

    def _peak(self, what: str) -> Iterator[Found]:
        """Yield the peak memory of what was read since the last one."""
        peaks, self.peaks = tuple(self.peaks), []
        if all(peaks):
            peak = Reading("parent", peaks)
            yield Comparison(f"peak memory, {what}", "MB", peak, goal=rebuilds.MEMORY_MB)
        else:
            yield Absent(f"peak memory, {what}", memory.WHY_NOT)


def sizes(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield backup, restore, reset-db and undo of each size, and how they grow."""
    small = Sized(place, SMALL_MB)
    yield from small.measure(amounts.few)
    known = [small]
    for size_mb in amounts.sizes_mb:
        sized = Sized(place, size_mb)
        yield from sized.measure(amounts.few)
        undo = [Side(f"undo, {each.size_mb} MB", each.undo) for each in (sized, small)]
        ours, theirs = alternate(undo, 2 * amounts.rounds)
        goal = 1.2 if size_mb == max(amounts.sizes_mb) else None
        yield Comparison(ours.name, "s", ours, theirs, goal)
        sized.readings["undo"], small.readings["undo"] = ours, theirs
        known.append(sized)
        place.drop(sized.name)
    for name in small.readings:
        points = tuple((float(each.size_mb), each.readings[name]) for each in known)
        yield Curve(name, "MB", points)


def _size_mb(path: Path) -> float:
    files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files) / 1e6
