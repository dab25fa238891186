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
    from tests.project import Project

CALLING = """
import gc, json, os, signal, sys
from invoke.program import Program

def state():
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    sets = [sys.dont_write_bytecode, gc.isenabled(), gc.get_freeze_count(), dict(os.environ)]
    return [str(signal.getsignal(each)) for each in signals] + sets

Program().run(["invoke", "--list"], exit=False)  # Invoke has its own traces
before = state()
for words in json.loads(sys.argv[1]):
    Program().run(["invoke", *words], exit=False)
    assert state() == before, (words, before, state())
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
    "words",
    [
        (["reset-db"], ["undo"], ["status"], ["url"]),
        (["reset-db", "--confirm"], ["restore", "no-such-backup"], ["seed", "--timeout", "0.001"]),
    ],
    ids=["done", "failed"],
)
def test_the_process_is_as_it_was(project: Project, words: list[list[str]]) -> None:
    """Signal handlers, the garbage collector, byte code, the environment."""
    called = [sys.executable, "-c", CALLING, json.dumps(words)]
    env = {**os.environ, **project.env, "PGAPPNAME": "mine"}
    done = subprocess.run(
        called, cwd=project.folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_embedded_server_borrows_the_environment(project: Project) -> None:
    """Libpq's variables would lead us elsewhere; who has called still has them afterwards."""
    called = [sys.executable, "-c", CALLING, json.dumps([["--dry", "reset-db"], ["--dry", "stop"]])]
    env = {**os.environ, "PGHOSTADDR": "203.0.113.1"}
    done = subprocess.run(
        called, cwd=project.folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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
