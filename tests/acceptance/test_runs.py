"""What runs leave behind for people and programs: a journal, and events as they happen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from backset.memory import journal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project import Project

SCHEMA = json.loads((files("backset") / "schemas/report.json").read_text())


@pytest.fixture
def built(project: Project) -> Project:
    """The application, rebuilt once."""
    assert project.invoke("reset-db").returncode == 0
    return project


def noted(project: Project) -> list[dict[str, object]]:
    """Return what `invoke runs --json` tells."""
    runs: list[dict[str, object]] = json.loads(project.invoke("runs", "--json").stdout)["runs"]
    return runs


def test_each_run_is_noted_with_how_it_ended(built: Project) -> None:
    """When, who, what, how long, the result, the backup; what looks leaves nothing."""
    first = len(noted(built))
    assert built.invoke("upgrade").returncode == 0
    assert built.invoke("backup", "--name", "kept").returncode == 0
    assert built.invoke("restore", "nothing").returncode == 4
    for looks in (("status",), ("reset-db", "--plan"), ("verify",)):
        built.invoke(*looks)
    upgrade, backup, restore = noted(built)[first:]
    assert (upgrade["task"], upgrade["result"], upgrade["exit_code"]) == ("upgrade", "done", 0)
    assert (backup["task"], backup["backup"]) == ("backup", "kept")
    assert (restore["task"], restore["result"], restore["exit_code"]) == ("restore", "failed", 4)
    assert "has no backup 'nothing'" in str(restore["error"])
    assert all(each["who"] and each["seconds"] is not None for each in (upgrade, backup, restore))
    told = built.invoke("runs").stdout
    assert " ✔ backup " in told
    assert " ✘ restore " in told
    assert "exit code 4: " in told
    assert (built.folder / "backups" / journal.NAME).stat().st_mode & 0o777 == 0o600


def test_a_run_that_was_killed_is_called_that(built: Project) -> None:
    """It has no end: somebody looks for what it has left."""
    with built.start("reset-db", "--yes", "--cold") as child:
        while not any(each["result"] == "at work" for each in noted(built)):
            assert child.poll() is None
        child.kill()
    *_, last = noted(built)
    assert (last["task"], last["result"], last["seconds"]) == ("reset-db", "killed", None)


def test_so_is_one_of_two_words(tmp_path: Path) -> None:
    """A database of a branch is made by `branch create`."""
    program = f"""
import os, pathlib, signal
from backset.memory import journal
with journal.noted(pathlib.Path({str(tmp_path)!r}), "branch create", {{}}, dict):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    assert [(each.task, each.result) for each in journal.read(tmp_path)] == [
        ("branch create", "killed")
    ]


def test_the_journal_is_of_bounded_size_and_loses_no_line_of_many_writers(tmp_path: Path) -> None:
    """The oldest lines go; what is noted at the same time is there whole."""

    def note(number: int) -> None:
        about = {"database": f"d{number}", "url": "u" * 500}
        with journal.noted(tmp_path, "upgrade", about, lambda: {"digest": str(number)}):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(note, range(1000)))
    size = (tmp_path / journal.NAME).stat().st_size
    assert size < 600_000
    kept = journal.read(tmp_path)
    assert 200 < len(kept) < 1000
    assert {each.result for each in kept} == {"done"}
    assert "d999" in {each.database for each in kept}


def test_a_torn_line_hides_no_other(tmp_path: Path) -> None:
    """A crash of the machine can leave half a line."""
    about = {"database": "a", "url": ""}
    with journal.noted(tmp_path, "seed", about, dict), (tmp_path / journal.NAME).open("ab") as file:
        file.write(b'{"run": "x", "beg')
    assert [(each.task, each.result) for each in journal.read(tmp_path)] == [("seed", "done")]


def test_a_line_of_something_else_is_passed_over(tmp_path: Path) -> None:
    """A person may have changed the file: the others are listed all the same."""
    with journal.noted(tmp_path, "seed", {"database": "a", "url": ""}, dict):
        pass
    began = '"began": "2026-01-01T00:00:00+00:00"'
    others = ('{"run": "x", "began": "at noon"}', f'{{"run": "y", {began}, "seconds": "some"}}')
    with (tmp_path / journal.NAME).open("a") as file:
        file.write("\n".join(others))
    assert [each.task for each in journal.read(tmp_path)] == ["seed"]


def test_what_happens_is_told_line_by_line(built: Project) -> None:
    """`--json-lines`: events while the run goes on, and the object of `--json` as the last line."""
    said = built.invoke("upgrade", "--json-lines").stdout
    *events, whole = map(json.loads, said.splitlines())
    assert {each["event"] for each in events} >= {"begin", "end"}
    assert [each["step"] for each in events if each["event"] == "begin"] == ["follow", "upgrade"]
    assert all({*each} == {*SCHEMA["$defs"]["ToldEvent"]["properties"]} for each in events)
    assert [each["seconds"] for each in events] == sorted(each["seconds"] for each in events)
    assert whole["task"] == "upgrade"
    assert whole["exit_code"] == 0


@pytest.mark.parametrize("words", ["restore ", "restore be"])
def test_a_shell_completes_the_names_of_backups(built: Project, words: str) -> None:
    """`backset restore` and the tabulator: what `backups` lists."""
    built.invoke("backup", "--name", "before-demo")
    argv = [sys.executable, "-m", "backset", "--complete", "--", f"backset {words}"]
    env = {**os.environ, **built.env}
    said = subprocess.check_output(argv, cwd=built.folder, env=env, text=True).split()
    assert "before-demo" in said
    assert "reset-db" not in said


def test_a_shell_completes_nothing_in_an_open_quotation(tmp_path: Path) -> None:
    """A traceback would be in the midst of the words that a person types."""
    argv = [sys.executable, "-m", "backset", "--complete", "--", "backset restore 'be"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
