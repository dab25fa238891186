"""A signal at any moment of a backup: the programs end, and nothing half written stays."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import psutil
import psycopg
import pytest

from backset.backups import backup as backups
from backset.errors import Interrupted
from backset.process import process, signals
from tests.marks import slow_but

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from backset.backups.store import BackupStore
    from backset.connections.target import Target
    from backset.servers.programs import Programs

_PATIENCE_S = 30
_PARTS = 100
# Where a signal can come between two lines: our own, and those that enter and leave a `with`.
_TRACED = ("backups/", "process/process", "servers/programs", "contextlib", "concurrent/futures/")


class Strike:
    """Sends INT at the n-th line of what is traced, and TERM again and again after that.

    lines: how many there were. traced: what of _TRACED was seen.
    """

    def __init__(self, at: int) -> None:
        self._at = at
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._insist, daemon=True)
        self.lines = 0
        self.traced: set[str] = set()
        self._before = sys.gettrace()  # that of a coverage tool, which goes on afterwards

    def __enter__(self) -> Self:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        self._over.set()
        if self._thread.ident:
            self._thread.join()

    def _enter(self, frame: FrameType, _event: str, _value: Any) -> Callable[..., Any] | None:  # noqa: ANN401
        file = frame.f_code.co_filename
        found = next((each for each in _TRACED if each in file), "")
        self.traced.add(found)
        return self._line if found else None

    def _line(self, _frame: FrameType, event: str, _value: Any) -> Callable[..., Any]:  # noqa: ANN401
        if event == "line":
            self.lines += 1
            if self.lines == self._at:
                self._thread.start()
                os.kill(os.getpid(), signal.SIGINT)
        return self._line

    def _insist(self) -> None:
        while not self._over.wait(0.002):
            os.kill(os.getpid(), signal.SIGTERM)


def left(vault: BackupStore) -> list[str]:
    """Return the programs that still run, and what is half written."""
    ours = [each for each in psutil.Process().children() if each.name().startswith("pg_")]
    running = [each.name() for each in ours if each.status() != psutil.STATUS_ZOMBIE]
    return [*running, *(str(each) for each in vault.folder.rglob("*.partial"))]


# What was opened when the signal came had no `with` yet: the end of a run's process closes it.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("part", "zstd_above"),
    slow_but(
        [(part, above) for above in (10**12, 0) for part in range(_PARTS)],
        lambda case: case[0] == 20 and case[1] > 0,
    ),
)
def test_a_signal_at_any_line_of_a_backup(
    target: Target, vault: BackupStore, programs: Programs, part: int, zstd_above: int
) -> None:
    """And others after it: a dump that was being written is gone, and so is whatever wrote it."""

    def take(at: int) -> int:
        with Strike(at) as strike:
            backups.take(vault, target, lambda: (), programs, zstd_above=zstd_above)
        assert strike.traced >= {*_TRACED}
        return strike.lines

    lines = take(0)
    for at in range(1 + part, lines, _PARTS):
        with signals.raised(), suppress(Interrupted):  # the last lines come when all is done
            take(at)
        assert left(vault) == [], f"line {at} of {lines}"
    sessions = [each for each in gc.get_objects() if isinstance(each, psycopg.Connection)]
    for each in sessions:
        if not each.closed and each.info.dbname == target.database:
            each.close()
    gc.collect()  # here, where its warnings are ignored


def test_a_program_whose_start_is_interrupted_ends_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would write on while what it writes is cleaned up."""
    started: list[subprocess.Popen[str]] = []
    start = subprocess.Popen

    def interrupted(*arguments: Any, **options: Any) -> subprocess.Popen[str]:  # noqa: ANN401
        popen = start(*arguments, **options)
        started.append(popen)
        os.kill(os.getpid(), signal.SIGINT)
        return popen

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with signals.raised(), pytest.raises(Interrupted):  # noqa: PT012  (when it is over is the point)
        try:
            process.Child(["sleep", "60"], env=dict(os.environ), cwd=tmp_path)
        finally:
            assert not psutil.pid_exists(started[0].pid)
    assert started[0].returncode < 0  # by a signal, not since it was over
