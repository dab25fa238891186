"""`invoke history` draws the chain with the database in it, and does so without one too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.incident.project import CLEAN_REVISION, ORPHANED_REVISION
from tests.states import broken

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project import Project


SCRIPT = '"""{doc}"""\nrevision = "{id}"\ndown_revision = {down!r}\n{more}def upgrade(): pass\n'
DOC = "Initial clean schema: users, tasks and task_outputs, with nothing before it."


def add(
    project: Project, revision: str, down: str | tuple[str, ...] | None, more: str = ""
) -> Path:
    """Add a script to the project's chain."""
    path = project.folder / f"alembic/versions/{revision}.py"
    path.write_text(SCRIPT.format(doc=f"Do {revision}", id=revision, down=down, more=more))
    return path


def lines(project: Project, **env: str) -> list[str]:
    """Return what is printed, without what is said beside the drawing."""
    told = project.invoke("history", **env)
    assert told.returncode == 0, told.stderr
    return [line[1:] for line in told.stdout.splitlines() if not line.startswith(" !")]


def test_a_branched_chain(project: Project) -> None:
    """Branches, a label, a dependency and a merge; the database is where it was upgraded to."""
    assert project.invoke("upgrade").returncode == 0
    add(project, "aaa", CLEAN_REVISION, 'branch_labels = "web"\n')
    add(project, "bbb", CLEAN_REVISION, 'depends_on = "aaa"\n')
    add(project, "ccc", ("aaa", "bbb"))
    assert lines(project) == [
        "* ccc (head, web) Do ccc",
        "|\\",
        "| * bbb (depends on aaa) Do bbb",
        "* | aaa (web) Do aaa",
        "|/",
        f"* {CLEAN_REVISION} {DOC} ← database",
    ]
    (chain,) = json.loads(project.invoke("history", "--json").stdout)["chains"]
    assert (chain["heads"], chain["revisions"]) == (["ccc"], [CLEAN_REVISION])
    assert {each["revision"] for each in chain["scripts"]} == {
        "aaa",
        "bbb",
        "ccc",
        CLEAN_REVISION,
    }


def test_an_empty_database_and_none_at_all(project: Project) -> None:
    """At base it says so; without a server the scripts are drawn alone, and it says why."""
    assert lines(project)[-1] == "base ← database"
    told = project.invoke("history", DATABASE_URL="postgresql://nobody@127.0.0.1:9/nothing")
    assert told.returncode == 0
    assert "! the scripts alone: " in told.stdout
    assert f"* {CLEAN_REVISION} (head)" in told.stdout
    assert "← database" not in told.stdout
    content = json.loads(project.invoke("history", "--json", DATABASE_URL="").stdout)
    assert content["chains"][0]["revisions"] is None
    assert not (project.folder / ".backset").exists()


def test_an_orphan(project: Project) -> None:
    """The incident: the old chain stands beside the new one, with the way back to its files."""
    broken(project)
    told = project.invoke("history")
    shown = [line.split()[:2] for line in told.stdout.splitlines()]
    assert shown[:2] == [["*", CLEAN_REVISION], ["x", ORPHANED_REVISION]]
    assert ["x", "001_current_schema"] in shown
    assert "← database" in told.stdout.splitlines()[1]
    assert f"! {ORPHANED_REVISION} comes back with: cp alembic/versions_backup/" in told.stdout


def test_a_broken_chain(project: Project) -> None:
    """A missing middle and a file that Python cannot read: the rest is drawn, and both are said."""
    add(project, "ccc", "bbb")
    shown = lines(project)
    at = shown.index("* ccc (head) Do ccc")
    assert shown[at + 1] == "? bbb (missing: no migration file has it)"
    add(project, "ddd", "ccc").write_text("revision = 'ddd'\ndown_revision = 'ccc'\nprint 'x'\n")
    told = project.invoke("history")
    assert told.returncode == 0, told.stderr
    assert "* ddd (head)" in told.stdout
    assert "* ccc" in told.stdout
    assert "! unreadable file: " in told.stdout
