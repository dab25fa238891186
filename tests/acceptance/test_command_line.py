"""`invoke alembic -- …` is Alembic's own command line, and reaches the target or nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import sql

from backset.connections.target import Target
from tests.clusters import free_port
from tests.incident.project import run_alembic
from tests.marks import slow_but
from tests.project import TASKS, Project, laid_down

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    import psycopg

ELSEWHERE = "_elsewhere"
CONNECTED = "engine_from_config(section,"


@pytest.fixture
def ini(tmp_path: Path, database_url: str, superuser: psycopg.Connection[Any]) -> Project:
    """A project whose ini file names another database than DATABASE_URL, which is at b1."""
    project = laid_down(tmp_path / "ini", "ini_url", database_url)
    other = f"{project.database}{ELSEWHERE}"
    superuser.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(other)))
    file = project.folder / "alembic.ini"
    url = spelled(Target.parse(database_url).named(other).url)
    file.write_text(file.read_text().replace("ELSEWHERE", url.replace("%", "%%")))
    done = direct(project, "upgrade", "head")
    assert done.returncode == 0, done.stderr
    return project


def spelled(url: str) -> str:
    """Return a URL as SQLAlchemy has it."""
    return url.replace("postgresql:", "postgresql+psycopg:")


def direct(project: Project, *words: str) -> CompletedProcess[str]:
    """Run `alembic` itself, which goes where the ini file says."""
    return run_alembic(project.folder, "", *words)


def versions(project: Project) -> list[str | None]:
    """Return the version of the target, and of the other database."""
    found = []
    for database in (project.database, f"{project.database}{ELSEWHERE}"):
        there = project.query("SELECT to_regclass('alembic_version')::text", database)[0][0]
        rows = there and project.query("SELECT version_num FROM alembic_version", database)
        found.append(rows[0][0] if rows else None)
    return found


def leading(project: Project, url: str) -> None:
    """Let env.py open a database of its own choice."""
    env = project.folder / "migrations/env.py"
    text = env.read_text()
    assert CONNECTED in text
    env.write_text(text.replace(CONNECTED, f'engine_from_config({{"sqlalchemy.url": {url!r}}},'))


@pytest.mark.slow
def test_a_stamp_is_the_targets_whatever_the_ini_file_says(ini: Project) -> None:
    """The other database keeps its version, and each later command sees the same target."""
    done = ini.invoke("alembic", "--", "stamp", "--purge", "a1")
    assert (done.returncode, versions(ini)) == (0, ["a1", "b1"]), done.stderr
    assert ini.invoke("alembic", "--", "current").stdout == "a1\n"
    done = ini.invoke("alembic", "--", "-c", "alembic.ini", "-n", "alembic", "stamp", "b1")
    assert (done.returncode, versions(ini)) == (0, ["b1", "b1"]), done.stderr
    assert ini.invoke("alembic", "--", "downgrade", "base").returncode == 1  # there is no table
    assert versions(ini) == ["b1", "b1"]


@pytest.mark.parametrize("where", slow_but([ELSEWHERE, "postgres"], lambda it: it == ELSEWHERE))
def test_another_database_is_refused(ini: Project, where: str) -> None:
    """One line says where env.py went and what mends it; no database gets a stamp."""
    other = f"{ini.database}{ELSEWHERE}" if where == ELSEWHERE else where
    leading(ini, spelled(Target.parse(ini.url).named(other).url))
    done = ini.invoke("alembic", "--", "stamp", "--purge", "a1")
    assert (done.returncode, done.stdout) == (4, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert f"env.py connected to {other} on " in line
    assert f"not to {Target.parse(ini.url).shown}; nothing was executed" in line
    assert "→ " in line
    assert versions(ini) == [None, "b1"]
    assert ini.query("SELECT to_regclass('alembic_version')", "postgres") == [(None,)]


@pytest.mark.slow
def test_another_server_is_refused_though_the_name_is_the_same(
    ini: Project, tmp_path: Path
) -> None:
    """What another kind of database answers counts as little."""
    leading(ini, f"sqlite:///{tmp_path / 'x.db'}")
    done = ini.invoke("alembic", "--", "upgrade", "head")
    assert done.returncode == 4
    assert "env.py connected to a database of sqlite, not to " in done.stderr
    assert versions(ini) == [None, "b1"]


@pytest.mark.slow
def test_no_server_is_needed_where_alembic_needs_none(ini: Project) -> None:
    """Neither a server nor a database has to be there, and the words are Alembic's own."""
    missing = Target.parse(ini.url).named(f"{ini.database}_missing").url
    nobody = f"postgresql://u:c4nary@127.0.0.1:{free_port()}/db"
    for words, url in (
        *((["heads"], missing), (["history", "-v"], nobody), (["branches"], missing)),
        *((["show", "a1"], nobody), (["list_templates"], nobody)),
    ):
        done = ini.invoke("alembic", "--", *words, DATABASE_URL=url)
        assert (done.returncode, done.stdout) == (0, direct(ini, *words).stdout), done.stderr
    made = ini.invoke("alembic", "--", "revision", "-m", "by hand", "--rev-id", "c1", **on(nobody))
    assert made.returncode == 0, made.stderr
    assert (ini.folder / "migrations/versions/c1_by_hand.py").is_file()
    assert ini.invoke("alembic", "--", "init", "other", **on(nobody)).returncode == 0
    assert (ini.folder / "other/env.py").is_file()
    written = ini.invoke("alembic", "--", "upgrade", "a1:b1", "--sql", **on(nobody))
    assert "CREATE TABLE tasks" in written.stdout, written.stderr


def on(url: str) -> dict[str, str]:
    """Return the environment with that URL."""
    return {"DATABASE_URL": url}


@pytest.mark.slow
def test_what_needs_a_database_that_is_missing_says_so(ini: Project) -> None:
    """In one line of ours: env.py would have opened another one, or failed with a traceback."""
    missing = Target.parse(ini.url).named(f"{ini.database}_missing").url
    done = ini.invoke("alembic", "--", "upgrade", "head", DATABASE_URL=missing)
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert f'database "{ini.database}_missing" does not exist' in line


@pytest.mark.slow
def test_it_ends_as_alembic_does(ini: Project) -> None:
    """The same exit status, stdout and stderr, for what it refuses and for what it asks."""
    leading(ini, spelled(ini.url))
    assert direct(ini, "upgrade", "head").returncode == 0
    for words in (
        *(["upgrade", "nonsense"], ["nonsense"], [], ["--version"], ["current", "-v"]),
        *(["-n", "nothing", "heads"], ["-c", "nothing.ini", "heads"]),
    ):
        wanted, done = direct(ini, *words), ini.invoke("alembic", "--", *words)
        assert (done.returncode, done.stdout) == (wanted.returncode, wanted.stdout), words
        assert done.stderr == wanted.stderr, words
    wanted, done = direct(ini, "downgrade", "+1"), ini.invoke("alembic", "--", "downgrade", "+1")
    assert (done.returncode, done.stdout) == (255, wanted.stdout)
    assert "FAILED: " in done.stdout


def test_arguments_of_env_py_are_passed_on(ini: Project) -> None:
    """Those of the settings come first, and those of the command line with them."""
    (ini.folder / "pyproject.toml").write_text('[tool.backset]\narguments = ["a=1"]\n')
    done = ini.invoke("alembic", "--", "-x", "b=2", "current")
    assert (done.returncode, done.stdout) == (0, "-x a is 1\n-x b is 2\n"), done.stderr


@pytest.mark.slow
def test_it_has_the_terminal(ini: Project) -> None:
    """A migration may ask; what is typed reaches it, and its stdout is a terminal."""
    script = ini.folder / "migrations/versions/c1_asks.py"
    script.write_text(
        'import sys\nrevision, down_revision = "c1", "b1"\n'
        'def upgrade(): print(sys.stdout.isatty(), input("sure? ") == "of course")\n'
    )
    code, shown = ini.on_a_terminal("alembic", "--", "upgrade", "head", typed="of course\n")
    assert code == 0, shown
    assert "sure? " in shown
    assert "True True" in shown
    assert versions(ini) == ["c1", "b1"]


@pytest.mark.parametrize(
    ("signum", "code"),
    slow_but([(signal.SIGTERM, 143), (signal.SIGINT, 130)], lambda case: case[1] == 143),
)
def test_a_signal_ends_it(ini: Project, signum: int, code: int) -> None:
    """INT as a terminal sends it, to both; TERM to us alone. Nothing goes on, and nothing stays."""
    script = ini.folder / "migrations/versions/c1_waits.py"
    script.write_text(
        'from alembic import op\nrevision, down_revision = "c1", "b1"\n'
        'def upgrade(): op.execute("SELECT pg_sleep(60)")\n'
    )
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'"
    waiting += f" AND datname = '{ini.database}'"
    with subprocess.Popen(
        [sys.executable, "-m", "invoke", "alembic", "--", "upgrade", "head"],
        cwd=ini.folder,
        env={**os.environ, **ini.env},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        wait_for(lambda: ini.query(waiting, "postgres") == [(1,)])
        (os.killpg if signum == signal.SIGINT else os.kill)(process.pid, signum)
        assert process.wait(30) == code
    wait_for(lambda: ini.query(waiting, "postgres") == [(0,)])
    assert versions(ini) == [None, "b1"]


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_driver_without_a_thread_of_its_own(tmp_path: Path, tcp_url: str) -> None:
    """An async env.py is held to the target as well, also where it takes no URL of ours."""
    url = tcp_url.replace("postgresql:", "postgresql+asyncpg:")
    project = laid_down(tmp_path / "async", "async", url)
    done = project.invoke("alembic", "--", "upgrade", "head")
    assert done.returncode == 0, done.stderr
    assert project.query("SELECT version_num FROM alembic_version") == [("b1",)]
    other = Target.parse(url).named("postgres").url
    env = project.folder / "migrations/env.py"
    text = env.read_text()
    assert 'os.environ["DATABASE_URL"]' in text
    env.write_text(text.replace('os.environ["DATABASE_URL"]', repr(other)))
    refused = project.invoke("alembic", "--", "stamp", "--purge", "base")
    assert refused.returncode == 4
    assert "env.py connected to postgres on " in refused.stderr
    assert project.query("SELECT version_num FROM alembic_version") == [("b1",)]


@pytest.mark.slow
def test_an_editor_is_opened(ini: Project) -> None:
    """As `alembic edit` does it."""
    done = ini.invoke("alembic", "--", "edit", "a1", EDITOR=f"{shutil.which('cat')}")
    assert (done.returncode, "CREATE TABLE users" in done.stdout) == (0, True), done.stderr


@pytest.mark.slow
def test_a_project_without_a_database_has_its_command_line(tmp_path: Path) -> None:
    """`init` in an empty folder, and `heads` after that; no server is started for them."""
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "tasks.py").write_text(TASKS)
    project = Project(folder)
    done = project.invoke("alembic", "--", "init", "migrations")
    assert done.returncode == 0, done.stderr
    for words in (["heads"], ["history"], ["list_templates"]):
        assert project.invoke("alembic", "--", *words).returncode == 0, words
    assert not (folder / ".backset").exists()
    done = project.invoke("alembic", "--", "current")
    assert done.returncode != 0
    assert "DATABASE_URL is not set" in done.stderr


@pytest.fixture
def chains(tmp_path: Path, database_url: str) -> Project:
    """A project with two chains of revisions in one database."""
    return laid_down(tmp_path / "chains", "door/chains", database_url)


@pytest.mark.slow
def test_one_of_several_chains_is_chosen(chains: Project) -> None:
    """By its name, or by its section; without either, the line names them."""
    undecided = chains.invoke("alembic", "--", "heads")
    assert undecided.returncode == 2
    assert "the database has several chains: core, billing → " in undecided.stderr
    command = re.findall(r"`invoke (alembic .*) -- …`", undecided.stderr)[0]
    assert chains.invoke(*command.split(), "--", "heads").stdout == "core1 (head)\n"
    assert chains.invoke("alembic", "--chain=billing", "--", "heads").stdout == "billing1 (head)\n"
    assert chains.invoke("alembic", "--", "-n", "billing", "heads").stdout == "billing1 (head)\n"
    assert chains.invoke("alembic", "--", "-nbilling", "upgrade", "head").returncode == 0
    assert chains.query("SELECT version_num FROM billing_version") == [("billing1",)]
    assert chains.query("SELECT to_regclass('core_version')") == [(None,)]
    unknown = chains.invoke("alembic", "--chain", "cor", "--", "heads")
    assert unknown.returncode == 2
    assert "there is no chain 'cor'" in unknown.stderr
    assert "core, billing" in unknown.stderr


@pytest.mark.slow
def test_the_printed_lines_are_one_for_each_chain(chains: Project) -> None:
    """What status says of several chains can be typed as it stands."""
    assert chains.invoke("reset-db").returncode == 0
    chains.query("DROP TABLE core_version, billing_version")
    proved = chains.invoke("status", "--prove")
    command = re.findall(r"cure +(invoke alembic .*): a scratch", proved.stdout)[0]
    assert command == (
        "invoke alembic --chain core -- stamp --purge core1 && "
        "invoke alembic --chain billing -- stamp --purge billing1"
    )
    for each in command.split(" && "):
        assert chains.invoke(*each.split()[1:]).returncode == 0
    assert chains.query("SELECT version_num FROM core_version") == [("core1",)]
    assert chains.query("SELECT version_num FROM billing_version") == [("billing1",)]
