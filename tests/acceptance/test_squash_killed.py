"""What tasks say of a squash that was killed half way, and which of them end it."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests import squashed
from tests.project import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project import Project

KILLED = """
import os, signal, sys
from pathlib import Path
from backset.process import files
from backset.revisions.script_files import Folders
from backset.squash import exchange, tree
from backset.squash.selection import select
from tests.squash_kills import NEW, without_swap
root = Path(sys.argv[1]).resolve()
home = root / "migrations/versions"
folders = Folders(root, (home,), root / "backups")
files.swap = without_swap
change = tree.read(select(folders.current()), folders, "new")
rename = Path.rename
def once(path, target):
    if target.name.startswith(".aaa"):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)
Path.rename = once
exchange.exchange(change, home / "new.py", NEW, folders)
"""


@pytest.fixture
def half(tmp_path: Path, database_url: str) -> Project:
    """A project whose database is at head, and whose squash was killed between two files."""
    project = squashed.laid(tmp_path / "shop", database_url)
    squashed.upgrade(project)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(project.folder)], cwd=REPOSITORY, check=False
    )
    assert done.returncode == -signal.SIGKILL
    return project


def names(project: Project) -> list[str]:
    """Return what the version folder has."""
    found = (each.name for each in squashed.versions(project).iterdir())
    return sorted(each for each in found if each != "__pycache__")


@pytest.mark.parametrize("task", [("status",), ("verify",), ("history",), ("upgrade", "--plan")])
def test_a_task_that_only_looks_says_so(half: Project, task: tuple[str, ...]) -> None:
    """It changes nothing, and says why scripts are missing."""
    before = names(half)
    done = half.invoke(*task)
    what = "a squash was killed half way, or is at work, so that scripts may be missing"
    assert f" ! {what} → `invoke upgrade` ends that first" in done.stdout + done.stderr
    assert names(half) == before
    assert "bbb_of_the_chain.py" not in before


def test_a_task_that_changes_something_ends_it(half: Project) -> None:
    """The scripts are as before the squash, and the task goes on with them."""
    done = half.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a squash that had been killed was changed back: nothing is squashed" in done.stdout
    assert "already at ccc" in done.stdout
    assert names(half) == [f"{each}_of_the_chain.py" for each in ("aaa", "bbb", "ccc")]
    assert not list(half.folder.rglob("squash.journal"))
