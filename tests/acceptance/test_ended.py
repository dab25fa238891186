"""Tests that are ended early leave no server and no folder behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.marks import slow_but
from tests.project import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 120
HANGING = """
import pathlib, time
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_it(cluster, number):
    pathlib.Path("{folder}", f"began {{number}}").touch()
    time.sleep(600)
"""


def servers_in(place: Path) -> list[str]:
    """Return the servers whose data is in a folder."""
    lines = (" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"]))
    return [line for line in lines if f"-D {place}" in line]


@pytest.mark.parametrize(
    ("workers", "signum"),
    slow_but(
        [(0, signal.SIGTERM), (2, signal.SIGTERM), (2, signal.SIGKILL)],
        lambda case: case[0] == 0,
    ),
)
def test_no_server_outlives_its_tests(
    tmp_path: Path, short_tmp: Path, workers: int, signum: signal.Signals
) -> None:
    """TERM is what Nox sends; after KILL another process cleans up."""
    short_tmp = short_tmp.resolve()
    file = tmp_path / "test_hanging.py"
    file.write_text(HANGING.format(folder=tmp_path))
    words = ["-p", "tests.conftest", "-p", "no:cacheprovider", f"-n{workers}", str(file)]
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *words],
        cwd=REPOSITORY,
        env={**os.environ, "BACKSET_TEMPORARY": str(short_tmp)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        deadline = time.monotonic() + PATIENCE_S
        while len(list(tmp_path.glob("began *"))) < max(workers, 1):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert len(servers_in(short_tmp)) == max(workers, 1)
        process.send_signal(signum)
        process.communicate(timeout=PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while list(short_tmp.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(short_tmp.iterdir()) == []
    assert servers_in(short_tmp) == []
