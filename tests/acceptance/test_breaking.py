"""What breaks a database for a rehearsal, where the project says no other way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from backset import rehearsal
from tests.states import rebuilt

if TYPE_CHECKING:
    from tests.project import Project


def broken(project: Project, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it in a project, as a rehearsal does."""
    return subprocess.run(
        [sys.executable, "-c", rehearsal.BREAKS],
        cwd=project.folder,
        env={**os.environ, **project.env, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_version_table_names_a_revision_that_no_file_has(project: Project) -> None:
    """The rows of the application stay."""
    rebuilt(project)
    users = project.query("SELECT * FROM users")
    done = broken(project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads(project.invoke("status", "--json").stdout)["state"] == "orphaned revision"
    assert project.query("SELECT * FROM users") == users


def test_what_cannot_be_broken_is_said_in_a_line(project: Project) -> None:
    """A database that Alembic has not seen, and none at all."""
    never = broken(project)
    assert never.returncode == 1
    assert never.stderr == "the database has no version table → run `invoke upgrade` first\n"
    nowhere = broken(project, DATABASE_URL="")
    assert nowhere.returncode == 1
    assert "DATABASE_URL is not set → " in nowhere.stderr
