"""A task on many databases: which, a plan, the work, and what becomes of failures and deaths."""

from __future__ import annotations

import json
import re
import stat
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil
import pytest

from tests.conftest import PASSWORD, ROLE
from tests.fleets import add_revision, describe, give, over_tcp, populate, revisions
from tests.incident.project import CLEAN_REVISION
from tests.marks import slow_but

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from backset.servers.cluster import Cluster
    from tests.project import Project


@dataclass
class Fleet:
    """A project, and the databases of its fleet."""

    project: Project
    names: list[str]

    def __post_init__(self) -> None:
        describe(self.project, f'glob = "{self.project.database}_t*"')

    def invoke(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `invoke fleet …`."""
        return self.project.invoke("fleet", *words)

    def where(self) -> dict[str, str]:
        """Return where each database is."""
        return revisions(self.project, self.names)

    @property
    def revisions(self) -> set[str]:
        """Where they are."""
        return set(self.where().values())


def test_upgrade_brings_every_database_to_head(project: Project) -> None:
    """Those that are behind are migrated, the others are left alone, and each has its line."""
    names = populate(project, 3, "head")
    describe(project, f'glob = "{project.database}_t*"')
    done = project.invoke("fleet", "upgrade")
    assert done.returncode == 0, done.stderr
    assert "3 unchanged" in done.stdout
    add_revision(project, "aaaa")
    done = project.invoke("fleet", "upgrade")
    assert done.returncode == 0, done.stderr
    assert all(each in done.stdout for each in names)
    assert set(revisions(project, names).values()) == {"aaaa"}


@pytest.fixture
def fleet(project: Project) -> Fleet:
    """Three databases at head, which a pattern names."""
    return Fleet(project, populate(project, 3, "head"))


def test_status_has_a_line_for_each_and_changes_nothing(fleet: Fleet) -> None:
    """It exits with 0 where all are at head, and with 6 where one is not."""
    assert fleet.invoke("status").returncode == 0
    add_revision(fleet.project, "aaaa")
    done = fleet.invoke("status")
    assert done.returncode == 6
    assert done.stdout.count("1 revision before aaaa") == 3
    assert fleet.revisions == {CLEAN_REVISION}


def test_a_plan_changes_nothing(fleet: Fleet) -> None:
    """It says of each database what would be done."""
    add_revision(fleet.project, "aaaa")
    before = {*(fleet.project.folder / "backups").rglob("*")}
    done = fleet.invoke("upgrade", "--plan")
    assert done.returncode == 0, done.stderr
    assert all(f"{name} at {CLEAN_REVISION}, 1 revision" in done.stdout for name in fleet.names)
    assert "nothing was changed" in done.stdout
    assert fleet.revisions == {CLEAN_REVISION}
    assert {*(fleet.project.folder / "backups").rglob("*")} == before


def test_a_failure_stops_no_other(fleet: Fleet) -> None:
    """The others are done, its line says what was wrong, and a second run does it alone."""
    fleet.project.query("CREATE TABLE aaaa ()", fleet.names[1])
    add_revision(fleet.project, "aaaa")
    done = fleet.invoke("upgrade")
    assert done.returncode == 4
    assert f"{fleet.names[1]} revision aaaa" in done.stderr
    assert f"1 of 3 not done: {fleet.names[1]}" in done.stderr
    assert fleet.where()[fleet.names[1]] == CLEAN_REVISION
    assert [*fleet.where().values()].count("aaaa") == 2
    fleet.project.query("DROP TABLE aaaa", fleet.names[1])
    done = fleet.invoke("upgrade")
    assert done.returncode == 0, done.stderr
    assert "2 unchanged, 1 done" in done.stdout
    assert fleet.revisions == {"aaaa"}


def test_fail_fast_begins_no_other(fleet: Fleet) -> None:
    """What was not begun is as it was, and is counted."""
    fleet.project.query("CREATE TABLE aaaa ()", fleet.names[0])
    add_revision(fleet.project, "aaaa")
    done = fleet.invoke("upgrade", "--fail-fast", "--jobs", "1")
    assert done.returncode == 4
    assert "2 not begun" in done.stderr
    assert fleet.revisions == {CLEAN_REVISION}


def test_canaries_that_are_not_verified_stop_the_run(fleet: Fleet) -> None:
    """The first one is migrated and verified: what models do not have is a finding."""
    add_revision(fleet.project, "aaaa")  # a table that no model has
    done = fleet.invoke("upgrade", "--canary", "1")
    assert done.returncode == 6, done.stderr
    assert "2 not begun, since the first ones are not verified" in done.stderr
    assert [*fleet.where().values()] == ["aaaa", CLEAN_REVISION, CLEAN_REVISION]
    done = fleet.invoke("upgrade", "--canary", "1")  # it is still not verified
    assert done.returncode == 6, done.stderr
    assert [*fleet.where().values()] == ["aaaa", CLEAN_REVISION, CLEAN_REVISION]


def test_canaries_that_are_verified_let_the_others_follow(fleet: Fleet) -> None:
    """A revision that agrees with the models goes on to all."""
    add_revision(fleet.project, "aaaa", "pass")
    done = fleet.invoke("upgrade", "--canary", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert fleet.revisions == {"aaaa"}


def test_reset_db_keeps_for_each_a_backup_and_the_way_back(fleet: Fleet) -> None:
    """Every database is rebuilt beside itself, and is swapped in; the old one is kept."""
    done = fleet.invoke("reset-db")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in fleet.names:
        assert fleet.project.query("SELECT count(*) FROM tasks", name)[0][0] == 5
        assert fleet.project.query("SELECT count(*) FROM tasks", f"{name}__previous") == [(0,)]
    assert fleet.invoke("status").returncode == 0  # those beside them are no members


def test_backup_takes_one_of_each(fleet: Fleet) -> None:
    """They are where `invoke backups` of each database looks."""
    done = fleet.invoke("backup")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = fleet.project.folder / "backups"
    assert all(len([*(folder / each).glob("*.dump")]) == 1 for each in fleet.names)


def test_verify_finds_what_differs_where_it_does(fleet: Fleet) -> None:
    """Exit code 6, with the findings of each database in its lines."""
    fleet.project.query("ALTER TABLE users ADD stray int", fleet.names[2])
    done = fleet.invoke("verify", "--json")
    assert done.returncode == 6
    ends = {line["database"]: line for line in _lines(done.stdout)[:-1] if line.get("exit_code")}
    assert "stray" in ends[fleet.names[2]]["lines"][0]
    assert [name for name in fleet.names if name in ends] == [fleet.names[2]]


def test_a_remedy_is_about_the_database_that_it_stands_beside(fleet: Fleet) -> None:
    """`reset-db` alone would replace the project's own target."""
    lost = fleet.names[1]
    fleet.project.query("UPDATE alembic_version SET version_num = 'lost'", lost)
    for action, code in {"status": 6, "upgrade": 4, "verify": 6, "reset-db": 0}.items():
        done = fleet.invoke(action)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert (f"→ with the URL of {lost}: `invoke reset-db`" in said) is bool(code), action


def test_a_place_of_backups_that_cannot_be_is_one_line(fleet: Fleet) -> None:
    """Before anything is begun."""
    done = fleet.project.invoke("fleet", "backup", BACKSET_BACKUPS="file:///dev/null/x")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1


def test_json_has_a_line_for_each_event_and_the_object_of_the_task(fleet: Fleet) -> None:
    """What a program reads comes as it happens; the last line is what other tasks print."""
    add_revision(fleet.project, "aaaa")
    done = fleet.invoke("upgrade", "--json", "--jobs", "1")
    *lines, last = _lines(done.stdout)
    assert [(each["event"], each["database"]) for each in lines] == [
        (event, name) for name in fleet.names for event in ("begun", "done")
    ]
    assert last["task"] == "fleet"
    assert last["fleet"] == {"done": 3, "left": 0}
    assert last["exit_code"] == 0


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", "there is no fleet in the settings"),
        ('glob = "nothing_*"', "the glob names no database → correct it"),
        ("query = \"SELECT 'x' WHERE false\"", "the query names no database → correct it"),
        ('query = "SELECT 1"', "the query gives what is no name"),
        ('query = "SELEKT 1"', "[[tool.backset.fleet]] 1: the query: syntax error at or near"),
        ('query = "CREATE TABLE x ()"', "cannot execute CREATE TABLE in a read-only transaction"),
        ('databases = ["{0}", "{0}"]', "names the database {0} twice → name it once"),
        ('databases = ["missing"]', "there is no database 'missing' on its server"),
        ('url = "env:NOWHERE"\nglob = "*"', "names the variable NOWHERE, which is not set"),
        ('url = "postgresql://a:b@c/d"\nglob = "*"', "a URL without its password"),
        ('glob = "*"\nquery = "SELECT 1"', "with one of databases, query, glob in table 1"),
    ],
)
def test_bad_tables_get_one_line_before_anything(project: Project, table: str, words: str) -> None:
    """What, where, and what to do."""
    (name,) = populate(project, 1)
    describe(project, *([table.format(name)] if table else []))
    done = project.invoke("fleet", "upgrade")
    assert done.returncode in {2, 4}, done.stderr
    assert words.format(name) in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_server_by_two_addresses_is_refused(project: Project, cluster: Cluster) -> None:
    """Else a database could be in the fleet twice without anybody seeing it."""
    names = populate(project, 2)
    project.env["OTHER_URL"] = over_tcp(cluster, "postgres")
    describe(project, f'databases = ["{names[0]}"]', f'url = "env:OTHER_URL"\nglob = "{names[1]}"')
    done = project.invoke("fleet", "status")
    assert done.returncode == 2
    assert "are one server, by the addresses" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["everything"], "there is no `invoke fleet everything` → say one of status, upgrade"),
        (["upgrade", "--jobs", "0"], "--jobs is '0' → say a number"),
        (["status", "--canary", "1"], "--canary is for what changes something"),
        (["upgrade", "--timeout", "x"], "--timeout is 'x'"),
        (["upgrade", "--dask", "localhost"], "--dask is no address of a scheduler"),
    ],
)
def test_bad_flags_get_one_line(project: Project, words: list[str], said: str) -> None:
    """Before anything is looked at."""
    describe(project, 'glob = "nothing_*"')
    done = project.invoke("fleet", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_extra_is_one_line(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is looked at: not one failure for each database."""
    describe(project, 'glob = "nothing_*"')
    project.configure("[tool.backset]\n", '[tool.backset]\nbackups = "s3://bucket/prefix"\n')
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    for action in ("upgrade", "reset-db", "backup"):
        done = project.invoke("fleet", action)
        assert done.returncode == 2
        assert "needs the package obstore → install backset with its extra s3" in done.stderr
        assert done.stderr.count("\n") == 1


def test_no_password_is_said(fleet: Fleet, cluster: Cluster) -> None:
    """Neither in lines, nor in JSON, nor in the journal, nor in the command line of a process."""
    add_revision(fleet.project, "aaaa", "import time; time.sleep(3)")
    fleet.project.env["TENANTS_URL"] = over_tcp(cluster, "postgres")
    fleet.project.configure("glob = ", 'url = "env:TENANTS_URL"\nglob = ')
    give(fleet.project, fleet.names)
    with fleet.project.start("fleet", "upgrade", "--json") as run:
        seen = set[str]()
        while run.poll() is None:
            for each in psutil.Process(run.pid).children(recursive=True):
                with suppress(psutil.Error):
                    seen.add(" ".join(each.cmdline()))
            time.sleep(0.05)
        assert run.stdout
        assert run.stderr
        said = [*seen, run.stdout.read(), run.stderr.read()]
    assert run.returncode == 0, said
    journal = fleet.project.folder / "backups/.fleet/upgrade.jsonl"
    said.append(journal.read_text())
    assert any("backset.fleet" in each for each in seen)
    for secret in (PASSWORD, quote(PASSWORD, safe=""), "can%ary"):
        assert not [each for each in said if secret in each]
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600


def test_a_command_says_the_password(fleet: Fleet, cluster: Cluster) -> None:
    """It is run where the work is done; its argument list has the name of what it reads."""
    secret = fleet.project.folder / "secret"
    secret.write_text(PASSWORD)
    url = f"postgresql://{ROLE}@127.0.0.1:{cluster.tcp_port}/postgres"
    more = f'url = "{url}"\npassword = ["cat", "secret"]\nglob = '
    fleet.project.configure("glob = ", more)
    give(fleet.project, fleet.names)
    add_revision(fleet.project, "aaaa")
    done = fleet.invoke("upgrade")
    assert done.returncode == 0, done.stderr
    assert fleet.revisions == {"aaaa"}


_KEEPS = """
import os, subprocess
from sqlalchemy import create_engine
from app.models import Base
URL = {}
ENGINE = create_engine("postgresql+psycopg://" + URL.partition("://")[2])
"""
_SEEN = 'os.environ["DATABASE_URL"]'
_UNSEEN = 'subprocess.check_output(["printenv", "DATABASE_URL"], text=True).strip()'


@pytest.mark.parametrize("read", [_SEEN, _UNSEEN], ids=["seen", "unseen"])
def test_an_application_that_keeps_its_url_migrates_the_right_databases(
    fleet: Fleet, read: str
) -> None:
    """It is not shared where it is seen to read the URL; else the proof of target fails."""
    folder = fleet.project.folder
    (folder / "app/kept.py").write_text(_KEEPS.format(read))
    env = folder / "alembic/env.py"
    text = env.read_text()
    made = re.search(r"create_engine\(.*\)\n", text)
    assert made
    text = text.replace(made[0], "ENGINE\n")
    env.write_text(text.replace("from app.models import Base", "from app.kept import ENGINE, Base"))
    # What env.py finds without a run is the target: the first import is of that.
    (folder / ".env").write_text(f'DATABASE_URL="{fleet.project.url}"\n')
    add_revision(fleet.project, "aaaa")
    done = fleet.invoke("upgrade")
    assert done.returncode == 0, done.stderr
    assert fleet.revisions == {"aaaa"}
    assert fleet.project.query("SELECT version_num FROM alembic_version") == [(CLEAN_REVISION,)]


def test_an_application_that_keeps_a_name_names_the_right_databases(fleet: Fleet) -> None:
    """A migration that names its own database in SQL does so in each, and in no other."""
    (fleet.project.folder / "app/named.py").write_text(
        'import os\nNAME = os.environ.get("DATABASE_URL", "/?").split("/")[3].partition("?")[0]\n'
    )
    env = fleet.project.folder / "alembic/env.py"
    env.write_text(env.read_text().replace("import os\n", "import os\nimport app.named\n", 1))
    comment = "import app.named; op.execute(f'COMMENT ON DATABASE {app.named.NAME} IS \\'a\\'')"
    add_revision(fleet.project, "aaaa", comment)
    done = fleet.invoke("upgrade", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    query = "SELECT datname FROM pg_database WHERE shobj_description(oid, 'pg_database') = 'a'"
    found = {name for (name,) in fleet.project.query(query)}
    assert found & {fleet.project.database, *fleet.names} == {*fleet.names}


def test_what_a_migration_leaves_in_memory_is_not_there_for_the_next(fleet: Fleet) -> None:
    """A cache of the application that one database has filled is empty for each other one."""
    (fleet.project.folder / "app/cached.py").write_text("SEEN = []\n")
    env = fleet.project.folder / "alembic/env.py"
    env.write_text(env.read_text().replace("import os\n", "import os\nimport app.cached\n", 1))
    add_revision(
        fleet.project,
        "aaaa",
        "import app.cached; app.cached.SEEN.append(1); "
        "op.execute(f'CREATE TABLE aaaa_{len(app.cached.SEEN)} ()')",
    )
    done = fleet.invoke("upgrade", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    for name in fleet.names:
        assert fleet.project.query("SELECT to_regclass('aaaa_1')::text", name) == [("aaaa_1",)]


_SLOWLY = "op.execute('CREATE TABLE aaaa AS SELECT 1 AS id FROM pg_sleep(2)')"


def _hands(run: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes that work on databases."""
    with suppress(psutil.Error):
        children = psutil.Process(run.pid).children()
        return [each for each in children if "backset.fleet" in each.cmdline()]
    return []


def _wait_for(what: Callable[[], object], run: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_sleeping(fleet: Fleet) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname LIKE "
    return bool(fleet.project.query(f"{query}'{fleet.project.database}_t%'", "postgres")[0][0])


def test_a_process_that_is_killed_loses_nothing(fleet: Fleet) -> None:
    """Its database is tried again, by a new process; the others do not notice."""
    add_revision(fleet.project, "aaaa", _SLOWLY)
    with fleet.project.start("fleet", "upgrade", "--json") as run:
        _wait_for(lambda: _is_sleeping(fleet), run)
        _hands(run)[0].kill()
        out, err = run.communicate(timeout=100)
    assert run.returncode == 0, err
    events = [each.get("event") for each in _lines(out)]
    assert events.count("again") == 1
    assert events.count("done") == 3
    assert fleet.revisions == {"aaaa"}
    counts = [fleet.project.query("SELECT count(*) FROM aaaa", each) for each in fleet.names]
    assert counts == [[(1,)]] * 3


def test_a_run_that_was_killed_is_gone_on_with(fleet: Fleet) -> None:
    """What it had done is not done again, and what it had begun is whole."""
    with fleet.project.start("fleet", "backup", "--json", "--jobs", "1") as run:
        assert run.stdout
        for line in run.stdout:
            if json.loads(line)["event"] == "done":
                break
        run.kill()
    done = fleet.invoke("backup")
    assert done.returncode == 0, done.stderr
    assert "goes on with the run of" in done.stdout
    assert f"{fleet.names[0]} done by the run of" in done.stdout
    folder = fleet.project.folder / "backups"
    assert [len([*(folder / each).glob("*.dump")]) for each in fleet.names] == [1, 1, 1]
    assert "done by the run" not in fleet.invoke("backup").stdout  # that one is over


def test_an_interruption_ends_each_in_good_order(fleet: Fleet) -> None:
    """Exit code 143; what is begun is as it was or done, and a second run does the rest."""
    add_revision(fleet.project, "aaaa", _SLOWLY)
    with fleet.project.start("fleet", "upgrade", "--jobs", "1") as run:
        _wait_for(lambda: _is_sleeping(fleet), run)
        hands = _hands(run)
        run.terminate()
        _, err = run.communicate(timeout=100)
    assert run.returncode == 143
    assert "2 not begun; run this again" in err
    assert not any(each.is_running() for each in hands)
    done = fleet.invoke("upgrade")
    assert done.returncode == 0, done.stderr
    assert fleet.revisions == {"aaaa"}


def test_an_interruption_ends_a_plan_that_hangs(fleet: Fleet) -> None:
    """An env.py that never comes to its end is ended with the run: exit code 143."""
    env = fleet.project.folder / "alembic/env.py"
    hangs = "import pathlib, time\npathlib.Path('reached').touch()\ntime.sleep(3600)\n"
    env.write_text(env.read_text().replace("import os\n", f"import os\n{hangs}", 1))
    with fleet.project.start("fleet", "reset-db", "--plan") as run:
        _wait_for((fleet.project.folder / "reached").exists, run)
        started = [at for each in _hands(run) for at in [each, *each.children(recursive=True)]]
        assert len(started) > len(_hands(run))
        run.terminate()
        _, err = run.communicate(timeout=60)
    assert run.returncode == 143, err
    assert psutil.wait_procs(started, timeout=10)[1] == []


def test_a_terminal_shows_what_is_worked_on(fleet: Fleet) -> None:
    """A row for each database that is begun, below the lines of those that have ended."""
    add_revision(fleet.project, "aaaa", _SLOWLY)
    code, shown = fleet.project.on_a_terminal("fleet", "upgrade", TERM="xterm")
    assert code == 0, shown
    assert "ended" in shown
    assert all(each in shown for each in fleet.names)


def test_consent_is_bound_to_the_plan_of_all(fleet: Fleet) -> None:
    """Databases that somebody must look at are replaced with one digest, void once one differs."""
    fleet.project.configure("[tool.backset]", "[tool.backset]\nask_above = 0")
    done = fleet.invoke("reset-db")
    assert done.returncode == 3
    assert "3 databases would be replaced that somebody must look at" in done.stderr
    digest = re.search(r"--confirm (\w+)", done.stderr)[1]  # type: ignore[index]
    fleet.project.query("CREATE TABLE more ()", fleet.names[0])
    done = fleet.invoke("reset-db", "--confirm", digest)
    assert done.returncode == 3
    assert f"--confirm {digest} is not the digest of the plan as it is now" in done.stderr
    digest = re.findall(r"--confirm (\w+)", done.stderr)[1]
    done = fleet.invoke("reset-db", "--confirm", digest)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("typed", slow_but(["2\n", "\x04"], "2\n".__eq__))
def test_who_types_another_number_replaces_nothing(fleet: Fleet, typed: str) -> None:
    """Exit code 3 and one line, also where the input is ended."""
    fleet.project.configure("[tool.backset]", "[tool.backset]\nask_above = 0")
    code, shown = fleet.project.on_a_terminal("fleet", "reset-db", typed=typed)
    assert code == 3, shown
    assert "that is not their number → type it to go on" in shown
    query = "SELECT count(*) FROM pg_database WHERE datname LIKE '%%previous'"
    assert fleet.project.query(f"{query} AND datname LIKE '{fleet.project.database}%%'") == [(0,)]
