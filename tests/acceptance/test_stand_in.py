"""A throw-away server stands in for the project's own, wherever the project has its settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.test_any_project import FLAGS, NAMES, PROJECTS
from tests.clusters import free_port
from tests.marks import slow_but
from tests.project import in_this_process

if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[..., subprocess.CompletedProcess[str]]

PASSWORD = "c4n:ary"
QUICK = {"parts"}


@pytest.fixture
def laid(tmp_path: Path) -> Callable[[str], Path]:
    """Lay a repository down whose settings name a server that is not there."""
    port = free_port()
    url = f"postgresql+psycopg://shop:c4n%3Aary@127.0.0.1:{port}/shopdb"
    words = {
        "@url@": url,
        "@url%%@": url.replace("%", "%%"),
        "@host@": "127.0.0.1",
        "@port@": str(port),
        "@user@": "shop",
        "@password@": PASSWORD,
        "@database@": "shopdb",
    }

    def lay(project: str) -> Path:
        folder = tmp_path / "repository"
        shutil.copytree(PROJECTS / project, folder)
        for path in filter(Path.is_file, folder.rglob("*")):
            text = path.read_text()
            for word, value in words.items():
                text = text.replace(word, value)
            path.write_text(text)
        return folder

    return lay


def check(folder: Path, *flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `backset check` there."""
    given = {"VIRTUAL_ENV": sys.prefix, **env}
    return in_this_process(["backset", *flags, "check"], folder, given)


def add(folder: Path, *statements: str) -> None:
    """Let the first migration run more statements at its end."""
    (path,) = folder.rglob("0001_things.py")
    lines = [f"    op.execute({each!r})\n" for each in statements]
    text = path.read_text()
    assert "def downgrade" in text
    path.write_text(text.replace("\n\ndef downgrade", "".join(lines) + "\n\ndef downgrade", 1))


@pytest.mark.parametrize("project", slow_but(NAMES, lambda name: name in QUICK))
def test_no_project_needs_its_own_server(laid: Callable[[str], Path], project: str) -> None:
    """What env.py opens is opened on the throw-away one; the role has the project's own name."""
    folder = laid(project)
    add(folder, "ALTER TABLE things OWNER TO shop", "ALTER DATABASE shopdb SET work_mem = '8MB'")
    done = check(folder, *FLAGS.get(project, []))
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr


def test_roles_that_migrations_grant_to_are_there(laid: Callable[[str], Path]) -> None:
    """They belong to the project's cluster, so the throw-away one gets those that are missed."""
    folder = laid("parts")
    add(
        folder,
        "GRANT SELECT ON things TO app_reader",
        'ALTER TABLE things OWNER TO "Owner-1"',
        "CREATE POLICY mine ON things TO app_reader, other",
    )
    done = check(folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_role_that_every_cluster_has(laid: Callable[[str], Path]) -> None:
    """A project that is `postgres` at home is so here."""
    folder = laid("parts")
    add(folder, "ALTER TABLE things OWNER TO postgres")
    done = check(folder, APP__DATABASE__USER="postgres")
    assert done.returncode == 0, done.stderr


ENV_PY = """
from alembic import context
from sqlalchemy import create_engine, text
{url}
with create_engine(url).connect() as connection:
    {before}
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
"""
IN_FILES = """
import json, pathlib, sqlalchemy
at = json.loads(pathlib.Path("settings.json").read_text())
at["password"] = pathlib.Path("secrets/db_password").read_text().strip()
url = sqlalchemy.URL.create("postgresql+psycopg", **at)
"""


@pytest.fixture
def in_files(laid: Callable[[str], Path]) -> Path:
    """A project that has its settings in files, and its password in a folder of secrets."""
    folder = laid("stock")
    at = f'{{"host": "db.invalid", "port": {free_port()}, "username": "shop", "database": "shop"}}'
    (folder / "settings.json").write_text(at)
    (folder / "secrets").mkdir()
    (folder / "secrets/db_password").write_text(f"{PASSWORD}\n")
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = alembic\n")
    write_env(folder)
    return folder


def write_env(folder: Path, url: str = IN_FILES, before: str = "pass") -> None:
    """Write its env.py; before: what that does before the migrations."""
    (folder / "alembic/env.py").write_text(ENV_PY.format(url=url, before=before))


def test_settings_that_no_variable_can_lead(in_files: Path) -> None:
    """Files and secrets are as they are; the connection goes elsewhere all the same."""
    done = check(in_files)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "opening",
    slow_but(
        [
            "import psycopg; psycopg.connect(f'host={at[\"host\"]} dbname=shop user=shop').close()",
            "import psycopg2; psycopg2.connect(host=at['host'], dbname='shop').close()",
            (
                "import asyncio, asyncpg; at['user'] = at.pop('username'); "
                "asyncio.run(asyncpg.connect(**at, ssl='require'))"
            ),
            "create_engine(url.set(drivername='postgresql+pg8000')).connect().close()",
            "create_engine(url.set(database='postgres')).connect().close()",
            (
                "more = {'sslmode': 'require', 'hostaddr': '192.0.2.1'}; "
                "create_engine(url, connect_args=more).connect().close()"
            ),
        ],
        lambda each: "asyncpg" in each,
    ),
)
@pytest.mark.slow
def test_every_driver_is_led_there(in_files: Path, opening: str) -> None:
    """Also where a project opens a connection past SQLAlchemy, or wants TLS of its server."""
    write_env(in_files, before=opening)
    done = check(in_files)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_databases_are_not_built_in_one(in_files: Path) -> None:
    """What belongs into a second one is refused, and nothing is opened for it."""
    write_env(in_files, before="create_engine(url.set(database='other')).connect()")
    done = check(in_files)
    assert done.returncode == 4
    assert "env.py connected to other on db.invalid" in done.stderr


@pytest.mark.slow
def test_the_projects_own_command_is_told_all_of_it(laid: Callable[[str], Path]) -> None:
    """Its five variables name the throw-away server, without a line of settings."""
    folder = laid("parts")
    command = f'upgrade = ["{sys.executable}", "-m", "alembic", "upgrade", "head"]\n'
    (folder / "pyproject.toml").write_text(f"[tool.backset]\n{command}")
    done = check(folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_command_that_knows_libpqs_variables_alone(in_files: Path) -> None:
    """They name the throw-away server, too."""
    write_env(in_files, "url = 'postgresql+psycopg://'")
    command = f'upgrade = ["{sys.executable}", "-m", "alembic", "upgrade", "head"]\n'
    (in_files / "pyproject.toml").write_text(f"[tool.backset]\n{command}")
    done = check(in_files, PGHOST="db.invalid", PGUSER="shop", PGDATABASE="shop", PGPASSWORD="x")
    assert done.returncode == 0, done.stderr


def test_a_command_that_would_go_elsewhere_is_not_run(in_files: Path) -> None:
    """The project's own database is no place for a check."""
    line = "upgrade = ['python', '-c', 'open(\"was_run\", \"w\")']\n"
    (in_files / "pyproject.toml").write_text(f"[tool.backset]\n{line}")
    done = check(in_files)
    assert done.returncode == 4
    assert "was not run: env.py leads to postgresql+psycopg://shop@db.invalid" in done.stderr
    assert not (in_files / "was_run").exists()


HIDDEN = """
import importlib.machinery as m
found = m.PathFinder.find_spec
m.PathFinder.find_spec = classmethod(
    lambda cls, name, *more: None if name in {names} else found(name, *more)
)
"""


@pytest.fixture
def hiding(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Make an interpreter that lacks some packages; return the variables that lead to it."""

    def hide(*names: str) -> dict[str, str]:
        program = tmp_path / "other/bin/python"
        program.parent.mkdir(parents=True)
        (tmp_path / "hidden").mkdir()
        (tmp_path / "hidden/sitecustomize.py").write_text(HIDDEN.format(names=set(names)))
        program.write_text(
            f'#!/bin/sh\nPYTHONPATH={tmp_path / "hidden"} exec {sys.executable} "$@"\n'
        )
        program.chmod(0o755)
        return {"VIRTUAL_ENV": str(tmp_path / "other")}

    return hide


WAITS = "import os\nurl = os.environ['DATABASE_URL']"


@pytest.mark.parametrize("task", slow_but([["check"], ["reset-db"]], lambda it: it == ["check"]))
@pytest.mark.slow
def test_the_driver_is_one_that_is_installed(
    in_files: Path, hiding: Callable[..., dict[str, str]], task: list[str]
) -> None:
    """`postgresql://` alone means one that the project need not have; also where it is ours."""
    write_env(in_files, WAITS)
    env = hiding("psycopg", "asyncpg", "pg8000")
    done = in_this_process(["backset", *task], in_files, env)
    assert done.returncode == 0, done.stderr
    in_this_process(["backset", "stop"], in_files, env)


@pytest.mark.slow
def test_the_driver_is_that_of_the_projects_url(
    in_files: Path, hiding: Callable[..., dict[str, str]]
) -> None:
    """Its own spelling is what its code understands."""
    write_env(in_files, f"{WAITS}\nassert url.startswith('postgresql+pg8000://shop:'), url")
    url = "postgresql+pg8000://shop:x@db.invalid/shop"
    done = in_this_process(["backset", "check"], in_files, {**hiding(), "DATABASE_URL": url})
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_rehearsal_needs_no_setting_either(laid: Callable[[str], Path]) -> None:
    """`nox -s migrate` on a throw-away server: its roles, its variables, its redirection."""
    folder = laid("parts")
    add(folder, "GRANT SELECT ON things TO app_reader", "ALTER TABLE things OWNER TO shop")
    text = "from backset.nox import migrate_session\n\nmigrate_session()\n"
    (folder / "noxfile.py").write_text(text)
    given = {k: v for k, v in os.environ.items() if k not in {"CI", "DATABASE_URL"}}
    done = subprocess.run(
        [sys.executable, "-m", "nox", "--no-color", "-s", "migrate(18)"],
        cwd=folder,
        env={**given, "VIRTUAL_ENV": sys.prefix},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "✔ a database is made" in done.stdout, done.stdout + done.stderr
    assert "✔ undo goes back" in done.stdout, done.stdout + done.stderr
    assert "✔ at head again" in done.stdout, done.stdout + done.stderr
