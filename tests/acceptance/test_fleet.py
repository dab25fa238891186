"""A task on many databases: which, a plan, the work, and what becomes of failures and deaths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fleets import add_revision, describe, populate, revisions

if TYPE_CHECKING:
    from tests.project import Project


def test_upgrade_brings_every_database_to_head(project: Project) -> None:
    """Those that are behind are migrated, the others are left alone, and each has its line."""
    names = populate(project, 3, "head")
    describe(project, f'glob = "{project.database}_t*"')
    done = project.invoke("fleet", "upgrade")
    assert done.returncode == 0, done.stderr
    assert "3 nothing" in done.stdout
    add_revision(project, "aaaa")
    done = project.invoke("fleet", "upgrade")
    assert done.returncode == 0, done.stderr
    assert all(each in done.stdout for each in names)
    assert set(revisions(project, names).values()) == {"aaaa"}
