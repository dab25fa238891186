"""A project in git whose databases follow its branches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests import squashed
from tests.git import commit, git

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project import Project

FIRST = {"aaa": (None, "CREATE TABLE users (id int PRIMARY KEY, name text)")}


def begun(folder: Path, url: str) -> Project:
    """Return a project on `main`, with one revision, which its database has run."""
    project = squashed.laid(folder, url, FIRST)
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "Begin")
    squashed.upgrade(project)
    return project


def told(project: Project, *words: str, code: int = 0) -> dict[str, Any]:
    """Run `branch` with some words; return what it tells programs."""
    done = project.invoke("branch", *words, "--json")
    assert done.returncode == code, (words, done.stdout, done.stderr)
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def checkout(project: Project, branch: str, *, new: bool = False) -> None:
    """Check a branch out, as people do."""
    git(project.folder, "checkout", "-q", *(["-b"] if new else []), branch)


def revise(project: Project, name: str, down: str) -> None:
    """Commit one more revision, which makes a table of its name, and run it here."""
    squashed.write(project, name, down, f"CREATE TABLE {name} (id int PRIMARY KEY)")
    commit(project.folder, name)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stderr


def database(project: Project) -> str:
    """Return the name of the database that `url` prints here."""
    done = project.invoke("url")
    assert done.returncode == 0, done.stderr
    return done.stdout.split("?")[0].strip().rpartition("/")[2]


def add(project: Project, number: int) -> None:
    """Insert a row into the database of the branch that is checked out."""
    project.query(f"INSERT INTO users VALUES ({number})", database(project))


def rows(project: Project, name: str) -> list[int]:
    """Return the rows of a database."""
    return [each for (each,) in project.query("SELECT id FROM users ORDER BY id", name)]
