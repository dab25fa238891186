"""A database follows a squash by itself: `invoke upgrade` finds where it stands; no row is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests import squashed
from tests.project import prints
from tests.squashed import NEW, laid, rows, squash, upgrade

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project import Project


def at(project: Project, revision: str) -> str:
    """Bring an empty database to a revision; return the digest of what the whole chain makes."""
    upgrade(project)
    made = squashed.digest(project)
    for (table,) in project.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        project.query(f"DROP TABLE {table} CASCADE")
    upgrade(project, revision)
    return made


def test_a_database_at_the_old_head_follows(tmp_path: Path, database_url: str) -> None:
    """One row of the version table changes, and nothing else; the second run has nothing to do."""
    project = laid(tmp_path / "p", database_url)
    made = at(project, "ccc")
    squash(project, made, archive=False)
    before = prints(project)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"✔ follow    ccc → {NEW}, which replaces it\n" in done.stdout
    assert f"✔ upgrade   already at {NEW}\n" in done.stdout
    assert rows(project) == [NEW]
    after = prints(project)
    assert {name for name in before if before[name] != after[name]} == {"public.alembic_version"}
    again = project.invoke("upgrade")
    assert again.returncode == 0
    assert "follow" not in again.stdout


def test_a_plan_says_it_and_changes_nothing(tmp_path: Path, database_url: str) -> None:
    """`--plan` has a line for it, and the version table is as it was."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "ccc"))
    before = prints(project)
    done = project.invoke("upgrade", "--plan")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"· follow    would compare the schema, and write {NEW} for ccc\n" in done.stdout
    assert prints(project) == before


def test_from_the_middle_by_the_archive(tmp_path: Path, database_url: str) -> None:
    """What had not run here runs from the archive, after a backup; rows of people stay."""
    project = laid(tmp_path / "p", database_url)
    made = at(project, "bbb")
    project.query("UPDATE users SET name = 'Cid' WHERE id = 2")
    squash(project, made)
    files = sorted(path.name for path in squashed.versions(project).glob("*"))
    planned = project.invoke("upgrade", "--plan")
    assert "would run 1 old revision up to ccc, from backups/" in planned.stdout
    assert rows(project) == ["bbb"]
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"bbb → {NEW}, which replaces it, after 1 old revision from backups/" in done.stdout
    assert "· follow    backup: backups/" in done.stdout
    assert rows(project) == [NEW]
    assert project.query("SELECT name FROM users ORDER BY id") == [("Ann",), ("Cid",)]
    assert sorted(path.name for path in squashed.versions(project).glob("*.py")) == [
        each for each in files if each.endswith(".py")
    ]


def test_what_is_told_of_a_database_that_can_follow(tmp_path: Path, database_url: str) -> None:
    """It is no orphaned revision: `status`, `verify` and `history` say where it stands."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "ccc"), archive=False)
    told = project.invoke("status")
    assert told.returncode == 6
    assert (
        f" state     squashed: alembic_version names ccc, which {NEW} replaces (last of 3)\n"
        in told.stdout
    )
    assert (
        " cure      invoke upgrade: it compares the schema, and writes the new id; " in told.stdout
    )
    assert "orphaned" not in told.stdout + told.stderr
    verified = project.invoke("verify")
    assert verified.returncode == 6
    assert f"squashed: the database is at ccc, which {NEW} replaces (last of 3)" in verified.stderr
    assert "→ invoke upgrade" in verified.stderr
    drawn = project.invoke("history")
    assert (
        f" * {NEW} (head, replaces 3 revisions) Revision {NEW}. ← database at ccc (last of 3)\n"
        in drawn.stdout
    )
    project.query("UPDATE alembic_version SET version_num = 'aaa'")
    assert f"names aaa, which {NEW} replaces (number 1 of 3)" in project.invoke("status").stdout


def test_repair_lets_it_follow(tmp_path: Path, database_url: str) -> None:
    """The cure of that state is an upgrade, and it ends at head."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "ccc"), archive=False)
    done = project.invoke("repair")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "state     squashed" in done.stdout
    assert f"✔ follow    ccc → {NEW}" in done.stdout
    assert rows(project) == [NEW]
