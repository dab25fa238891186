"""`from backset.nox import migrate_session`: the chain rehearsed in any project's CI."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.connections.target import Target
from backset.servers.programs import installations
from tests.clusters import free_port
from tests.conftest import PASSWORD
from tests.marks import slow_but

if TYPE_CHECKING:
    from backset.servers.cluster import Cluster
    from tests.project import Project

NOXFILE = "from backset.nox import migrate_session\n\nmigrate_session({})\n"


def nox(
    project: Project, *arguments: str, said: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run Nox in a project that has the three lines; said: what it gives to the session."""
    (project.folder / "noxfile.py").write_text(NOXFILE.format(said))
    given = {k: v for k, v in os.environ.items() if k not in {"CI", "DATABASE_URL"}}
    return subprocess.run(
        [sys.executable, "-m", "nox", "--no-color", *arguments],
        cwd=project.folder,
        env={**given, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_there_is_a_session_for_each_postgresql(project: Project) -> None:
    """The embedded ones, and those of the system; a service of CI is then the only one."""
    listed = nox(project, "--list").stdout
    found = re.findall(r"\* migrate\((\w+)\)", listed)
    assert {"18", "16"} <= set(found) == {str(major) for major in installations()}
    listed = nox(project, "--list", CI="true", DATABASE_URL=project.url).stdout
    assert re.findall(r"\* migrate\((\w+)\)", listed) == ["service"]


@pytest.mark.parametrize(
    ("words", "env", "meant"),
    slow_but(
        [
            ((), {}, False),
            ((), {"CI": "false"}, False),
            ((), {"CI": "1"}, True),
            ((), {"NOXSESSION": "migrate"}, True),
            (("--session=migrate",), {}, True),
            (("-s", "migrate(18)"), {}, False),
            (("--envdir", "a/migrate"), {}, False),
            (("--", "-k", "migrate"), {}, False),
        ],
        lambda case: case[1].get("CI") == "1" or case[0] == ("-s", "migrate(18)"),
    ),
)
def test_when_the_service_is_meant(
    project: Project, words: tuple[str, ...], env: dict[str, str], *, meant: bool
) -> None:
    """In CI, and where the session is asked for by its name; never because a word is like it."""
    listed = nox(project, "--list", *words, DATABASE_URL=project.url, **env).stdout
    assert ("migrate(service)" in listed) is meant
    assert ("migrate(18)" in listed) is not meant


@pytest.mark.slow
def test_everything_is_tried(project: Project, tmp_path: Path) -> None:
    """On a server of its own, which is gone afterwards; the report is also GitHub's.

    What the developer's shell says to libpq is not for that server.
    """
    env = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "PGSSLMODE": "require"}
    done = nox(project, "-s", "migrate(18)", **env)
    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / "summary").read_text()
    assert table.startswith("### migrate(18)\n")
    for check in (
        *("the server answers twice", "the broken one is recognized", "the database starts empty"),
        *("the mock-data script succeeds", "undo goes back", "the dump is restored and compared"),
        *("head → base → head → base → head", "at head again"),
    ):
        assert f"| ✔ | {check} |" in table
    assert "✘" not in table
    assert "::error" not in done.stdout


@pytest.mark.slow
def test_a_service_is_used_as_it_is(project: Project, tmp_path: Path) -> None:
    """CI gives it, and its database may be there already."""
    env = {"CI": "true", "DATABASE_URL": project.url, "GITHUB_ACTIONS": "true"}
    failing = project.folder / "alembic/versions/c0ffee_x.py"
    failing.write_text(
        "revision, down_revision = 'c0ffee', '0b228e9fec0b'\n"
        "def upgrade(): raise ValueError('100 % wrong')\ndef downgrade(): pass\n"
    )
    done = nox(project, "-s", "migrate", **env, GITHUB_STEP_SUMMARY=str(tmp_path / "summary"))
    assert done.returncode == 1
    assert "::error title=migrate(service)%3A a database is made::" in done.stdout
    assert "100 %25 wrong" in done.stdout
    assert "| ✘ | a database is made |" in (tmp_path / "summary").read_text()
    failing.unlink()
    target = Target.parse(project.url)
    telling = target.named(f"{target.database}_production")  # it has to consent for itself
    done = nox(project, "-s", "migrate", **{**env, "DATABASE_URL": telling.url})
    assert done.returncode == 0, done.stdout + done.stderr
    version = "SELECT version_num FROM alembic_version"
    assert project.query(version, telling.database) == [("0b228e9fec0b",)]


def test_a_service_that_is_not_there_is_a_failure(project: Project) -> None:
    """Never a skip."""
    url = f"postgresql://x:c4nary@127.0.0.1:{free_port()}/x"
    done = nox(project, "-s", "migrate", said="wait_s=1", CI="true", DATABASE_URL=url)
    assert done.returncode == 1
    assert re.search(
        "✘ the server answers twice  postgresql.* does not serve after 1 s", done.stdout
    )
    assert "c4nary" not in done.stdout + done.stderr
    mine = nox(project, "-s", "migrate", said="wait_s=1", DATABASE_URL=url)
    assert mine.returncode == 1
    assert "does not serve after 1 s" in mine.stderr


@pytest.mark.slow
def test_a_role_that_may_not_create_databases(
    project: Project, cluster: Cluster, superuser: psycopg.Connection[Any], name: str
) -> None:
    """It is rebuilt in place, which has no undo; the password may come from libpq's variables."""
    role = sql.Identifier(f"{name}_plain")
    create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(PASSWORD))
    superuser.execute(create)
    superuser.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), role))
    url = f"postgresql://{name}_plain@127.0.0.1:{cluster.port}/{name}"
    done = nox(project, "-s", "migrate", CI="true", DATABASE_URL=url, PGPASSWORD=PASSWORD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search("✔ a rebuild of that +at head", done.stdout)
    assert "undo goes back" not in done.stdout


def test_a_developers_database_is_refused(project: Project) -> None:
    """Outside CI it must be empty, or be said to be meant."""
    project.query("CREATE TABLE precious (id int)")
    done = nox(project, "-s", "migrate", DATABASE_URL=project.url)
    assert done.returncode == 1
    assert "which is not empty → unset it, or if it may be rebuilt: -- --service" in done.stderr
    assert project.query("SELECT count(*) FROM precious") == [(0,)]


@pytest.mark.slow
def test_the_database_can_be_kept(project: Project) -> None:
    """For a look, without a password, until somebody types what ends it."""
    done = nox(project, "-s", "migrate(18)", "--", "--keep")
    assert done.returncode == 0, done.stdout + done.stderr
    (url,) = re.findall(r"kept: psql '(.*)'", done.stdout)
    (ending,) = re.findall(r"then: (.*)", done.stdout)
    try:
        with psycopg.connect(url) as session:
            found = session.execute("SELECT version_num FROM alembic_version").fetchall()
        assert found == [("0b228e9fec0b",)]
    finally:
        subprocess.run(["sh", "-ec", ending], check=True)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    assert not Path(ending.split()[-1]).exists()


@pytest.mark.parametrize(
    "word", ["downgrades=False", "seed_twice=False", 'broken=["python", "break.py"]']
)
@pytest.mark.slow
def test_what_a_project_can_say(project: Project, word: str) -> None:
    """Migrations that do not go back, a seed that runs once, and a broken database of its own."""
    (project.folder / "break.py").write_text(
        "import os, psycopg\n"
        "with psycopg.connect(os.environ['DATABASE_URL']) as session:\n"
        "    session.execute('CREATE TABLE alembic_version (version_num text PRIMARY KEY)')\n"
        "    session.execute(\"INSERT INTO alembic_version VALUES ('theirs')\")\n"
    )
    done = nox(project, "-s", "migrate(18)", said=word)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("head → base" in done.stdout) is ("downgrades" not in word)
    assert ("the seed can be run again" in done.stdout) is ("seed_twice" not in word)


@pytest.mark.slow
def test_a_broken_database_that_is_not_made(project: Project, tmp_path: Path) -> None:
    """The report says so, with the last words of the command."""
    (project.folder / "break.py").write_text("raise SystemExit('the dump is missing')")
    done = nox(
        project,
        *("-s", "migrate(18)"),
        said='broken=["python", "break.py"]',
        GITHUB_STEP_SUMMARY=str(tmp_path / "summary"),
    )
    assert done.returncode == 1
    line = "| ✘ | a database is broken | the dump is missing |"
    assert line in (tmp_path / "summary").read_text()
