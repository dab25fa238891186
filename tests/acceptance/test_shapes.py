"""Every shape of chain: each project of tests/projects is rebuilt twice, looked at, and undone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from backset.connections.target import Target
from tests.marks import slow_but
from tests.project import PROJECTS, Project, laid_down

if TYPE_CHECKING:
    from pathlib import Path

AGREE, NO_MODELS = "models and database agree", "env.py has no models to compare"


def demand_whole(project: Project, upgrade: str, verify: str, revisions: str) -> None:
    """Rebuild twice, look, and undo; hold what each of them says, and its exit code."""
    again = upgrade.partition(" · made the schema")[0]  # which the first run has left behind
    for said in (upgrade, again):
        done = project.invoke("reset-db", "--cold")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        assert f"✔ upgrade   {said}\n" in done.stdout
        assert f"✔ verify    {verify}\n" in done.stdout
    state = project.invoke("status")
    assert state.returncode == 0, state.stdout + state.stderr
    assert f" revision  {revisions}\n" in state.stdout
    assert f" {verify}\n" in state.stdout
    undone = project.invoke("undo")
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert project.query("SELECT count(*) FROM pg_tables WHERE schemaname !~ '^(pg_|info)'") != [
        (0,)
    ]


@pytest.mark.parametrize(
    ("shape", "upgrade", "verify", "revisions"),
    slow_but(
        [
            ("branches", "base → d1, 5 revisions", f"4 tables, {NO_MODELS}", "d1"),
            ("locations", "base → b1, 2 revisions", f"2 tables, {NO_MODELS}", "b1"),
            (
                "version_schema",
                "base → b1, 2 revisions · made the schema ops of the version table",
                f"2 tables, {NO_MODELS}",
                "b1",
            ),
            (
                "schemas",
                "base → b1, 2 revisions · made the schema accounts of the version table",
                f"3 tables, {AGREE}",
                "b1",
            ),
            ("per_migration", "base → d1, 4 revisions", f"2 tables, {NO_MODELS}", "d1"),
            ("objects", "base → d1, 4 revisions", f"3 tables, {NO_MODELS}", "d1"),
            ("talkative", "base → a1, 1 revision", f"2 tables, {NO_MODELS}", "a1"),
            ("thread", "base → a1, 1 revision", f"2 tables, {NO_MODELS}", "a1"),
            ("conventions", "base → a1, 1 revision", f"4 tables, {AGREE}", "a1"),
            ("tenants", "base → b1, 4 revisions", f"4 tables, {NO_MODELS}", "b1"),
        ],
        lambda case: case[0] in {"schemas", "objects"},
    ),
)
def test_a_shape_is_rebuilt_twice_and_undone(
    tmp_path: Path, database_url: str, shape: str, upgrade: str, verify: str, revisions: str
) -> None:
    """From nothing and over itself; `status` has nothing to say of it, `undo` goes back."""
    project = laid_down(tmp_path / shape, shape, database_url)
    demand_whole(project, upgrade, verify, revisions)


@pytest.mark.parametrize("driver", slow_but(["asyncpg", "psycopg"], lambda it: it == "asyncpg"))
def test_an_async_env_with_each_driver(tmp_path: Path, tcp_url: str, driver: str) -> None:
    """env.py of Alembic's template `async` proves its target within its own event loop."""
    url = tcp_url.replace("postgresql:", f"postgresql+{driver}:")
    project = laid_down(tmp_path / "async", "async", url)
    demand_whole(project, "base → b1, 2 revisions", f"2 tables, {NO_MODELS}", "b1")
    assert project.query("SELECT DISTINCT name FROM users") == [("one of 2",)]


@pytest.mark.parametrize("driver", slow_but(["psycopg2", "pg8000"], lambda it: it == "psycopg2"))
def test_a_sync_env_with_each_driver(tmp_path: Path, tcp_url: str, driver: str) -> None:
    """Each driver says in its own way that the schema of the version table is missing."""
    url = tcp_url.replace("postgresql:", f"postgresql+{driver}:")
    project = laid_down(tmp_path / "p", "version_schema", url)
    made = "base → b1, 2 revisions · made the schema ops of the version table"
    demand_whole(project, made, f"2 tables, {NO_MODELS}", "b1")


@pytest.mark.parametrize(
    "template",
    slow_but(
        ["generic", "pyproject", "async", "pyproject_async"], lambda it: it == "pyproject_async"
    ),
)
@pytest.mark.slow
def test_what_alembic_init_writes(tmp_path: Path, database_url: str, template: str) -> None:
    """The templates of the installed Alembic work; of theirs, only the URL is set."""
    folder = tmp_path / template
    folder.mkdir()
    words = ["-m", "alembic", "init", "-t", template, "migrations"]
    subprocess.run([sys.executable, *words], cwd=folder, check=True, capture_output=True)
    env = folder / "migrations/env.py"
    url = 'config.set_main_option("sqlalchemy.url", os.environ["DATABASE_URL"].replace("%", "%%"))'
    text = env.read_text().replace("target_metadata = None\n", f"target_metadata = None\n{url}\n")
    assert url in text
    env.write_text(f"import os\n{text}")
    for script in (PROJECTS / "locations").glob("year_*/*.py"):
        shutil.copy(script, folder / "migrations/versions")
    (folder / "tasks.py").write_text("from backset.tasks import namespace\n")
    psycopg_url = database_url.replace("postgresql:", "postgresql+psycopg:")
    project = Project(folder, {"DATABASE_URL": psycopg_url})
    demand_whole(project, "base → b1, 2 revisions", f"2 tables, {NO_MODELS}", "b1")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ("asks", "revision a1 (a1_asks.py:11): it asked for input, and stdin is closed (EOFError"),
        ("offline_only", "env.py gives Alembic no connection: it has no online mode"),
        ("multidb", "env.py works on several databases (accounts, billing), and a run rebuilds"),
    ],
)
def test_a_shape_that_cannot_be_built(
    tmp_path: Path, database_url: str, shape: str, words: str
) -> None:
    """Exit 4 in one line that says why and what to do; nothing was changed."""
    project = laid_down(tmp_path / shape, shape, database_url)
    done = project.invoke("reset-db")
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert words in line
    assert " → " in line
    assert line.endswith("is as it was")
    assert project.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_several_heads_stop_before_anything(tmp_path: Path, database_url: str) -> None:
    """`status` names them, and no task that migrates begins; both ways out are said."""
    project = laid_down(tmp_path / "p", "two_heads", database_url)
    state = project.invoke("status")
    assert state.returncode == 6
    assert "several heads: the scripts have the heads a2, p1" in state.stderr
    for words in (["reset-db"], ["reset-db", "--plan"], ["upgrade"]):
        done = project.invoke(*words)
        assert done.returncode == 4, words
        assert "several heads: the scripts have the heads a2, p1" in done.stderr
        assert "merge -m merge a2 p1" in done.stderr
        assert "[tool.backset]" in done.stderr
        assert "✔" not in done.stdout
    merged = project.invoke("alembic", "--", "merge", "heads", "-m", "join", "--rev-id", "m1")
    assert merged.returncode == 0, merged.stderr
    assert "✔ upgrade   base → m1, 4 revisions\n" in project.invoke("reset-db").stdout


@pytest.mark.slow
def test_heads_are_merged_of_which_one_needs_another(tmp_path: Path, database_url: str) -> None:
    """The file joins all of them, also one that Alembic does not count among its `heads`."""
    project = laid_down(tmp_path / "p", "two_heads", database_url)
    plugin = project.folder / "plugin/p1_plugin.py"
    plugin.write_text(plugin.read_text().replace('"a1"', '"a2"'))
    done = project.invoke("repair")
    assert done.returncode == 0, done
    assert "_merge_heads.py joins a2, p1; commit it\n" in done.stdout


@pytest.mark.parametrize("accepted", slow_but(['"all"', '["a2", "p1"]'], lambda it: "all" in it))
@pytest.mark.parametrize("needs", slow_but(["a1", "a2"], lambda it: it == "a2"))
def test_several_heads_that_are_accepted(
    tmp_path: Path, database_url: str, accepted: str, needs: str
) -> None:
    """They are a normal end; a head that another one depends on has no row of its own."""
    project = laid_down(tmp_path / "p", "two_heads", database_url)
    plugin = project.folder / "plugin/p1_plugin.py"
    plugin.write_text(plugin.read_text().replace('"a1"', f'"{needs}"'))
    (project.folder / "pyproject.toml").write_text(f"[tool.backset]\nheads = {accepted}\n")
    done = project.invoke("reset-db")
    assert "✔ upgrade   base → a2, p1, 3 revisions\n" in done.stdout, done
    state = project.invoke("status")
    assert state.returncode == 0, state
    said = "a2 has run and no row, since another head depends on it"
    assert (said in state.stdout) == (needs == "a2")
    assert project.invoke("verify").returncode == 0
    rows = {row for (row,) in project.query("SELECT version_num FROM alembic_version")}
    assert rows == ({"p1", "a2"} if needs == "a1" else {"p1"})
    assert "✔ upgrade   already at a2, p1\n" in project.invoke("upgrade").stdout


@pytest.mark.slow
def test_one_of_several_databases(tmp_path: Path, database_url: str) -> None:
    """An env.py for several works on the one that the settings name, and on no other."""
    project = laid_down(tmp_path / "p", "multidb", database_url)
    named = '[tool.backset.ini]\ndatabases = "billing"\n'
    (project.folder / "pyproject.toml").write_text(named)
    demand_whole(project, "base → a1, 1 revision", f"2 tables, {NO_MODELS}", "a1")
    assert project.query("SELECT to_regclass('bills')::text, to_regclass('users')") == [
        ("bills", None)
    ]


SECTIONS = """
import re
from alembic import context
from sqlalchemy import engine_from_config
config = context.config
for name in re.split(r",\\s*", config.get_main_option("databases")):
    engine = engine_from_config(config.get_section(name), prefix="sqlalchemy.")
    with engine.connect() as connection:
        context.configure(connection=connection, upgrade_token=f"{name}_upgrades")
        with context.begin_transaction():
            context.run_migrations(engine_name=name)
"""


@pytest.mark.slow
def test_one_of_several_databases_that_the_ini_names(tmp_path: Path, database_url: str) -> None:
    """As Alembic's template has it: the line that the error names is all that is needed."""
    project = laid_down(tmp_path / "p", "multidb", database_url)
    (project.folder / "migrations/env.py").write_text(SECTIONS)
    ini = project.folder / "alembic.ini"
    url = database_url.replace("postgresql:", "postgresql+psycopg:").replace("%", "%%")
    ini.write_text(ini.read_text().replace("postgresql://set-by-env.py/billing", url))
    del project.env["DATABASE_URL"]
    refused = project.invoke("status")
    assert refused.returncode == 4
    assert 'name that one: databases = "…" in [tool.backset.ini]' in refused.stderr
    (project.folder / "pyproject.toml").write_text('[tool.backset.ini]\ndatabases = "billing"\n')
    done = project.invoke("reset-db")
    assert done.returncode == 0, done.stderr
    project.env["DATABASE_URL"] = database_url
    made = "SELECT to_regclass('bills')::text, to_regclass('users')"
    assert project.query(made) == [("bills", None)]
    del project.env["DATABASE_URL"]
    assert project.invoke("check").returncode == 0


@pytest.mark.slow
def test_several_rows_in_the_version_table(tmp_path: Path, database_url: str) -> None:
    """A database at the tips of two branches is behind their merge; `upgrade` joins the rows."""
    project = laid_down(tmp_path / "p", "branches", database_url)
    for tip in ("b2", "c1"):
        assert project.invoke("alembic", "--", "upgrade", tip).returncode == 0
    state = project.invoke("status")
    assert (state.returncode, "behind" in state.stderr) == (6, True)
    assert re.search(r"the database is at (b2, c1|c1, b2), head is d1", state.stderr)
    done = project.invoke("upgrade")
    assert re.search(r"✔ upgrade   (b2, c1|c1, b2) → d1, 1 revision\n", done.stdout), done
    assert project.invoke("status").returncode == 0


@pytest.mark.slow
def test_one_of_several_schemas_that_is_behind(tmp_path: Path, database_url: str) -> None:
    """Where env.py keeps a version table in each schema, all of them count."""
    project = laid_down(tmp_path / "p", "tenants", database_url)
    assert project.invoke("upgrade").returncode == 0
    project.query("UPDATE blue.alembic_version SET version_num = 'a1'")
    project.query("ALTER TABLE blue.t DROP n")
    state = project.invoke("status")
    assert (state.returncode, "behind: " in state.stderr) == (6, True)
    assert "✔ upgrade   b1, a1 → b1, 1 revision\n" in project.invoke("upgrade").stdout
    assert project.invoke("status").returncode == 0


def test_every_object_of_the_migrations_is_there(tmp_path: Path, database_url: str) -> None:
    """Extension, enum, function, trigger, views and partitions, and the rows that were inserted."""
    project = laid_down(tmp_path / "p", "objects", database_url)
    assert project.invoke("reset-db").returncode == 0
    found = project.query(
        "SELECT (SELECT count(*) FROM pg_extension WHERE extname = 'vector'), "
        "enum_range(NULL::order_state)::text, 'touch'::regproc::text, "
        "(SELECT count(*) FROM pg_trigger WHERE tgname = 'touch'), 'paid'::regclass::text, "
        "(SELECT count(*) FROM pg_matviews), (SELECT count(*) FROM events_rest)"
    )
    assert found == [(1, "{new,paid}", "touch", 1, "paid", 1, 1)]


def write_chain(versions: Path, count: int) -> None:
    """Write so many revisions, each of which makes a table and drops one."""
    script = """
from alembic import op
revision, down_revision = {revision!r}, {down!r}
def upgrade():
    op.execute("CREATE TABLE t{number} (id int)")
    if {number} > 1: op.execute("DROP TABLE t{before}")
"""
    for number in range(1, count + 1):
        before = number - 1
        names = {"revision": f"r{number:04}", "down": f"r{before:04}" if before else None}
        text = script.format(number=number, before=before, **names)
        (versions / f"r{number:04}_step.py").write_text(f'"""Step {number}."""\n{text}')


@pytest.mark.slow
def test_four_hundred_revisions(tmp_path: Path, database_url: str) -> None:
    """Each has its line while it runs, piped and on a terminal, and none in JSON."""
    project = laid_down(tmp_path / "p", "thread", database_url)
    versions = project.folder / "migrations/versions"
    (versions / "a1_t.py").unlink()
    write_chain(versions, 400)
    done = project.invoke("reset-db")
    assert "✔ upgrade   base → r0400, 400 revisions\n" in done.stdout, done
    lines = [line for line in done.stdout.splitlines() if line.startswith(" · upgrade ")]
    assert lines == [f" · upgrade   {n}/400 r{n:04} Step {n}." for n in range(1, 401)]
    code, shown = project.on_a_terminal("reset-db", "--cold", TERM="xterm")
    assert code == 0
    assert [n for n in range(1, 401) if f"{n}/400 r{n:04} Step {n}." not in shown] == []
    content = json.loads(project.invoke("reset-db", "--cold", "--json").stdout)
    (chain,) = content["steps"][2]["chains"]
    assert chain["ran"] == 400


@pytest.mark.parametrize(
    ("driver", "where"),
    slow_but(
        [
            ("psycopg", "python"),
            ("psycopg", "server"),
            ("psycopg2", "server"),
            ("pg8000", "server"),
        ],
        lambda case: case[1] == "python",
    ),
)
def test_a_migration_that_hangs(tmp_path: Path, tcp_url: str, driver: str, where: str) -> None:
    """Exit 4 names the revision; nothing is changed, and nothing goes on at the server."""
    url = tcp_url.replace("postgresql:", f"postgresql+{driver}:")
    project = laid_down(tmp_path / "p", "hangs", url)
    project.env["HANG"] = where
    done = project.invoke("reset-db", "--timeout", "3")
    assert done.returncode == 4, done
    (line,) = done.stderr.splitlines()
    assert "stopped after 3 s, while at 2/2 b1 Waits for something that does not come." in line
    assert "--timeout · " in line
    assert line.endswith("is as it was")
    assert sessions_left(project) == []
    assert project.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def sessions_left(project: Project) -> list[tuple[Any, ...]]:
    """Return who is still connected to the target or what was built beside it, after seconds."""
    name = Target.parse(project.url).database
    query = f"""SELECT application_name, state, query FROM pg_stat_activity
                WHERE starts_with(datname, '{name}') AND pid <> pg_backend_pid()"""
    deadline = time.monotonic() + 10
    while (found := project.query(query, "postgres")) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


@pytest.mark.slow
def test_a_live_migration_that_hangs(tmp_path: Path, tcp_url: str) -> None:
    """`upgrade` gives up what its transaction had done, of an async driver too; 0 is no limit."""
    url = tcp_url.replace("postgresql:", "postgresql+asyncpg:")
    project = laid_down(tmp_path / "p", "async", url)
    shutil.copy(PROJECTS / "hangs/migrations/versions/b1_hangs.py", project.folder)
    text = (project.folder / "b1_hangs.py").read_text()
    text = text.replace('"b1"', '"c1"').replace('"a1"', '"b1"').replace("TABLE t ", "TABLE users ")
    versions = project.folder / "migrations/versions"
    (versions / "c1_hangs.py").write_text(text.replace("ADD name", "ADD more"))
    done = project.invoke("upgrade", "--timeout", "3", HANG="server")
    assert (done.returncode, "while at 3/3 c1" in done.stderr) == (4, True), done
    assert sessions_left(project) == []
    assert project.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    assert project.invoke("upgrade", "--timeout", "0").returncode == 0


@pytest.mark.slow
def test_each_other_step_can_be_stopped(tmp_path: Path, database_url: str) -> None:
    """An env.py or a seed command that hangs is ended as well; with --json the line is in it."""
    project = laid_down(tmp_path / "p", "hangs", database_url)
    assert project.invoke("reset-db").returncode == 0
    project.env["BACKSET_SEED"] = "sleep 600"
    done = project.invoke("reset-db", "--timeout", "3", "--json")
    content = json.loads(done.stdout)
    assert (done.returncode, content["error"]["step"]) == (4, "seed")
    assert "stopped after 3 s → " in content["error"]["lines"][0]
    done = project.invoke("reset-db", "--in-place", "--timeout", "3")
    assert (done.returncode, "was restored from" in done.stderr) == (5, True), done
    env = project.folder / "migrations/env.py"
    env.write_text(f"import time\ntime.sleep(600)\n{env.read_text()}")
    done = project.invoke("verify", "--timeout", "2")
    assert (done.returncode, "stopped after 2 s" in done.stderr) == (4, True), done


@pytest.mark.parametrize("said", ["-1", "nan", "1e99", "soon"])
def test_a_timeout_that_makes_no_sense(tmp_path: Path, database_url: str, said: str) -> None:
    """Exit 2, before anything is done."""
    project = laid_down(tmp_path / "p", "hangs", database_url)
    done = project.invoke("upgrade", f"--timeout={said}")
    assert (done.returncode, "--timeout is" in done.stderr) == (2, True), done


def test_a_seed_command_that_asks(tmp_path: Path, database_url: str) -> None:
    """It fails at once, and the line says that nobody could answer."""
    project = laid_down(tmp_path / "p", "branches", database_url)
    shutil.copy(PROJECTS / "asks/seed.py", project.folder)
    project.env["BACKSET_SEED"] = "python seed.py"
    done = project.invoke("reset-db")
    assert done.returncode == 4
    assert "EOFError" in done.stderr
    assert "stdin is closed" in done.stderr


def test_a_docstring_of_one_paragraph_is_told_by_its_first_line(
    tmp_path: Path, database_url: str
) -> None:
    """Alembic takes the first paragraph, which without an empty line is all of it."""
    project = laid_down(tmp_path / "p", "states", database_url)
    script = project.folder / "migrations/versions/a1_users.py"
    script.write_text('"""users\nRevision ID: a1\n"""\n' + script.read_text().partition("\n")[2])
    for task, told in (("upgrade", "1/3 a1 users\n"), ("history", "users\n")):
        done = project.invoke(task)
        assert told in done.stdout, done.stdout
        assert "Revision ID" not in done.stdout
