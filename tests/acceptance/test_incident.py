"""The runbook's incident, from broken to repaired, and the ways in which a repair can fail."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest

from backset.connections.target import Target
from backset.servers.location import ServiceNames, throw_away
from tests.conftest import PASSWORD, ROLE
from tests.incident.project import (
    CLEAN_REVISION,
    ORPHANED_REVISION,
    add_failing_migration,
    add_failing_seed,
    break_it,
    lay_down,
    run_alembic,
)
from tests.project import REPOSITORY, Project, databases, prints

if TYPE_CHECKING:
    from pathlib import Path

    from backset.servers.cluster import Cluster

pytestmark = pytest.mark.every_python


@pytest.fixture
def broken(project: Project) -> Project:
    """A project whose database names a revision that was squashed away, with rows in it."""
    break_it(project.folder, project.url)
    return project


def test_the_incident(broken: Project, cluster: Cluster) -> None:
    """From the error to the repaired database, back, and there again; by the runbook's criteria."""
    old = prints(broken)
    assert [old[f"public.{table}"][0] for table in ("users", "tasks", "task_outputs")] == [2, 3, 6]

    failed = run_alembic(broken.folder, broken.url, "upgrade", "head")
    assert failed.returncode == 255
    assert (
        f"Can't locate revision identified by '{ORPHANED_REVISION}'"
        in failed.stdout + failed.stderr
    )
    upgrade = broken.invoke("upgrade")
    assert upgrade.returncode == 4
    assert "invoke reset-db" in upgrade.stderr
    assert upgrade.stderr.count("\n") == 1

    status = broken.invoke("status")
    assert status.returncode == 6
    assert f"orphaned revision: alembic_version names {ORPHANED_REVISION}" in status.stderr
    assert "→ `invoke repair`" in status.stderr
    assert prints(broken) == old

    log_before = len(cluster.log.read_text())
    broken.query("ALTER ROLE postgres SET log_statement = 'ddl'")
    done = broken.invoke("reset-db", "--json")
    assert done.returncode == 0, done.stdout
    broken.query("ALTER ROLE postgres RESET log_statement")
    criteria(broken, json.loads(done.stdout), cluster.log.read_text()[log_before:])

    assert broken.invoke("undo").returncode == 0
    assert prints(broken) == old
    again = broken.invoke("reset-db")
    assert again.returncode == 0, again.stderr
    assert f"-{ORPHANED_REVISION}.dump" in again.stdout
    assert broken.query("SELECT version_num FROM alembic_version") == [(CLEAN_REVISION,)]


def criteria(project: Project, report: dict[str, object], log: str) -> None:
    """Hold the seven success criteria of the runbook."""
    # 1. only one migration file exists
    (only,) = (project.folder / "alembic/versions").glob("*.py")
    assert only.name.startswith(CLEAN_REVISION)
    # 2. the database starts empty, 3. the migration creates all tables
    steps = {step["step"]: step for step in report["steps"]}  # type: ignore[attr-defined]
    assert steps["upgrade"]["chains"][0]["from"] == []
    tables = project.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    assert tables == [("alembic_version",), ("task_outputs",), ("tasks",), ("users",)]
    assert project.query("SELECT version_num FROM alembic_version") == [(CLEAN_REVISION,)]
    # 4. tasks has the archived column
    archived = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'archived'"
    assert project.query(f"{archived} AND table_name = 'tasks'") == [(1,)]
    # 5. the mock-data script succeeds
    assert steps["seed"]["rows"] == {
        "alembic_version": 1,
        "task_outputs": 30,
        "tasks": 5,
        "users": 1,
    }
    # 6. the whole system is fine
    assert project.invoke("status").returncode == 0
    # 7. no old migration ran
    assert "CREATE TABLE task_outputs" in log
    assert "DROP INDEX" not in log
    assert "ERROR" not in log


@pytest.mark.slow
def test_the_old_scripts_are_in_the_backup(broken: Project) -> None:
    """The stale folder is kept beside the dump, so that the old chain can be brought back too."""
    assert broken.invoke("reset-db").returncode == 0
    (archive,) = (broken.folder / "backups").rglob("*.scripts.tar.gz")
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert any("versions_backup/versions/cf94a9256bdb_" in name for name in names)
    assert any(name.endswith("alembic/env.py") for name in names)


@pytest.mark.parametrize("failing", ["migration", "seed"])
def test_a_step_that_fails_costs_nothing(broken: Project, failing: str) -> None:
    """Exit 4, one line, every row still there, nothing beside the target; then mended."""
    old = prints(broken)
    if failing == "migration":
        add_failing_migration(broken.folder)
    else:
        command = add_failing_seed(broken.folder)
        broken.configure(
            'seed = ["python", "scripts/add_mock_task_data.py"]', f"seed = {json.dumps(command)}"
        )
    done = broken.invoke("reset-db")
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    where = "revision c0ffee000001" if failing == "migration" else "failing_seed.py ended with 1"
    assert where in line
    assert " → " in line
    assert line.endswith(f"{Target.parse(broken.url).database} is as it was")
    assert "Traceback" not in done.stdout + done.stderr
    assert prints(broken) == old
    assert databases(broken) == ({""} if failing == "migration" else {"", "__clean"})

    _mend(broken, failing)
    assert broken.invoke("reset-db").returncode == 0
    assert broken.invoke("undo").returncode == 0
    assert prints(broken) == old


def _mend(project: Project, failing: str) -> None:
    if failing == "migration":
        (project.folder / "alembic/versions/c0ffee000001_rank_tasks.py").unlink()
    else:
        text = (project.folder / "pyproject.toml").read_text()
        start = text.index("seed = [")
        end = text.index("\n", start)
        good = 'seed = ["python", "scripts/add_mock_task_data.py"]'
        (project.folder / "pyproject.toml").write_text(text[:start] + good + text[end:])


@pytest.mark.slow
def test_a_killed_run_leaves_what_the_next_one_removes(broken: Project) -> None:
    """A `__next` of a killed run stands in nobody's way, and the target never changed."""
    old = prints(broken)
    hang = broken.folder / "alembic/versions/c0ffee000002_hang.py"
    hang.write_text(
        "import time\nrevision, down_revision = 'c0ffee000002', '0b228e9fec0b'\n"
        "def upgrade(): time.sleep(60)\ndef downgrade(): pass\n"
    )
    process = broken.start("reset-db")
    assert process.stdout is not None
    for line in process.stdout:
        if "reset" in line:
            break
    process.kill()
    process.communicate()
    assert databases(broken) == {"", "__next"}
    assert prints(broken) == old
    hang.unlink()
    assert broken.invoke("reset-db").returncode == 0
    assert databases(broken) == {"", "__previous", "__clean"}


@pytest.mark.slow
def test_the_application_stays_connected_until_the_swap(broken: Project) -> None:
    """An idle transaction that has read a table does not stop the run."""
    with psycopg.connect(broken.url) as application:
        application.execute("SELECT * FROM tasks")
        done = broken.invoke("reset-db", "--json")
        assert done.returncode == 0, done.stdout
        promote = json.loads(done.stdout)["steps"][-1]
        assert len(promote["ended"]) == 1
        application.close()


@pytest.mark.every_server
def test_the_chain_on_an_older_server(tmp_path: Path) -> None:
    """PostgreSQL 16, with its own pg_dump: rebuild twice, undo, restore, status."""
    with throw_away(ServiceNames(database="app"), major=16) as service:
        url = service.url
        folder = tmp_path / "project"
        folder.mkdir()
        lay_down(folder, REPOSITORY)
        project = Project(folder, {"DATABASE_URL": url})
        for task in ("reset-db", "reset-db", "undo", "restore --yes", "status"):
            done = project.invoke(*task.split())
            assert done.returncode == 0, done.stderr
        assert project.query("SHOW server_version")[0][0].startswith("16.")


def test_a_role_that_is_not_superuser_over_tcp(
    tmp_path: Path, cluster: Cluster, missing_url: str
) -> None:
    """The same chain for an owner with CREATEDB, with a password, in asyncpg's spelling."""
    folder = tmp_path / "project"
    folder.mkdir()
    lay_down(folder, REPOSITORY)
    name = Target.parse(missing_url).database
    url = f"postgresql+asyncpg://{ROLE}:{quote(PASSWORD, safe='')}@127.0.0.1:{cluster.port}/{name}"
    project = Project(folder, {"DATABASE_URL": url})
    for task in (["reset-db"], ["reset-db"], ["undo"], ["restore", "--yes"], ["status"]):
        done = project.invoke(*task)
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        assert quote(PASSWORD, safe="") not in done.stdout + done.stderr
    revealed = project.invoke("url", "--reveal")
    assert revealed.stdout.strip() == url
    assert PASSWORD not in project.invoke("url").stdout
