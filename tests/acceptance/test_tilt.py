"""The Tiltfile, evaluated by a Starlark interpreter, and the commands that it declares, run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.project import REPOSITORY, Project
from tests.tilt import Tilt

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tilt(project: Project) -> Tilt:
    """The repository's own Tiltfile, in a project whose environment has the command."""
    shutil.copytree(REPOSITORY / "src/backset/tilt", project.folder / "tilt")
    (project.folder / ".venv").symlink_to(sys.prefix)
    return Tilt(project.folder).evaluate((REPOSITORY / "Tiltfile").read_text())


def run(
    project: Project, argv: list[str], folder: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as Tilt does: in the Tiltfile's folder or another one, without a terminal."""
    return subprocess.run(
        argv,
        cwd=folder or project.folder,
        env={**os.environ, **project.env, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        start_new_session=True,
    )


def test_the_resources(tilt: Tilt) -> None:
    """One runs by itself, the others on a click; those that take the lock wait for each other."""
    automatic = {name for name, each in tilt.resources.items() if each.get("auto_init", True)}
    assert automatic == {"database-migrate"}
    assert tilt.resources.keys() - automatic == {
        *("database-reset", "add-test-data", "database-status", "database-undo"),
    }
    parallel = {name for name, each in tilt.resources.items() if each["allow_parallel"]}
    assert parallel == {"database-status"}
    assert all(each["labels"] == ["database"] for each in tilt.resources.values())
    for each in tilt.resources["database-migrate"]["deps"]:
        assert (REPOSITORY / each).exists()
    assert tilt.resources["add-test-data"]["resource_deps"] == ["database-migrate"]


def test_they_wait_for_the_server(tilt: Tilt) -> None:
    """Tilt does not; only the status must say at once that there is none."""
    argvs = {name: each["cmd"] for name, each in tilt.resources.items()}
    argvs |= {name: each["argv"] for name, each in tilt.buttons.items()}
    assert {name for name, argv in argvs.items() if "wait" not in argv} == {"database-status"}


@pytest.mark.slow
def test_replacing_is_confirmed(tilt: Tilt, project: Project, tmp_path: Path) -> None:
    """The resource shows the plan; its button alone replaces, and only after a second click."""
    run(project, tilt.resources["database-migrate"]["cmd"])
    shown = run(project, tilt.resources["database-reset"]["cmd"])
    assert shown.returncode == 0, shown.stderr
    assert "nothing was changed" in shown.stdout
    (button,) = tilt.buttons.values()
    assert (button["resource"], button["requires_confirmation"]) == ("database-reset", True)
    done = run(project, button["argv"], folder=tmp_path)  # that of the main Tiltfile
    assert done.returncode == 0, done.stderr
    assert "is the new database" in done.stdout


@pytest.mark.slow
def test_the_button_carries_rows(tilt: Tilt, project: Project) -> None:
    """Its input, which Tilt hands over as a variable, brings the rows into the new database."""
    (button,) = tilt.buttons.values()
    (given,) = button["inputs"]
    assert (given["name"], given["label"]) == ("BACKSET_CARRY", "--carry")
    assert project.invoke("reset-db").returncode == 0
    project.query("INSERT INTO users (id, email) VALUES ('me', 'me@here')")
    done = run(project, button["argv"], BACKSET_CARRY="all")
    assert done.returncode == 0, done.stderr
    assert project.query("SELECT email FROM users WHERE id = 'me'") == [("me@here",)]
    done = run(project, button["argv"], BACKSET_CARRY="")
    assert done.returncode == 0, done.stderr
    assert project.query("SELECT email FROM users WHERE id = 'me'") == []


@pytest.mark.slow
def test_every_command_works(tilt: Tilt, project: Project) -> None:
    """In the order in which somebody would click."""
    for name in ("database-migrate", "add-test-data", "database-reset", "database-status"):
        done = run(project, tilt.resources[name]["cmd"])
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    assert project.query("SELECT count(*) FROM task_outputs") == [(30,)]
    (button,) = tilt.buttons.values()
    assert run(project, button["argv"]).returncode == 0
    assert run(project, tilt.resources["database-undo"]["cmd"]).returncode == 0


@pytest.mark.slow
def test_no_command_can_ask(tilt: Tilt, project: Project) -> None:
    """What needs consent is refused, with the words for a terminal; nothing waits for an answer."""
    (button,) = tilt.buttons.values()
    run(project, tilt.resources["database-migrate"]["cmd"])
    run(project, button["argv"])
    commands = [each["cmd"] for each in tilt.resources.values()] + [button["argv"]]
    codes = {run(project, argv, BACKSET_ASK_ABOVE="1").returncode for argv in commands}
    assert codes == {0, 3}
    refused = run(project, button["argv"], BACKSET_ASK_ABOVE="1")
    assert "--confirm " in refused.stderr


def test_another_tiltfile(project: Project) -> None:
    """It chooses the command, the files and the labels, and may have no mock data."""
    shutil.copytree(REPOSITORY / "src/backset/tilt", project.folder / "tilt")
    tilt = Tilt(project.folder).evaluate(
        "load('./tilt/backset.star', 'database')\n"
        "database(command = ['uv', 'run', 'backset'],\n"
        "         deps = ['db'], labels = ['x'], seed = False)\n"
    )
    assert "add-test-data" not in tilt.resources
    migrate = tilt.resources["database-migrate"]
    assert migrate["cmd"] == ["uv", "run", "backset", "wait", "upgrade", "--wait"]
    assert (migrate["deps"], migrate["labels"]) == (["db"], ["x"])


@pytest.mark.parametrize("is_there", [True, False])
def test_the_command_is_that_of_the_environment(tmp_path: Path, *, is_there: bool) -> None:
    """Never `invoke`, which is always beside it, and knows nothing without a tasks.py."""
    shutil.copytree(REPOSITORY / "src/backset/tilt", tmp_path / "tilt")
    for name in ("invoke", "backset") if is_there else ("invoke",):
        (tmp_path / ".venv/bin").mkdir(parents=True, exist_ok=True)
        (tmp_path / ".venv/bin" / name).touch()
    tilt = Tilt(tmp_path).evaluate("load('./tilt/backset.star', 'database')\ndatabase()\n")
    found = tilt.resources["database-migrate"]["cmd"][0]
    assert found == (".venv/bin/backset" if is_there else "backset")
