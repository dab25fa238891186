"""`reset-db --carry`: a clean schema, and the rows that were there."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from backset import execution
from backset.chain import CHAINS
from backset.runs.consent import Consent
from backset.runs.run import Run
from backset.settings.reader import load
from tests.incident.fingerprint import fingerprint
from tests.incident.project import CLEAN_REVISION, COUNTS, break_it

if TYPE_CHECKING:
    from tests.project import Project


@pytest.fixture
def broken(project: Project) -> Project:
    """The project of the runbook with its broken database: two users, three tasks, six outputs."""
    break_it(project.folder, project.url)
    return project


@pytest.fixture
def built(project: Project) -> Project:
    """A project whose database was built, with the mock data."""
    assert project.invoke("reset-db").returncode == 0
    return project


def configure(project: Project, text: str) -> None:
    """Add settings to the project's."""
    path = project.folder / "pyproject.toml"
    path.write_text(path.read_text() + text)


def test_the_incident_keeps_every_row(broken: Project) -> None:
    """An orphaned database comes to the clean schema with all that its developers had."""
    old = broken.query("SELECT id, email, name, is_active, created_at FROM users ORDER BY id")
    contents = "SELECT id, task_id, variation_id, content, output_type FROM task_outputs ORDER BY 1"
    outputs = broken.query(contents)
    done = broken.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stderr
    assert "carry     task_outputs 6 · tasks 3 · users 2" in done.stdout
    assert "mock" not in done.stdout
    assert broken.query(COUNTS) == [(2, 3, 6)]
    assert broken.query("SELECT version_num FROM alembic_version") == [(CLEAN_REVISION,)]
    assert broken.query(contents) == outputs
    zoned = "SELECT id, email, name, is_active, created_at::timestamp FROM users ORDER BY id"
    assert broken.query(zoned) == old
    findings = json.loads(broken.invoke("verify", "--json").stdout)["findings"]
    assert {each["kind"] for each in findings} == {"missing rows"}  # those of the mock data
    # The identities go on behind the rows.
    added = broken.query(
        "INSERT INTO tasks (github_url, prompt, user_id) VALUES ('u', 'p', 'u1') RETURNING id"
    )
    assert added == [(4,)]


@pytest.mark.slow
def test_rows_survive_rebuild_after_rebuild(built: Project) -> None:
    """Twice carried is the same content, to the last byte; and undo goes back to the same."""
    before = fingerprint(built.url)
    for _ in range(2):
        assert built.invoke("reset-db", "--carry").returncode == 0
        assert fingerprint(built.url) == before
    assert built.invoke("undo").returncode == 0
    assert fingerprint(built.url) == before


def test_what_has_no_place_stops_the_run(built: Project) -> None:
    """Exit 4 before the first row, with the line that mends it; the database is as it was."""
    built.query("ALTER TABLE users ADD nickname text; UPDATE users SET nickname = 'secret one'")
    before = fingerprint(built.url)
    done = built.invoke("reset-db", "--carry")
    assert done.returncode == 4
    assert "users.nickname (1 value): the new schema has no such column" in done.stderr
    assert '--drop-data, or [tool.backset] leave = ["users.nickname"]' in done.stderr
    assert "is as it was" in done.stderr
    assert "secret one" not in done.stderr
    assert fingerprint(built.url) == before
    planned = built.invoke("reset-db", "--carry", "--plan")
    assert (planned.returncode, planned.stderr.count("left behind:")) == (4, 1)
    assert "would carry task_outputs 30" in planned.stdout
    assert fingerprint(built.url) == before
    done = built.invoke("reset-db", "--carry", "--drop-data", "--json")
    content = json.loads(done.stdout)
    (step,) = [each for each in content["steps"] if each["step"] == "carry"]
    assert step["left"] == [{"what": "column", "name": "users.nickname", "count": 1}]
    assert step["rows"] == {"task_outputs": 30, "tasks": 5, "users": 1}


@pytest.mark.slow
def test_what_is_printed_can_be_pasted(built: Project) -> None:
    """The block that it ends with mends all of it at once, what was left behind before included."""
    built.query(
        "ALTER TABLE users ADD nickname text, ADD shop text, ADD old text, "
        "ALTER name DROP NOT NULL; UPDATE users SET nickname = 'n', shop = 's', old = 'o'; "
        "ALTER TABLE tasks ALTER prompt DROP NOT NULL; UPDATE tasks SET prompt = NULL"
    )
    path = built.folder / "pyproject.toml"
    built.configure("[tool.backset]\n", '[tool.backset]\nleave = ["users.old"]\n')
    done = built.invoke("reset-db", "--carry")
    assert done.returncode == 4
    _, _, block = done.stderr.partition(" in pyproject.toml:\n")
    written = tomllib.loads(path.read_text())
    path.write_text(f"{path.read_text()}\n{block}")
    after = tomllib.loads(path.read_text())["tool"]["backset"]
    assert after == {**written["tool"]["backset"], "fill": after["fill"]}
    _, _, lines = block.strip().partition("[tool.backset], which is there already:\n# ")
    lines = lines.partition("\n")[0]
    assert lines == 'leave = ["users.old", "users.nickname", "users.shop"]'
    built.configure('leave = ["users.old"]\n', f"{lines}\n")
    done = built.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stderr
    assert built.query("SELECT DISTINCT prompt FROM tasks") == [("",)]


def test_what_is_chosen_is_written(built: Project) -> None:
    """Shown as a diff first; what only the user can choose is not, and no value is lost by it."""
    built.query(
        "ALTER TABLE users RENAME github_username TO login; ALTER TABLE users ADD old jsonb;"
        """UPDATE users SET old = '{}', login = 'me'"""
    )
    path = built.folder / "pyproject.toml"
    before = path.read_text()
    planned = built.invoke("reset-db", "--carry", "--write", "--plan")
    assert (planned.returncode, path.read_text()) == (4, before)
    assert '+leave = ["users.old"]' in planned.stderr
    done = built.invoke("reset-db", "--carry", "--write")
    assert done.returncode == 4
    assert '+leave = ["users.old"]' in done.stderr
    assert "pyproject.toml has what is shown above: run this again" in done.stderr
    settings = tomllib.loads(path.read_text())["tool"]["backset"]
    assert (settings["leave"], settings.get("rename", {}), settings.get("fill", {})) == (
        ["users.old"], {}, {},
    )  # fmt: skip
    again = built.invoke("reset-db", "--carry", "--write", "--json")
    assert "users.login" in json.loads(again.stdout)["error"]["lines"][0]
    assert "pyproject" not in json.loads(again.stdout)
    (renaming,) = re.findall(
        r'^# ("users.github_username" = "users.login")', done.stderr, re.MULTILINE
    )
    path.write_text(f"{path.read_text()}\n[tool.backset.rename]\n{renaming}\n")
    done = built.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stderr
    assert built.query("SELECT count(*) FROM users WHERE github_username = 'me'") == [(1,)]


def test_rules_mend_what_does_not_fit(built: Project) -> None:
    """A renamed table and column, a filled one, and a type that loses nothing."""
    built.query(
        "ALTER TABLE tasks DROP CONSTRAINT ck_tasks_status; "
        "ALTER TABLE users RENAME TO people; ALTER TABLE people RENAME name TO called; "
        "ALTER TABLE tasks DROP archived, ALTER variations TYPE text; "
        "ALTER TABLE tasks ALTER status TYPE varchar(20); UPDATE tasks SET status = 'interrupted'"
    )
    names = built.query("SELECT called FROM people")
    configure(
        built,
        '[tool.backset.rename]\nusers = "people"\n"users.name" = "people.called"\n'
        '[tool.backset.fill]\n"tasks.archived" = "prompt <> \'\'"\n'
        "\"tasks.status\" = \"CASE status WHEN 'interrupted' THEN 'cancelled' ELSE status END\"\n",
    )
    done = built.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stderr
    assert built.query("SELECT name FROM users") == names
    assert built.query("SELECT DISTINCT archived, status FROM tasks") == [(True, "cancelled")]
    assert built.invoke("reset-db", "--carry").returncode == 0, "the rules can stay"
    assert built.query("SELECT DISTINCT archived, status FROM tasks") == [(True, "cancelled")]


def test_some_tables(built: Project) -> None:
    """--carry=users takes these alone; what refers to a table that is left out is told first."""
    done = built.invoke("reset-db", "--carry=tasks")
    assert done.returncode == 4
    assert "--carry tasks,users" in done.stderr
    assert built.invoke("reset-db", "--carry=users").returncode == 0
    assert built.query(COUNTS) == [(1, 0, 0)]
    done = built.invoke("reset-db", "--carry=usres")
    assert done.returncode == 4
    assert "usres" in done.stderr


def test_the_settings_and_the_flag(built: Project) -> None:
    """The key carries without a flag; `--carry=` and `--seed` say otherwise."""
    built.query("INSERT INTO users (id, email) VALUES ('me', 'me@here')")
    assert built.invoke("reset-db", BACKSET_CARRY="users").returncode == 0
    assert built.query(COUNTS) == [(2, 0, 0)]
    assert built.invoke("reset-db", "--seed", BACKSET_CARRY="users").returncode == 0
    assert built.query(COUNTS) == [(2, 5, 30)]
    assert built.invoke("reset-db", "--carry=", BACKSET_CARRY="users").returncode == 0
    assert built.query(COUNTS) == [(1, 5, 30)]
    for flag in ("--seed", "--drop-data"):
        done = built.invoke("reset-db", flag)
        assert done.returncode == 2
        assert f"{flag} is about a run that carries rows" in done.stderr
    done = built.invoke("reset-db", "--carry=a,,b")
    assert done.returncode == 2
    assert "it must be a list of tables" in done.stderr


@pytest.mark.slow
def test_a_new_database_has_nothing_to_carry(project: Project) -> None:
    """Where there is no database yet, or an empty one, --carry is no error."""
    done = project.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stderr
    assert f"nothing to carry ({project.database} is empty)" in done.stdout
    project.env["DATABASE_URL"] = project.url.replace(project.database, f"{project.database}_2")
    assert "nothing to carry (the database is new)" in project.invoke("reset-db", "--carry").stdout


def test_a_rebuild_that_carries_nothing_does_not_say_why(
    built: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for it: a database with rows is neither new nor empty."""
    monkeypatch.setenv("DATABASE_URL", built.url)
    settings = load(built.folder)
    assert settings.target
    with Run(settings, settings.target, "test", beside=True) as run:
        planned = execution.plan(
            run, CHAINS["reset-db"], skip=frozenset(), consent=Consent(yes=True)
        )
    assert "carry" not in dict(planned.lines)


def test_rows_of_the_migrations(built: Project) -> None:
    """Rows that a migration writes give way to those of the same key; the others stay."""
    (built.folder / "alembic/versions/c0ffee00000a_lookup.py").write_text(
        'from alembic import op\nrevision, down_revision = "c0ffee00000a", "0b228e9fec0b"\n'
        'def upgrade(): op.execute("INSERT INTO users (id, email) VALUES '
        "('me', 'new@x'), ('added', 'added@x')\")\n"
        "def downgrade(): pass\n"
    )
    built.query("INSERT INTO users (id, email) VALUES ('me', 'old@x'), ('mine', 'mine@x')")
    for _ in range(2):
        done = built.invoke("reset-db", "--carry")
        assert done.returncode == 0, done.stderr
        found = dict(built.query("SELECT id, email FROM users"))
        assert len(found) == 4
        assert found["me"] == "old@x"
        assert {"mine", "added"} <= found.keys()


@pytest.mark.slow
def test_views_that_hold_rows_are_filled(built: Project) -> None:
    """A materialized view of a migration shows the carried rows."""
    (built.folder / "alembic/versions/c0ffee00000a_view.py").write_text(
        'from alembic import op\nrevision, down_revision = "c0ffee00000a", "0b228e9fec0b"\n'
        'def upgrade(): op.execute("CREATE MATERIALIZED VIEW busy AS SELECT count(*) FROM tasks; '
        'CREATE MATERIALIZED VIEW busier AS TABLE busy")\n'
        "def downgrade(): pass\n"
    )
    done = built.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stderr
    assert built.query("TABLE busier") == [(5,)]
