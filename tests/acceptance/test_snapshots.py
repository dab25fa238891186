"""Backups that are kept by what they mean: named, pinned, the last of some rows."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.incident.project import add_failing_migration
from tests.marks import slow_but
from tests.project import Project, prints
from tests.states import rebuilt


def listed(project: Project) -> list[dict[str, Any]]:
    """Return what is said of the backups, the oldest first."""
    found: list[dict[str, Any]] = json.loads(project.invoke("backups", "--json").stdout)["backups"]
    return found


def files(project: Project) -> list[Path]:
    """Return the dumps."""
    return sorted((project.folder / "backups").rglob("*.dump"))


def test_a_named_backup_is_found_by_its_name(project: Project) -> None:
    """It stays however many come after it, and no other gets that name."""
    rebuilt(project)
    then = prints(project)
    done = project.invoke("backup", "--name", "before-demo")
    assert done.returncode == 0, done.stderr
    assert "before-demo.dump" in done.stdout
    project.query("DELETE FROM task_outputs")
    done = project.invoke("backup", "--name", "before-demo", "--plan")
    assert done.returncode == 3
    assert " has before-demo.dump already → choose another name" in done.stderr
    assert project.invoke("backup", "--name", "before-demo").returncode == 3
    done = project.invoke("reset", BACKSET_KEEP="1")
    assert done.returncode == 0, done.stderr
    assert "before-demo" in [each["name"] for each in listed(project)]
    done = project.invoke("restore", "before-demo")
    assert done.returncode == 0, done.stderr
    assert prints(project) == then


def test_a_name_may_be_the_beginning_of_another_one(project: Project) -> None:
    """As versions are; only the very same name is taken."""
    rebuilt(project)
    for name in ("v1.2", "v1", "built"):
        done = project.invoke("backup", "--name", name)
        assert done.returncode == 0, done.stderr
    assert project.invoke("backup", "--name", "v1").returncode == 3


def test_a_name_must_be_one_of_a_file(project: Project) -> None:
    """Exit 2, and nothing else is written."""
    for name in ("../x", "a b", ".hidden", "x.dump", "x" * 81):
        done = project.invoke("backup", "--name", name)
        assert done.returncode == 2
        assert f"--name is {name!r} → it must begin with" in done.stderr
    assert files(project) == []


def test_a_pinned_backup_stays(project: Project) -> None:
    """Without a name, too; the list says which those are."""
    rebuilt(project)
    assert project.invoke("backup", "--pin").returncode == 0
    (pinned,) = listed(project)
    assert pinned["is_pinned"] is True
    assert "pinned" in project.invoke("backups").stdout
    for word in "abc":
        project.query(f"CREATE TABLE {word} ()")
        assert project.invoke("reset", BACKSET_KEEP="1").returncode == 0
    assert pinned["name"] in [each["name"] for each in listed(project)]


def test_no_state_is_stored_twice(project: Project) -> None:
    """One file with a second name; another state is another file, and so is what was damaged."""
    rebuilt(project)
    assert project.invoke("backup").returncode == 0
    done = project.invoke("backup", "--name", "again")
    (first, second) = listed(project)
    assert f"the same state as {first['name']}, one file" in done.stdout
    assert first["content_sha256"] == second["content_sha256"]
    one, two = files(project)
    assert one.samefile(two)
    project.query("DELETE FROM task_outputs")
    assert project.invoke("backup").returncode == 0
    assert len({each.stat().st_ino for each in files(project)}) == 2
    one.write_bytes(one.read_bytes()[:-1])
    project.query("COMMENT ON TABLE users IS NULL")
    assert project.invoke("backup").returncode == 0


def test_runs_that_fail_push_nothing_out(project: Project) -> None:
    """Not the dump with a person's rows, which no database has any more; nor do good ones."""
    rebuilt(project)
    project.query("UPDATE tasks SET prompt = 'a real one'")
    project.query("DELETE FROM task_outputs")
    real = prints(project)
    assert project.invoke("reset-db", BACKSET_KEEP="2").returncode == 0
    (theirs,) = listed(project)
    assert theirs["is_remade"] is False
    done = project.invoke("reset-db", "--cold", BACKSET_KEEP="2")
    assert done.returncode == 0, done.stderr
    assert listed(project)[-1]["is_remade"] is True
    add_failing_migration(project.folder)
    for _ in range(3):
        assert project.invoke("reset-db", BACKSET_KEEP="2").returncode == 4
    assert len(listed(project)) == 5
    assert len({each.stat().st_ino for each in files(project)}) <= 3
    (project.folder / "alembic/versions/c0ffee000001_rank_tasks.py").unlink()
    for _ in range(2):
        done = project.invoke("reset-db", BACKSET_KEEP="2")
        assert done.returncode == 0, done.stderr
    assert [theirs["name"]] == [each["name"] for each in listed(project)][:1]
    assert len(listed(project)) == 3
    assert project.invoke("restore", theirs["name"]).returncode == 0
    assert prints(project) == real


@pytest.mark.parametrize("flags", slow_but([[], ["--in-place", "--yes"]], lambda flags: not flags))
def test_rows_that_were_typed_in_between_two_rebuilds_stay(
    project: Project, flags: list[str]
) -> None:
    """As many as before, and on the same revision: no other dump has them, whatever `keep` says."""
    rebuilt(project)
    typed = {}
    for name in ("ada", "grace", "joan"):
        project.query(f"UPDATE users SET github_username = '{name}'")
        typed[name] = prints(project)
        done = project.invoke("reset-db", *flags, BACKSET_KEEP="1")
        assert done.returncode == 0, done.stderr
    for _ in range(2):
        assert project.invoke("reset-db", "--cold", *flags, BACKSET_KEEP="1").returncode == 0
    replaced = [each["name"] for each in listed(project) if each["is_replaced"]]
    assert project.invoke("backups").stdout.count("the last of its rows") == 3
    for backup, then in zip(replaced, typed.values(), strict=True):
        done = project.invoke("restore", backup, *flags, "--yes")
        assert done.returncode == 0, done.stderr
        assert prints(project) == then


def test_rows_that_were_carried_stand_elsewhere(project: Project) -> None:
    """So does a state that a failed run has left alone; their dumps go when it is their turn."""
    rebuilt(project)
    project.query("UPDATE users SET github_username = 'ada'")
    assert project.invoke("reset-db", "--carry", BACKSET_KEEP="1").returncode == 0
    add_failing_migration(project.folder)
    for flags in ([], ["--in-place", "--yes"]):
        assert project.invoke("reset-db", *flags, BACKSET_KEEP="1").returncode in {4, 5}
    assert [each["is_replaced"] for each in listed(project)] == [False] * 3


def test_rows_that_a_carry_leaves_behind_stand_nowhere_else(project: Project) -> None:
    """The others are in the new database, these in the dump alone."""
    rebuilt(project)
    project.query("CREATE TABLE notes AS SELECT 'mine' AS text")
    project.configure("[tool.backset]\n", '[tool.backset]\nleave = ["notes"]\n')
    done = project.invoke("reset-db", "--carry", BACKSET_KEEP="1")
    assert done.returncode == 0, done.stderr
    assert [each["is_replaced"] for each in listed(project)] == [True]


def test_backups_from_the_future_come_before_todays(project: Project) -> None:
    """The clock was wrong when they were taken: the newest is the one that was taken last."""
    rebuilt(project)
    for _ in range(3):
        project.query("DELETE FROM task_outputs WHERE id = (SELECT max(id) FROM task_outputs)")
        assert project.invoke("backup").returncode == 0
    for path in (project.folder / "backups").rglob("*.json"):
        about = json.loads(path.read_text())
        path.write_text(json.dumps({**about, "taken_at": "2099-01-01T00:00:00Z"}))
    project.query("UPDATE tasks SET prompt = 'of today'")
    today = prints(project)
    assert project.invoke("backup").returncode == 0
    done = project.invoke("reset-db", BACKSET_KEEP="1")
    assert done.returncode == 0, done.stderr
    newest = listed(project)[-1]
    assert not newest["taken_at"].startswith("2099")
    assert project.invoke("restore", "--yes").returncode == 0
    assert prints(project) == today


@pytest.mark.parametrize("many", slow_but([500, 5000], lambda many: many == 500))
def test_many_backups_are_listed_as_fast_as_fifty(project: Project, many: int) -> None:
    """In at most twice the time, and a second."""
    rebuilt(project)
    assert project.invoke("backup").returncode == 0
    (first,) = listed(project)
    folder = Path(first["file"]).parent
    text = (folder / f"{first['name']}.json").read_text()

    def timed(numbers: range) -> float:
        for number in numbers:
            (folder / f"n{number}.dump").touch()
            (folder / f"n{number}.json").write_text(text)
        began = time.monotonic()
        done = project.run("backups")
        assert len(done.stdout.splitlines()) == numbers.stop
        return time.monotonic() - began

    few = timed(range(1, 50))
    assert timed(range(50, many)) <= 2 * few + 1
