"""Every state of a database: how it comes about, its evidence, and that its cure works."""

from __future__ import annotations

import json
import re
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from backset.connections.target import Target
from backset.servers.server import Server
from tests.conftest import ROLE
from tests.marks import slow_but
from tests.project import Project, laid_down, prints
from tests.situations import (
    MORE,
    behind,
    built,
    byte_code,
    deleted,
    drifted,
    duplicate,
    elsewhere,
    half_applied,
    invalid_index,
    made_by_hand,
    missing_database,
    missing_middle,
    new_model,
    no_models,
    no_scripts,
    no_server,
    of_others,
    row_too_many,
    squashed,
    squashed_otherwise,
    stamped_early,
    stamped_empty,
    stamped_index,
    two_heads,
    unrecorded,
    versions,
    without_version,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backset.servers.cluster import Cluster


@dataclass(frozen=True)
class Case:
    """A state, words of its evidence and of its cure, and how `invoke repair` ends.

    way: of the cure that a proof has led to, if there was one. ends: the state after the repair.
    """

    make: Callable[[Project], None]
    state: str
    evidence: str
    cure: str
    ways: tuple[str, ...] = ()
    ends: str = "at head"
    code: int = 6  # where it does not end at head


CASES = [
    Case(no_server, "no server", "Connection refused", "start the server", ends="no server"),
    Case(missing_database, "no database", "does not exist", "invoke upgrade", ("upgrade",)),
    Case(lambda _: None, "empty", "has no table and no version", "invoke upgrade", ("upgrade",)),
    Case(built, "at head", "the database is at c1", ""),
    Case(behind, "behind", "at b1, head is c1: 1 revision", "invoke upgrade", ("upgrade",)),
    Case(without_version, "ahead", "but alembic_version names no", "invoke repair", ("stamp",)),
    Case(made_by_hand, "ahead", "notes, tasks, users", "invoke repair", ("carry",)),
    Case(deleted, "orphaned revision", "names c1", "git restore", ("restore file",)),
    Case(squashed, "orphaned revision", "names dead", "invoke repair", ("stamp",)),
    Case(squashed_otherwise, "orphaned revision", "dead", "invoke repair", ("carry",),
         ends="orphaned revision", code=4),
    Case(two_heads, "several heads", "c1, d1", "merge -m merge c1 d1", ("merge heads", "upgrade")),
    Case(missing_middle, "broken chain", "migrations/versions: c1_notes.py follows b1",
         "git restore", ("restore file",)),
    Case(duplicate, "broken chain", "c1 is the id of c1_notes.py and of d1_copy.py",
         "an id of its own", ends="broken chain"),
    Case(no_scripts, "broken chain", "has no migration file", "git restore", ("restore file",)),
    Case(byte_code, "broken chain", "d1 is loaded from d1_x.cpython", "invoke archive",
         ends="broken chain"),
    Case(half_applied, "half applied", "table notes exists already, which c1_notes.py:9 makes",
         "invoke repair", ("carry",)),
    Case(invalid_index, "half applied", "index uq_users_name is invalid", "DROP INDEX CONCURRENTLY",
         ("drop index", "upgrade")),
    Case(unrecorded, "half applied", "table notes exists already", "invoke repair", ("stamp",)),
    Case(row_too_many, "half applied", "alembic_version names b1 beside c1, which comes after it",
         "stamp --purge c1", ("stamp",)),
    Case(drifted, "stamped but not migrated", "column users.name does not exist, which a1_users.py",
         "invoke repair", ("carry",), ends="stamped but not migrated", code=4),
    Case(new_model, "drift", "table new is only in the models", "--autogenerate", ends="drift"),
    Case(stamped_empty, "stamped but not migrated", "table users does not exist, which a1_users.py",
         "invoke repair", ("stamp", "upgrade")),
    Case(stamped_early, "stamped but not migrated", "table notes does not exist", "invoke repair",
         ("stamp", "upgrade")),
    Case(stamped_index, "drift", "index ix_tasks_user_id of tasks is only in the models",
         "invoke verify --accept", ("stamp", "upgrade")),
    Case(no_models, "models not loaded", "target_metadata has no table", "import the modules",
         ends="models not loaded"),
    Case(of_others, "wrong database", "wp_posts, and none of the project's tables",
         "correct DATABASE_URL", ends="wrong database"),
    Case(elsewhere, "wrong database", "env.py connected to postgres", "DATABASE_URL",
         ends="wrong database"),
]  # fmt: skip


IGNORED = """
[[tool.backset.ignore]]
kind = "models not loaded"
name = "*"
reason = "the application imports them"
until = 2100-01-01
"""


@pytest.mark.parametrize("setting", ['upgrade = ["alembic", "upgrade", "head"]\n', IGNORED])
def test_the_ways_out_of_models_that_nobody_loads(
    tmp_path: Path, database_url: str, setting: str
) -> None:
    """Each that the cure names leads to `at head`, and what was not compared is said."""
    project = laid_down(tmp_path / "project", "states", database_url)
    no_models(project)
    cure = project.invoke("status").stdout
    for way in ("import the modules", "[tool.backset] upgrade", "[[tool.backset.ignore]]"):
        assert way in cure
    settings = project.folder / "pyproject.toml"
    text = settings.read_text() if settings.exists() else "[tool.backset]\n"
    settings.write_text(text.replace("[tool.backset]\n", f"[tool.backset]\n{setting}", 1))
    done = project.invoke("status")
    assert done.returncode == 0, done.stderr
    assert "at head" in done.stdout
    assert "models and database agree" not in done.stdout


def test_many_models_are_compared_where_that_is_asked_for(
    tmp_path: Path, database_url: str
) -> None:
    """`status` is quick with models of many tables, and says what it has left out."""
    project = laid_down(tmp_path / "project", "states", database_url)
    new_model(project)
    models = project.folder / "models.py"
    many = "for n in range(100):\n    Table(f't{n}', metadata, Column('id', Integer))\n"
    models.write_text(models.read_text() + many)
    done = project.invoke("status")
    assert done.returncode == 0, done.stderr
    assert "not compared: the models (they have 104 tables: `invoke status --drift`)" in done.stdout
    for flag in ("--drift", "--prove"):
        done = project.invoke("status", flag)
        assert (done.returncode, "table new is only in the models" in done.stderr) == (6, True)


def test_of_many_tables_the_largest_are_told(stateful: Project) -> None:
    """A person reads which ones have the most rows, and how many more there are."""
    made = "CREATE SCHEMA s; "
    made += "; ".join(f"CREATE TABLE s.t{number} (id int)" for number in range(21))
    stateful.query(f"{made}; INSERT INTO s.t17 SELECT generate_series(1, 7)")
    told = stateful.invoke("status").stdout
    (line,) = [each for each in told.splitlines() if each.startswith(" tables ")]
    assert line.startswith(" tables    s.t17 7 · s.t0 0 · ")
    assert line.endswith(" · and 11 more, none of them larger: --json")


# The ways of a cure that the doctor's short trials do not come to.
ONE_EACH = {two_heads, invalid_index}


def name_of(case: Case) -> str:
    """Return what a case is called in the report."""
    return f"{case.state}-{case.make.__name__}"


@pytest.fixture
def stateful(tmp_path: Path, database_url: str) -> Project:
    """A project for states, whose database is empty so far."""
    return laid_down(tmp_path / "project", "states", database_url)


def standing(project: Project) -> tuple[object, list[str]]:
    """Return the rows of the target, where there is one, and the scripts."""
    try:
        rows: object = prints(project)
    except psycopg.OperationalError as error:
        rows = type(error)
    return rows, sorted(path.name for path in versions(project).glob("*.py"))


def people(project: Project) -> list[tuple[Any, ...]]:
    """Return what the application has stored, as far as there is a place for it."""
    try:
        return project.query("SELECT to_jsonb(users) ->> 'name' FROM users")
    except psycopg.Error:
        return []


@pytest.mark.parametrize(
    "case", slow_but(CASES, lambda case: CASES.index(case) % 2 == 0), ids=name_of
)
def test_each_state_is_recognized(stateful: Project, case: Case) -> None:
    """`status` names it, with its evidence and its cure; exit code 6 where there is one."""
    case.make(stateful)
    told = stateful.invoke("status")
    assert told.stdout.startswith(f" state     {case.state}: "), told.stdout + told.stderr
    assert case.evidence in told.stdout
    assert case.cure in told.stdout
    assert told.returncode == (6 if case.cure else 0)
    upgrades = case.state in {"no database", "empty", "behind"}
    assert upgrades == ("invoke upgrade" in told.stderr), told.stderr  # no cure but the state's
    assert "c4nary" not in told.stdout + told.stderr


@pytest.mark.parametrize("case", slow_but(CASES, lambda case: case.make in ONE_EACH), ids=name_of)
def test_each_cure_works(stateful: Project, case: Case) -> None:
    """`repair --plan` changes nothing, `repair` mends it or says why not, and loses no row."""
    case.make(stateful)
    before = standing(stateful)
    planned = stateful.invoke("repair", "--plan")
    assert planned.returncode == 0, planned.stderr
    assert "nothing was changed" in planned.stdout
    assert standing(stateful) == before

    known = people(stateful)
    repaired = stateful.invoke("repair", "--json", *(["--yes"] if "carry" in case.ways else []))
    content: dict[str, Any] = json.loads(repaired.stdout)
    assert content["state"] == case.ends, repaired.stdout
    code = 0 if case.ends == "at head" else case.code
    assert repaired.returncode == content["exit_code"] == code
    assert people(stateful) == known
    assert tuple(each["cure"]["way"] for each in content["repairs"]) == case.ways
    assert "c4nary" not in repaired.stdout
    if case.ends == "at head":
        assert stateful.invoke("verify").returncode == 0


def test_a_plan_says_that_a_proof_comes_first(stateful: Project) -> None:
    """What a scratch build shows is not known beforehand; with no database there is none."""
    assert "· prove " not in stateful.invoke("repair", "--plan").stdout
    behind(stateful)
    planned = stateful.invoke("repair", "--plan").stdout
    assert "; where that shows another state, its cure is taken instead\n · upgrade " in planned


@pytest.mark.parametrize(
    "make",
    slow_but(
        [without_version, squashed, two_heads, deleted, unrecorded], lambda make: make is deleted
    ),
)
def test_a_small_cure_keeps_every_row(
    tmp_path: Path, database_url: str, make: Callable[[Project], None]
) -> None:
    """What is not a rebuild changes no row of the application; before a stamp there is a backup."""
    project = laid_down(tmp_path / "project", "states", database_url)
    make(project)
    before = project.query("SELECT oid FROM pg_database WHERE datname = current_database()")
    done = project.invoke("repair")
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.query("SELECT name FROM users") == [("ann",)]
    assert before == project.query("SELECT oid FROM pg_database WHERE datname = current_database()")
    stamped = make in {without_version, squashed, unrecorded}
    assert bool(list((project.folder / "backups").rglob("*.dump"))) == stamped


@pytest.mark.slow
def test_a_rebuild_can_be_undone(tmp_path: Path, database_url: str) -> None:
    """What is left when nothing smaller helps carries the rows; the old one stays for `undo`."""
    project = laid_down(tmp_path / "project", "states", database_url)
    made_by_hand(project)
    before = project.query("SELECT oid FROM pg_database WHERE datname = current_database()")
    assert project.invoke("repair", "--yes").returncode == 0
    assert project.query("SELECT name FROM users") == [("ann",)]
    assert project.invoke("undo").returncode == 0
    assert project.query("SELECT name FROM users") == [("ann",)]
    assert before == project.query("SELECT oid FROM pg_database WHERE datname = current_database()")


@pytest.mark.slow
def test_a_repair_asks_before_a_database_is_replaced(tmp_path: Path, database_url: str) -> None:
    """What nobody has called by its name is consented to: on a terminal by name, else by --yes."""
    project = laid_down(tmp_path / "project", "states", database_url)
    made_by_hand(project)
    refused = project.invoke("repair")
    assert refused.returncode == 3
    assert "is not empty, and would be replaced → if these facts are right: --yes" in refused.stderr
    content = json.loads(project.invoke("repair", "--json").stdout)
    assert content["exit_code"] == 3
    code, shown = project.on_a_terminal("repair", typed="no\n")
    assert (code, "users 1" in shown) == (3, True)
    assert project.query("SELECT name FROM users") == [("ann",)]
    code, _ = project.on_a_terminal("repair", typed=f"{Target.parse(project.url).database}\n")
    assert code == 0
    assert project.query("SELECT name FROM users") == [("ann",)]


FILL = """revision, down_revision = "d1", "c1"
def upgrade():
    from alembic import op
    op.execute("UPDATE users SET name = 'filled'")
"""


@pytest.mark.parametrize(
    "make", slow_but([without_version, squashed], lambda make: make is squashed)
)
def test_a_stamp_never_leaves_out_a_change_of_rows(
    tmp_path: Path, database_url: str, make: Callable[[Project], None]
) -> None:
    """No schema shows whether a revision of rows has run: a person decides, by a shown command."""
    project = laid_down(tmp_path / "project", "states", database_url)
    make(project)
    (versions(project) / "d1_fill.py").write_text(FILL)
    told = project.invoke("repair")
    assert told.returncode == 6
    assert "does not show whether d1_fill.py has run here" in told.stdout
    assert not list((project.folder / "backups").rglob("*.dump"))
    command = re.findall(r"`(invoke alembic[^`]*)`", told.stdout)[-1]
    assert project.invoke(*command.split()[1:]).returncode == 0
    assert project.invoke("upgrade").returncode == 0
    assert project.query("SELECT name FROM users") == [("filled",)]


def test_a_stamp_passes_over_no_change_of_rows(tmp_path: Path, database_url: str) -> None:
    """What by the version table has not run is not stamped over, though all later tables exist."""
    project = laid_down(tmp_path / "project", "states", database_url)
    unrecorded(project)
    (versions(project) / "b2_fill.py").write_text(FILL.replace('"d1", "c1"', '"b2", "b1"'))
    script = versions(project) / "c1_notes.py"
    script.write_text(script.read_text().replace('"b1"', '"b2"'))
    told = project.invoke("repair", "--yes")
    assert told.returncode == 6, told
    assert "by the version table b2_fill.py has not run here" in told.stdout
    assert project.query("SELECT version_num FROM alembic_version") == [("b1",)]


PARTED = """revision, down_revision = "d1", "c1"
def upgrade():
    from alembic import op
    op.execute("CREATE TABLE events (at date PRIMARY KEY) PARTITION BY RANGE (at)")
"""


def test_partitions_that_an_application_makes_are_no_drift(
    tmp_path: Path, database_url: str
) -> None:
    """They are there for rows: the database is what the chain makes, and none is to be dropped."""
    project = laid_down(tmp_path / "project", "states", database_url)
    (versions(project) / "d1_events.py").write_text(PARTED)
    models = project.folder / "models.py"
    added = (
        'Table("events", metadata, Column("at", __import__("sqlalchemy").Date, primary_key=True))'
    )
    models.write_text(f"{models.read_text()}{added}\n")
    assert project.invoke("upgrade").returncode == 0
    project.query("CREATE TABLE events_rest PARTITION OF events DEFAULT")
    project.query("INSERT INTO events VALUES ('2024-02-29')")
    told = project.invoke("status", "--prove")
    assert "and its schema is what the chain makes: proved" in told.stdout, told
    assert told.returncode == 0


@pytest.mark.slow
def test_a_stamp_says_whose_rows_were_not_compared(tmp_path: Path, database_url: str) -> None:
    """Rows that an earlier revision inserts are no part of the proof, and that is said."""
    project = laid_down(tmp_path / "project", "states", database_url)
    without_version(project)
    script = versions(project) / "c1_notes.py"
    insert = "def upgrade():\n    op.execute(\"INSERT INTO users (name) VALUES ('bob')\")"
    script.write_text(script.read_text().replace("def upgrade():", insert))
    told = project.invoke("repair")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "rows are not compared: see whether those of c1_notes.py are there" in told.stdout


@pytest.mark.slow
def test_a_stamp_goes_past_a_revision_that_does_nothing(tmp_path: Path, database_url: str) -> None:
    """A revision such as a merge leaves no trace, and needs none."""
    project = laid_down(tmp_path / "project", "states", database_url)
    without_version(project)
    (versions(project) / "d1_idle.py").write_text(MORE.format("d1", "c1"))
    assert project.invoke("repair").returncode == 0
    assert project.query("SELECT version_num FROM alembic_version") == [("d1",)]


@pytest.mark.slow
def test_a_proof_waits_for_the_lock(tmp_path: Path, database_url: str) -> None:
    """`--wait` holds for all that a repair does, and says for whom."""
    project = laid_down(tmp_path / "project", "states", database_url)
    squashed(project)
    with Server(Target.parse(project.url), "other") as other:
        other.lock()
        assert project.invoke("repair").returncode == 75
        waiting = project.start("repair", "--wait")
        assert waiting.stdout is not None
        assert "prove     waits for the lock" in waiting.stdout.readline()
    told, errors = waiting.communicate(timeout=120)
    assert waiting.returncode == 0, told + errors


@pytest.mark.slow
def test_a_proof_is_stopped_in_time(tmp_path: Path, database_url: str) -> None:
    """`--timeout` holds for the proof too; its scratch database goes."""
    project = laid_down(tmp_path / "project", "states", database_url)
    squashed(project)
    script = versions(project) / "b1_tasks.py"
    sleeps = "def upgrade():\n    op.execute('SELECT pg_sleep(600)')"
    script.write_text(script.read_text().replace("def upgrade():", sleeps))
    done = project.invoke("repair", "--timeout", "8")
    assert (done.returncode, "prove     stopped after 8 s" in done.stderr) == (4, True), done
    name = Target.parse(project.url).database
    found = project.query("SELECT datname FROM pg_database")
    assert [each for (each,) in found if each.startswith(name)] == [name]


SLEEPS_IN = """
    if connection.exec_driver_sql("SELECT current_database()").scalar() == "{}":
        connection.exec_driver_sql("SELECT pg_sleep(600)")
"""


@pytest.mark.slow
def test_an_interruption_ends_the_look_and_the_build_beside_it(
    tmp_path: Path, database_url: str
) -> None:
    """The chain is built while the target is looked at; one signal ends both, and nothing stays."""
    project = laid_down(tmp_path / "project", "states", database_url)
    built(project)
    script = versions(project) / "b1_tasks.py"
    sleeps = "def upgrade():\n    op.execute('SELECT pg_sleep(600)')"
    script.write_text(script.read_text().replace("def upgrade():", sleeps))
    name = Target.parse(project.url).database
    env = project.folder / "migrations/env.py"
    env.write_text(env.read_text().rstrip("\n") + SLEEPS_IN.format(name))
    with project.start("status", "--prove") as running:
        for database in (name, f"{name}__scratch"):
            wait_for_sleep(project, database)
        running.send_signal(signal.SIGINT)
        told, errors = running.communicate(timeout=120)
    assert running.returncode == 130, told + errors
    found = project.query("SELECT datname FROM pg_database")
    assert [each for (each,) in found if each.startswith(name)] == [name]


def wait_for_sleep(project: Project, database: str) -> None:
    """Wait until a session in a database sleeps."""
    sleeping = f"datname = '{database}' AND wait_event = 'PgSleep'"
    until = time.monotonic() + 120
    while not project.query(f"SELECT 1 FROM pg_stat_activity WHERE {sleeping}", "postgres"):
        assert time.monotonic() < until, database
        time.sleep(0.05)


def test_a_proof_that_cannot_be_made_is_no_proof(stateful: Project) -> None:
    """Whoever asks for one is told by the exit code, too, although nothing else is wrong."""
    built(stateful)
    script = versions(stateful) / "b1_tasks.py"
    fails = "def upgrade():\n    raise RuntimeError('only once')"
    script.write_text(script.read_text().replace("def upgrade():", fails))
    assert stateful.invoke("status").returncode == 0
    done = stateful.invoke("status", "--prove")
    assert done.returncode == 6
    assert "nothing is proved: the chain cannot be built: revision b1 (b1_tasks.py" in done.stderr


@pytest.mark.slow
def test_what_cannot_be_proved_is_not_replaced(tmp_path: Path, database_url: str) -> None:
    """A chain that cannot be built says nothing of the database: a person mends that first."""
    project = laid_down(tmp_path / "project", "states", database_url)
    squashed(project)
    script = versions(project) / "b1_tasks.py"
    whole = script.read_text()
    script.write_text(whole.replace("def upgrade():", "def upgrade():\n    op.execute('fails')"))
    told = project.invoke("repair", "--yes")
    assert told.returncode == 6
    assert "nothing is proved: the chain cannot be built: revision b1" in told.stdout
    assert "`invoke reset-db --carry` rebuilds it without a proof" in told.stdout
    assert "views, policies, …)\n" in told.stdout, "it does not say to do what was just done"
    assert project.query("SELECT name FROM users") == [("ann",)]
    script.write_text(whole)
    assert project.invoke("repair").returncode == 0
    assert project.query("SELECT name FROM users") == [("ann",)]


@pytest.mark.slow
def test_large_objects_are_not_lost_for_want_of_rows(tmp_path: Path, database_url: str) -> None:
    """A database is not empty that has them in place of rows: no cure leaves them behind."""
    project = laid_down(tmp_path / "project", "states", database_url)
    drifted(project)
    for statement in ("TRUNCATE users, tasks, notes", "SELECT lo_from_bytea(0, 'a photo')"):
        project.query(statement)
    done = project.invoke("repair", "--yes")
    assert done.returncode == 4, done
    assert "reset-db --carry" in done.stdout
    assert "left behind: the large objects (1 object)" in done.stderr
    assert project.query("SELECT count(*) FROM pg_largeobject_metadata") == [(1,)]


def test_verify_does_not_send_an_unversioned_database_to_upgrade_alone(
    tmp_path: Path, database_url: str
) -> None:
    """There the first migration would meet its own tables."""
    project = laid_down(tmp_path / "project", "states", database_url)
    without_version(project)
    done = project.invoke("verify")
    assert done.returncode == 6
    assert "is at base, head is c1" in done.stderr
    assert "`invoke repair`, if its tables are there already" in done.stderr


def test_status_can_prove_which_cure_it_is(tmp_path: Path, database_url: str) -> None:
    """`--prove` builds the chain beside it, and changes nothing; without it nothing is built."""
    project = laid_down(tmp_path / "project", "states", database_url)
    squashed(project)
    told = project.invoke("status", "--prove")
    assert told.returncode == 6
    assert "identical at c1" in told.stdout
    assert "cure      invoke alembic -- stamp --purge c1" in told.stdout
    assert project.query("SELECT version_num FROM alembic_version") == [("dead",)]
    assert project.query("SELECT count(*) FROM pg_database WHERE datname ~ '__scratch'") == [(0,)]


MIGRATES_WHEN_LOADED = """
    with context.begin_transaction():
        if connection.exec_driver_sql("SELECT to_regclass('users')").scalar():
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'c1'")
"""


def test_of_an_application_that_migrates_by_itself_the_end_is_proved(
    tmp_path: Path, database_url: str
) -> None:
    """Where loading env.py goes to head, no other place of the chain is taken for that."""
    project = laid_down(tmp_path / "project", "states", database_url)
    squashed(project)
    env = project.folder / "migrations/env.py"
    env.write_text(env.read_text().rstrip("\n") + MIGRATES_WHEN_LOADED)
    told = project.invoke("status", "--prove")
    assert told.returncode == 6
    assert "the chain was built beside it: identical at c1\n" in told.stdout


def test_a_table_that_the_role_may_not_read(
    tmp_path: Path, database_url: str, cluster: Cluster
) -> None:
    """It is shown without its count, and keeps nothing else from being told."""
    project = laid_down(tmp_path / "project", "states", database_url)
    built(project)
    project.query(f"GRANT SELECT ON alembic_version, users TO {ROLE}")
    name = Target.parse(project.url).database
    told = project.invoke("status", DATABASE_URL=cluster.url(name, ROLE))
    assert told.returncode == 0, told.stderr
    assert "users 1" in told.stdout
    assert "tasks ?" in told.stdout
