"""What stands in a database, a script or an output does nothing where it is shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from psycopg import sql

from tests.canary import ACTING, acting
from tests.marks import slow_but
from tests.project import Project, laid_down, migrating

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import psycopg

    from backset.servers.cluster import Cluster

QUOTED = '"' + ACTING.replace('"', '""') + '"'
# Every kind of a name and a text that a database has.
EVERYWHERE = f"""
CREATE SCHEMA {QUOTED};
CREATE TYPE {QUOTED}."k{ACTING}" AS ENUM ('{ACTING}', 'other');
CREATE TABLE {QUOTED} ({QUOTED} text PRIMARY KEY, kind {QUOTED}."k{ACTING}",
                       CONSTRAINT "c{ACTING}" CHECK ({QUOTED} <> ''));
CREATE TABLE {QUOTED}.{QUOTED} (id int PRIMARY KEY, {QUOTED} text DEFAULT '{ACTING}'
                                REFERENCES public.{QUOTED});
CREATE INDEX "i{ACTING}" ON {QUOTED} ({QUOTED}, kind);
CREATE VIEW "v{ACTING}" AS SELECT {QUOTED} FROM {QUOTED};
CREATE FUNCTION "f{ACTING}"() RETURNS text LANGUAGE sql AS $$ SELECT '{ACTING}' $$;
CREATE SEQUENCE "s{ACTING}";
COMMENT ON TABLE {QUOTED} IS '{ACTING}';
COMMENT ON COLUMN {QUOTED}.{QUOTED} IS '{ACTING}';
INSERT INTO {QUOTED} VALUES ('{ACTING}', '{ACTING}');
INSERT INTO {QUOTED}.{QUOTED} VALUES (1, '{ACTING}');
"""
# What no migration makes, and a carry has no place for.
MORE = f"""
ALTER TABLE {QUOTED} ADD "n{ACTING}" text; UPDATE {QUOTED} SET "n{ACTING}" = '{ACTING}';
CREATE TABLE "t{ACTING}" (a text); INSERT INTO "t{ACTING}" VALUES ('{ACTING}')
"""
SEED = f"import sys\nfor stream in (sys.stdout, sys.stderr):\n    print({ACTING!r}, file=stream)\n"
CODES = {
    ("reset-db",): 0,
    ("status",): 0,
    ("history",): 0,
    ("backup",): 0,
    ("backups",): 0,
    ("upgrade",): 0,
    ("verify",): 0,
    ("seed",): 0,
    ("reset-db", "--plan"): 0,
    ("undo", "--plan"): 0,
    ("restore",): 4,
}
FEW = [("reset-db",), ("status",), ("history",), ("backups",)]
IN_JSON = ("status", "reset-db", "history", "backups")


@pytest.fixture
def infested(
    cluster: Cluster, superuser: psycopg.Connection[Any], name: str, tmp_path: Path
) -> Project:
    """A project in which every name, and all that is printed, has what acts."""
    database = name + ACTING
    superuser.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    project = migrating(laid_down(tmp_path / "p", "objects", cluster.url(database)), EVERYWHERE)
    (script,) = (project.folder / "migrations/versions").glob("*.py")
    script.write_text(f"{ACTING!r}\nprint({ACTING!r})\n{script.read_text()}")
    (project.folder / "seed.py").write_text(SEED)
    (project.folder / "pyproject.toml").write_text('[tool.backset]\nseed = ["python", "seed.py"]\n')
    return project


@pytest.mark.parametrize("tasks", slow_but([FEW, [*CODES]], lambda each: each is FEW))
def test_nothing_that_a_database_holds_acts(
    infested: Project, tasks: list[tuple[str, ...]]
) -> None:
    """In no task's lines; in JSON it is as it is."""
    for task in tasks:
        code, done = CODES[task], infested.invoke(*task)
        assert (done.returncode, acting(done.stdout + done.stderr)) == (code, []), (
            task,
            done.stderr,
        )
    for each in IN_JSON if len(tasks) > len(FEW) else ():
        done = infested.invoke(each, "--json")
        assert acting(done.stdout + done.stderr) == [], each
        assert json.loads(done.stdout)["exit_code"] == 0
    told = json.loads(infested.invoke("status", "--json").stdout)
    assert told["database"] == infested.database
    assert {ACTING, f"{ACTING}.{ACTING}"} <= told["rows"].keys()


def test_nothing_acts_when_something_is_wrong(infested: Project) -> None:
    """In the words of an error, of the server and of a script, and in what is to be pasted."""
    assert infested.invoke("reset-db").returncode == 0
    infested.query(MORE)
    done = infested.invoke("reset-db", "--carry")
    assert (done.returncode, acting(done.stdout + done.stderr)) == (4, [])
    assert "left behind" in done.stderr
    done = infested.invoke("reset-db", "--carry", "--write")
    assert (done.returncode, acting(done.stdout + done.stderr)) == (4, [])
    done = infested.invoke("reset-db", "--carry")
    assert (done.returncode, acting(done.stdout + done.stderr)) == (0, []), done.stderr
    with (infested.folder / "seed.py").open("a") as file:
        file.write(f"sys.exit({ACTING!r})\n")
    done = infested.invoke("seed")
    assert (done.returncode, acting(done.stdout + done.stderr)) == (4, [])
    (script,) = (infested.folder / "migrations/versions").glob("*.py")
    script.write_text(f"{script.read_text()}    raise ValueError({ACTING!r})\n")
    done = infested.invoke("reset-db")
    assert (done.returncode, acting(done.stdout + done.stderr)) == (4, [])


def test_nothing_acts_on_a_terminal(infested: Project) -> None:
    """Nor in the line that lives there while a seed prints."""
    for words in (["reset-db"], ["alembic", "--", "history"]):
        code, shown = infested.on_a_terminal(*words)
        assert (code, acting(shown.replace("\r\n", "\n"))) == (0, [])
    assert "z1 (head)" in shown


def test_what_a_program_writes_is_no_command_for_github(infested: Project) -> None:
    """What `psql` and Alembic write goes into the log themselves; into a file it goes as it is."""
    assert infested.invoke("upgrade").returncode == 0
    query = ["psql", "--", "-Atc", f"SELECT '::error::a' || E'\\r' || '::error::b' FROM {QUOTED}"]
    done = infested.invoke(*query, GITHUB_ACTIONS="true")
    assert (done.returncode, "::error::" in done.stdout) == (0, False)
    assert done.stdout.replace("\\u003a", ":") == "::error::a\n::error::b\n"  # \r, as text
    done = infested.invoke("alembic", "--", "history", GITHUB_ACTIONS="true")
    assert done.returncode == 0
    assert [each for each in done.stdout.splitlines() if each.lstrip().startswith("::")] == []
    assert "##[" not in done.stdout
    path = infested.folder / "rows"
    with path.open("wb") as file:
        subprocess.run(
            [sys.executable, "-m", "invoke", *query],
            cwd=infested.folder,
            env={**os.environ, **infested.env, "GITHUB_ACTIONS": "true"},
            stdout=file,
            check=True,
        )
    assert path.read_bytes() == b"::error::a\r::error::b\n"
