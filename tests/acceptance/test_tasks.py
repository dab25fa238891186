"""Every task through the front door: what it says, what it does, and its exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.connections.target import Target
from tests.incident.project import lay_down
from tests.project import REPOSITORY, Project, databases, prints
from tests.states import rebuilt

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.every_python

CHAIN = """\
 ✔ backup    nothing to back up ({name} is empty)
 ✔ reset     {next} created
 ✔ upgrade   base → 0b228e9fec0b, 1 revision
 ✔ verify    4 tables, models and database agree
 ✔ seed      users 1 · tasks 5 · task_outputs 30
 ✔ promote   {name} is the new database
 done in SECONDS s · `invoke undo` swaps the old one back · `invoke psql` opens it
"""


def seconds_hidden(text: str) -> str:
    """Return the output without the one thing that differs between runs."""
    return re.sub(r"done in [\d.]+ s", "done in SECONDS s", text)


def test_the_chain_says_each_step_as_it_happens(project: Project) -> None:
    """Plain lines where stdout is no terminal, and nothing on stderr."""
    name = Target.parse(project.url).database
    done = project.invoke("reset-db")
    assert (done.returncode, done.stderr) == (0, "")
    assert seconds_hidden(done.stdout) == CHAIN.format(next=f"{name}__next", name=name)
    assert databases(project) == {"", "__previous", "__clean"}


def test_a_database_that_does_not_exist_is_made(project: Project) -> None:
    """There is nothing to undo then, and no such promise is printed."""
    project.env["DATABASE_URL"] = (
        Target.parse(project.url).named(f"{Target.parse(project.url).database}_x").url
    )
    done = project.invoke("reset-db")
    assert done.returncode == 0
    assert "invoke undo" not in done.stdout
    assert databases(project) == {"", "__clean"}


def test_json_is_one_object_and_nothing_else(project: Project) -> None:
    """A program can read every step, its seconds and its figures."""
    done = project.invoke("reset-db", "--json")
    content = json.loads(done.stdout)
    assert done.stderr == ""
    assert [step["step"] for step in content["steps"]] == [
        "backup",
        "reset",
        "upgrade",
        "verify",
        "seed",
        "promote",
    ]
    assert content["steps"][4]["rows"]["task_outputs"] == 30
    assert (content["exit_code"], content["error"], content["findings"]) == (0, None, [])
    assert content["database"] == Target.parse(project.url).database


def test_undo_and_redo(project: Project) -> None:
    """Every row of the old database is back, and every row of the new one after that."""
    rebuilt(project)
    project.query("INSERT INTO users (id, email) VALUES ('me', 'me@here')")
    old = prints(project)
    assert project.invoke("reset-db").returncode == 0
    new = prints(project)
    assert old["public.users"] != new["public.users"]
    for expected in (old, new, old):
        done = project.invoke("undo")
        assert done.returncode == 0
        assert prints(project) == expected


def test_undo_without_a_previous_database_says_so(project: Project) -> None:
    """Exit 4, and where else to look."""
    done = project.invoke("undo")
    assert done.returncode == 4
    assert "there is no" in done.stderr
    assert "a rebuild, such as `invoke reset-db`, keeps one" in done.stderr
    assert project.invoke("upgrade", "backup").returncode == 0
    assert "choose a dump from `invoke backups`" in project.invoke("undo").stderr
    assert project.invoke("undo", "--plan").returncode == 4


def test_each_step_alone_on_the_live_target(project: Project) -> None:
    """`invoke backup reset upgrade verify seed` in one line does what reset-db does."""
    rebuilt(project)
    project.query("INSERT INTO users (id, email) VALUES ('me', 'me@here')")
    done = project.invoke("backup", "reset", "upgrade", "verify", "seed")
    assert done.returncode == 0, done.stderr
    assert project.query("SELECT count(*) FROM users") == [(1,)]
    name = Target.parse(project.url).database
    assert project.query("SELECT count(*) FROM users", f"{name}__previous") == [(2,)]
    assert len(json.loads(project.invoke("backups", "--json").stdout)["backups"]) == 2


def test_upgrade_is_incremental_and_never_destructive(project: Project) -> None:
    """It makes the database, migrates it, and leaves rows alone the next time."""
    project.env["DATABASE_URL"] = (
        Target.parse(project.url).named(f"{Target.parse(project.url).database}_y").url
    )
    assert "base → 0b228e9fec0b, 1 revision" in project.invoke("upgrade").stdout
    project.query("INSERT INTO users (id, email) VALUES ('me', 'me@here')")
    assert "already at 0b228e9fec0b" in project.invoke("upgrade").stdout
    assert project.query("SELECT id FROM users") == [("me",)]
    assert databases(project) == {""}


def test_restore_builds_from_a_dump_and_can_be_undone(project: Project) -> None:
    """The rows of the moment of the backup are back; undo gives those of now."""
    rebuilt(project)
    then = prints(project)
    assert project.invoke("backup").returncode == 0
    project.query("DELETE FROM task_outputs")
    now = prints(project)
    done = project.invoke("restore", "--yes")
    assert done.returncode == 0, done.stderr
    assert prints(project) == then
    assert project.invoke("undo").returncode == 0
    assert prints(project) == now
    (name,) = [
        each["name"] for each in json.loads(project.invoke("backups", "--json").stdout)["backups"]
    ]
    assert project.invoke("restore", name).returncode == 0
    assert (
        project.invoke(
            "restore", f"backups/{Target.parse(project.url).database}/{name}.dump"
        ).returncode
        == 0
    )
    assert prints(project) == then


def test_restore_does_not_take_another_servers_backup_by_itself(project: Project) -> None:
    """Two servers may have a database of one name; by its name, the other's can be restored."""
    rebuilt(project)
    assert project.invoke("backup").returncode == 0
    (path,) = (project.folder / "backups").rglob("*.json")
    about = json.loads(path.read_text())
    assert len(about["server_id"]) > 10
    path.write_text(json.dumps({**about, "server_id": "7"}))
    done = project.invoke("restore", "--yes")
    assert done.returncode == 4
    assert "no backup of this server" in done.stderr
    assert project.invoke("restore", path.stem).returncode == 0


@pytest.mark.parametrize("above", ["1000000000", "0"], ids=["gzip", "zstd"])
def test_restore_of_a_damaged_backup_changes_nothing(project: Project, above: str) -> None:
    """Exit 4; the target is as it was and nothing stands beside it."""
    rebuilt(project)
    assert project.invoke("backup", BACKSET_ZSTD_ABOVE=above).returncode == 0
    before, beside = prints(project), databases(project)
    (dump,) = (project.folder / "backups").rglob("*.dump*")
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(content)
    done = project.invoke("restore", "--yes")
    assert done.returncode == 4
    assert "was changed: its size is right, its SHA-256 is not" in done.stderr
    assert "is as it was" in done.stderr
    assert (prints(project), databases(project)) == (before, beside)


def test_status_of_a_good_database(project: Project) -> None:
    """Revision, heads, tables with rows; exit 0."""
    rebuilt(project)
    done = project.invoke("status")
    assert done.returncode == 0
    assert "revision  0b228e9fec0b" in done.stdout
    assert "task_outputs 30" in done.stdout
    content = json.loads(project.invoke("status", "--json").stdout)
    assert content["revisions"] == content["heads"] == ["0b228e9fec0b"]
    assert content["rows"]["tasks"] == 5
    assert content["previous"] is True


def test_status_and_verify_exit_6_with_findings(project: Project) -> None:
    """Drift is named with what to do, a line each, in both and in JSON."""
    rebuilt(project)
    project.query("ALTER TABLE tasks DROP COLUMN archived CASCADE")
    for task in ("status", "verify"):
        done = project.invoke(task)
        assert done.returncode == 6, done.stdout + done.stderr
        assert "drift: column tasks.archived is only in the models" in done.stderr
        content = json.loads(project.invoke(task, "--json").stdout)
        assert content["exit_code"] == 6
        assert {finding["kind"] for finding in content["findings"]} >= {"drift"}


def test_status_of_a_missing_database(project: Project) -> None:
    """A finding with two ways out, not a traceback."""
    project.env["DATABASE_URL"] = Target.parse(project.url).named("no_such_database").url
    done = project.invoke("status")
    assert done.returncode == 6
    assert "no database: no_such_database does not exist" in done.stderr
    assert "invoke upgrade" in done.stderr
    assert project.invoke("seed").returncode == 4


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("protect", "would protect {}"),
        ("unprotect", "would unprotect {}"),
        ("wait", "would wait for "),
        ("start", "would start the embedded PostgreSQL"),
        ("stop", "it is not running"),
    ],
)
def test_a_single_task_says_what_it_would_do(project: Project, task: str, words: str) -> None:
    """By Invoke's own flag; nothing is changed, and no server is started."""
    done = project.invoke("--dry", task)
    assert (done.returncode, words.format(project.database) in done.stdout) == (0, True), done
    assert not (project.folder / ".backset").exists()


@pytest.mark.parametrize("arguments", [["reset-db", "--plan"], ["--dry", "reset-db"]])
def test_a_plan_changes_nothing(project: Project, arguments: list[str]) -> None:
    """It says what would happen, and the server has no trace of it."""
    rebuilt(project)
    before, beside = prints(project), databases(project)
    files = sorted((project.folder / "backups").rglob("*"))
    done = project.invoke(*arguments)
    assert done.returncode == 0
    for step in ("backup", "reset", "upgrade", "verify", "seed", "promote"):
        assert f" · {step}" in done.stdout
    assert "nothing was changed" in done.stdout
    assert (prints(project), databases(project)) == (before, beside)
    assert sorted((project.folder / "backups").rglob("*")) == files


def test_no_seed_leaves_the_tables_empty(project: Project) -> None:
    """And says nothing of a seed."""
    done = project.invoke("reset-db", "--no-seed")
    assert done.returncode == 0
    assert "seed" not in done.stdout
    assert project.query("SELECT count(*) FROM tasks") == [(0,)]


def test_seed_passes_arguments_on(project: Project) -> None:
    """Words after `--` go to the seed command, also in the plan; there must be one."""
    assert project.invoke("reset-db", "--no-seed").returncode == 0
    script = "python scripts/add_mock_task_data.py"
    plan = project.invoke("seed", "--plan", "--", "--scale", "3").stdout
    assert f"would run {script} --scale 3\n" in plan
    done = project.invoke("seed", "--", "--scale", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert " ✔ seed      users 1 · tasks 15 · task_outputs 90\n" in done.stdout
    assert project.invoke("seed", BACKSET_SEED=f"{script} --scale 2").returncode == 0
    assert project.query("SELECT count(*) FROM tasks") == [(10,)]
    project.configure('seed = ["python", "scripts/add_mock_task_data.py"]', "")
    done = project.invoke("seed", "--", "--scale", "3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no seed command for the words after `--` → set [tool.backset] seed" in done.stderr


@pytest.mark.slow
def test_psql_and_alembic_pass_arguments_and_exit_codes_on(project: Project) -> None:
    """Words with spaces arrive as one word."""
    rebuilt(project)
    done = project.invoke("psql", "--", "-Atc", "select 'a  b', count(*) from tasks")
    assert (done.returncode, done.stdout) == (0, "a  b|5\n")
    assert project.invoke("psql", "--", "-c", "nonsense").returncode == 1
    assert "0b228e9fec0b (head)" in project.invoke("alembic", "--", "current").stdout
    assert project.invoke("alembic", "--", "upgrade", "nonsense").returncode == 255
    done = project.invoke("alembic", "--", "revision", "--autogenerate", "-m", "two words")
    assert done.returncode == 0
    assert list((project.folder / "alembic/versions").glob("*_two_words.py"))


def test_url_can_be_given_to_libpq(project: Project) -> None:
    """The line is a URL and nothing else."""
    done = project.invoke("url")
    assert done.stdout == f"{project.url}\n"


@pytest.fixture
def fresh(short_tmp: Path) -> Project:
    """A clone on a machine with nothing: no DATABASE_URL, and no PostgreSQL on PATH."""
    folder = short_tmp / "a clone"
    folder.mkdir()
    lay_down(folder, REPOSITORY)
    return Project(folder, {"PATH": "/nowhere"})


def test_a_fresh_machine(fresh: Project) -> None:
    """The embedded server is started, used, left running, and stopped by name."""
    plan = fresh.invoke("reset-db", "--plan").stdout
    assert "would start the embedded PostgreSQL" in plan
    assert "backup → reset → upgrade → verify → seed → promote" in plan
    for task in ("psql", "alembic", "url", "status", "start", "undo"):
        done = fresh.invoke("--dry", task)
        assert "would start the embedded PostgreSQL" in done.stdout, task
    assert not (fresh.folder / ".backset").exists()
    try:
        done = fresh.invoke("reset-db")
        assert (done.returncode, done.stderr) == (0, "")
        assert seconds_hidden(done.stdout) == CHAIN.format(next="aideator__next", name="aideator")
        url = fresh.invoke("url").stdout.strip()
        with psycopg.connect(url) as session:
            assert session.execute("SELECT count(*) FROM task_outputs").fetchone() == (30,)
        assert "was running" in fresh.invoke("start").stdout
        assert fresh.invoke("backup").returncode == 0
        assert fresh.invoke("undo").returncode == 0
        assert fresh.invoke("psql", "--", "-Atc", "select 1").stdout == "1\n"
        done = fresh.invoke("psql", "--", "-d", "postgres", "-Atc", "select current_database()")
        assert done.stdout == "postgres\n"
        assert "stopped" in fresh.invoke("stop", DATABASE_URL=url).stdout
        assert fresh.invoke("psql", "--", "-c", "select 1", DATABASE_URL=url).returncode == 0
    finally:
        assert "stopped" in fresh.invoke("stop").stdout
    assert "was not running" in fresh.invoke("stop").stdout
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_a_terminal_gets_colour_and_one_live_line(project: Project) -> None:
    """On a pseudo-terminal the lines are the same, coloured, unless NO_COLOR is set."""
    for extra, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        code, shown = project.on_a_terminal("reset-db", "--cold", TERM="xterm-256color", **extra)
        assert code == 0
        assert ("\x1b[32m✔" in shown) is coloured
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
        assert "✔ seed      users 1 · tasks 5 · task_outputs 30" in text
        assert "comparing models and database" in text


def test_list_imports_nothing_heavy(project: Project) -> None:
    """The table of contents, and every TAB, are instant: no driver, no ORM, no rich."""
    heavy = "psycopg sqlalchemy alembic rich dotenv nox backset.cli backset.settings"
    code = (
        "import sys; from invoke.main import program\n"
        "try: program.run(['invoke', '--list'])\n"
        f"except SystemExit: pass\nprint([m for m in {heavy.split()!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "reset-db" in done.stdout


def test_a_rebuild_imports_only_what_it_needs(project: Project) -> None:
    """What belongs to other tasks and to flags costs those alone."""
    others = "carry prove.scratch revisions.restore revisions.git rehearsal"
    code = (
        "import sys; from invoke.main import program\n"
        "try: program.run(['invoke', 'reset-db'])\n"
        f"finally: print([m for m in {others.split()!r} if f'backset.{{m}}' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.folder,
        env={**os.environ, **project.env},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "✔ promote" in done.stdout


def test_every_flag_has_help(project: Project) -> None:
    """No flag is left to guess."""
    listed = json.loads(project.invoke("--list", "--list-format=json").stdout)
    names = [task["name"] for task in listed["tasks"]]
    assert names[0]
    assert all(task["help"] for task in listed["tasks"])
    for name in names:
        text = project.invoke("--help", name).stdout
        options = text.partition("Options:")[2].strip()
        for line in options.splitlines():
            if line.strip().startswith("-"):
                assert len(line.split()) > 1, f"{name}: {line.strip()} has no help"


@pytest.mark.parametrize(
    "module",
    ["cli", "memory.builds", "commands.revisions", "commands.target", "migrate.discovery"],
)
def test_what_comes_before_alembics_process_is_light(module: str) -> None:
    """That process imports for longest: what delays its start delays the whole run."""
    heavy = "{'psycopg', 'rich', 'tomlkit'}"
    code = f"import sys, backset.{module}; print(sorted({heavy} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_list_of_tasks_describes_no_results() -> None:
    """Each class of a result takes a millisecond to make, and only a step that runs has one."""
    code = "import sys, backset.tasks; print('backset.described' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
