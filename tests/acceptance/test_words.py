"""The words of a command line: a wrong one is told with the right one, and hints can be typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import Project, laid_down

_BACKSET = Path(sys.executable).with_name("backset")
_IN_A_COLLECTION = """
from invoke import Collection
from backset import tasks

namespace = Collection(db=tasks.namespace)
"""


def typed(
    folder: Path, *words: str | Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command line as a person types it."""
    return subprocess.run(
        [*map(str, words)],
        cwd=folder,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("resetdb", "there is no task 'resetdb' → did you mean 'reset-db'? `backset help` shows"),
        ("help statsu", "there is no task 'statsu' → did you mean 'status'? `backset help` shows"),
        ("status help", "there is no task 'help' → `backset help` shows what there is"),
        ("reset-db --yess", "reset-db has no flag '--yess' → did you mean '--yes'? `backset help "),
        ("restore --into", "--into wants a value → `backset help restore` shows what there is"),
        ("--sectoin x status", "there is no flag '--sectoin' → did you mean '--section'?"),
        ("status postgresql://u:c4nary@h/db", "there is no task 'postgresql://u:***@h/db' → "),
    ],
    ids=[
        "task",
        "task behind help",
        "help behind a task",
        "flag",
        "value",
        "flag before the task",
        "password",
    ],
)
def test_a_wrong_word_is_told_with_the_right_one(tmp_path: Path, words: str, told: str) -> None:
    """One line, exit 2, before anything is looked at; no word of Invoke's parser."""
    done = typed(tmp_path, _BACKSET, *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f" ✘ {told}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("task", [[], ["restore"]], ids=["all", "one"])
def test_help_is_a_task_as_well(tmp_path: Path, task: list[str]) -> None:
    """`backset help restore` is `backset --help restore`."""
    words, flags = (typed(tmp_path, _BACKSET, each, *task) for each in ("help", "--help"))
    assert (words.returncode, words.stdout) == (0, flags.stdout)


def test_hints_are_typed_as_this_command_was(tmp_path: Path, database_url: str) -> None:
    """In a collection of the project's own tasks.py, and where the package is run as a module."""
    project: Project = laid_down(tmp_path / "project", "states", database_url)
    (project.folder / "tasks.py").write_text(_IN_A_COLLECTION)
    (project.folder / "flat.py").write_text("from backset.tasks import namespace\n")
    python = Path(sys.executable)
    flat: list[str | Path] = [python, "-m", "invoke", "-c", "flat"]
    commands: tuple[tuple[list[str | Path], str], ...] = (
        ([python, "-m", "invoke", "db.undo"], "`invoke db.reset-db`"),
        ([*flat, "undo", "--confirm", "old.backup"], "`invoke reset-db`"),
        ([python, "-m", "backset", "undo"], f"`{python.name} -m backset reset-db`"),
        ([_BACKSET, "undo"], "`backset reset-db`"),
    )
    for command, hint in commands:
        assert hint in typed(project.folder, *command, env=project.env).stderr


def test_what_alembic_init_leaves_is_begun(tmp_path: Path, database_url: str) -> None:
    """`status`, `repair` and `check` say how the first revision is written; then all is well."""
    project = Project(tmp_path, {"DATABASE_URL": database_url})
    for words in ("init migrations", "revision --autogenerate -m initial"):
        for task in ("status", "repair", "check") if words.startswith("revision") else ():
            done = typed(tmp_path, _BACKSET, task, env=project.env)
            assert done.returncode in {4, 6}
            assert f"`backset alembic -- {words}`" in done.stderr
        typed(tmp_path, _BACKSET, "alembic", "--", *words.split(), env=project.env)
        env = tmp_path / "migrations/env.py"
        env.write_text(env.read_text().replace("= None", "= __import__('sqlalchemy').MetaData()"))
    assert typed(tmp_path, _BACKSET, "upgrade", env=project.env).returncode == 0
