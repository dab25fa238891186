"""The command `backset` works in a repository that has not one file of ours in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from tests.conftest import PASSWORD, ROLE
from tests.marks import slow_but
from tests.project import in_this_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.servers.cluster import Cluster

PROJECTS = Path(__file__).parents[1] / "projects/urls"
BACKSET = Path(sys.executable).with_name("backset")
FLAGS = {"section": ["-n", "main"]}  # what a project cannot be understood without
UNFINISHED = {"deep", "flask", "in_code", "layout"}  # that plain `alembic` cannot read
NAMES = sorted(path.name for path in PROJECTS.iterdir())


@dataclass
class Foreign:
    """Somebody's repository, and its database on our server."""

    folder: Path
    url: str
    flags: list[str]
    is_typed: bool = False  # whether the command itself is started, as people do

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `backset …` in it, with no DATABASE_URL but one that is given here."""
        if self.is_typed or "alembic" in words:  # Alembic writes where we do
            return subprocess.run(
                [str(BACKSET), *self.flags, *words],
                cwd=self.folder,
                env={**os.environ, "VIRTUAL_ENV": sys.prefix, **env},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
        given = {"VIRTUAL_ENV": sys.prefix, **env}
        return in_this_process(["backset", *self.flags, *words], self.folder, given)

    def query(self, statement: str, database: str = "") -> list[tuple[Any, ...]]:
        """Run a statement on its database, or on another one of its server."""
        params = psycopg.conninfo.conninfo_to_dict(self.url)
        params |= {"dbname": database} if database else {}
        with psycopg.connect(**params, autocommit=True) as session:  # type: ignore[arg-type]
            cursor = session.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def made(
    tmp_path: Path, cluster: Cluster, superuser: psycopg.Connection[Any], name: str
) -> Callable[[str], Foreign]:
    """Lay a project down, for a database of its own with a row in it."""

    def make(project: str) -> Foreign:
        create = sql.SQL("CREATE DATABASE {} OWNER {}")
        superuser.execute(create.format(sql.Identifier(name), sql.Identifier(ROLE)))
        given = f"{ROLE}:{quote(PASSWORD, safe='')}@127.0.0.1:{cluster.port}/{name}"
        folder = tmp_path / "repository"
        shutil.copytree(PROJECTS / project, folder)
        words = {
            "@url@": f"postgresql+psycopg://{given}",
            "@url%%@": f"postgresql+psycopg://{given}".replace("%", "%%"),
            "@host@": "127.0.0.1",
            "@port@": str(cluster.port),
            "@user@": ROLE,
            "@password@": PASSWORD.replace("\\", "\\\\").replace('"', '\\"'),
            "@database@": name,
        }
        for path in folder.rglob("*"):
            if path.is_file():
                text = path.read_text()
                for word, value in words.items():
                    text = text.replace(word, value)
                path.write_text(text)
        foreign = Foreign(folder, f"postgresql://{given}", FLAGS.get(project, []))
        foreign.query("CREATE TABLE precious (id int); INSERT INTO precious VALUES (1)")
        return foreign

    return make


@pytest.mark.parametrize("project", slow_but(NAMES, lambda name: name == "stock"))
def test_a_repository_without_a_file_of_ours(
    made: Callable[[str], Foreign], project: str, name: str
) -> None:
    """Its state is told, its database is rebuilt beside the old one, and undo goes back."""
    foreign = made(project)
    foreign.is_typed = True
    before = foreign.run("status", "--json")
    assert before.returncode == 6, before.stderr
    assert json.loads(before.stdout)["database"] == name
    rebuilt = foreign.run("reset-db")
    assert rebuilt.returncode == 0, rebuilt.stderr + rebuilt.stdout
    assert "`backset undo` swaps the old one back" in rebuilt.stdout
    assert foreign.query("SELECT version_num FROM alembic_version") == [("0001",)]
    assert foreign.query("SELECT count(*) FROM things") == [(0,)]
    assert foreign.query("SELECT * FROM precious", f"{name}__previous") == [(1,)]
    assert foreign.run("status").returncode == 0
    shown = foreign.run("alembic", "--", "history")
    assert "0001 (head)" in shown.stdout or project in UNFINISHED, shown.stderr
    assert foreign.run("undo").returncode == 0
    assert foreign.query("SELECT * FROM precious") == [(1,)]
    assert PASSWORD not in before.stdout + rebuilt.stdout + rebuilt.stderr


@pytest.mark.parametrize(
    ("project", "place", "cure"),
    [
        ("overridden", "APP_DB_URL (.env)", '[tool.backset.env] APP_DB_URL = "{url:psycopg}"'),
        (
            "parts",
            "APP__DATABASE__NAME (.env)",
            '[tool.backset.env] APP__DATABASE__NAME = "{database}"',
        ),
        ("hard_coded", "alembic/env.py line 6", 'line 6 read environ["DATABASE_URL"]'),
    ],
)
def test_a_url_that_leads_elsewhere_executes_nothing(
    made: Callable[[str], Foreign], name: str, project: str, place: str, cure: str
) -> None:
    """The error says what env.py opened, where that comes from, and the line that mends it."""
    foreign = made(project)
    foreign.query(f"CREATE DATABASE {name}_mine", "postgres")
    mine = foreign.url.replace(f"/{name}", f"/{name}_mine")
    done = foreign.run("reset-db", DATABASE_URL=mine)
    assert done.returncode == 4
    assert f"env.py connected to {name} on 127.0.0.1" in done.stderr
    assert f"not to postgresql://{ROLE}@127.0.0.1" in done.stderr
    assert "nothing was executed" in done.stderr
    assert place in done.stderr
    assert cure in done.stderr
    assert PASSWORD not in done.stderr
    assert quote(PASSWORD, safe="") not in done.stderr
    for database in (name, f"{name}_mine"):
        assert foreign.query("SELECT to_regclass('things')", database) == [(None,)]


def test_the_line_of_that_error_mends_it(made: Callable[[str], Foreign], name: str) -> None:
    """What it says to write is enough."""
    foreign = made("parts")
    foreign.query(f"CREATE DATABASE {name}_mine", "postgres")
    mine = foreign.url.replace(f"/{name}", f"/{name}_mine")
    line = '[tool.backset.env]\nAPP__DATABASE__NAME = "{database}"\n'
    (foreign.folder / "pyproject.toml").write_text(line)
    done = foreign.run("reset-db", DATABASE_URL=mine)
    assert done.returncode == 0, done.stderr
    assert foreign.query("SELECT count(*) FROM things", f"{name}_mine") == [(0,)]


@pytest.mark.slow
def test_the_arguments_can_have_the_url_in_them(made: Callable[[str], Foreign], name: str) -> None:
    """As the error says; and no process shows them, since they hold the password."""
    foreign = made("arguments")
    foreign.query(f"CREATE DATABASE {name}_mine", "postgres")
    mine = foreign.url.replace(f"/{name}", f"/{name}_mine")
    refused = foreign.run("reset-db", DATABASE_URL=mine)
    assert refused.returncode == 4
    line = '[tool.backset] arguments = ["url={url:psycopg}"]'
    assert f"pyproject.toml line 2 → write {line}" in refused.stderr
    settings = foreign.folder / "pyproject.toml"
    settings.write_text(line.replace("] ", "]\n"))
    env = foreign.folder / "alembic/env.py"
    shown = "pathlib.Path('shown').write_bytes(pathlib.Path('/proc/self/cmdline').read_bytes())"
    env.write_text(f"import pathlib\n{shown}\n{env.read_text()}")
    assert foreign.run("reset-db", DATABASE_URL=mine).returncode == 0
    assert foreign.query("SELECT count(*) FROM things", f"{name}_mine") == [(0,)]
    done = foreign.run("alembic", "--", "current", DATABASE_URL=mine)
    assert "0001 (head)" in done.stdout, done.stderr
    argv = (foreign.folder / "shown").read_text()
    assert "alembic" in argv
    assert quote(PASSWORD, safe="") not in argv
    planned = foreign.run("--dry", "alembic", "--", "current", DATABASE_URL=mine)
    assert "-m alembic -x url={url:psycopg} current" in planned.stdout


def test_a_configuration_is_named_when_there_are_several(made: Callable[[str], Foreign]) -> None:
    """The choice is nobody's but the user's; -c makes it."""
    foreign = made("below")
    shutil.copytree(foreign.folder / "backend", foreign.folder / "worker")
    refused = foreign.run("status")
    assert refused.returncode == 2
    assert "several Alembic configurations: backend/alembic.ini, worker/alembic.ini" in (
        refused.stderr
    )
    foreign.flags = ["-c", "backend/alembic.ini"]
    assert foreign.run("reset-db").returncode == 0


def test_a_folder_without_alembic_is_told_so(tmp_path: Path) -> None:
    """No server is started for it, and nothing is written."""
    done = Foreign(tmp_path, "", []).run("status")
    assert done.returncode == 4
    assert "no alembic.ini, and no [tool.alembic] in pyproject.toml → " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_interpreter_of_the_project_is_used_and_named(made: Callable[[str], Foreign]) -> None:
    """`.venv` is found; what it lacks is said with the command that installs it."""
    foreign = made("stock")
    venv = [sys.executable, "-m", "venv", "--without-pip", str(foreign.folder / ".venv")]
    subprocess.run(venv, check=True)
    done = foreign.run("status", VIRTUAL_ENV="")
    assert done.returncode == 4
    assert f"{foreign.folder / '.venv/bin/python'} (.venv): ModuleNotFoundError" in done.stderr
    assert "-m pip install 'alembic>=1.9' 'psycopg[binary]', or name" in done.stderr


@pytest.mark.slow
def test_status_says_which_interpreter_it_is(made: Callable[[str], Foreign]) -> None:
    """A stranger sees where it was found, and that a broken environment is no other one."""
    foreign = made("stock")
    found = foreign.run("status").stdout
    assert f"python    {Path(sys.prefix, 'bin/python')} (VIRTUAL_ENV)" in found
    assert "(backset's own)" in foreign.run("status", VIRTUAL_ENV="").stdout
    python = foreign.folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/nonexistent/python3")
    done = foreign.run("status", VIRTUAL_ENV="")
    assert done.returncode == 2
    assert f".venv: python is '{python}', which does not run → make that environment" in done.stderr


def test_an_option_that_env_py_misses_is_asked_for_by_its_setting(
    made: Callable[[str], Foreign],
) -> None:
    """`KeyError: 'url'` says nothing: the line of [tool.backset.ini] does, and it works."""
    foreign = made("stock")
    env = foreign.folder / "alembic/env.py"
    env.write_text(env.read_text().replace('"sqlalchemy."', '"app."'))
    done = foreign.run("upgrade", DATABASE_URL=foreign.url)
    assert done.returncode == 4
    assert "KeyError: 'url' → name the option that env.py reads" in done.stderr
    assert '[tool.backset.ini] "PREFIX.url" = "{url}"' in done.stderr
    settings = '[tool.backset.ini]\n"app.url" = "{url:psycopg}"\n'
    (foreign.folder / "pyproject.toml").write_text(settings)
    assert foreign.run("upgrade", DATABASE_URL=foreign.url).returncode == 0


@pytest.mark.parametrize("start", ["alembic/versions", "../elsewhere"])
@pytest.mark.slow
def test_the_variable_of_alembic_is_read_as_alembic_does(
    made: Callable[[str], Foreign], start: str
) -> None:
    """ALEMBIC_CONFIG is seen from the folder that one stands in, and makes that its project."""
    foreign = made("stock")
    here = (foreign.folder / start).resolve()
    here.mkdir(exist_ok=True)
    file = os.path.relpath(foreign.folder / "alembic.ini", here)
    folder, foreign.folder = foreign.folder, here
    done = foreign.run("reset-db", ALEMBIC_CONFIG=file)
    assert done.returncode == 0, done.stderr
    assert foreign.query("SELECT version_num FROM alembic_version") == [("0001",)]
    assert (folder / "backups").is_dir()


@pytest.mark.slow
def test_undo_without_anything_names_what_would_keep_something(
    made: Callable[[str], Foreign],
) -> None:
    """Nobody is sent to backups that there are not."""
    foreign = made("stock")
    none = foreign.run("undo")
    assert none.returncode == 4
    assert "to go back to → a rebuild, such as `backset reset-db`, keeps one" in none.stderr
    assert foreign.run("backup").returncode == 0
    assert "to go back to → choose a dump from `backset backups`" in foreign.run("undo").stderr


@pytest.mark.parametrize(
    ("alembic", "sqlalchemy", "said", "wanted"),
    [
        ("1.8.1", "1.4.54", "too old: Alembic 1.8.1", "'alembic>=1.9' 'sqlalchemy==1.4.*'"),
        ("1.8.1", "2.0.0b1", "too old: Alembic 1.8.1", "'alembic>=1.9' 'sqlalchemy==2.0.*'"),
        ("1.9.0", "1.3.24", "too old: SQLAlchemy 1.3.24", "'sqlalchemy>=1.4,<2'"),
        ("", "1.4.54", "No module named 'absent'", "absent 'sqlalchemy==1.4.*'"),
    ],
)
def test_one_package_is_raised_and_the_others_stay(
    made: Callable[[str], Foreign],
    tmp_path: Path,
    alembic: str,
    sqlalchemy: str,
    said: str,
    wanted: str,
) -> None:
    """One line with the version that is there; the command moves no project to a SQLAlchemy."""
    foreign = made("stock")
    old = tmp_path / "packages"
    for package, version in (("alembic", alembic), ("sqlalchemy", sqlalchemy)):
        (old / package).mkdir(parents=True)
        text = f"__version__ = {version!r}\n" if version else "import absent\n"
        (old / package / "__init__.py").write_text(text)
    done = foreign.run("status", PYTHONPATH=str(old))
    assert done.returncode == 4
    assert f": {said}" in done.stderr
    assert f"-m pip install {wanted}, or name the project's interpreter" in done.stderr


def test_status_says_which_database_it_is(made: Callable[[str], Foreign], name: str) -> None:
    """A stranger sees where env.py leads, without the password."""
    done = made("stock").run("status")
    assert f"{ROLE}@127.0.0.1" in done.stdout
    assert f"/{name} (from env.py)" in done.stdout
    assert quote(PASSWORD, safe="") not in done.stdout


@pytest.mark.slow
def test_status_tells_the_database_though_env_py_fails(made: Callable[[str], Foreign]) -> None:
    """One that runs only behind a program of the project is a finding beside the state."""
    foreign = made("stock")
    assert foreign.run("reset-db").returncode == 0
    (foreign.folder / "alembic/env.py").write_text("raise RuntimeError('shopctl runs me')\n")
    asked = foreign.run("status")
    assert asked.returncode == 2
    assert "env.py:1: RuntimeError: shopctl runs me → mend that, or set DATABASE_URL" in (
        asked.stderr
    )
    assert '[tool.backset] upgrade = ["COMMAND", "ARGUMENT"]' in asked.stderr
    named = foreign.run("status", BACKSET_UPGRADE="shopctl up").stderr
    assert "shopctl runs me → set DATABASE_URL, here or in .env\n" in named
    done = foreign.run("status", DATABASE_URL=foreign.url)
    assert done.returncode == 6
    assert "state     at head: the database is at 0001" in done.stdout
    assert "tables    alembic_version 1 · things 0" in done.stdout
    assert "env.py fails: env.py:1: RuntimeError: shopctl runs me (the versions were read in" in (
        done.stderr
    )
    assert '[tool.backset] upgrade = ["COMMAND", "ARGUMENT"]' in done.stderr
    foreign.query("UPDATE alembic_version SET version_num = 'gone'")
    orphaned = foreign.run("status", DATABASE_URL=foreign.url)
    assert "state     orphaned revision: alembic_version names gone" in orphaned.stdout


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///x.db", "env.py connected to a database of sqlite, not to postgresql://"),
        ("postgresql+psycopg://u@127.0.0.1:1/x", "env.py:6: env.py cannot connect: "),
    ],
)
def test_an_env_that_leads_nowhere_is_told_so(
    made: Callable[[str], Foreign], url: str, words: str
) -> None:
    """Another kind of database, a server that is down: in words, with where it is mended."""
    foreign = made("hard_coded")
    env = foreign.folder / "alembic/env.py"
    lines = env.read_text().splitlines()
    lines[5] = f"engine = create_engine({url!r}); engine.connect()"
    env.write_text("\n".join(lines))
    done = foreign.run("reset-db", DATABASE_URL=foreign.url)
    assert done.returncode == 4
    assert words in done.stderr
    assert "→ let env.py take its URL from DATABASE_URL, or say in [tool.backset.env]" in (
        done.stderr
    )
    assert not (foreign.folder / "x.db").exists()
    assert foreign.query("SELECT * FROM precious") == [(1,)]


@pytest.mark.slow
def test_a_remedy_names_what_gave_the_url(made: Callable[[str], Foreign]) -> None:
    """Nobody can correct a DATABASE_URL that they never set."""
    foreign = made("stock")
    words = "correct what env.py opens, or set DATABASE_URL"
    assert words in foreign.run("status").stdout
    assert "correct DATABASE_URL;" in foreign.run("status", DATABASE_URL=foreign.url).stdout
    ini = foreign.folder / "alembic.ini"
    port = psycopg.conninfo.conninfo_to_dict(foreign.url)["port"]
    ini.write_text(ini.read_text().replace(f":{port}/", ":1/"))
    assert f"start the server, or {words}" in foreign.run("status").stdout
    assert f"start the server, or {words}" in foreign.run("reset-db").stderr


def test_looking_writes_nothing(made: Callable[[str], Foreign]) -> None:
    """What env.py commits by itself, whatever it is asked for, is taken back by `status`."""
    foreign = made("schema")
    assert foreign.run("status").returncode == 6
    assert foreign.query("SELECT to_regnamespace('inventory')") == [(None,)]
    assert foreign.run("reset-db").returncode == 0
    assert foreign.query("SELECT to_regnamespace('inventory')") == [("inventory",)]
    assert foreign.run("status").returncode == 0


def test_no_server_is_started_for_a_url_that_a_program_would_give(
    made: Callable[[str], Foreign],
) -> None:
    """An empty database would pass for the project's own one: it is asked for instead."""
    foreign = made("stock")
    (foreign.folder / "alembic.ini").write_text(
        "[alembic]\nscript_location = alembic\nsqlalchemy.url =\n"
    )
    done = foreign.run("status")
    assert done.returncode == 2
    assert "nor Alembic's configuration names a database → set DATABASE_URL" in done.stderr
    assert not (foreign.folder / ".backset").exists()
    assert foreign.run("reset-db", DATABASE_URL=foreign.url).returncode == 0


def test_an_application_that_is_not_found_is_asked_for(made: Callable[[str], Foreign]) -> None:
    """env.py of Flask-Migrate works within the application, which has any name."""
    foreign = made("flask")
    (foreign.folder / ".flaskenv").unlink()
    done = foreign.run("status")
    assert done.returncode == 4
    assert "env.py works within the Flask application: " in done.stderr
    assert "→ name it: FLASK_APP=" in done.stderr


@pytest.mark.slow
def test_models_that_differ_upstream_are_told_and_stop_nothing(
    made: Callable[[str], Foreign],
) -> None:
    """What the migrations make was asked for, whatever else is set; `strict` holds it to more."""
    foreign = made("stock")
    env = foreign.folder / "alembic/env.py"
    columns = 'Column("id", Integer, primary_key=True), Column("name", Text)'
    text = "from sqlalchemy import Column, Integer, MetaData, Table, Text\n"
    text += f'models = MetaData()\nTable("things", models, {columns})\n'
    env.write_text(text + env.read_text().replace("target_metadata=None", "target_metadata=models"))
    done = foreign.run("reset-db")
    assert done.returncode == 0, done.stderr
    assert "1 difference of the models from the migrations" in done.stdout
    assert "! verify    drift: column things.name is only in the models" in done.stdout
    assert "accept it: backset reset-db --accept" in done.stdout
    assert "not strict, since there is no baseline" in done.stdout
    settings = foreign.folder / "pyproject.toml"
    settings.write_text("[tool.backset]\nkeep = 3\n")
    assert foreign.run("reset-db").returncode == 0
    assert foreign.run("verify").returncode == 6
    settings.write_text("[tool.backset]\nstrict = true\n")
    held = foreign.run("reset-db")
    assert held.returncode == 4
    assert "drift: column things.name is only in the models" in held.stderr
    assert "[tool.backset] strict = true" in held.stderr


@pytest.mark.slow
def test_a_baseline_makes_a_rebuild_strict(made: Callable[[str], Foreign]) -> None:
    """What is not in it is new; the line says that, and what changes it."""
    foreign = made("stock")
    entry = '{ kind = "drift", what = "something else", reason = "" }'
    (foreign.folder / "backset-baseline.toml").write_text(f"differences = [{entry}]\n")
    env = foreign.folder / "alembic/env.py"
    table = 'Table("things", models, Column("id", Integer, primary_key=True), Column("n", Text))'
    text = f"from sqlalchemy import *\nmodels = MetaData()\n{table}\n"
    env.write_text(text + env.read_text().replace("target_metadata=None", "target_metadata=models"))
    held = foreign.run("reset-db")
    assert held.returncode == 4
    assert "strict, since there is a baseline; otherwise with [tool.backset] strict = false" in (
        held.stderr
    )
    (foreign.folder / "pyproject.toml").write_text("[tool.backset]\nstrict = false\n")
    let = foreign.run("reset-db")
    assert let.returncode == 0, let.stderr
    assert "([tool.backset] strict = false)" in let.stdout


def test_flask_migrate_needs_no_right_script_location(made: Callable[[str], Foreign]) -> None:
    """It sets the folder itself, so what its alembic.ini says has never mattered to anyone."""
    foreign = made("flask")
    ini = foreign.folder / "migrations/alembic.ini"
    ini.write_text(ini.read_text().replace("[alembic]\n", "[alembic]\nscript_location = .\n"))
    assert foreign.run("reset-db").returncode == 0
    assert foreign.query("SELECT version_num FROM alembic_version") == [("0001",)]


def test_a_configuration_without_an_env_py_there_is_seen_from_its_own_folder(
    made: Callable[[str], Foreign],
) -> None:
    """`script_location = .` is what those write who stand in that folder."""
    foreign = made("stock")
    (foreign.folder / "alembic.ini").rename(foreign.folder / "alembic/alembic.ini")
    ini = foreign.folder / "alembic/alembic.ini"
    ini.write_text(ini.read_text().replace("script_location = alembic", "script_location = ."))
    assert foreign.run("reset-db").returncode == 0
    assert foreign.query("SELECT version_num FROM alembic_version") == [("0001",)]


def test_several_heads_are_told_although_env_py_fails(made: Callable[[str], Foreign]) -> None:
    """The state is what the scripts and the catalogs say; env.py's failure stands beside it."""
    foreign = made("stock")
    (first,) = (foreign.folder / "alembic/versions").glob("*.py")
    other = first.read_text().replace('"0001"', '"0002"')
    first.with_name("0002_other.py").write_text(other)
    (foreign.folder / "alembic/env.py").write_text("raise RuntimeError('not like this')\n")
    foreign.query("DROP TABLE precious")
    done = foreign.run("status", DATABASE_URL=foreign.url)
    assert done.returncode == 6
    assert "state     several heads: the scripts have the heads 0001, 0002" in done.stdout
    assert "RuntimeError: not like this" in done.stderr


def test_a_configuration_that_cannot_be_read_is_named(made: Callable[[str], Foreign]) -> None:
    """It is the file that fails, with its line, and neither env.py nor a missing URL."""
    foreign = made("stock")
    with (foreign.folder / "alembic.ini").open("a") as ini:
        ini.write("prepend_sys_path = elsewhere\n")
    done = foreign.run("status")
    assert done.returncode == 4
    assert "alembic.ini" in done.stderr
    assert "option 'prepend_sys_path' in section 'alembic' already exists" in done.stderr
    assert done.stderr.endswith("→ mend that file\n")


@pytest.mark.slow
def test_metadata_that_is_none_is_no_failure_of_env_py(made: Callable[[str], Foreign]) -> None:
    """An upgrade never looks at target_metadata, so it can have been wrong for years."""
    foreign = made("stock")
    env = foreign.folder / "alembic/env.py"
    env.write_text(env.read_text().replace("target_metadata=None", "target_metadata=[object]"))
    done = foreign.run("reset-db")
    assert done.returncode == 0, done.stderr
    assert "env.py has no models to compare" in done.stdout
    assert foreign.run("status").returncode == 0


def noted(foreign: Foreign) -> list[str]:
    """Return one word for each import of the application so far, once it is told to note them."""
    notes = foreign.folder / "imports.txt"
    if not notes.exists():
        (foreign.folder / "application.py").write_text("open('imports.txt', 'a').write('once ')\n")
        env = foreign.folder / "alembic/env.py"
        env.write_text(env.read_text().replace("import asyncio", "import application, asyncio"))
        notes.touch()
    return notes.read_text().split()


@pytest.mark.parametrize(
    "words",
    slow_but([["reset-db"], ["status"], ["verify"], ["upgrade"]], lambda it: len(it[0]) > 7),
)
def test_an_application_is_imported_once(made: Callable[[str], Foreign], words: list[str]) -> None:
    """Its URL is found, and its migrations run, by one process: its import may take seconds."""
    foreign = made("asynchronous")
    noted(foreign)
    assert foreign.run(*words).returncode in {0, 6}
    assert noted(foreign) == ["once"]


def test_what_an_application_puts_into_the_environment_stays(
    made: Callable[[str], Foreign],
) -> None:
    """`load_dotenv()` of a module that is imported is done once; env.py runs several times."""
    foreign = made("asynchronous")
    env = foreign.folder / "alembic/env.py"
    given = 'os.environ["SQLALCHEMY_DATABASE_URI"]'
    text = env.read_text().replace("import asyncio", "import application, asyncio")
    assert given in text
    env.write_text(text.replace(given, 'os.environ["PUT_BY_THE_APPLICATION"]'))
    line = f"import os\nos.environ['PUT_BY_THE_APPLICATION'] = {given}\n"
    (foreign.folder / "application.py").write_text(line)
    done = foreign.run("reset-db")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_env_py_opens_is_remembered_without_the_password(
    made: Callable[[str], Foreign],
) -> None:
    """A rebuild that clones need not import the application to know where its database is."""
    foreign = made("asynchronous")
    noted(foreign)
    assert foreign.run("reset-db").returncode == 0
    known = foreign.folder / "backups/target.known"
    assert known.stat().st_mode & 0o777 == 0o600
    assert not {PASSWORD, quote(PASSWORD, safe="")} & {*json.loads(known.read_text())}
    assert PASSWORD not in known.read_text()
    assert quote(PASSWORD, safe="") not in known.read_text()
    again = foreign.run("reset-db")
    assert "cloned from" in again.stdout, again.stdout + again.stderr
    assert noted(foreign) == ["once"]


SETTINGS = """
from pydantic_settings import BaseSettings

class Settings(BaseSettings):
    sqlalchemy_database_uri: str

config = context.config
"""


@pytest.mark.slow
def test_what_a_settings_class_opens_is_remembered(made: Callable[[str], Foreign]) -> None:
    """Its variable has the password, and another variable of a terminal changes nothing."""
    foreign = made("asynchronous")
    noted(foreign)
    env = foreign.folder / "alembic/env.py"
    text = env.read_text().replace("config = context.config\n", SETTINGS)
    given = 'os.environ["SQLALCHEMY_DATABASE_URI"]'
    assert given in text
    env.write_text(text.replace(given, "Settings().sqlalchemy_database_uri"))
    assert foreign.run("reset-db").returncode == 0
    again = foreign.run("reset-db", SOMETHING="else")
    assert "cloned from" in again.stdout, again.stdout + again.stderr
    assert noted(foreign) == ["once"]


def test_another_url_is_another_database(made: Callable[[str], Foreign]) -> None:
    """What was remembered is good for these very files and variables."""
    foreign = made("asynchronous")
    assert foreign.run("reset-db").returncode == 0
    name = foreign.url.rpartition("/")[2]
    dotenv = foreign.folder / ".env"
    dotenv.write_text(dotenv.read_text().replace(f"/{name}", f"/{name}_other"))
    assert f"{name}_other" in foreign.run("url").stdout
