"""The project's own upgrade command: run, watched, and judged by what it leaves in the database."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.marks import slow_but
from tests.project import Project

PROJECTS = Path(__file__).parents[1] / "projects" / "door"


def laid(tmp_path: Path, url: str, name: str) -> Project:
    """Copy a project of tests/projects/door into a folder of its own."""
    folder = tmp_path / name
    shutil.copytree(PROJECTS / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tasks.py").write_text("from backset.tasks import namespace\n")
    return Project(folder, {"DATABASE_URL": url, "LIVE_URL": url})


@pytest.fixture
def manage(tmp_path: Path, database_url: str) -> Project:
    """A project whose env.py runs only behind its manage.py."""
    return laid(tmp_path, database_url, "manage")


def by(project: Project, way: str) -> None:
    """Let the upgrade command go another way."""
    project.configure('"upgrade"]', f'"{way}"]')


def test_reset_db_goes_through_the_projects_own_command(manage: Project) -> None:
    """Twice, undone, looked at; and `verify` says why no models were compared."""
    for task, said in (
        ("reset-db", "base → b2, 2 revisions"),
        ("reset-db", "base → b2, 2 revisions"),
        ("undo", "is the database from before"),
        ("upgrade", "already at b2"),
        ("verify", "models were not compared: env.py runs only behind the project's own command"),
        ("status", "run manage.py upgrade"),
    ):
        done = manage.invoke(task)
        assert done.returncode == 0, (task, done.stdout + done.stderr)
        assert said in done.stdout
    assert manage.query("SELECT version_num FROM alembic_version") == [("b2",)]


def test_without_the_setting_status_says_what_to_write(manage: Project) -> None:
    """A RuntimeError of env.py is no reason to give up."""
    (manage.folder / "pyproject.toml").write_text("[tool.backset]\n")
    done = manage.invoke("status")
    assert done.returncode != 0
    assert "RuntimeError: run manage.py upgrade" in done.stderr
    assert "[tool.backset] upgrade = " in done.stderr


@pytest.mark.parametrize(
    "table", slow_but(["ddl_version", "alembic_versions"], "ddl_version".__eq__)
)
def test_a_version_table_of_another_name(manage: Project, table: str) -> None:
    """The command knows it and env.py does not say it: the rows tell which one it is."""
    env = manage.folder / "migrations/env.py"
    text = env.read_text()
    assert "target_metadata=None," in text
    new = f"target_metadata=None, version_table={table!r},"
    env.write_text(text.replace("target_metadata=None,", new))
    for task, said in (
        ("reset-db", "base → b2, 2 revisions"),
        ("upgrade", "already at b2"),
        ("verify", "models were not compared"),
        ("status", "at head"),
    ):
        done = manage.invoke(task)
        assert done.returncode == 0, (task, done.stdout + done.stderr)
        assert said in done.stdout
    manage.query(f"UPDATE {table} SET version_num = 'gone'")
    status = manage.invoke("status", "--json")
    assert json.loads(status.stdout)["state"] == "orphaned revision"
    assert f"{table} names gone" in manage.invoke("status").stderr
    done = manage.invoke("reset-db")
    assert done.returncode == 0, done.stderr
    assert manage.invoke("status").returncode == 0


@pytest.mark.slow
def test_a_version_table_that_cannot_be_told_is_to_be_named(manage: Project) -> None:
    """With the setting that names it, and not as if nothing had been migrated."""
    by(manage, "create")
    manage.query("CREATE TABLE first (version_num varchar(32)); INSERT INTO first VALUES ('x')")
    manage.query("CREATE TABLE second (version_num varchar(32)); INSERT INTO second VALUES ('y')")
    done = manage.invoke("upgrade")
    assert done.returncode == 4
    assert "has none of its revisions in first or second" in done.stderr
    assert "version_table in a table of [[tool.backset.chains]]" in done.stderr


@pytest.mark.slow
def test_exit_0_and_nothing_created_is_a_failure(manage: Project) -> None:
    """The live database stays as it was, and nothing is left beside it."""
    assert manage.invoke("reset-db").returncode == 0
    by(manage, "lie")
    done = manage.invoke("reset-db")
    assert done.returncode == 4
    assert "python manage.py lie ended with 0, but" in done.stderr
    assert "__next has no revision in a version table: nothing was migrated there" in done.stderr
    assert manage.query("SELECT version_num FROM alembic_version") == [("b2",)]
    left = "SELECT count(*) FROM pg_database WHERE datname = current_database() || '__next'"
    assert manage.query(left) == [(0,)]


@pytest.mark.slow
def test_a_stamp_alone_is_a_failure(manage: Project) -> None:
    """A version at head over no table at all."""
    by(manage, "stamp")
    done = manage.invoke("reset-db")
    assert done.returncode == 4
    assert "is at head, but has no table" in done.stderr


def test_the_database_counts_and_not_the_exit_code(manage: Project) -> None:
    """A command that ends with 1 when everything is there is told of, and believed in nothing."""
    by(manage, "fail-after")
    done = manage.invoke("reset-db")
    assert done.returncode == 0, done.stderr
    assert "ended with 1: the mail server did not answer" in done.stdout
    assert manage.query("SELECT version_num FROM alembic_version") == [("b2",)]


@pytest.mark.parametrize("way", ["live", "live-at-once"])
def test_a_command_that_goes_to_the_live_database_fails(manage: Project, way: str) -> None:
    """Whether it is caught there, or was over before it could be seen."""
    manage.query("CREATE TABLE marks AS SELECT 0 AS id")
    by(manage, way)
    done = manage.invoke("reset-db")
    name = manage.query("SELECT current_database()")[0][0]
    assert done.returncode == 4, done.stdout + done.stderr
    assert name in done.stderr
    assert "nothing was migrated there" in done.stderr or "the live database" in done.stderr
    assert '[tool.backset.env] LIVE_URL = "{url}"' in done.stderr


def test_a_multi_tenant_command_is_judged_in_every_schema(manage: Project) -> None:
    """One version table for each tenant; one that lags behind is the failure."""
    by(manage, "tenants")
    done = manage.invoke("reset-db", "--json")
    assert done.returncode == 0, done.stdout
    assert manage.query("SELECT version_num FROM tenant_b.alembic_version") == [("b2",)]
    manage.configure('"tenants"]', '"one-tenant-short"]')
    done = manage.invoke("reset-db")
    assert done.returncode == 4
    assert "is 1 revision before head" in done.stderr
    assert "tenant_b.alembic_version: a1" in done.stderr


@pytest.mark.slow
def test_init_makes_what_the_chain_cannot_start_without(manage: Project) -> None:
    """Once, on an empty database, before the upgrade; and not on one that has tables."""
    with (manage.folder / "pyproject.toml").open("a") as file:
        file.write('init = ["python", "manage.py", "create"]\n')
    for task in ("reset-db", "upgrade"):
        done = manage.invoke(task)
        assert done.returncode == 0, done.stderr
    assert manage.query("SELECT count(*) FROM legacy") == [(0,)]


def begin_with(project: Project, *words: str) -> None:
    """Let a command of the project be its `init`."""
    with (project.folder / "pyproject.toml").open("a") as file:
        file.write(f"init = {json.dumps(['python', 'manage.py', *words])}\n")


@pytest.mark.parametrize(
    "statement",
    slow_but(
        [
            "CREATE SCHEMA app",
            "CREATE EXTENSION vector",
            "CREATE TYPE mood AS ENUM ('ok')",
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO pg_monitor",
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET jit = 0', current_catalog); END$$",
        ],
        lambda statement: statement == "CREATE EXTENSION vector",
    ),
    ids=["schema", "extension", "type", "right", "setting"],
)
def test_an_init_need_not_make_a_table(manage: Project, statement: str) -> None:
    """What the chain cannot start without may be anything; one that makes nothing is refused."""
    begin_with(manage, "execute", statement)
    done = manage.invoke("upgrade")
    assert done.returncode == 0, done.stderr
    assert "base → b2, 2 revisions after `init`" in done.stdout


def test_an_init_that_makes_nothing_is_refused(manage: Project) -> None:
    """With its last words, and before anything else is run."""
    begin_with(manage, "execute", "SELECT 1", "no licence")
    done = manage.invoke("upgrade")
    assert done.returncode == 4
    assert "ended with 1: no licence, and created nothing" in done.stderr


def test_an_init_that_fails_is_told_with_what_follows(manage: Project) -> None:
    """The next error is what it leads to; the last words of the first are its cause."""
    begin_with(manage, "execute", "CREATE TABLE users ()", "the tenant has no name")
    done = manage.invoke("reset-db")
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert "init: " in line
    assert "ended with 1: the tenant has no name; then " in line
    assert 'relation "users" already exists' in line
    assert "→ mend what init says first; else " in line


@pytest.mark.slow
def test_what_init_has_done_was_not_there_already(manage: Project) -> None:
    """One that makes the tables and stamps them leaves the upgrade nothing to do."""
    statements = (
        "CREATE TABLE users (id serial PRIMARY KEY, email text NOT NULL, name text); "
        "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY); "
        "INSERT INTO alembic_version VALUES ('b2')"
    )
    begin_with(manage, "execute", statements)
    for said in ("base → b2 by `init`", "already at b2"):
        done = manage.invoke("upgrade")
        assert done.returncode == 0, done.stderr
        assert f"✔ upgrade   {said}\n" in done.stdout


@pytest.mark.slow
def test_what_the_command_has_done_was_not_there_already(manage: Project) -> None:
    """A tenant that comes to an up-to-date database is the command's work."""
    assert manage.invoke("upgrade").returncode == 0
    by(manage, "tenants")
    for said in ("at b2, by the project's command", "already at b2"):
        done = manage.invoke("upgrade")
        assert done.returncode == 0, done.stderr
        assert f"✔ upgrade   {said}\n" in done.stdout


@pytest.fixture
def chains(tmp_path: Path, database_url: str) -> Project:
    """A project with two chains of revisions in one database."""
    return laid(tmp_path, database_url, "chains")


@pytest.mark.slow
def test_two_chains_of_one_database(chains: Project) -> None:
    """Each is migrated and verified; the tables of the one are no drift of the other."""
    done = chains.invoke("reset-db")
    assert done.returncode == 0, done.stderr
    assert "core: base → core1, 1 revision · billing: base → billing1, 1 revision" in done.stdout
    assert "models and database agree" in done.stdout
    done = chains.invoke("status")
    assert done.returncode == 0, done.stderr
    told = json.loads(chains.invoke("status", "--json").stdout)
    billing = {"name": "billing", "revisions": ["billing1"], "heads": ["billing1"]}
    assert told["chains"][1] == billing
    chains.query("CREATE TABLE leftover (id int)")
    done = chains.invoke("verify")
    assert done.returncode == 6
    assert done.stderr.count("table leftover is only in the database") == 1
    chains.query("CREATE TABLE stats_version (version_num varchar(32) PRIMARY KEY)")
    told = "it has 0 rows; stats_version is of another chain, whose models were not loaded)"
    assert told in chains.invoke("verify").stderr
    assert "billing_items" not in done.stderr


def test_a_chain_that_fails_is_named(chains: Project) -> None:
    """And the database is as it was."""
    script = chains.folder / "billing/versions/billing1_items.py"
    script.write_text(script.read_text().replace("op.create_table(", "op.nothing("))
    done = chains.invoke("reset-db")
    assert done.returncode == 4
    assert "upgrade   billing: revision billing1" in done.stderr


def test_a_version_table_of_two_chains_is_told(chains: Project) -> None:
    """It is no orphaned revision, which the run that meets it would mend."""
    env = chains.folder / "billing/env.py"
    env.write_text(env.read_text().replace("billing_version", "core_version"))
    done = chains.invoke("reset-db")
    assert done.returncode == 4
    assert "identified by 'core1': it is of core, in the same version table" in done.stderr
    assert "→ let env.py of each chain give context.configure() a version_table" in done.stderr
    assert "which no migration file has" not in done.stderr


def test_a_head_that_the_settings_misspell_is_a_finding(chains: Project) -> None:
    """`status` tells the database all the same, and blames the settings, not the version table."""
    assert chains.invoke("reset-db").returncode == 0
    chains.configure('section = "core"\n', 'section = "core"\nheads = ["coer1"]\n')
    done = chains.invoke("status")
    assert done.returncode == 6, done.stderr
    assert "have the head core1, and [tool.backset] heads has coer1" in done.stderr
    assert "chain     core: at core1, head core1" in done.stdout
    assert "the version table names a revision" not in done.stderr


@pytest.fixture(scope="session")
def flask_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with Flask-Migrate from PyPI, made once for all tests of a session."""
    folder = tmp_path_factory.mktemp("flask") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "Flask-Migrate", "psycopg[binary]"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        index = subprocess.run([*pip, "--dry-run", "Flask"], capture_output=True, check=False)
        assert index.returncode, done.stderr  # the index answers: this is a failure of ours
        pytest.skip("no package index can be reached")
    return folder


@pytest.mark.slow
def test_flask_migrate(tmp_path: Path, database_url: str, flask_venv: Path) -> None:
    """As `flask db init` writes it: by its own command and without the setting, models compared."""
    project = laid(tmp_path, database_url, "flask")
    (project.folder / ".venv").symlink_to(flask_venv)
    for task in ("reset-db", "reset-db", "verify", "status"):
        done = project.invoke(task)
        assert done.returncode == 0, done.stderr
    assert "models and database agree" in done.stdout
    assert project.query('SELECT count(*) FROM "user"') == [(0,)]
    assert project.query("SELECT version_num FROM alembic_version") == [("f1a5",)]
    project.configure('upgrade = ["flask", "db", "upgrade"]', "")
    for task in ("reset-db", "status"):
        done = project.invoke(task)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_what_is_wrong_in_one_of_two_chains(chains: Project) -> None:
    """An orphan is told of its own version table, and of its chain."""
    assert chains.invoke("reset-db").returncode == 0
    chains.query("UPDATE billing_version SET version_num = 'dead'")
    done = chains.invoke("status")
    told = "orphaned revision: billing: billing_version names dead, which no migration file has"
    assert f" state     {told}\n" in done.stdout, done
    assert "core_version names" not in done.stdout + done.stderr
    assert told in chains.invoke("verify").stderr


@pytest.mark.slow
def test_a_chain_without_models(chains: Project) -> None:
    """What its migrations make is its own, and that its models were not loaded is said."""
    env = chains.folder / "billing/env.py"
    env.write_text(env.read_text().replace("=metadata", "=None"))
    done = chains.invoke("reset-db")
    assert done.returncode == 0, done
    told = "some models were not compared: billing: env.py has no models to compare"
    assert told in done.stdout
    env.write_text(env.read_text().replace("=None", "=MetaData()"))
    script = chains.folder / "core/versions/core1_items.py"
    extra = '    op.create_table("extra", sa.Column("id", sa.Integer()))\n'
    script.write_text(script.read_text() + extra)
    done = chains.invoke("reset-db", "--cold")
    assert "leftover table: table extra is only in the database (no model that env.py impor" in (
        done.stdout + done.stderr
    ), done
    assert "billing_items is only" not in done.stdout + done.stderr


def test_options_of_one_chain(chains: Project) -> None:
    """`ini` of a chain is over what is said for all, and each URL is that of the run."""
    for name, option in (("core", "core.url"), ("billing", "other.url")):
        env = chains.folder / name / "env.py"
        text = env.read_text().replace(
            'os.environ["DATABASE_URL"]', f'context.config.get_main_option("{option}")'
        )
        env.write_text(text)
    toml = chains.folder / "pyproject.toml"
    toml.write_text(
        f'{toml.read_text()}ini = {{"other.url" = "{{url}}"}}\n'
        '[tool.backset.ini]\n"core.url" = "{url}"\n"other.url" = "nowhere"\n'
    )
    done = chains.invoke("reset-db")
    assert done.returncode == 0, done


@pytest.mark.slow
def test_one_chain_in_each_schema(chains: Project) -> None:
    """The same scripts three times, told apart by -x; their tables are not each other's drift."""
    env = chains.folder / "core/env.py"
    text = env.read_text().replace("MetaData()", f"MetaData(schema={ARGUMENT})")
    text = text.replace("connection=connection,", PLACED).replace("core_version", "alembic_version")
    env.write_text(text)
    script = chains.folder / "core/versions/core1_items.py"
    text = script.read_text().replace("import op", "import context, op")
    script.write_text(text.replace("primary_key=True)", f"primary_key=True), schema={ARGUMENT}"))
    tables = "".join(SCHEMA.format(name=name) for name in ("one", "two", "three"))
    (chains.folder / "pyproject.toml").write_text(tables)
    for task in ("reset-db", "upgrade", "verify", "status"):
        done = chains.invoke(task)
        assert done.returncode == 0, done.stderr
    assert "chain     three: at core1, head core1" in done.stdout
    assert chains.query("SELECT count(*) FROM three.core_items") == [(0,)]
    chains.query("DELETE FROM two.alembic_version")
    done = chains.invoke("verify")
    assert done.returncode == 6
    assert "behind: two: the database is at base" in done.stderr


ARGUMENT = 'context.get_x_argument(as_dictionary=True)["schema"]'
PLACED = f"connection=connection, version_table_schema={ARGUMENT}, include_schemas=True,"
SCHEMA = """
[[tool.backset.chains]]
name = "{name}"
section = "core"
arguments = ["schema={name}"]
schema = "{name}"
"""


@pytest.mark.slow
def test_accepted_heads_and_an_unexpected_one(chains: Project) -> None:
    """Two heads are the normal end; a third one that nobody has accepted is the finding."""
    versions = chains.folder / "core/versions"
    second = 'revision, down_revision = "{0}", None\ndef upgrade(): pass\n'
    (versions / "side.py").write_text(second.format("side"))
    settings = (chains.folder / "pyproject.toml").read_text()
    only_core = settings.partition('[[tool.backset.chains]]\nname = "billing"')[0]
    (chains.folder / "pyproject.toml").write_text(f'{only_core}heads = ["core1", "side"]\n')
    for task in ("reset-db", "verify", "upgrade"):
        done = chains.invoke(task)
        assert done.returncode == 0, done.stderr
    assert chains.query("SELECT version_num FROM core_version ORDER BY 1") == [
        ("core1",),
        ("side",),
    ]
    (versions / "third.py").write_text(second.format("third"))
    for task, code in (("verify", 6), ("reset-db", 4), ("upgrade", 4)):
        done = chains.invoke(task)
        assert done.returncode == code, done.stdout
        assert "unexpected head: " in done.stderr
        assert "the scripts have the head third" in done.stderr
    chains.configure('["core1", "side"]', '"all"')
    assert chains.invoke("upgrade").returncode == 0


ROWS_ALONE = '''"""an admin"""
from alembic import op

revision, down_revision = "c3", "b2"


def upgrade() -> None:
    op.execute("INSERT INTO users (email) VALUES ('admin@example.com')")
'''


@pytest.mark.slow
def test_a_revision_of_rows_is_not_proved_by_the_schema(manage: Project) -> None:
    """A command of the project is looked at when it is done: no place before the end was seen.

    Where that revision has not run the database is behind; where nobody knows, a person looks.
    """
    (manage.folder / "migrations/versions/c3_admin.py").write_text(ROWS_ALONE)
    assert manage.invoke("upgrade").returncode == 0
    manage.query("DELETE FROM users")
    for recorded, said in (
        ("b2", "state     behind: the database is at b2"),
        ("gone", "does not show whether c3_admin.py has run here"),
    ):
        manage.query(f"UPDATE alembic_version SET version_num = '{recorded}'")
        told = manage.invoke("status", "--prove")
        assert said in told.stdout, told.stdout
    assert manage.invoke("repair", "--yes").returncode == 6
    assert manage.query("SELECT version_num FROM alembic_version") == [("gone",)]
    manage.query("UPDATE alembic_version SET version_num = 'b2'")
    done = manage.invoke("repair", "--yes")
    assert manage.query("SELECT email FROM users") == [("admin@example.com",)], done.stdout


@pytest.mark.slow
def test_rows_of_a_revision_that_a_command_passes_over(manage: Project) -> None:
    """An `init` that makes all tables and stamps the head inserts no row of the migrations."""
    statements = (
        "CREATE TABLE users (id serial PRIMARY KEY, email text NOT NULL, name text); "
        "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY); "
        "INSERT INTO alembic_version VALUES ('c3')"
    )
    assert manage.invoke("upgrade").returncode == 0
    manage.query("INSERT INTO users (email) VALUES ('ann@example.com')")
    (manage.folder / "migrations/versions/c3_admin.py").write_text(ROWS_ALONE)
    begin_with(manage, "execute", statements)
    done = manage.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the old rows go through c3_admin.py in a copy first" in done.stdout
    found = manage.query("SELECT email FROM users ORDER BY id")
    assert found == [("ann@example.com",), ("admin@example.com",)]
