"""A seed command that goes to the live database is ended, or told of; none passes unnoticed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest

from backset.connections.target import Target
from tests.conftest import PASSWORD, ROLE

if TYPE_CHECKING:
    from backset.servers.cluster import Cluster
    from tests.project import Project

SLOW = """
import psycopg, time
with psycopg.connect({url!r}, autocommit=True) as session:
    session.execute("INSERT INTO marks VALUES (1)")
    time.sleep(60)
"""
FAST = """
import psycopg
with psycopg.connect({url!r}) as session:
    session.execute("INSERT INTO marks VALUES (1)")
"""
DOTENV = """
import os, psycopg
from dotenv import load_dotenv
load_dotenv(override=True)
with psycopg.connect(os.environ["DATABASE_URL"]) as session:
    session.execute("SELECT pg_sleep({seconds})")
"""
NOWHERE = "print('nothing to do')"


@pytest.fixture
def live(project: Project) -> Project:
    """A project whose live database has a table with one row."""
    assert project.invoke("upgrade").returncode == 0
    project.query("CREATE TABLE marks AS SELECT 0 AS id")
    return project


def seed_with(project: Project, script: str) -> None:
    """Give the project another seed command, and nothing that it must bring."""
    (project.folder / "scripts" / "other.py").write_text(script)
    path = project.folder / "pyproject.toml"
    text = path.read_text().partition("[tool.backset.rows]")[0]
    path.write_text(text.replace("scripts/add_mock_task_data.py", "scripts/other.py"))


def test_a_seed_with_the_url_of_the_live_database_is_ended(live: Project) -> None:
    """As soon as its session is seen: long before it would have ended by itself."""
    seed_with(live, SLOW.format(url=live.url))
    done = live.invoke("reset-db")
    name = live.query("SELECT current_database()")[0][0]
    assert done.returncode == 4
    assert f"connected to {name}, the live database" in done.stderr
    assert f"and not to {name}__next; it was ended" in done.stderr
    assert 'scripts/other.py line 3 read environ["DATABASE_URL"]' in done.stderr
    ((rows,),) = live.query("SELECT count(*) FROM marks")
    assert rows == 1 or "and up to 1 row written there" in done.stderr


@pytest.mark.slow
def test_a_seed_that_is_over_before_anybody_looks_is_told_of(live: Project) -> None:
    """The server counts it: whether it was seen or not, the rows that it wrote are told."""
    seed_with(live, FAST.format(url=live.url))
    for _ in range(5):
        live.query("TRUNCATE marks; INSERT INTO marks VALUES (0)")
        done = live.invoke("reset-db")
        assert done.returncode == 4, done.stdout + done.stderr
        assert "scripts/other.py" in done.stderr
        said = "up to 1 row written"
        assert said in done.stderr or live.query("SELECT count(*) FROM marks") == [(1,)]
        assert "the live database" in done.stderr
        if said in done.stderr:
            assert "is as it was" not in done.stderr
            assert " was not swapped, but may have been written to; `invoke restore " in done.stderr


def test_dotenv_that_overrides_gets_the_line_that_mends_it(live: Project) -> None:
    """And the line does mend it, with a python-dotenv that knows the variable."""
    url = live.env.pop("DATABASE_URL")
    (live.folder / ".env").write_text(f"DATABASE_URL={url}\n")
    seed_with(live, DOTENV.format(seconds=30))
    done = live.invoke("reset-db")
    live.env["DATABASE_URL"] = url
    assert done.returncode == 4
    line = '[tool.backset.env] PYTHON_DOTENV_DISABLED = "1"'
    assert line in done.stderr
    seed_with(live, DOTENV.format(seconds=0))
    with (live.folder / "pyproject.toml").open("a") as file:
        file.write("\n".join(line.split(" ", 1)))
    assert live.invoke("reset-db").returncode == 0


@pytest.mark.slow
def test_a_seed_that_connects_to_nothing_is_told_of(live: Project) -> None:
    """It is no failure: nothing was asked of its rows."""
    seed_with(live, NOWHERE)
    done = live.invoke("reset-db", "--json")
    assert done.returncode == 0, done.stdout
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["kind"] == "astray"
    assert "never connected to" in finding["what"]
    with psycopg.connect(live.url) as session:
        assert session.execute("SELECT count(*) FROM users").fetchone() == (0,)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows whose a port is")
@pytest.mark.slow
def test_a_session_with_a_name_of_its_own_is_known_by_its_port(
    project: Project, cluster: Cluster, superuser: psycopg.Connection[Any]
) -> None:
    """A driver that ignores PGAPPNAME, or an application that names itself, is caught as well."""
    name = Target.parse(project.url).database
    superuser.execute(f'ALTER DATABASE "{name}" OWNER TO {ROLE}'.encode())
    password = quote(PASSWORD, safe="")
    url = f"postgresql://{ROLE}:{password}@127.0.0.1:{cluster.port}/{name}"
    project.env["DATABASE_URL"] = url
    assert project.invoke("upgrade").returncode == 0
    seed_with(project, NAMED.format(url=url))
    done = project.invoke("reset-db")
    assert done.returncode == 4
    assert f"connected to {name}, the live database, as {ROLE}" in done.stderr
    assert password not in done.stderr


NAMED = """
import psycopg
with psycopg.connect({url!r}, application_name="shop") as session:
    session.execute("SELECT pg_sleep(60)")
"""
