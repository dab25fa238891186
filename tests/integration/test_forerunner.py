"""A command that is started ahead is what the interpreter itself would have made of it."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from backset.migrate.project_command import Forerunner, can_run
from backset.process import process

if TYPE_CHECKING:
    from pathlib import Path

FACTS = '''"""What a script can know of itself."""

from __future__ import annotations

import gc
import inspect
import pickle
import sys

import helper


class Thing:
    """It can be pickled, since `__main__` has it."""


print(sys.argv, sys.path, __name__, __file__, __doc__, __package__, __spec__ and __spec__.name)
print(sorted(name for name in globals() if name.startswith("__")), __builtins__.__name__)
print(inspect.getsource(Thing), pickle.loads(pickle.dumps(Thing())).__class__.__module__)
print(gc.isenabled(), helper.NAME, sys.modules["__main__"].Thing is Thing, __loader__.name)
print(globals().get("__annotations__"))
'''
HELPER = "import this\n\nprint('the helper')\nNAME = __name__\n"
ENV = {**os.environ, "PYTHONUNBUFFERED": "1"}  # so that lines come in the order of their writing
ZEN = "The Zen of Python, by Tim Peters"  # what the library `this` prints when it is imported


pytestmark = pytest.mark.usefixtures("interpreters_of_its_own")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a script that tells what it knows of itself, as a script and as a module."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "__init__.py").write_text("")
    (scripts / "facts.py").write_text(FACTS)
    (scripts / "helper.py").write_text(HELPER)
    (tmp_path / "helper.py").write_text(HELPER)
    return tmp_path


def plainly(folder: Path, *words: str) -> tuple[int, list[str]]:
    """Run `python …` as a child of ours; return its exit status and last lines."""
    argv = [sys.executable, *words]
    return process.run(argv, env=ENV, cwd=folder)


def ahead(folder: Path, *words: str) -> tuple[int, list[str]]:
    """Do the same with an interpreter that was started ahead."""
    heard: list[str] = []
    with Forerunner([sys.executable, *words], env=ENV, cwd=folder) as forerunner:
        child = forerunner.go(heard.append)
        return child.wait(), list(child.tail)


@pytest.mark.parametrize("words", [["scripts/facts.py", "-x", "y"], ["-m", "scripts.facts", "z"]])
def test_a_script_cannot_tell_the_difference(folder: Path, words: list[str]) -> None:
    """Arguments, path, `__main__` and what is in it, byte for byte; as a script and with -m."""
    if words[0] == "-m":
        (folder / "scripts" / "helper.py").unlink()
    status, lines = ahead(folder, *words)
    assert (status, sorted(lines)) == (0, sorted(plainly(folder, *words)[1]))
    assert "'__main__'" not in lines
    assert any("__main__" in line for line in lines)


@pytest.mark.parametrize(
    "ending",
    ["raise ValueError('no')", "sys.exit(3)", "sys.exit('words')", "import os; os._exit(5)", "1 +"],
)
def test_a_script_ends_as_it_would(folder: Path, ending: str) -> None:
    """The exit status and the words are the same, a traceback without any frame of ours."""
    script = folder / "ends.py"
    script.write_text(f"import sys\n\nprint('here')\n{ending}\n")
    assert ahead(folder, "ends.py") == plainly(folder, "ends.py")


def test_what_runs_at_the_exit_runs(folder: Path) -> None:
    """Functions of atexit, threads that are no daemons, and buffers that are not flushed yet."""
    script = folder / "ends.py"
    script.write_text(
        "import atexit, sys, threading\n"
        "atexit.register(print, 'at exit')\n"
        "threading.Timer(0.1, print, ['in a thread']).start()\n"
        "sys.stdout.write('not flushed')\n"
    )
    assert ahead(folder, "ends.py") == (0, ["not flushedin a thread", "at exit"])


def test_libraries_are_imported_ahead_and_the_projects_own_modules_are_not(folder: Path) -> None:
    """Also a library that only a module of the project names. Without a word, nothing is run."""
    heard: list[str] = []
    imported = threading.Event()

    class Heard(Forerunner):
        """Told from its first line on: what comes before its turn nobody else hears."""

        def _hear(self, line: str) -> None:
            heard.append(line)
            imported.set()

    with Heard([sys.executable, "scripts/facts.py"], env=ENV, cwd=folder):
        assert imported.wait(120)
    assert heard[0] == ZEN
    assert "the helper" not in heard
    assert not any("facts.py" in line for line in heard)


def test_nothing_is_imported_past_what_a_script_does_first(folder: Path) -> None:
    """A call can patch what is imported after it, as that of gevent does."""
    script = folder / "patches.py"
    script.write_text("import sys\n\nprint('patched')\nimport this\n")
    assert ahead(folder, "patches.py")[1][0] == "patched"


def test_a_library_that_cannot_be_imported_fails_in_the_script(folder: Path) -> None:
    """With the traceback that it has there, and not before."""
    script = folder / "broken.py"
    script.write_text("import sys\nimport lib2to3.nowhere\n")
    assert ahead(folder, "broken.py") == plainly(folder, "broken.py")


def test_only_a_plain_python_is_started_ahead(folder: Path) -> None:
    """What has options of its own, is no file, or is another program starts when its turn comes."""
    good = [["python", "scripts/facts.py", "x"], ["python3", "-m", "scripts.facts"]]
    bad = [[], ["python"], ["python", "-u", "scripts/facts.py"], ["python", "scripts"]]
    bad += [
        ["python", "nowhere.py"],
        ["python", "-m"],
        ["make", "seed"],
        ["sh", "scripts/facts.py"],
    ]
    assert all(can_run(each, folder) for each in good)
    assert not any(can_run(each, folder) for each in bad)


def test_another_command_or_environment_is_not_its_own(folder: Path) -> None:
    """And one that has ended, or has run, is not there any more."""
    argv, env = [sys.executable, "scripts/facts.py"], dict(os.environ)
    with Forerunner(argv, env=env, cwd=folder) as forerunner:
        assert forerunner.waits_for(argv, env)
        assert not forerunner.waits_for([*argv, "x"], env)
        assert not forerunner.waits_for(argv, {**env, "X": "1"})
        assert forerunner.go(lambda _line: None).wait() == 0
        assert not forerunner.waits_for(argv, env)
    with Forerunner(argv, env=env, cwd=folder) as forerunner:
        forerunner._child.end()  # noqa: SLF001  (as the system does when memory runs out)
        assert not forerunner.waits_for(argv, env)
