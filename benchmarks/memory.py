"""The most memory that a process itself has used: its children are other processes."""

from __future__ import annotations

import shlex
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.place import Place

WHY_NOT = "only Linux tells it"
_LOOK_EVERY_S = 0.01


def watched(
    place: Place, *argv: str, env: Mapping[str, str], cwd: Path | None = None
) -> tuple[str, float]:
    """Run a program to its end; return what it printed, and its peak in MB: 0 where unknown.

    resource.getrusage() knows only the largest of all children. The kernel keeps the peak, so that
    looking now and then misses nothing but the last moment.
    """
    peak = 0.0
    over = threading.Event()
    child = place.popen(*argv, env=env, cwd=cwd)
    status = Path(f"/proc/{child.pid}/status")

    def look() -> None:
        nonlocal peak
        while not over.is_set():
            peak = max(peak, _peak_mb(status))
            over.wait(_LOOK_EVERY_S)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        with child:
            said = child.communicate()[0]
    finally:
        over.set()
        watcher.join()
    if child.returncode:
        raise SystemExit(f"{shlex.join(argv)} ended with {child.returncode}\n{said}")
    return said, peak


def _peak_mb(status: Path) -> float:
    try:
        lines = status.read_text().splitlines()
    except OSError:  # it has ended, or this is no Linux
        return 0.0
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 / 1e6 if found else 0.0
