"""Each task and each exit code, as a shell sees it: `invoke …` in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from backset.connections.target import Target
from backset.servers.server import Server
from tests.clusters import free_port
from tests.incident.project import add_failing_migration
from tests.project import REPOSITORY
from tests.states import rebuilt

if TYPE_CHECKING:
    from tests.project import Project

ROWS = re.search(r"## Tasks\n(.*?)\n##", (REPOSITORY / "README.md").read_text("utf-8"), re.DOTALL)
TASKS = {
    name
    for row in re.findall(r"^\| (`.*?) \|", ROWS[1] if ROWS else "", re.MULTILINE)
    for name in re.findall(r"`([a-z-]+)`", row)
}
PAGE = (REPOSITORY / "docs/reference/exit-codes.md").read_text("utf-8")
CODES = {
    code
    for row in re.findall(r"^\| (`\d.*?) \|", PAGE, re.MULTILINE)
    for code in re.findall(r"\d+", row)
}


@pytest.mark.slow
def test_each_task_of_the_readme(project: Project) -> None:
    """It says something on stdout, nothing on stderr, and its exit code is 0."""
    (project.folder / "old").mkdir()
    for script in (project.folder / "alembic/versions").glob("*.py"):
        (project.folder / "old" / script.name).write_bytes(script.read_bytes())
    name = project.database
    lives = [
        *(["wait"], ["reset-db"], ["backup"], ["reset"], ["upgrade"], ["verify"], ["seed"]),
        *(["status"], ["repair"], ["history"], ["archive"], ["prove-squash", "old"], ["check"]),
        *(["alembic", "--", "revision", "-m", "more"], ["squash", "-m", "one"], ["rebase"]),
        *(["protect"], ["unprotect", "--confirm", name], ["restore", "--yes"], ["undo"]),
        *(["backups"], ["url"], ["psql", "--", "-c", "select 1"], ["alembic", "--", "heads"]),
    ]
    for words in lives:
        done = project.run(*words)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert done.stdout, words
    dump = max((project.folder / "backups").rglob("*.dump"))
    assert project.run("carry", "--from", str(dump)).returncode == 0
    embedded = {"DATABASE_URL": ""}
    try:
        assert "started" in project.run("start", **embedded).stdout
    finally:
        assert "stopped" in project.run("stop", **embedded).stdout
    assert {words[0] for words in lives} | {"carry", "start", "stop"} == TASKS


@pytest.mark.slow
def test_each_exit_code(project: Project) -> None:
    """As the reference has them; with a line of what happened, on stderr."""
    rebuilt(project)
    nowhere = f"postgresql://x@127.0.0.1:{free_port()}/x"
    postgres = Target.parse(project.url).named("postgres").url
    seen = {
        "0": project.run("url"),
        "1": project.run("reset-db", "--no-such-flag"),
        "2": project.run("url", BACKSET_KEEP="many"),
        "3": project.run("reset", DATABASE_URL=postgres),
        "4": project.run("upgrade", DATABASE_URL=nowhere),
        "6": project.run("status", DATABASE_URL=nowhere),
    }
    with Server(Target.parse(project.url), "a test") as server:
        server.lock()
        seen["75"] = project.run("upgrade")
    add_failing_migration(project.folder)
    seen["5"] = project.run("reset-db", "--in-place")
    for code, done in seen.items():
        assert str(done.returncode) == code, done.stderr
        assert bool(done.stderr) is (code != "0"), code
        assert "Traceback" not in done.stderr
    interrupted = {str(128 + each): ended_by(project, each) for each in SIGNALS}
    assert interrupted == {str(128 + each): 128 + each for each in SIGNALS}
    seen["141"] = unread(project)
    assert seen.keys() | interrupted.keys() == CODES


def unread(project: Project) -> subprocess.CompletedProcess[str]:
    """Run a task whose reader has gone, as that of `… | head -1` does; judge it here."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "invoke", "url"],
            cwd=project.folder,
            env={**os.environ, **project.env},
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
    return done


SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def ended_by(project: Project, signum: signal.Signals) -> int:
    """Send a signal to a run that waits for its server; return its exit code."""
    project.env["DATABASE_URL"] = f"postgresql://x@127.0.0.1:{free_port()}/x"
    with project.start("wait") as process:
        assert process.stdout is not None
        assert "waiting" in process.stdout.readline()
        process.send_signal(signum)
        process.communicate(timeout=120)
    return process.returncode
