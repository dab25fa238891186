"""A script that is started ahead of its turn is what the interpreter itself would have run."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from backset.process.process import ScriptAhead, run

if TYPE_CHECKING:
    from pathlib import Path

FACTS = '''"""What a script can know of itself."""

from __future__ import annotations

import inspect
import pickle
import sys

import helper


class Thing:
    """It can be pickled, since `__main__` has it."""


print(sys.argv, sys.path, __name__, __file__, __doc__, __package__)
print(inspect.getsource(Thing), pickle.loads(pickle.dumps(Thing())).__class__.__module__)
print(helper.NAME, sys.modules["__main__"].Thing is Thing)
'''
ENV = {**os.environ, "PYTHONUNBUFFERED": "1"}  # so that lines come in the order of their writing
ZEN = "The Zen of Python, by Tim Peters"  # what the library `this` prints when it is imported

pytestmark = pytest.mark.usefixtures("interpreters_of_its_own")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a script that tells what it knows of itself."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "facts.py").write_text(FACTS)
    (tmp_path / "scripts" / "helper.py").write_text("NAME = __name__\nprint('the helper')\n")
    return tmp_path


def plainly(folder: Path, *words: str) -> tuple[int, list[str]]:
    """Run `python …` as a child of ours; return its exit status and last lines."""
    return run([sys.executable, *words], env=ENV, cwd=folder)


def ahead(folder: Path, *words: str) -> tuple[int, list[str]]:
    """Do the same with an interpreter that was started ahead."""
    argv = [sys.executable, *words]
    with ScriptAhead(argv, env=ENV, cwd=folder) as waiting:
        child = waiting.go(argv, ENV, lambda _line: None)
        assert child is not None
        return child.wait(), list(child.tail)


def heard_without_a_word(folder: Path, script: str) -> list[str]:
    """Return what one says that imports, and never gets the word to run."""
    heard: list[str] = []
    imported = threading.Event()

    class Heard(ScriptAhead):
        """Told from its first line on: what comes before its turn nobody else hears."""

        def _hear(self, line: str) -> None:
            heard.append(line)
            imported.set()

    with Heard([sys.executable, script], env=ENV, cwd=folder):
        assert imported.wait(120)
    return heard


def test_a_script_cannot_tell_the_difference(folder: Path) -> None:
    """Its arguments, its path, and `__main__` with what is in it."""
    words = "scripts/facts.py", "-x", "y"
    assert ahead(folder, *words) == plainly(folder, *words)
    assert ahead(folder, *words)[0] == 0


@pytest.mark.parametrize(
    "ending",
    ["raise ValueError('no')", "sys.exit(3)", "sys.exit('words')", "import os; os._exit(5)", "1 +"],
)
def test_a_script_ends_as_it_would(folder: Path, ending: str) -> None:
    """The exit status and the words are the same, a traceback without any frame of ours."""
    (folder / "ends.py").write_text(f"import sys\n\nprint('here')\n{ending}\n")
    assert ahead(folder, "ends.py") == plainly(folder, "ends.py")


def test_what_runs_at_the_exit_runs(folder: Path) -> None:
    """Functions of atexit, threads that are no daemons, and buffers that are not flushed yet."""
    (folder / "ends.py").write_text(
        "import atexit, sys, threading\n"
        "atexit.register(print, 'at exit')\n"
        "threading.Timer(0.1, print, ['in a thread']).start()\n"
        "sys.stdout.write('not flushed')\n"
    )
    assert ahead(folder, "ends.py") == (0, ["not flushedin a thread", "at exit"])


@pytest.mark.parametrize(
    "first", ["import helper", "print('done')", "from . import helper", "if True: print('done')"]
)
def test_only_the_libraries_that_a_script_begins_with_are_imported_ahead(
    folder: Path, first: str
) -> None:
    """What is of the project, or does something, comes in its turn, and all that is behind it."""
    script = folder / "scripts" / "begins.py"
    script.write_text(f'"""Doc."""\n\nimport this\n{first}\nimport antigravity\n')
    heard = heard_without_a_word(folder, "scripts/begins.py")
    assert heard[0] == ZEN
    assert not {"the helper", "done"} & {*heard}
    script.write_text(f"import sys\n{first}\nimport this\n")
    assert ahead(folder, "scripts/begins.py")[1][0] != ZEN


def test_a_library_that_cannot_be_imported_fails_in_the_script(folder: Path) -> None:
    """With the traceback that it has there, and not before."""
    (folder / "broken.py").write_text("import sys\nimport xml.nowhere\n")
    assert ahead(folder, "broken.py") == plainly(folder, "broken.py")


def test_another_command_or_environment_is_not_its_own(folder: Path) -> None:
    """And one that has run is not there any more."""
    argv = [sys.executable, "scripts/facts.py"]
    with ScriptAhead(argv, env=ENV, cwd=folder) as waiting:
        assert waiting.go([*argv, "x"], ENV, print) is None
        assert waiting.go(argv, {**ENV, "X": "1"}, print) is None
        child = waiting.go(argv, ENV, lambda _line: None)
        assert child is not None
        assert child.wait() == 0
        assert waiting.go(argv, ENV, print) is None
