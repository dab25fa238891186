"""A task on many databases: which, a plan, the work, and what becomes of failures and deaths."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.conftest import PASSWORD, ROLE
from tests.fleets import add_revision, describe, populate, revisions
from tests.incident.project import CLEAN_REVISION

if TYPE_CHECKING:
    import subprocess

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
    assert "3 nothing" in done.stdout
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
    done = fleet.invoke("upgrade", "--plan")
    assert done.returncode == 0, done.stderr
    assert all(f"{name} at {CLEAN_REVISION}, 1 revision" in done.stdout for name in fleet.names)
    assert "nothing was changed" in done.stdout
    assert fleet.revisions == {CLEAN_REVISION}
    assert not (fleet.project.folder / "backups").exists()


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
    assert "2 nothing, 1 done" in done.stdout
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
    project.env["OTHER_URL"] = _over_tcp(cluster, "postgres")
    describe(project, f'databases = ["{names[0]}"]', f'url = "env:OTHER_URL"\nglob = "{names[1]}"')
    done = project.invoke("fleet", "status")
    assert done.returncode == 2
    assert "are one server, by the addresses" in done.stderr
    assert done.stderr.count("\n") == 1


def _over_tcp(cluster: Cluster, database: str, password: str = PASSWORD) -> str:
    secret = quote(password, safe="")
    return f"postgresql://{ROLE}:{secret}@127.0.0.1:{cluster.tcp_port}/{database}"


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
