"""A branch that was started before a squash: every task says so, and `rebase` rewrites one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests import squashed
from tests.acceptance.test_following import at
from tests.git import commit, git
from tests.marks import slow_but
from tests.project import prints
from tests.squashed import NEW, laid, rows, squash, upgrade

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project import Project

MINE = "CREATE TABLE mine (id int PRIMARY KEY)"


def branch(project: Project, down: str = "ccc") -> Path:
    """Return the file of a revision that somebody has written on a replaced one."""
    return squashed.write(project, "eee", down, MINE)


@pytest.mark.parametrize(
    "task",
    slow_but(
        ["upgrade", "status", "check", "verify", "reset-db"],
        lambda task: task in {"upgrade", "check"},
    ),
)
def test_every_task_says_that_it_was_started_before(
    tmp_path: Path, database_url: str, task: str
) -> None:
    """With the file, what replaces the one that it follows, and the task that mends it."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "ccc"), archive=False)
    branch(project)
    before = prints(project)
    done = project.invoke(task)
    assert done.returncode in {4, 6}
    assert "eee_of_the_chain.py follows ccc" in done.stdout + done.stderr
    assert NEW in done.stdout + done.stderr
    assert "`invoke rebase`" in done.stdout + done.stderr
    assert prints(project) == before


@pytest.mark.parametrize("start", slow_but(["ccc", "eee", "aaa"], lambda start: start == "ccc"))
def test_one_line_is_rewritten_and_the_database_goes_on(
    tmp_path: Path, database_url: str, start: str
) -> None:
    """From the old head, from the branch's own revision, and from the middle; no row is lost."""
    project = laid(tmp_path / "p", database_url)
    mine = branch(project)
    made = at(project, "ccc")
    for table in ("tasks", "users", "alembic_version"):
        project.query(f"DROP TABLE {table}")
    upgrade(project, start)
    squash(project, made)
    project.query("INSERT INTO users VALUES (7, 'Gus')")
    before = mine.read_bytes()
    planned = project.invoke("rebase", "--plan")
    assert "rebase    eee_of_the_chain.py: follows ccc → 7f3c\n" in planned.stdout
    assert mine.read_bytes() == before
    done = project.invoke("rebase")
    assert done.returncode == 0, done.stderr
    assert mine.read_bytes() == before.replace(b"'ccc'", b"'7f3c'").replace(b": ccc", b": 7f3c")
    again = project.invoke("rebase")
    assert "no script follows what was replaced" in again.stdout
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(project) == ["eee"]
    assert (7,) in project.query("SELECT id FROM users")
    assert project.invoke("status").returncode == 0


def test_a_branch_from_an_earlier_revision_gets_a_new_id(tmp_path: Path, database_url: str) -> None:
    """A database that has run it has not run the rest: it is refused, and rebuilt with its rows."""
    project = laid(tmp_path / "p", database_url)
    made = at(project, "ccc")
    for table in ("tasks", "users", "alembic_version"):
        project.query(f"DROP TABLE {table}")
    branch(project, "bbb")
    upgrade(project, "eee")
    squash(project, made, archive=False)
    project.query("INSERT INTO users VALUES (7, 'Gus')")
    told = json.loads(project.invoke("rebase", "--json").stdout)
    (script,) = told["rebased"]
    assert (script["before"], script["ids"]) == ("eee", {"bbb": NEW})
    done = project.invoke("upgrade")
    assert done.returncode == 4
    assert "eee" in done.stderr
    assert rows(project) == ["eee"]
    done = project.invoke("reset-db", "--carry", "--no-seed", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(project) == [script["revision"]]
    assert (7, "Gus") in project.query("SELECT id, name FROM users")


@pytest.mark.parametrize(
    ("has_run", "ran"),
    slow_but(
        [
            (["eee"], "after 1 old revision"),
            (["eee", "ccc"], ""),
            (["fff"], "after 1 old revision"),
        ],
        lambda case: case[0] == ["eee"],
    ),
)
def test_a_database_at_the_id_from_before_follows(
    tmp_path: Path, database_url: str, has_run: list[str], ran: str
) -> None:
    """What it has not run of the replaced revisions runs first; then it is at the new id."""
    project = laid(tmp_path / "p", database_url)
    made = at(project, "base")
    branch(project, "bbb")
    if "fff" in has_run:
        squashed.write(project, "fff", "eee", "CREATE TABLE later (id int PRIMARY KEY)")
    git(project.folder, "init", "-q", "-b", "main")
    commit(project.folder, "Begin")
    for each in has_run:
        upgrade(project, each)
    squash(project, made)
    project.query("INSERT INTO users VALUES (7, 'Gus')")
    told = json.loads(project.invoke("rebase", "--json").stdout)
    commit(project.folder, "Rebase")
    last = next(each for each in told["rebased"] if each["before"] == has_run[0])
    for script in told["rebased"]:
        assert (
            f'replaces = ("{script["before"]}",)' in (project.folder / script["path"]).read_text()
        )
    assert last["revision"] in project.invoke("status").stdout
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ran in done.stdout
    assert f"{last['revision']}, which replaces it" in done.stdout
    assert rows(project) == [last["revision"]]
    assert (7, "Gus") in project.query("SELECT id, name FROM users")
    assert project.query("SELECT to_regclass('tasks')::text") == [("tasks",)]
    assert "follow" not in project.invoke("upgrade").stdout
    assert "no script follows" in project.invoke("rebase").stdout


def test_a_script_in_a_style_of_its_own_is_refused(tmp_path: Path, database_url: str) -> None:
    """It is named, and no file is changed, not those that could be either."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "ccc"), archive=False)
    mine = branch(project)
    other = squashed.versions(project) / "fff.py"
    other.write_text("revision = 'fff'\nBEFORE = 'ccc'\ndown_revision = BEFORE\n")
    before = mine.read_bytes()
    done = project.invoke("rebase")
    assert done.returncode == 4
    assert "fff.py names ccc in a way of its own → rewrite these lines by hand" in done.stderr
    assert mine.read_bytes() == before
