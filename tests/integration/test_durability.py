"""While the new database is built nobody waits for the disk; once it is the target, it is on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.clusters import crash
from tests.incident.project import lay_down
from tests.project import REPOSITORY, Project

if TYPE_CHECKING:
    from pathlib import Path

    from backset.servers.cluster import Cluster

ASKING = '''"""Write down whether its commit waits for the disk."""

from alembic import op

revision, down_revision = {revision!r}, {down!r}


def upgrade():
    op.execute("INSERT INTO users (id, email) SELECT '{revision}', current_setting('{setting}')")
'''


def ask(project: Project, revision: str, down: str) -> None:
    """Add a migration that writes the setting down as the address of a user."""
    path = project.folder / f"alembic/versions/{revision}_ask.py"
    path.write_text(ASKING.format(revision=revision, down=down, setting="synchronous_commit"))


def test_only_what_stands_in_for_another_database_does_not_wait(project: Project) -> None:
    """What is thrown away on failure need not survive a crash of the server; the target must."""
    ask(project, "aaaaaaaaaaaa", "0b228e9fec0b")
    assert project.invoke("reset-db").returncode == 0
    ask(project, "bbbbbbbbbbbb", "aaaaaaaaaaaa")
    assert project.invoke("upgrade").returncode == 0
    query = "SELECT id, email FROM users WHERE id ~ '^(a+|b+)$' ORDER BY id"
    assert project.query(query) == [("aaaaaaaaaaaa", "off"), ("bbbbbbbbbbbb", "on")]


@pytest.fixture
def forgetful(tmp_path: Path, fragile: Cluster) -> Project:
    """A project on a server that leaves every commit in memory for ten seconds."""
    with psycopg.connect(fragile.url("postgres"), autocommit=True) as session:
        for setting in ("synchronous_commit = off", "wal_writer_delay = '10s'"):
            session.execute(f"ALTER SYSTEM SET {setting}".encode())
        session.execute("SELECT pg_reload_conf()")
        session.execute("CREATE DATABASE app")
    (tmp_path / "project").mkdir()
    lay_down(tmp_path / "project", REPOSITORY)
    return Project(tmp_path / "project", {"DATABASE_URL": fragile.url("app")})


def test_a_crash_after_the_swap_loses_nothing(forgetful: Project, fragile: Cluster) -> None:
    """Its COMMIT waits for the disk, whatever the server's settings, and so for all before it."""
    forgetful.query("CREATE TABLE kept (n int)")
    done = forgetful.invoke("reset-db")
    assert done.returncode == 0, done.stderr
    crash(fragile)
    assert forgetful.query("SELECT to_regclass('kept')") == [(None,)]
    assert forgetful.query("SELECT count(*) FROM task_outputs") == [(30,)]
