"""Who may be reset: the marker, consent that is bound to facts, and every reason at once."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.connections.target import Target
from tests.clusters import running
from tests.conftest import ROLE
from tests.marks import slow_but
from tests.project import Project, databases, prints
from tests.states import rebuilt

if TYPE_CHECKING:
    from backset.servers.cluster import Cluster


@pytest.fixture
def telling(project: Project, superuser: psycopg.Connection[Any]) -> Project:
    """A project whose database has rows, and a name that people work with."""
    target = Target.parse(project.url)
    project.env["DATABASE_URL"] = target.named(f"{target.database}_production").url
    superuser.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(project.database)))
    rebuilt(project, over_nothing=True)
    return project


def digest(project: Project, *words: str) -> str:
    """Return what a plan says that `--confirm` must be."""
    lines = project.invoke(*words, "--plan").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith(" · consent")]
    return line.split()[-1]


def test_without_a_terminal_the_digest_is_required(telling: Project) -> None:
    """Exit 3 with the facts, the reason and what to type; `--yes` is not enough."""
    before = prints(telling)
    for flags in ([], ["--yes"], ["--confirm", "0badc0de"]):
        done = telling.invoke("reset-db", *flags)
        assert done.returncode == 3, done.stdout + done.stderr
        assert "has 'prod' in its name" in done.stderr
        assert "--confirm" in done.stderr
        for word in ("server", "database", "size", "tables", "youngest", "clients", "rebuilt"):
            assert f" · {word}" in done.stdout
        assert "task_outputs 30" in done.stdout
    assert "0badc0de is not the digest" in done.stderr
    assert (prints(telling), databases(telling)) == (before, {"", "__clean"})


@pytest.mark.parametrize("words", [["undo"], ["restore", "20260101T000000.000Z-x"]])
def test_where_there_is_nothing_to_go_back_to_nobody_is_asked(
    telling: Project, words: list[str]
) -> None:
    """That comes before all that one would have to agree to."""
    for flags in ([], ["--yes"], ["--plan"]):
        done = telling.invoke(*words, *flags)
        assert done.returncode == 4, done.stdout + done.stderr
        assert "to go back to" in done.stderr or "has no backup" in done.stderr
        assert "--confirm" not in done.stdout + done.stderr


def test_the_digest_is_good_for_these_facts_only(telling: Project) -> None:
    """One more row, another task, another client: each makes it void."""
    good = digest(telling, "reset-db")
    assert digest(telling, "reset-db") == good
    assert digest(telling, "reset") != good
    with psycopg.connect(**Target.parse(telling.url).params, application_name="app"):  # type: ignore[arg-type]
        assert digest(telling, "reset-db") != good
    telling.query("INSERT INTO users (id, email) VALUES ('me', 'me@here')")
    assert telling.invoke("reset-db", "--confirm", good).returncode == 3
    done = telling.invoke("reset-db", "--confirm", digest(telling, "reset-db"))
    assert done.returncode == 0, done.stderr
    assert telling.invoke("undo").returncode == 3
    assert telling.invoke("undo", "--confirm", digest(telling, "undo")).returncode == 0


def test_json_has_the_facts_and_the_digest(telling: Project) -> None:
    """A program can show them to somebody, and go on with the answer."""
    content = json.loads(telling.invoke("reset-db", "--json").stdout)
    assert content["exit_code"] == 3
    assert content["stakes"]["tables"].endswith("users 1")
    done = telling.invoke("reset-db", "--json", "--confirm", content["confirm"])
    assert json.loads(done.stdout)["exit_code"] == 0


@pytest.mark.parametrize(
    ("typed", "code"), slow_but([("{name}", 0), ("yes", 3), ("", 3)], lambda case: case[0] != "yes")
)
def test_on_a_terminal_the_name_is_typed(telling: Project, typed: str, code: int) -> None:
    """After the facts have been shown; anything else is a refusal."""
    name = Target.parse(telling.url).database
    status, shown = telling.on_a_terminal("reset-db", typed=f"{typed.format(name=name)}\n")
    assert "type the database's name to go on" in shown
    assert "task_outputs 30" in shown
    assert status == code, shown
    left = databases(telling) - {"__clean"}
    assert left == ({"", "__previous"} if code == 0 else {""})


@pytest.mark.parametrize(
    ("circumstance", "word"),
    slow_but([("size", "ask_above"), ("standby", "standby")], lambda case: case[0] == "size"),
)
@pytest.mark.slow
def test_what_else_asks(project: Project, cluster: Cluster, circumstance: str, word: str) -> None:
    """A large database, and one whose server feeds a standby."""
    rebuilt(project)
    if circumstance == "size":
        done = project.invoke("reset-db", BACKSET_ASK_ABOVE="1000")
    else:
        with psycopg.connect(cluster.url("postgres"), autocommit=True, replication="true"):
            done = project.invoke("reset-db")
    assert done.returncode == 3
    assert word in done.stderr
    assert project.invoke("reset-db").returncode == 0


def test_a_protected_database_is_never_replaced(project: Project) -> None:
    """By no task and no flag, from no checkout; every session can see the marker."""
    rebuilt(project)
    assert project.invoke("backup").returncode == 0
    assert project.invoke("reset-db").returncode == 0
    done = project.invoke("protect")
    assert (done.returncode, done.stderr) == (0, "")
    assert project.query("SELECT current_setting('backset.protected')") == [("on",)]
    before = prints(project)
    for task in (["reset-db"], ["reset"], ["undo"], ["restore", "--yes"], ["seed"]):
        for flags in ([], ["--in-place"] if task[0].startswith("res") else []):
            done = project.invoke(*task, *flags)
            assert done.returncode == 3, (task, done.stdout, done.stderr)
            assert "is protected → `invoke unprotect`" in done.stderr
    assert prints(project) == before
    assert json.loads(project.invoke("status", "--json").stdout)["protected"] is True
    assert project.invoke("unprotect").returncode == 3
    assert project.invoke("unprotect", "--confirm", "another").returncode == 3
    name = Target.parse(project.url).database
    assert project.on_a_terminal("unprotect", typed=f"{name}\n")[0] == 0
    assert project.invoke("undo").returncode == 0


@pytest.mark.slow
def test_a_protected_previous_is_not_dropped(project: Project, name: str) -> None:
    """The marker counts for every database that a run would drop."""
    for _ in range(2):
        assert project.invoke("reset-db").returncode == 0
    project.query(f"ALTER DATABASE {name}__previous SET backset.protected = on")
    done = project.invoke("reset-db")
    assert done.returncode == 3
    assert f"{name}__previous is protected" in done.stderr


def test_the_marker_of_a_role_that_may_not_set_it(
    project: Project, cluster: Cluster, superuser: psycopg.Connection[Any], name: str
) -> None:
    """The comment carries it then, for backset alone; the user's own comment is kept."""
    owner = sql.SQL("ALTER DATABASE {} OWNER TO {}")
    superuser.execute(owner.format(sql.Identifier(name), sql.Identifier(ROLE)))
    project.query(f"COMMENT ON DATABASE {name} IS 'mine'")
    project.env["DATABASE_URL"] = cluster.url(name, ROLE)
    done = project.invoke("protect")
    assert done.returncode == 0
    assert f'GRANT SET ON PARAMETER backset.protected TO "{ROLE}"' in done.stdout
    assert "is protected" in project.invoke("reset-db").stderr
    assert project.invoke("unprotect", "--confirm", name).returncode == 0
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = "
    assert project.query(f"{comment}'{name}'") == [("mine",)]
    assert project.invoke("protect").returncode == 0
    superuser.execute(f"GRANT SET ON PARAMETER backset.protected TO {ROLE}")
    try:
        assert project.invoke("unprotect", "--confirm", name).returncode == 0
        assert "by its setting" in project.invoke("protect").stdout
        superuser.execute(f"REVOKE SET ON PARAMETER backset.protected FROM {ROLE}")
        done = project.invoke("unprotect", "--confirm", name)
        assert done.returncode == 3
        assert "RESET backset.protected" in done.stderr
    finally:
        superuser.execute(f"REVOKE SET ON PARAMETER backset.protected FROM {ROLE}")


@pytest.mark.slow
def test_protecting_during_a_run_stops_it_at_the_swap(project: Project, name: str) -> None:
    """The marker is looked at again when the swap is due."""
    rebuilt(project)
    before = prints(project)
    script = f"ALTER DATABASE {name} SET backset.protected = on"
    seed = f"""seed = ["{sys.executable}", "-m", "invoke", "psql", "--", "-c", "{script}"]"""
    project.configure('seed = ["python", "scripts/add_mock_task_data.py"]', seed)
    project.configure("[tool.backset.rows]", "[tool.elsewhere]")
    done = project.invoke("reset-db")
    assert done.returncode == 3, done.stdout + done.stderr
    assert f"{name} is protected" in done.stderr
    assert (prints(project), databases(project)) == (before, {"", "__previous", "__clean"})


def test_a_server_in_recovery_is_read_only(project: Project) -> None:
    """It is refused by name, with the other reasons."""
    with running(18) as standby:
        with psycopg.connect(standby.url("postgres"), autocommit=True) as session:
            session.execute("CREATE DATABASE app_live")
        standby.stop()
        (standby.data / "standby.signal").touch()
        standby.start()
        done = project.invoke("reset-db", DATABASE_URL=standby.url("app_live"))
        assert done.returncode == 3, done.stdout + done.stderr
        assert "the server is in recovery" in done.stderr
        done = project.invoke("reset-db", DATABASE_URL=standby.url("template1"))
        assert len(done.stderr.splitlines()) >= 2
