"""The mock-data script with many rows: the same promises, and indexes built after the rows."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.incident.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.project import Project


SCRIPT = Path(__file__).resolve().parents[2] / "scripts/add_mock_task_data.py"
MANY = 400  # 2,000 tasks and 12,000 outputs
FEW = 20
DEFINITIONS = """
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint ORDER BY 1, 2
"""
# A new index is another object, in another file.
BUILT = """
SELECT indexrelid FROM pg_index
WHERE indrelid IN ('tasks'::regclass, 'task_outputs'::regclass) AND NOT indisunique ORDER BY 1
"""
COPYING = """
SELECT count(*) FROM pg_stat_progress_copy
WHERE relid = 'task_outputs'::regclass AND tuples_processed > 5000
"""
OTHERS = """
INSERT INTO users (id, email) VALUES ('u', 'u@example.com');
INSERT INTO tasks (github_url, prompt, user_id) VALUES ('g', 'mine', 'u');
INSERT INTO task_outputs (task_id, variation_id, content)
    SELECT id, 0, 'mine' FROM tasks, generate_series(1, 20000) WHERE prompt = 'mine';
"""
LINES = """
import sys
sys.path.insert(0, "scripts")
import progress
progress.EVERY_S = 0
assert list(progress.lines(iter(range(250)), 250, description="rows")) == list(range(250))
assert list(progress.lines(["a", "b"], description="indexes")) == ["a", "b"]
"""
PEAK = """
import runpy, sys
sys.argv = ["add_mock_task_data.py", "--scale", sys.argv[1]]
sys.path.insert(0, "scripts")
runpy.run_path("scripts/add_mock_task_data.py", run_name="__main__")
with open("/proc/self/status") as file:
    print(next(line.split()[1] for line in file if line.startswith("VmHWM")))
"""


def environment(url: str) -> Mapping[str, str]:
    """Return what the script is started with."""
    return {**os.environ, "DATABASE_URL": url}


def seed(url: str, scale: int) -> subprocess.CompletedProcess[str]:
    """Run the script to its end, without a terminal."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--scale", str(scale)],
        env=environment(url),
        capture_output=True,
        text=True,
        check=False,
    )


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    """Run statements, commit, and return the rows, if the last gives any."""
    with closing(psycopg.connect(url)) as connection, connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def migrated(project: Project) -> str:
    """The URL of a database at head, without rows."""
    done = project.invoke("alembic", "--", "upgrade", "head")
    assert done.returncode == 0, done.stderr
    return project.url


@pytest.mark.slow
def test_indexes_and_keys_come_back_as_they_were(migrated: str) -> None:
    """With many rows they are new ones, of the same definitions; the rows are all there."""
    definitions, built = query(migrated, DEFINITIONS), query(migrated, BUILT)
    done = seed(migrated, MANY)
    assert (done.stdout, done.stderr) == ("users 1 · tasks 2000 · task_outputs 12000\n", "")
    assert query(migrated, DEFINITIONS) == definitions
    assert not set(built) & set(query(migrated, BUILT))
    broken = "SELECT count(*) FROM task_outputs WHERE task_id NOT IN (SELECT id FROM tasks)"
    assert query(migrated, broken) == [(0,)]


@pytest.mark.slow
def test_they_stay_where_that_is_faster(migrated: str) -> None:
    """With few rows, and beside more rows of other people, no index is touched."""
    built = query(migrated, BUILT)
    seed(migrated, FEW)
    assert query(migrated, BUILT) == built
    query(migrated, OTHERS)
    assert seed(migrated, MANY).returncode == 0
    assert query(migrated, BUILT) == built


@pytest.mark.slow
def test_the_same_rows_either_way(migrated: str) -> None:
    """Ids and content do not depend on how the rows came, nor on what was there before."""
    seed(migrated, FEW)
    few = fingerprint(migrated)
    seed(migrated, MANY)
    many = fingerprint(migrated)
    seed(migrated, MANY)
    assert fingerprint(migrated) == many
    seed(migrated, FEW)
    assert fingerprint(migrated) == few


@pytest.mark.slow
def test_a_failure_changes_nothing(migrated: str) -> None:
    """The mock user's email is somebody else's: rows and indexes are those of before."""
    seed(migrated, MANY)
    query(migrated, "UPDATE users SET email = 'moved@example.com'")
    query(migrated, "INSERT INTO users (id, email) VALUES ('u', 'test@aideator.local')")
    before, built = fingerprint(migrated), query(migrated, BUILT)
    done = seed(migrated, MANY)
    assert done.returncode == 1
    assert "uq_users_email" in done.stderr
    assert (fingerprint(migrated), query(migrated, BUILT)) == (before, built)


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        (signal.SIGKILL, -signal.SIGKILL, ""),
        (signal.SIGINT, 130, "interrupted: nothing was written\n"),
    ],
)
@pytest.mark.slow
def test_an_end_in_the_middle_changes_nothing(
    migrated: str, how: signal.Signals, code: int, said: str
) -> None:
    """Rows and indexes are those of before, and others can go on at once."""
    seed(migrated, 1)
    before, built = fingerprint(migrated), query(migrated, BUILT)
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "--scale", "20000"],
        env=environment(migrated),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while query(migrated, COPYING) == [(0,)]:
            time.sleep(0.01)
        process.send_signal(how)
        _, stderr = process.communicate()
    assert process.returncode == code
    assert stderr.endswith(said)
    assert "Traceback" not in stderr
    assert (fingerprint(migrated), query(migrated, BUILT)) == (before, built)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(migrated: str) -> None:
    """Ten times the rows take the same memory at their peak: they are made as they are sent."""
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", PEAK, str(scale)],
                cwd=SCRIPT.parents[1],
                env=environment(migrated),
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()[-1]
        )
        for scale in (MANY, 10 * MANY)
    ]
    assert peaks[1] - peaks[0] < 4_000, f"{peaks} kB"


@pytest.mark.slow
def test_a_bar_on_a_terminal(migrated: str) -> None:
    """It is on stderr alone, for the rows of each table and for what is built afterwards."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "--scale", str(MANY)],
        env={**environment(migrated), "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # EIO: the other side is closed
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
        assert process.communicate()[0] == "users 1 · tasks 2000 · task_outputs 12000\n"
    assert process.returncode == 0
    for words in ("━━━", "2000/2000", "12000/12000", "indexes and keys", "10/10"):
        assert words in shown.decode()


def test_lines_without_a_terminal() -> None:
    """They pass on every row, and look at the clock once in each percent or so."""
    done = subprocess.run(
        [sys.executable, "-c", LINES],
        cwd=SCRIPT.parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [f"rows: {each} of 250" for each in range(0, 250, 2)]
    assert done.stderr.splitlines() == [*rows, "indexes: 0 of 2", "indexes: 1 of 2"]
