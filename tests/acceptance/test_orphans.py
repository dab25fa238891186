"""`invoke status` says where an orphaned revision went, and its command brings the file back."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from tests.git import commit, git
from tests.incident.project import ORPHANED_REVISION
from tests.states import broken

if TYPE_CHECKING:
    from tests.project import Project


def squash(project: Project) -> None:
    """Replace the old chain by the clean one, in a repository, with a database at the old head."""
    broken(project)
    versions, old = project.folder / "alembic/versions", project.folder / "alembic/versions_backup"
    clean = versions.with_name("versions_clean")
    (versions).rename(clean)
    (old / "versions").rename(versions)
    old.rmdir()
    git(project.folder, "init", "-q", "-b", "main")
    commit(project.folder, "The old chain")
    git(project.folder, "rm", "-q", "-r", "alembic/versions")
    clean.rename(versions)
    commit(project.folder, "Squash the migrations")


def test_status_tells_where_the_orphan_went(project: Project) -> None:
    """Commit, author and command, for people and for programs; exit code 6."""
    squash(project)
    told = project.invoke("status")
    assert told.returncode == 6, told.stderr
    name = f"alembic/versions/{ORPHANED_REVISION}_add_archived_field_to_tasks_table.py"
    assert f"{name} was removed by" in told.stdout
    assert '"Squash the migrations" of Ann on' in told.stdout.replace("'", '"')
    assert "git restore" in told.stdout
    assert "it does not fit today's chain" in told.stdout
    (orphan,) = json.loads(project.invoke("status", "--json").stdout)["orphans"]
    assert orphan["revision"] == ORPHANED_REVISION
    assert orphan["companions"] == [
        *("8b72e4d91c05", "5d1f60c3a9e7", "002_add_unified_tasks", "001_current_schema"),
    ]
    subprocess.run(["sh", "-ec", orphan["command"]], cwd=project.folder, check=True)
    assert (project.folder / name).exists()
    assert "orphaned revision" not in project.invoke("status").stderr
