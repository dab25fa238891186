"""Copies of this repository as a project of its own, and the runbook's broken database in them.

A project is a folder with app/, alembic/, scripts/, pyproject.toml and tasks.py. Alembic runs
there as a child process, as it does on a developer's machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from backset.connections.target import Target

INCIDENT = Path(__file__).parent
CLEAN_REVISION = "0b228e9fec0b"
ORPHANED_REVISION = "cf94a9256bdb"
RUNS_DROPPED, RUNS_DROPPED_AGAIN = "5d1f60c3a9e7", "8b72e4d91c05"
COUNTS = (
    "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM tasks), "
    "(SELECT count(*) FROM task_outputs)"
)
JUNK = shutil.ignore_patterns("__pycache__")


def lay_down(project: Path, repository: Path) -> None:
    """Copy the application side of the repository into an empty folder."""
    for folder in ("app", "alembic", "scripts"):
        shutil.copytree(repository / folder, project / folder, ignore=JUNK)
    for file in ("pyproject.toml", "tasks.py"):
        shutil.copy(repository / file, project / file)


def run_alembic(project: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `alembic …` in the project; the caller judges the exit code."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=project,
        env={**os.environ, "DATABASE_URL": url, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,  # on a terminal Alembic would wrap what it says
        capture_output=True,
        text=True,
        check=False,
    )


def use_old_chain(project: Path) -> None:
    """Put the old chain in the place of the clean migration, which waits beside it."""
    versions = project / "alembic" / "versions"
    versions.rename(versions.with_name("versions_clean"))
    shutil.copytree(INCIDENT / "old_versions", versions, ignore=JUNK)


def use_clean_chain(project: Path) -> None:
    """Do what the team did: move the old files to versions_backup/, put the clean one back."""
    versions = project / "alembic" / "versions"
    backup = project / "alembic" / "versions_backup" / "versions"
    backup.parent.mkdir()
    versions.rename(backup)
    versions.with_name("versions_clean").rename(versions)


def break_it(project: Path, url: str) -> None:
    """Take an empty database through the old chain, give it rows, then replace the chain.

    The database ends at cf94a9256bdb with 2 users, 3 tasks and 6 outputs.
    """
    use_old_chain(project)
    run_old_chain(project, url)
    use_clean_chain(project)


def run_old_chain(project: Path, url: str) -> None:
    """Take an empty database through the chain, and give it rows.

    8b72e4d91c05 drops what 5d1f60c3a9e7 dropped before it, so no database ever ran it: the
    developer who met the error stamped over it and went on. That stamp is made here too.
    """
    for command, revision in (
        ("upgrade", RUNS_DROPPED),
        ("stamp", RUNS_DROPPED_AGAIN),
        ("upgrade", ORPHANED_REVISION),
    ):
        done = run_alembic(project, url, command, revision)
        assert done.returncode == 0, done.stdout + done.stderr
    with psycopg.connect(make_conninfo(**Target.parse(url).params)) as connection:
        connection.execute((INCIDENT / "rows.sql").read_bytes())


def add_failing_migration(project: Path) -> None:
    """Add a migration after the clean one whose last statement fails."""
    shutil.copy(INCIDENT / "failing" / "c0ffee000001_rank_tasks.py", project / "alembic/versions")


def add_failing_seed(project: Path) -> list[str]:
    """Add a script that commits a row and then fails; return the seed command that runs it."""
    shutil.copy(INCIDENT / "failing" / "seed.py", project / "scripts" / "failing_seed.py")
    return [sys.executable, "scripts/failing_seed.py"]
