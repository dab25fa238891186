"""Bad input and bad luck end in one line that says what, where and what to do, and an exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import psutil
import psycopg
import pytest
from psycopg import sql

from backset.connections.target import Target
from backset.memory import journal
from tests.clusters import free_port
from tests.conftest import PASSWORD, ROLE
from tests.incident.project import lay_down
from tests.marks import slow_but
from tests.project import REPOSITORY, Project, databases, prints
from tests.states import rebuilt

if TYPE_CHECKING:
    from pathlib import Path

    from backset.servers.cluster import Cluster

from backset.servers.location import project_cluster

CANARY = "c4nary%40s3cret"


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Hold what every error has in common; return its line."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert "c4nary@s3cret" not in done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(" ✘ ")
    assert " → " in line
    return line


@pytest.mark.parametrize(
    ("url", "word"),
    [
        (f"mysql://u:{CANARY}@h/db", "is not a PostgreSQL URL"),
        (f"postgresql://u:{CANARY}%zz@h/db", "cannot be read by libpq"),
        (f"postgresql://u:{CANARY}@h", "names no database"),
        (f"postgresql://u:{CANARY}@h/db?oops=1", "unknown parameter 'oops'"),
    ],
)
def test_a_bad_url(project: Project, url: str, word: str) -> None:
    """Exit 2, with the source of the URL."""
    project.env["DATABASE_URL"] = url
    line = one_line(project.invoke("reset-db"), 2)
    assert word in line
    assert "the environment: DATABASE_URL" in line


@pytest.mark.parametrize(("task", "flag"), [("verify", "deep"), ("reset-db", "seed")])
def test_flags_that_say_the_opposite_are_refused(project: Project, task: str, flag: str) -> None:
    """Neither of them wins unseen."""
    done = project.invoke(task, f"--{flag}", f"--no-{flag}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f" ✘ --{flag} and --no-{flag} say the opposite → leave one of them out\n"


def test_bad_settings_are_all_told(project: Project) -> None:
    """Exit 2, a line each, and the same in JSON."""
    project.configure("[tool.backset]\n", '[tool.backset]\nseeed = ["x"]\nkeeep = 3\n')
    done = project.invoke("reset-db")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert any("unknown key 'seeed' → did you mean 'seed'?" in line for line in lines)
    assert any("unknown key 'keeep'" in line for line in lines)
    content = json.loads(project.invoke("reset-db", "--json").stdout)
    assert content["exit_code"] == 2
    assert len(content["error"]["lines"]) == len(lines) == 2


def test_a_failing_step_in_json(project: Project) -> None:
    """One object on stdout, nothing else; the step, the line and the code are in it."""
    (project.folder / "scripts/fails.py").write_text("open('no_such_file.py')\n")
    project.configure("add_mock_task_data.py", "fails.py")
    done = project.invoke("reset-db", "--json")
    assert done.returncode == 4
    content = json.loads(done.stdout)
    assert content["error"]["step"] == "seed"
    assert "no_such_file.py" in content["error"]["lines"][0]
    assert content["exit_code"] == 4
    assert done.stderr == ""


def test_a_seed_variable_that_is_no_command_line(project: Project) -> None:
    """Exit 2, not a traceback."""
    project.env["BACKSET_SEED"] = 'python "x'
    line = one_line(project.invoke("seed"), 2)
    assert "the environment: seed is wrong → it must be a command line whose quotes are" in line


def test_a_password_in_the_seed_command_itself_is_not_repeated(project: Project) -> None:
    """Neither in the plan nor in the error, whoever wrote it there."""
    script = 'seed = ["python", "scripts/add_mock_task_data.py"]'
    told = f'"python", "-c", "exit(1)", "postgresql://u:{CANARY}@h/db"'
    project.configure(script, f"seed = [{told}]")
    assert "://u:***@h/db ended with 1" in one_line(project.invoke("reset-db"), 4)
    assert CANARY not in project.invoke("reset-db", "--plan").stdout
    project.configure(f"[{told}]", f"[{told}, 3]")
    assert "seed is wrong" in one_line(project.invoke("reset-db"), 2)


def test_a_file_in_the_place_of_our_folder(short_tmp: Path) -> None:
    """Exit 4 in one line, for every task that would start the server."""
    lay_down(short_tmp, REPOSITORY)
    (short_tmp / ".backset").write_text("")
    for task in ("reset-db", "start", "url", "status"):
        assert ".backset" in one_line(Project(short_tmp).invoke(task), 4)


def test_no_server(project: Project) -> None:
    """Exit 4: where, the system's words, what to do."""
    project.env["DATABASE_URL"] = f"postgresql://u:{CANARY}@127.0.0.1:{free_port()}/db"
    line = one_line(project.invoke("reset-db"), 4)
    assert "postgresql://u@127.0.0.1" in line
    assert "Connection refused" in line
    assert "start the server, or correct DATABASE_URL" in line
    for words in (["reset-db"], ["reset-db", "--plan"]):
        report = json.loads(project.invoke(*words, "--json").stdout)
        assert (report["database"], report["exit_code"]) == ("db", 4)  # programs learn which one


def test_a_wrong_password(project: Project, cluster: Cluster) -> None:
    """Exit 4, without the password that was tried; for `status` that is a state."""
    project.env["DATABASE_URL"] = f"postgresql://{ROLE}:{CANARY}@127.0.0.1:{cluster.port}/db"
    assert "password authentication failed" in one_line(project.invoke("upgrade"), 4)
    assert "password authentication failed" in one_line(project.invoke("status"), 6)


def test_a_template_of_all_databases_is_never_reset(project: Project) -> None:
    """Exit 3, whatever the flags; nothing was touched."""
    project.env["DATABASE_URL"] = Target.parse(project.url).named("template1").url
    for task in (
        ["reset-db", "--yes"],
        ["reset", "--yes"],
        ["restore", "--yes"],
        ["undo", "--yes"],
    ):
        assert "belongs to PostgreSQL itself" in one_line(project.invoke(*task), 3)


@pytest.mark.slow
def test_closed_streams_stop_nothing(project: Project) -> None:
    """No number of a closed stream is given to a socket; a report that nobody takes is said."""
    command = [sys.executable, "-m", "invoke", "reset-db"]
    for closed, words, code in (
        (">&- 2>&-", [], 0),
        ("<&- >&- 2>&-", [], 0),
        (">/dev/full", ["--json"], 4),
    ):
        shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command, *words]
        done = subprocess.run(
            shell,
            cwd=project.folder,
            env={**os.environ, **project.env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
    assert "the task is done, but its report cannot be written" in done.stderr
    assert project.query("SELECT count(*) FROM tasks") == [(5,)]


@pytest.mark.parametrize(
    "task",
    slow_but(
        [
            *(["reset-db"], ["reset-db", "--json-lines"], ["status"], ["verify", "--json"]),
            *(["history"], ["--list"]),
        ],
        lambda task: task[:1] in (["reset-db"], ["--list"]),
    ),
    ids=" ".join,
)
def test_a_reader_that_goes_away_ends_it_quietly(project: Project, task: list[str]) -> None:
    """As SIGPIPE ends every program, `… | head -1` says nothing and is 141; the database stays."""
    rebuilt(project)
    before = prints(project)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "backset", *task],
            cwd=project.folder,
            env={**os.environ, **project.env},
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "")
    assert prints(project) == before
    assert "__next" not in databases(project)


def test_a_role_without_rights_is_told_what_an_administrator_would_run(
    project: Project, superuser: psycopg.Connection[object], cluster: Cluster
) -> None:
    """Exit 3, every reason at once, with the SQL."""
    name = Target.parse(project.url).database
    superuser.execute("DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN")
    try:
        project.env["DATABASE_URL"] = cluster.url(name, "plain")
        done = project.invoke("reset-db")
        assert done.returncode == 3
        tables, create, own = done.stderr.splitlines()
        assert 'GRANT CREATE ON SCHEMA public TO "plain"' in tables
        assert 'ALTER ROLE "plain" CREATEDB' in create
        assert f'ALTER DATABASE "{name}" OWNER TO "plain"' in own
    finally:
        superuser.execute("DROP ROLE plain")


def test_a_database_of_somebody_else_is_not_overwritten(
    project: Project, superuser: psycopg.Connection[object]
) -> None:
    """A `__previous` or a `__next` that backset did not make stops the run; exit 3."""
    name = Target.parse(project.url).database
    for suffix in ("__previous", "__next"):
        foreign = f"{name}{suffix}"
        superuser.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(foreign)))
        project.query("CREATE TABLE precious ()", foreign)
        line = one_line(project.invoke("reset-db"), 3)
        assert f"{foreign} exists and backset did not make it" in line
        assert project.query("SELECT count(*) FROM precious", foreign) == [(0,)]
        superuser.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(foreign)))


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (["no-such-program"], "no-such-program cannot be started: No such file or directory"),
        (["python", "-c", "raise SystemExit(7)"], "ended with 7: it said nothing"),
        (
            ["python", "-c", "import os, sys; sys.exit(os.environ['DATABASE_URL'])"],
            "ended with 1: postgresql+psycopg://developer:***@127.0.0.1",
        ),
    ],
    ids=["missing", "silent", "tells its password"],
)
def test_a_seed_that_fails(
    project: Project, cluster: Cluster, command: list[str], word: str
) -> None:
    """Exit 4; what a child says is passed on without the password."""
    name = Target.parse(project.url).database
    project.env["DATABASE_URL"] = (
        f"postgresql+psycopg://{ROLE}:{quote(PASSWORD, safe='')}@127.0.0.1:{cluster.port}/{name}x"
    )
    old = 'seed = ["python", "scripts/add_mock_task_data.py"]'
    project.configure(old, f"seed = {json.dumps(command)}")
    done = project.invoke("reset-db")
    assert word in one_line(done, 4)
    assert PASSWORD not in done.stderr
    assert quote(PASSWORD, safe="") not in done.stderr


def test_a_chain_with_two_heads_leaves_nothing_behind(project: Project) -> None:
    """It is noticed while the dump is written, and the dump goes; the database is as it was."""
    rebuilt(project)
    before = prints(project)
    (version,) = (project.folder / "alembic/versions").glob("*.py")
    revision = version.stem.partition("_")[0]
    version.with_name("other.py").write_text(version.read_text().replace(revision, "aaaa11112222"))
    assert "several heads" in one_line(project.invoke("reset-db"), 4)
    assert prints(project) == before
    assert not list((project.folder / "backups").rglob("*.dump*"))


def test_a_seed_that_never_has_its_turn_does_nothing(project: Project) -> None:
    """Its interpreter may be there already when a migration fails; the script has not begun."""
    script = project.folder / "scripts/add_mock_task_data.py"
    script.write_text("import this\nfrom pathlib import Path\nPath('ran').touch()\n")
    (version,) = (project.folder / "alembic/versions").glob("*.py")
    version.write_text(version.read_text().replace("    create_users()", "    missing()"))
    done = project.invoke("reset-db")
    assert "NameError" in one_line(done, 4)
    assert not (project.folder / "ran").exists()


def test_a_seed_that_does_nothing(project: Project) -> None:
    """Exit 0 is not believed: every table with too few rows is named."""
    project.configure('"scripts/add_mock_task_data.py"]', '"-c", "pass"]')
    done = project.invoke("reset-db")
    assert done.returncode == 4
    lines = done.stderr.splitlines()
    assert "missing rows: users has 0 of at least 1 row (" in lines[0]
    assert len(lines) == 3
    assert lines[-1].endswith("is as it was")


def test_a_sequence_that_lags_is_found(project: Project) -> None:
    """A seed that writes ids by hand and forgets the sequence would fail the next INSERT."""
    script = project.folder / "scripts/lag.py"
    script.write_text(
        "import os, psycopg\nwith psycopg.connect(os.environ['DATABASE_URL']) as c:\n"
        "    c.execute(\"INSERT INTO users (id, email) VALUES ('u', 'e')\")\n"
        '    c.execute("INSERT INTO tasks (id, github_url, prompt, user_id) '
        "OVERRIDING SYSTEM VALUE SELECT g, 'x', 'y', 'u' FROM generate_series(1, 5) g\")\n"
    )
    project.configure("task_outputs = 30", "task_outputs = 0")
    project.configure("add_mock_task_data.py", "lag.py")
    line = one_line(project.invoke("reset-db"), 4)
    assert "tasks_id_seq gives 1 next, but tasks.id already has 5" in line
    assert "setval" in line


def test_a_second_run_at_the_same_time(project: Project) -> None:
    """Exit 75 at once, and it says who holds the lock."""
    hang(project)
    first = project.start("reset-db")
    try:
        wait_for(project, "reset", first)
        line = one_line(project.invoke("reset-db"), 75)
        assert "another run holds the lock" in line
        assert f"backset reset-db on {socket.gethostname()[:8]}" in line
        assert f", pid {first.pid}, since" in line
    finally:
        first.terminate()
        first.communicate()


def hang(project: Project) -> None:
    """Let the seed command start a child of its own and hang."""
    script = project.folder / "scripts/hang.py"
    script.write_text(
        "import subprocess, sys\nprint('hanging', flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'import time; time.sleep(120)  # grandchild'])\n"
    )
    project.configure("add_mock_task_data.py", "hang.py")


def wait_for(project: Project, step: str, process: subprocess.Popen[str]) -> None:
    """Read the output until the line of a step."""
    assert process.stdout is not None
    for line in process.stdout:
        if f" {step}" in line:
            return
    raise AssertionError(process.communicate())


@pytest.mark.parametrize(
    ("signum", "code"),
    slow_but(
        [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
        lambda case: case[0] == signal.SIGTERM,
    ),
)
def test_a_signal_ends_the_children_and_changes_nothing(
    project: Project, signum: signal.Signals, code: int
) -> None:
    """The seed command and its own children end; the target is as it was; nothing is beside it."""
    rebuilt(project)
    before = prints(project)
    hang(project)
    process = project.start("reset-db")
    wait_for(project, "verify", process)
    children = _children(process.pid)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert f"interrupted by {signum.name} · " in errors
    assert "is as it was" in errors
    assert "Traceback" not in errors
    assert prints(project) == before
    assert databases(project) == {"", "__previous", "__clean"}
    _, alive = psutil.wait_procs(children, timeout=10)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


def _children(pid: int) -> list[psutil.Process]:
    """Wait for the grandchild of the seed command; return every process below `pid`."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = psutil.Process(pid).children(recursive=True)
        with suppress(psutil.Error):  # one of them has just ended
            if any("grandchild" in " ".join(each.cmdline()) for each in found):
                return found
        time.sleep(0.05)
    raise AssertionError("the seed command never started")


@pytest.mark.parametrize("task", slow_but(["reset-db", "undo"], lambda task: task == "reset-db"))
def test_a_signal_in_the_middle_of_the_swap_tells_the_truth(project: Project, task: str) -> None:
    """The swap is finished first, and the message says that it has happened."""
    rebuilt(project)
    before = prints(project)
    project.query("INSERT INTO users (id, email) VALUES ('me', 'me@here')")
    assert project.invoke("reset-db").returncode == 0
    (project.folder / "tasks.py").write_text(
        "import os, signal\nfrom backset.servers import swap\nfrom backset.tasks import namespace\n"
        "rename = swap._rename\n"
        "def interrupted(*arguments):\n"
        "    called = rename(*arguments)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return called\n"
        "swap._rename = interrupted\n"
    )
    done = project.invoke(task)
    assert done.returncode == 143
    assert "has been swapped already; `invoke undo` goes back" in done.stderr
    assert (prints(project) == before) is (task == "reset-db")
    assert databases(project) == {"", "__previous", "__clean"}


@pytest.mark.parametrize("task", slow_but(["psql", "alembic"], lambda task: task == "psql"))
def test_a_signal_ends_an_attached_program(project: Project, task: str) -> None:
    """TERM from CI or Tilt does not leave psql or a migration running."""
    assert project.invoke("upgrade").returncode == 0
    words = ["-c", "select pg_sleep(3600)"] if task == "psql" else ["upgrade", "head"]
    if task == "alembic":
        (project.folder / "alembic/versions/c0ffee000003_hang.py").write_text(
            "from alembic import op\nrevision, down_revision = 'c0ffee000003', '0b228e9fec0b'\n"
            "def upgrade(): op.execute('select pg_sleep(3600)')\ndef downgrade(): pass\n"
        )
    process = project.start(task, "--", *words)
    deadline = time.monotonic() + 60
    asleep = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query ~ '^select pg_sleep'"
    while not project.query(f"{asleep} AND datname = current_database()"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = psutil.Process(process.pid).children()
    assert children
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


def test_the_password_is_in_no_argument_list(project: Project, cluster: Cluster) -> None:
    """While every child runs, /proc shows no password to other users of the machine."""
    name = Target.parse(project.url).database
    quoted = quote(PASSWORD, safe="")
    project.env["DATABASE_URL"] = (
        f"postgresql://{ROLE}:{quoted}@127.0.0.1:{cluster.port}/{name}_secret"
    )
    assert project.invoke("reset-db").returncode == 0
    # What is to be seen must last: pg_dump of the application's few rows is gone in 30 ms.
    with psycopg.connect(project.env["DATABASE_URL"]) as session:
        session.execute(
            "CREATE TABLE noise AS SELECT gen_random_uuid() FROM generate_series(1, 300000)"
        )
    seen: set[str] = set()
    for task in (["reset-db"], ["restore", "--yes"], ["psql", "--", "-c", "select pg_sleep(1)"]):
        process = project.start(*task)
        while process.poll() is None:
            for each in psutil.Process(process.pid).children(recursive=True):
                try:
                    seen.add(" ".join(each.cmdline()))
                except psutil.Error:
                    continue
        assert process.returncode == 0
        process.communicate()
    assert any("pg_dump" in line for line in seen), "pg_dump was never seen"
    assert any("psql" in line for line in seen), "psql was never seen"
    assert not [line for line in seen if PASSWORD in line or quoted in line]
    files = list((project.folder / "backups").rglob("*.json"))
    assert files
    assert not [
        path for path in files if quoted in path.read_text() or PASSWORD in path.read_text()
    ]


def test_a_server_that_dies_under_a_run(short_tmp: Path) -> None:
    """Exit 4 in one line; started again, the database is as it was, and the next run succeeds."""
    lay_down(short_tmp, REPOSITORY)
    project = Project(short_tmp)
    cluster = project_cluster(short_tmp)
    try:
        assert project.invoke("reset-db").returncode == 0
        project.env["DATABASE_URL"] = project.invoke("url").stdout.strip()
        before = prints(project)
        script = short_tmp / "scripts/stop.py"
        script.write_text(
            "from backset.servers.location import project_cluster as p\n"
            "from pathlib import Path\np(Path('.').resolve()).stop()\n"
        )
        project.configure("add_mock_task_data.py", "stop.py")
        done = project.invoke("reset-db")
        assert done.returncode == 4
        assert "Traceback" not in done.stderr
        assert " → " in done.stderr.splitlines()[0]
        cluster.start()
        assert prints(project) == before
        project.configure("stop.py", "add_mock_task_data.py")
        assert project.invoke("reset-db").returncode == 0
    finally:
        cluster.stop()


def test_a_disk_that_is_full(project: Project) -> None:
    """A backup that cannot be written stops the run before anything else; nothing half is left."""
    rebuilt(project)
    before = prints(project)
    small = project.folder / "backups"
    small.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine does not let us mount a small file system")
    try:
        line = one_line(project.invoke("reset-db"), 4)
        assert "No space left on device" in line
        assert line.endswith("is as it was")
        assert prints(project) == before
        assert databases(project) == {"", "__previous"}
        left = {path.name for path in small.rglob("*") if path.is_file()}
        assert left <= {".gitignore", journal.NAME}
    finally:
        subprocess.run(["umount", str(small)], check=True)
