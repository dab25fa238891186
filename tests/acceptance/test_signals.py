"""TERM, INT, HUP and kill -9 inside every step: children end, and the target is as it was."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from backset.connections.target import Target
from tests.marks import slow_but
from tests.project import REPOSITORY, Project, databases, prints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Holder = Callable[[Project], AbstractContextManager[object]]
    Running = tuple[subprocess.Popen[str], list[psutil.Process]]

SIGNALS = [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
PATIENCE_S = (
    120  # for what takes a moment, unless the machine has other work; what hangs, hangs longer
)
STEPS = ("backup", "reset", "upgrade", "verify", "seed", "promote")
IN_ZSTD = "backup in zstd"  # the same step at work in threads and with two programs
SLOW_SEED = """
import os, signal, subprocess, sys, time
import psycopg
child = "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
child += "pathlib.Path('ignoring').touch(); time.sleep(3600)"
with psycopg.connect(os.environ["DATABASE_URL"]) as session:
    session.execute("SELECT count(*) FROM tasks")
    subprocess.run([sys.executable, "-c", child])
"""
SLOW_MIGRATION = """
from alembic import op
revision, down_revision = "c0ffee00000a", "0b228e9fec0b"
def upgrade(): op.execute("SELECT pg_sleep(3600)")
def downgrade(): pass
"""
SLOW_SECOND_TIME = """
import pathlib, time
seen = pathlib.Path("seen")
if seen.exists() and pathlib.Path("slow").exists():
    pathlib.Path("inside").touch()
    time.sleep(3600)
seen.touch()
"""


def add_slow_seed(project: Project) -> None:
    """Let the seed command hold a session open, and a child of its own that ignores TERM."""
    project.configure("add_mock_task_data.py", "slow.py")
    (project.folder / "scripts/slow.py").write_text(SLOW_SEED)


def add_slow_migration(project: Project) -> None:
    """Let the server be at work for a migration."""
    (project.folder / "alembic/versions/c0ffee00000a_slow.py").write_text(SLOW_MIGRATION)


def add_slow_comparison(project: Project) -> None:
    """Let env.py be slow when it is run after `upgrade`."""
    (project.folder / "slow").touch()
    env = project.folder / "alembic/env.py"
    text = env.read_text()
    env.write_text(text.replace("import os\n", f"import os\n{SLOW_SECOND_TIME}", 1))
    assert "inside" in env.read_text()


def ask_for_zstd(project: Project) -> None:
    """Let the dump be made as that of a large database is."""
    project.env["BACKSET_ZSTD_ABOVE"] = "0"


def locked(statement: str, database: str | None = None) -> Holder:
    """Return what holds a step up by an open transaction on the target or another database."""

    @contextmanager
    def hold(project: Project) -> Iterator[None]:
        target = Target.parse(project.url)
        text = statement.format(target=target.database)
        with psycopg.connect(target.named(database or target.database).url) as session:
            session.execute(text.encode())
            yield

    return hold


def waiting_for_a_lock(project: Project, count: int, query: str = "") -> bool:
    """Tell whether so many sessions of the run wait for a lock, in a certain statement."""
    found = project.query(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'backset %' "
        f"AND wait_event_type = 'Lock' AND query ~ '{query}'",
        "postgres",
    )
    return bool(found[0][0] >= count)


def at_work(project: Project, query: str) -> bool:
    """Tell whether a session of `__next` is in a statement."""
    name = f"{Target.parse(project.url).database}__next"
    found = project.query(
        f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}' AND query ~ '{query}'", "postgres"
    )
    return bool(found)


# Each step: what slows it down, what holds it up, and whether the run is inside it.
PREPARE: dict[str, Callable[[Project], None]] = {
    "upgrade": add_slow_migration,
    "verify": add_slow_comparison,
    "seed": add_slow_seed,
    IN_ZSTD: ask_for_zstd,
}
HOLD = {
    "backup": locked("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE"),
    "reset": locked("LOCK TABLE pg_database IN SHARE MODE", "postgres"),
    IN_ZSTD: locked("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE"),
    "promote": locked('COMMENT ON DATABASE "{target}" IS NULL', "postgres"),
}
INSIDE: dict[str, Callable[[Project], bool]] = {
    "backup": lambda project: waiting_for_a_lock(project, 2),
    IN_ZSTD: lambda project: waiting_for_a_lock(project, 2),
    "reset": lambda project: waiting_for_a_lock(project, 1, "CREATE DATABASE"),
    "upgrade": lambda project: at_work(project, "pg_sleep"),
    "verify": lambda project: (project.folder / "inside").exists(),
    "seed": lambda project: at_work(project, "count.*tasks") and has_grandchild(project),
    "promote": lambda project: waiting_for_a_lock(project, 1, "RENAME"),
}


def has_grandchild(project: Project) -> bool:
    """Tell whether the seed command's child ignores TERM already."""
    return (project.folder / "ignoring").exists()


@contextmanager
def inside(project: Project, step: str) -> Iterator[Running]:
    """Start `reset-db` and give it, and all its children, when it is in the middle of a step."""
    if step in PREPARE:
        PREPARE[step](project)
    with HOLD[step](project) if step in HOLD else nullcontext():
        process = project.start("reset-db")
        deadline = time.monotonic() + PATIENCE_S
        while not INSIDE[step](project):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, f"{step} was never reached"
            time.sleep(0.05)
        yield process, psutil.Process(process.pid).children(recursive=True)


def left(children: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return the children that are still there after some seconds, but for zombies."""
    _, alive = psutil.wait_procs(children, timeout=seconds)
    return [each for each in alive if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def nothing_is_left(project: Project, *, kept: bool = True) -> None:
    """Hold what is true after every run: no partial file, no session, no other database.

    kept: whether there is a verified build to clone; one that is not verified leaves none.
    """
    assert [str(path) for path in (project.folder / "backups").rglob("*.partial")] == []
    assert databases(project) == {"", "__previous", *(["__clean"] if kept else [])}
    names = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'backset %'"
    deadline = time.monotonic() + PATIENCE_S
    while (found := project.query(names, "postgres")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == []


@pytest.fixture
def built(project: Project) -> Project:
    """A project whose database was built, and has a row of its own."""
    assert project.invoke("reset-db").returncode == 0
    assert project.invoke("reset-db").returncode == 0
    project.query("INSERT INTO users (id, email) VALUES ('me', 'me@here')")
    return project


@pytest.mark.parametrize(
    ("step", "signum", "code"),
    slow_but(
        [(step, *each) for step in (*STEPS, IN_ZSTD) for each in SIGNALS],
        lambda case: case[:2] == ("upgrade", signal.SIGTERM),
    ),
)
def test_a_signal_inside_a_step(
    built: Project, step: str, signum: signal.Signals, code: int
) -> None:
    """Exit 128 + n; a second signal does not tear the cleaning."""
    before = prints(built)
    with inside(built, step) as (process, children):
        process.send_signal(signum)
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == code, errors
        assert "Traceback" not in errors
        assert f"interrupted by {signum.name} · " in errors
        assert "is as it was" in errors
        assert left(children, PATIENCE_S) == []
    assert prints(built) == before
    nothing_is_left(built, kept=step not in {"upgrade", "verify"})


@pytest.mark.parametrize("step", slow_but((*STEPS, IN_ZSTD), lambda step: step == "seed"))
def test_kill_9_inside_a_step(built: Project, step: str) -> None:
    """Its children end by themselves, and what it left is removed by the next run."""
    before = prints(built)
    with inside(built, step) as (process, children):
        process.kill()
        process.communicate(timeout=PATIENCE_S)
        assert left(children, PATIENCE_S) == []
    assert prints(built) == before
    for path in ("alembic/versions/c0ffee00000a_slow.py", "slow"):
        (built.folder / path).unlink(missing_ok=True)
    if step == "seed":
        built.configure("slow.py", "add_mock_task_data.py")
    assert built.invoke("reset-db").returncode == 0
    nothing_is_left(built)


# The three signals differ in their exit code alone, which the test above holds for each step.
@pytest.mark.parametrize(
    ("step", "signum", "code"),
    slow_but(
        [
            *((step, *SIGNALS[0]) for step in STEPS),
            *((step, *each) for step in ("upgrade", "promote") for each in SIGNALS[1:]),
        ],
        lambda case: case[:2] == ("promote", signal.SIGHUP),
    ),
)
@pytest.mark.slow
def test_a_signal_between_two_steps(
    built: Project, step: str, signum: signal.Signals, code: int
) -> None:
    """Whatever it hits, the target is the old one or the new one, and the message says which."""
    before = prints(built)
    process = built.start("reset-db")
    assert process.stdout is not None
    for line in process.stdout:
        if f" {step} " in line:
            break
    process.send_signal(signum)
    _, errors = process.communicate(timeout=PATIENCE_S)
    late = {-signum} if step == "promote" else set()  # it had ended, but for the interpreter
    assert process.returncode in {0, code} | late, errors
    assert "Traceback" not in errors
    if process.returncode in {0} | late:
        assert step == "promote"
    elif "swapped already" in errors:
        assert step in {"seed", "promote"}
    else:
        assert "is as it was" in errors
        assert prints(built) == before
    nothing_is_left(built)


def test_an_interruption_before_anything_has_begun(built: Project) -> None:
    """While backset is imported, INT ends it as a signal does, for the shell that asks."""
    (built.folder / "tasks.py").write_text(
        "import os, signal, sys\nfrom backset.tasks import namespace\n"
        "class Impatient:\n"
        "    @staticmethod\n"
        "    def find_spec(name, *_arguments):\n"
        "        if name == 'backset.cli': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Impatient)\n"
    )
    done = built.invoke("reset-db")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_an_interruption_while_the_interpreter_ends_says_nothing(project: Project) -> None:
    """All is done and told; what waits for threads then is ended by INT as by TERM."""
    (project.folder / "tasks.py").write_text(
        "import os, signal, sys, threading, time\nfrom backset.tasks import namespace\n"
        "def interrupt():\n"
        "    main = threading.main_thread().ident\n"
        "    while True:\n"
        "        frame = sys._current_frames()[main]\n"
        "        while frame.f_back: frame = frame.f_back\n"
        "        if frame.f_code.co_name == '_shutdown': break\n"
        "        time.sleep(0.01)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
        "threading.Thread(target=interrupt).start()\n"
    )
    done = project.run("backups")
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    "words", slow_but([["reset-db"], ["backup", "reset-db"]], lambda words: len(words) == 2)
)
def test_a_shells_process_group_is_ended(built: Project, words: list[str]) -> None:
    """Tilt and CI send TERM to the whole group of `sh -c "invoke …"`."""
    before = prints(built)
    add_slow_seed(built)
    command = " ".join([sys.executable, "-m", "invoke", *words]) + "; exit $?"
    with subprocess.Popen(
        ["sh", "-c", command],
        cwd=built.folder,
        env={**os.environ, **built.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        deadline = time.monotonic() + PATIENCE_S
        while not INSIDE["seed"](built):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = psutil.Process(shell.pid).children(recursive=True)
        os.killpg(shell.pid, signal.SIGTERM)
        output, _ = shell.communicate(timeout=PATIENCE_S)
    assert re.search("interrupted by SIGTERM · .* is as it was", output)
    assert "the next run removes" not in output
    assert left(children, PATIENCE_S) == []
    assert prints(built) == before
    nothing_is_left(built)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow
def test_nox_passes_a_signal_on_and_ends_its_server(tmp_path: Path, signum: signal.Signals) -> None:
    """The throw-away server, the run on it and all their children end with `nox -s migrate`."""
    output, inside = tmp_path / "output", tmp_path / "inside"
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib, sys, time\n"
        "if any('add_mock_task_data' in word for word in sys.orig_argv):\n"
        f"    pathlib.Path({str(inside)!r}).touch()\n"
        "    time.sleep(3600)\n"
    )
    words = ["-m", "nox", "--no-color", "-s", "migrate", "--envdir", str(tmp_path / "nox")]
    with output.open("w") as file:
        nox = subprocess.Popen(
            [sys.executable, *words],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + PATIENCE_S
    while not inside.exists():
        assert time.monotonic() < deadline, output.read_text()
        assert nox.poll() is None, output.read_text()
        time.sleep(0.01)
    children = psutil.Process(nox.pid).children(recursive=True)
    (data,) = {each.cmdline()[2] for each in children if each.cmdline()[1:2] == ["-D"]}
    nox.send_signal(signum)
    assert nox.wait(PATIENCE_S) != 0
    assert "Session migrate(18) interrupted" in output.read_text()
    assert left(children, PATIENCE_S) == []
    assert not Path(data).parent.parent.exists()
