"""Differences that a project lives with: accepted in a file, silenced by name, said when new."""

from __future__ import annotations

import json
import secrets
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from backset.connections.target import Target
from tests.incident.project import lay_down
from tests.project import REPOSITORY, Project
from tests.states import broken, rebuilt

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

REVISION = """
from alembic import op
revision, down_revision = "aaaaaaaaaaaa", "0b228e9fec0b"
def upgrade():
    for statement in {statements!r}:
        op.execute(statement)
"""
DRIFTING = ("CREATE TABLE runs (id int)", "ALTER TABLE users ALTER company SET NOT NULL")
NULLABLE = "users.company: nullable False in the database, True in the models"
LEFTOVER = "table runs is only in the database"


def migrate(project: Project, *statements: str) -> None:
    """Add a migration after the clean one."""
    path = project.folder / "alembic/versions/aaaaaaaaaaaa_more.py"
    path.write_text(REVISION.format(statements=statements))


def accepted(project: Project) -> list[dict[str, str]]:
    """Return the lines of the baseline."""
    text = (project.folder / "backset-baseline.toml").read_text()
    entries: list[dict[str, str]] = tomllib.loads(text)["differences"]
    return entries


def said(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the JSON object of a run."""
    content: dict[str, Any] = json.loads(done.stdout)
    return content


@pytest.mark.slow
def test_a_project_with_drift_can_be_rebuilt_once_that_is_accepted(project: Project) -> None:
    """reset-db stops with a line each, says how to go on, and goes on with --accept."""
    migrate(project, *DRIFTING)
    project.configure('"scripts/add_mock_task_data.py"', '"-c", "pass"')
    project.configure("[tool.backset.rows]", "[tool.other]")
    done = project.invoke("reset-db")
    assert done.returncode == 4
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all("or accept it: invoke reset-db --accept" in line for line in lines)
    assert (
        "leftover table: table runs is only in the database (no model that env.py imports has it, "
        "though a migration names it; it has 0 rows) → import its model in env.py"
    ) in done.stderr
    assert project.query("SELECT count(*) FROM pg_class WHERE relname = 'users'") == [(0,)]

    done = project.invoke("reset-db", "--accept")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 accepted differences, no other" in done.stdout
    assert accepted(project) == [
        {"kind": "drift", "what": NULLABLE, "reason": ""},
        {"kind": "leftover table", "what": LEFTOVER, "reason": ""},
    ]
    assert project.invoke("reset-db").returncode == 0
    content = said(project.invoke("verify", "--json"))
    assert (content["exit_code"], content["findings"]) == (0, [])
    assert content["steps"][0]["accepted"] == 2
    assert project.invoke("status").returncode == 0


def test_afterwards_only_new_and_vanished_differences_are_said(project: Project) -> None:
    """And --accept brings the file up to date, with the reasons that were written into it."""
    migrate(project, *DRIFTING)
    assert project.invoke("upgrade").returncode == 0
    assert project.invoke("verify").returncode == 6
    plan = project.invoke("verify", "--accept", "--plan")
    assert "accept the differences in backset-baseline.toml" in plan.stdout
    assert not (project.folder / "backset-baseline.toml").exists()
    done = project.invoke("verify", "--accept")
    assert done.returncode == 0, done.stderr
    assert "backset-baseline.toml has 2 differences: +2 −0" in done.stdout

    path = project.folder / "backset-baseline.toml"
    path.write_text(path.read_text().replace('reason = ""', 'reason = "since 2019"', 1))
    project.query("DROP TABLE runs")
    project.query("ALTER TABLE users ALTER name SET NOT NULL")
    done = project.invoke("verify")
    assert done.returncode == 6
    new, gone = done.stderr.splitlines()
    assert "drift: users.name: nullable" in new
    assert f"vanished difference: {LEFTOVER}: this leftover table is gone" in gone
    assert "→ invoke verify --accept" in gone

    assert project.invoke("verify", "--accept").returncode == 0
    assert [(each["what"][:12], each["reason"]) for each in accepted(project)] == [
        ("users.compan", "since 2019"),
        ("users.name: ", ""),
    ]


@pytest.mark.slow
def test_what_only_the_live_database_had_does_not_stop_a_rebuild(project: Project) -> None:
    """A fresh build lacks it; that is said, and the run goes on."""
    rebuilt(project)
    project.query("CREATE TABLE runs (id int)")
    assert project.invoke("verify", "--accept").returncode == 0
    done = project.invoke("reset-db")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"vanished difference: {LEFTOVER}: this leftover table is gone" in done.stdout


@pytest.mark.slow
def test_an_orphaned_database_has_nothing_to_accept(project: Project) -> None:
    """It cannot be compared; the way out is named, and no file is made or lost."""
    broken(project)
    (project.folder / "backset-baseline.toml").write_text(
        'differences = [{ kind = "drift", what = "x", reason = "y" }]\n'
    )
    done = project.invoke("verify", "--accept")
    assert done.returncode == 6
    assert "`invoke reset-db --accept` accepts those of a rebuilt one" in done.stderr
    assert "orphaned revision" in done.stderr
    assert "vanished" not in done.stderr
    assert accepted(project) == [{"kind": "drift", "what": "x", "reason": "y"}]


@pytest.mark.parametrize(
    ("where", "code", "word"),
    [
        ("nowhere/b.toml", 4, "nowhere/b.toml: No such file or directory → "),
        ("app", 2, "app: Is a directory → "),
    ],
)
def test_a_baseline_that_cannot_be_written_is_one_line(
    project: Project, where: str, code: int, word: str
) -> None:
    """With its exit code, and without a traceback."""
    project.configure("[tool.backset]", f'[tool.backset]\nbaseline = "{where}"')
    migrate(project, *DRIFTING)
    assert project.invoke("upgrade").returncode == 0
    done = project.invoke("verify", "--accept")
    assert done.returncode == code
    assert word in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_broken_baseline_stops_a_rebuild_before_anything_is_done(project: Project) -> None:
    """Not after the backup and the migrations."""
    (project.folder / "backset-baseline.toml").write_text("differences = [")
    done = project.invoke("reset-db")
    assert done.returncode == 2
    assert "backset-baseline.toml: " in done.stderr
    assert "✔" not in done.stdout


@pytest.mark.slow
def test_of_many_differences_people_read_the_first_ones(project: Project) -> None:
    """And how many more there are; programs read all."""
    rebuilt(project)
    for number in range(30):
        project.query(f"CREATE TABLE t{number:02} (id int)")
    done = project.invoke("verify")
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (6, 21)
    assert "table t19 is" in lines[19]
    assert "and 10 more → all of them: --json" in lines[20]
    content = said(project.invoke("verify", "--json"))
    assert len(content["findings"]) == len(content["error"]["lines"]) == 30
    assert content["findings"][0]["name"] == "t00"


@pytest.mark.slow
def test_the_words_of_a_difference_are_the_same_in_every_run(project: Project) -> None:
    """Defaults, types and constraints without a name too, else a baseline would not know them."""
    rebuilt(project)
    for statement in (
        "ALTER TABLE users ALTER max_runs_per_day SET DEFAULT 7",
        "ALTER TABLE users ALTER company TYPE varchar(9)",
        "ALTER TABLE users ALTER created_at SET DEFAULT clock_timestamp()",
        "ALTER TABLE users ADD UNIQUE (name, company)",
        "ALTER TABLE tasks DROP CONSTRAINT fk_tasks_user_id_users",
        "COMMENT ON TABLE tasks IS 'x'",
    ):
        project.query(statement)
    runs = [project.invoke("verify", "--json", PYTHONHASHSEED=seed) for seed in ("1", "2")]
    first, second = ([each["what"] for each in said(done)["findings"]] for done in runs)
    assert first == second
    assert len(first) == len(set(first)) == 6
    assert not any(" at 0x" in each for each in first)
    assert "users.max_runs_per_day: default '7' in the database, '100' in the models" in first


def test_noise_is_silenced_and_an_entry_without_use_is_told(project: Project) -> None:
    """The settings name it; that does not fail, an expired entry does."""
    rebuilt(project)
    project.query("CREATE TABLE runs (id int)")
    entry = '[[tool.backset.ignore]]\nkind = "{}"\nname = "{}"\nreason = "x"\nuntil = {}\n'
    (path := project.folder / "pyproject.toml").write_text(
        path.read_text()
        + entry.format("leftover table", "ru*", "2999-01-01")
        + entry.format("*", "nothing", "2999-01-01")
    )
    done = project.invoke("verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 finding silenced" in done.stdout
    assert "! verify    unused ignore: [[tool.backset.ignore]] * 'nothing' (x)" in done.stdout
    project.configure("2999-01-01", "2001-01-01")
    done = project.invoke("verify")
    assert done.returncode == 6
    assert "leftover table: table runs" in done.stderr
    assert done.stderr.count("expired ignore: ") == 2


def test_an_enum_that_alembic_calls_equal_is_found(project: Project) -> None:
    """With the values of the models, the schema of its table, and an array's items."""
    models = project.folder / "app/models.py"
    models.write_text(
        models.read_text()
        + "\n\nfrom sqlalchemy import ARRAY, Column, Integer, Table\n"
        + "from sqlalchemy.types import TypeDecorator\n\n"
        + "class Wrapped(TypeDecorator):\n"
        + "    impl = Enum('x', name='wrapped')\n    cache_ok = True\n\n"
        + "Table('moods', Base.metadata, Column('id', Integer, primary_key=True),\n"
        + "      Column('mood', Enum('sad', 'happy', name='mood')),\n"
        + "      Column('all', ARRAY(Enum('a', 'b', name='listed', schema='other'))),\n"
        + "      Column('w', Wrapped()))\n"
    )
    migrate(
        project,
        "CREATE SCHEMA other",
        "CREATE TYPE mood AS ENUM ('sad')",
        "CREATE TYPE other.listed AS ENUM ('b', 'a')",
        "CREATE TYPE wrapped AS ENUM ('x', 'y')",
        "CREATE TABLE moods (id serial CONSTRAINT pk_moods PRIMARY KEY, mood mood, "
        '"all" other.listed[], w wrapped)',
    )
    content = said(project.invoke("reset-db", "--json"))
    assert content["exit_code"] == 4
    assert [(each["kind"], each["what"]) for each in content["findings"]] == [
        ("missing enum value", "the enum mood lacks 'happy'"),
        ("enum order", "the enum other.listed has the order b, a"),
        ("extra enum value", "the enum wrapped has 'y'"),
    ]


@pytest.mark.slow
def test_roles_that_migrations_make_are_named(project: Project) -> None:
    """No reset removes them: the first run says so, and one that fails on it says what to do."""
    role = f"t_{secrets.token_hex(4)}"
    migrate(project, f"CREATE ROLE {role}")
    try:
        content = said(project.invoke("reset-db", "--json"))
        assert content["exit_code"] == 0
        (finding,) = content["findings"]
        assert finding["kind"] == "cluster-wide object"
        assert finding["what"] == f"while the migrations ran, the role {role} was made"
        upgrade = next(each for each in content["steps"] if each["step"] == "upgrade")
        assert upgrade["cluster_wide"] == [role]
        done = project.invoke("reset-db")
        assert done.returncode == 4
        assert f'role "{role}" already exists → it belongs to the server' in done.stderr
    finally:
        project.query(f"DROP ROLE IF EXISTS {role}")


def test_a_seed_command_that_adds_up_is_found_out(project: Project) -> None:
    """In `__next`, so that the target is as it was; on the live one, what was written stays."""
    assert project.invoke("reset-db", "--seed-twice").returncode == 0
    script = project.folder / "scripts/adds.py"
    script.write_text(
        "import os, psycopg\n"
        "with psycopg.connect(os.environ['DATABASE_URL']) as c:\n"
        '    c.execute("INSERT INTO users (id, email) SELECT g, g FROM "\n'
        '              "(SELECT gen_random_uuid()::text g) AS x")\n'
    )
    project.configure('"scripts/add_mock_task_data.py"', '"scripts/adds.py"')
    project.configure("tasks = 5\n", "")
    project.configure("task_outputs = 30", "")
    done = project.invoke("reset-db", "--seed-twice")
    name = Target.parse(project.url).database
    assert done.returncode == 4
    assert (
        "seed not repeatable: a second run of the seed command changes the rows: users 1 → 2"
        in done.stderr
    )
    assert f"{name} is as it was" in done.stderr
    assert project.query("SELECT count(*) FROM tasks") == [(5,)]
    assert project.invoke("seed").returncode == 0
    done = project.invoke("seed", "--seed-twice")
    assert done.returncode == 4
    assert "users 3 → 4" in done.stderr
    assert f"{name} keeps what the seed command had committed" in done.stderr
    assert "would run python scripts/adds.py twice" in (
        project.invoke("seed", "--seed-twice", "--plan").stdout
    )


@pytest.fixture
def embedded(short_tmp: Path) -> Iterator[Project]:
    """A project on its embedded server."""
    folder = short_tmp / "clone"
    folder.mkdir()
    lay_down(folder, REPOSITORY)
    project = Project(folder, {"PATH": "/nowhere"})
    yield project
    project.invoke("stop")


@pytest.mark.slow
def test_an_error_that_somebody_swallowed_is_in_the_servers_log(embedded: Project) -> None:
    """Of a migration and of the seed command; it stops no rebuild, and can be silenced."""
    path = embedded.folder / "alembic/versions/aaaaaaaaaaaa_more.py"
    path.write_text(
        "from alembic import op\nfrom contextlib import suppress\n"
        'revision, down_revision = "aaaaaaaaaaaa", "0b228e9fec0b"\n'
        "def upgrade():\n"
        "    with suppress(Exception), op.get_bind().begin_nested():\n"
        '        op.execute("DROP INDEX ix_runs_created_at")\n'
    )
    script = embedded.folder / "scripts/add_mock_task_data.py"
    future = "from __future__ import annotations\n"
    swallows = (
        "import contextlib, os, psycopg\n"
        "with contextlib.suppress(psycopg.Error):\n"
        "    psycopg.connect(os.environ['DATABASE_URL']).execute('TABLE no_such')\n"
    )
    secret = swallows.replace("TABLE no_such", "DO $$BEGIN RAISE $a$at p://u:hunter22@h$a$; END$$")
    script.write_text(script.read_text().replace(future, future + swallows + secret))
    done = embedded.run("reset-db")
    assert (done.returncode, done.stderr) == (0, "")
    of_this_run = "server error: the server's log has of this run: ERROR: "
    assert f'! verify    {of_this_run}index "ix_runs_created_at" does not exist' in done.stdout
    assert f'! seed      {of_this_run}relation "no_such" does not exist' in done.stdout
    assert done.stdout.count(of_this_run) == 3
    assert f"! seed      {of_this_run}at p://u:" in done.stdout
    assert "hunter22" not in done.stdout
    assert "no error of this run in the server's log" in embedded.run("verify").stdout
    done = embedded.run("reset", "upgrade", "verify")
    assert done.returncode == 6
    assert f'{of_this_run}index "ix_runs_created_at"' in done.stderr
    pyproject = embedded.folder / "pyproject.toml"
    pyproject.write_text(
        pyproject.read_text() + '\n[[tool.backset.ignore]]\nkind = "server error"\n'
        'name = "*"\nreason = "old"\nuntil = 2999-01-01\n'
    )
    content = said(embedded.run("reset-db", "--json"))
    assert (content["exit_code"], content["findings"]) == (0, [])
    logs = [each["server_log"]["errors"] for each in content["steps"] if "server_log" in each]
    assert [len(each) for each in logs] == [1, 2]


@pytest.mark.slow
def test_a_log_that_cannot_be_read_is_said(project: Project) -> None:
    """By verify, in its line and in JSON; a rebuild does not ask, unless the settings do."""
    done = project.invoke("reset-db", "--json")
    (log, _) = (each["server_log"] for each in said(done)["steps"] if "server_log" in each)
    assert log["readable"] is False
    assert "nobody asked" in log["why"]
    why = "the server leaves it to who started it (logging_collector is off)"
    assert f" · server's log not readable: {why}" in project.invoke("verify").stdout
    assert said(project.invoke("verify", "--json"))["steps"][0]["server_log"]["why"] == why
    content = said(project.invoke("reset-db", "--json", BACKSET_SERVER_LOG="true"))
    assert [each["server_log"]["why"] for each in content["steps"] if "server_log" in each] == [
        why,
        why,
    ]
    project.query("CREATE TABLE runs (id int)")
    done = project.invoke("verify")
    assert done.returncode == 6
    assert f" · server's log not readable: {why}" in done.stderr.splitlines()[-1]
