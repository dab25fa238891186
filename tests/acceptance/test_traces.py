"""A task leaves no trace in the process that called it, however it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.project import Project

CALLING = """
import gc, json, os, signal, sys
from invoke.program import Program

def state():
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    sets = [sys.dont_write_bytecode, gc.isenabled(), gc.get_freeze_count(), dict(os.environ)]
    return [str(signal.getsignal(each)) for each in signals] + sets

def run(words):
    try:
        Program().run(["invoke", *words])
    except SystemExit as ended:
        return ended.code
    return 0

run(["--list"])  # Invoke has its own traces
before = state()
for words, code in json.loads(sys.argv[1]):
    assert (run(words), state()) == (code, before), words
"""
OWN_TASK = """
import atexit, os, pathlib, signal, time
from invoke import Collection, task
from backset.tasks import namespace

@task
def own(c):
    try:
        pathlib.Path("began").touch()
        time.sleep(60)
    finally:
        pathlib.Path("cleaned").touch()

@task
def last(c):
    atexit.register(os.kill, os.getpid(), signal.SIGTERM)

namespace.add_task(own)
namespace.add_task(last)
"""


@pytest.mark.parametrize(
    "calls",
    [
        ((["reset-db"], 0), (["status"], 0), (["url"], 0), (["undo"], 0)),
        ((["reset-db", "--timeout=x"], 2), (["restore", "--yes"], 4), (["undo"], 4)),
    ],
    ids=["done", "failed"],
)
def test_the_process_is_as_it_was(project: Project, calls: Sequence[object]) -> None:
    """Signal handlers, the garbage collector, byte code, the environment."""
    done = called(project, calls, PGAPPNAME="mine")
    assert done.returncode == 0, done.stderr


def test_a_run_that_is_interrupted_leaves_none_either(project: Project) -> None:
    """The process goes on, and may be interrupted again."""
    ends = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    script = '"python", "scripts/add_mock_task_data.py"'
    project.configure(script, f'"{sys.executable}", "-c", "{ends}"')
    done = called(project, [(["reset-db"], 143), (["reset-db"], 143)])
    assert done.returncode == 0, done.stderr


def test_the_embedded_server_borrows_the_environment(project: Project) -> None:
    """Libpq's variables would lead us elsewhere; who has called still has them afterwards."""
    calls = [(["--dry", "reset-db"], 0), (["--dry", "stop"], 0)]
    done = called(project, calls, DATABASE_URL="", PGHOSTADDR="203.0.113.1")
    assert done.returncode == 0, done.stderr


def called(
    project: Project, calls: Sequence[object], **env: str
) -> subprocess.CompletedProcess[str]:
    """Call tasks in one process, which holds its state and their exit codes."""
    return subprocess.run(
        [sys.executable, "-c", CALLING, json.dumps(calls)],
        cwd=project.folder,
        env={**os.environ, **project.env, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_task_of_the_project_in_the_same_line_ends_as_usual(project: Project) -> None:
    """Ctrl-C reaches its `finally`."""
    (project.folder / "tasks.py").write_text(OWN_TASK)
    with project.start("url", "own") as process:
        while not (project.folder / "began").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert (project.folder / "cleaned").exists()


def test_a_second_signal_does_not_change_the_exit_code(project: Project) -> None:
    """It comes while the interpreter ends: the one that ended the run is what is told."""
    (project.folder / "tasks.py").write_text(OWN_TASK)
    script = project.folder / "scripts/add_mock_task_data.py"
    script.write_text(
        "import time\nfrom pathlib import Path\nPath('began').touch()\ntime.sleep(60)\n"
    )
    with project.start("last", "reset-db") as process:
        while not (project.folder / "began").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
