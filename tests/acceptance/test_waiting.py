"""A run that is held up says by whom, at once where it cannot go on, and can always be ended."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.connections.target import Target
from tests.conftest import ROLE
from tests.marks import slow_but
from tests.project import Project, databases, prints, wait_until_told
from tests.states import rebuilt

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from backset.servers.cluster import Cluster

IDLE = "psql@socket, pid {pid}, idle in transaction for "


@contextmanager
def psql_that_reads(project: Project, lock: str = "ACCESS SHARE") -> Iterator[Any]:
    """Have somebody sit idle in a transaction that has read a table; give the session."""
    with psycopg.connect(project.url, application_name="psql") as session:
        session.execute(f"LOCK TABLE tasks IN {lock} MODE".encode())
        yield session


def add_migration(
    project: Project, statement: str = "ALTER TABLE tasks ADD COLUMN rank int"
) -> None:
    """Add a migration after the clean one."""
    (project.folder / "alembic/versions/c0ffee000009_rank.py").write_text(
        "from alembic import op\nrevision, down_revision = 'c0ffee000009', '0b228e9fec0b'\n"
        f"def upgrade(): op.execute({statement!r})\n"
        "def downgrade(): pass\n"
    )


def read_until(process: subprocess.Popen[str], text: str, seconds: float = 60) -> str:
    """Read the output up to the line with a text; return that line."""
    assert process.stdout is not None
    late = threading.Timer(seconds, process.kill)
    late.start()
    seen = ""
    try:
        for line in process.stdout:
            seen += line
            if text in line:
                return line.rstrip("\n")
    finally:
        late.cancel()
    raise AssertionError(seen + str(process.communicate()))


def test_an_upgrade_of_a_table_that_is_in_use_says_who_and_goes_on(project: Project) -> None:
    """In plain lines, as they happen; nothing is ended, and it is done when the other one is."""
    rebuilt(project)
    add_migration(project)
    with psql_that_reads(project) as psql:
        process = project.start("upgrade")
        line = read_until(process, "waits for")
        assert line.startswith(" ! upgrade   waits for " + IDLE.format(pid=psql.info.backend_pid))
        psql.commit()
        out, errors = process.communicate(timeout=60)
        psql.execute("SELECT rank FROM tasks")
    assert (process.returncode, errors) == (0, "")
    assert " ✔ upgrade" in out


@pytest.mark.slow
def test_json_has_the_notice_with_the_session(project: Project) -> None:
    """A program gets pid, application, address, state and ages apart."""
    rebuilt(project)
    add_migration(project)
    with psql_that_reads(project) as psql:
        process = project.start("upgrade", "--json")
        wait_until_told(project, process)
        psql.commit()
        content = json.loads(process.communicate(timeout=60)[0])
        (notice,) = content["notices"]
        (session,) = notice["sessions"]
        assert (content["exit_code"], notice["step"]) == (0, "upgrade")
        assert notice["text"].startswith("waits for psql@socket")
        expected = {"pid": psql.info.backend_pid, "application": "psql", "address": "socket"}
        assert expected.items() <= session.items()
        assert session["state"] == "idle in transaction"
        assert 0 < session["state_s"] <= session["connected_s"]


@pytest.mark.parametrize(
    ("signum", "code"),
    slow_but(
        [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
        lambda case: case[0] == signal.SIGINT,
    ),
)
@pytest.mark.slow
def test_a_held_up_upgrade_can_be_ended(
    project: Project, signum: signal.Signals, code: int
) -> None:
    """Nobody of it stays in the queue for the lock, where he would hold up the application."""
    rebuilt(project)
    add_migration(project)
    with psql_that_reads(project):
        process = project.start("upgrade")
        read_until(process, "waits for")
        process.send_signal(signum)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == code
        assert "Traceback" not in errors
        assert not_ours(project) == {"psql"}
        with psycopg.connect(project.url) as application:
            application.execute("SET lock_timeout = '1s'")
            application.execute("SELECT count(*) FROM tasks")


def not_ours(project: Project) -> set[str]:
    """Return the applications on the target within a moment, but for the one that asks."""
    query = (
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    deadline = time.monotonic() + 5
    while True:
        found = {each for (each,) in project.query(query)}
        if found <= {"psql"} or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


@pytest.mark.slow
def test_a_killed_upgrade_leaves_the_queue_too(project: Project) -> None:
    """Kill -9: Alembic's process sees its socket close, and the server sees that it has gone."""
    rebuilt(project)
    add_migration(project)
    with psql_that_reads(project):
        process = project.start("upgrade")
        read_until(process, "waits for")
        process.kill()
        process.communicate(timeout=30)
        assert not_ours(project) == {"psql"}


def test_a_dump_of_a_locked_table_waits_and_says_for_whom(project: Project) -> None:
    """An application that alters a table does not stop the run: it goes on after that."""
    rebuilt(project)
    with psql_that_reads(project, "ACCESS EXCLUSIVE") as psql:
        process = project.start("reset-db")
        line = read_until(process, "waits for")
        assert line.startswith(" ! backup    waits for " + IDLE.format(pid=psql.info.backend_pid))
        psql.commit()
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert re.search(r"✔ promote .* · ended psql@socket, pid \d+, ", out)


@pytest.mark.slow
def test_a_terminal_shows_it_above_the_live_line(project: Project) -> None:
    """In a line of its own that stays, while the live line goes on."""
    rebuilt(project)
    add_migration(project)
    with psql_that_reads(project) as psql:
        release = threading.Timer(6, psql.commit)
        release.start()
        _, shown = project.on_a_terminal("upgrade", TERM="xterm-256color", NO_COLOR="1")
        release.join()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert " ! upgrade   waits for psql@socket, pid " in text
    assert text.index(" ! upgrade") < text.index(" ✔ upgrade")


@pytest.mark.parametrize("task", ["backup", "reset-db"])
@pytest.mark.slow
def test_a_dump_does_not_wait_for_ever(project: Project, task: str) -> None:
    """Exit 4 when the time is over, with the session that held it up; the target is as it was."""
    assert project.invoke("reset-db").returncode == 0
    (project.folder / "tasks.py").write_text(
        "from backset.backups import backup\nfrom backset.connections import session\n"
        "from backset.tasks import namespace\n"
        "backup.LOCK_TIMEOUT_S = session.LOCK_TIMEOUT_S = 3\n"
    )
    with psql_that_reads(project, "ACCESS EXCLUSIVE") as psql:
        done = project.invoke(task)
        assert done.returncode == 4
        (line,) = done.stderr.splitlines()
        assert "(it waited for " + IDLE.format(pid=psql.info.backend_pid) in line
    assert databases(project) == {"", "__previous", "__clean"}
    dumps = project.folder / "backups"
    assert [path for path in dumps.rglob("*") if path.name.endswith(".partial")] == []


@pytest.mark.slow
def test_the_sessions_are_in_the_plan_and_stay(project: Project) -> None:
    """By application, address and age, in words and in JSON; they are ended only at promote."""
    rebuilt(project)
    with psql_that_reads(project) as psql:
        who = IDLE.format(pid=psql.info.backend_pid)
        assert f"would end {who}" in project.invoke("reset-db", "--plan").stdout
        content = json.loads(project.invoke("reset-db", "--plan", "--json").stdout)
        assert [each["pid"] for each in content["sessions"]] == [psql.info.backend_pid]
        psql.execute("SELECT 1")
        done = project.invoke("reset-db", "--json")
        (ended,) = json.loads(done.stdout)["steps"][-1]["ended"]
        assert ended["application"] == "psql"
        with pytest.raises(psycopg.OperationalError):
            psql.execute("SELECT 1")


@pytest.mark.slow
def test_a_session_that_may_not_be_ended_is_named_at_the_start(
    project: Project, superuser: psycopg.Connection[object], cluster: Cluster
) -> None:
    """And in the plan, with what to do; at promote it is exit 4, and the target is as it was."""
    name = Target.parse(project.url).database
    owner = sql.SQL("ALTER DATABASE {} OWNER TO {}")
    superuser.execute(owner.format(sql.Identifier(name), sql.Identifier(ROLE)))
    project.env["DATABASE_URL"] = cluster.url(name, ROLE)
    assert project.invoke("reset-db").returncode == 0
    before = prints(project)
    with psycopg.connect(cluster.url(name)) as admin:
        who = rf"postgres, pid {admin.info.backend_pid} on {name}"
        what = rf" ! {who} would stop this, and may not be ended → ask its owner to close it, "
        remedy = f"as an administrator: SELECT pg_terminate_backend({admin.info.backend_pid})"
        plan = project.invoke("reset-db", "--plan").stdout
        assert f"{who} would stop this" in plan
        assert remedy in plan
        done = project.invoke("reset-db")
        assert done.returncode == 4
        assert done.stdout.splitlines()[0].startswith(what)
        assert remedy in done.stdout.splitlines()[0]
        assert f"may not end: {who}" in done.stderr
        assert remedy in done.stderr
        assert "is as it was" in done.stderr
        assert prints(project) == before
    assert project.invoke("reset-db").returncode == 0


def held(project: Project) -> subprocess.Popen[str]:
    """Start a run that holds the lock until it is ended."""
    project.configure("add_mock_task_data.py", "hang.py")
    script = project.folder / "scripts/hang.py"
    script.write_text("import time\ntime.sleep(120)\n")
    process = project.start("reset-db")
    read_until(process, "verify")
    return process


def test_wait_waits_for_the_other_run(project: Project) -> None:
    """It says for which, with pid, host and time, and goes on when that has ended."""
    holder = held(project)
    waiting = project.start("upgrade", "--wait")
    line = read_until(waiting, "waits for the lock")
    assert re.search(
        rf" ! waits for the lock of \w+: backset reset-db on .*, pid {holder.pid}, "
        r"since \d\d:\d\d:\d\d$",
        line,
    )
    holder.terminate()
    holder.communicate(timeout=30)
    assert waiting.communicate(timeout=60)[1] == ""
    assert waiting.returncode == 0


def test_the_lock_of_a_killed_run_is_free(project: Project) -> None:
    """And the next run removes what it left, its seed command's session included."""
    holder = held(project)
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate(timeout=30)
    deadline = time.monotonic() + 5  # for the server to notice
    while (done := project.invoke("upgrade")).returncode == 75:
        assert time.monotonic() < deadline
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("signum", "code"),
    slow_but([(signal.SIGTERM, 143), (signal.SIGINT, 130)], lambda case: case[0] == signal.SIGTERM),
)
def test_waiting_can_be_ended(project: Project, signum: signal.Signals, code: int) -> None:
    """And the other run does not notice."""
    holder = held(project)
    try:
        waiting = project.start("reset-db", "--wait")
        read_until(waiting, "waits for the lock")
        waiting.send_signal(signum)
        _, errors = waiting.communicate(timeout=30)
        assert waiting.returncode == code
        assert f"interrupted by {signum.name}" in errors
        assert holder.poll() is None
    finally:
        holder.terminate()
        holder.communicate(timeout=30)


@pytest.mark.slow
def test_two_roles_that_come_to_different_databases_have_one_lock(
    project: Project, cluster: Cluster, superuser: psycopg.Connection[Any], name: str
) -> None:
    """The second, who could end the first one's sessions and drop what it builds, does neither."""
    superuser.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
    superuser.execute("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
    try:
        project.env["DATABASE_URL"] = cluster.url(name, ROLE)
        holder = held(project)
        project.env["DATABASE_URL"] = cluster.url(name)
        done = project.run("reset-db", "--yes")
        assert done.returncode == 75, done.stdout + done.stderr
        assert f", pid {holder.pid}, since" in done.stderr
        assert holder.poll() is None
        assert databases(project) == {"__next", "__clean"}
    finally:
        superuser.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        holder.terminate()
        out, errors = holder.communicate(timeout=30)
    assert holder.returncode == 143, out + errors


NO_COPY = "LOCK TABLE pg_database IN SHARE MODE"  # nor any other change of a database
IN_THE_MIGRATION = "SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(1)'"
COPY_WAITS = "SELECT FROM pg_locks WHERE relation = 'pg_database'::regclass AND NOT granted"


def test_a_copy_that_takes_longer_than_a_connection_may_is_waited_for(
    project: Project, superuser: psycopg.Connection[Any]
) -> None:
    """No step fails because the server still copies what the next run may clone."""
    add_migration(project, "SELECT pg_sleep(1)")
    url = f"{project.url}{'&' if '?' in project.url else '?'}connect_timeout=2"
    process = Project(project.folder, {**project.env, "DATABASE_URL": url}).start("reset-db")
    _await(superuser, IN_THE_MIGRATION)
    with superuser.transaction():
        superuser.execute(NO_COPY)
        _await(superuser, COPY_WAITS)
        time.sleep(4)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, ""), out
    assert "__clean" in databases(project)


def _await(session: psycopg.Connection[Any], query: str) -> None:
    for _ in range(3000):
        if session.execute(query.encode()).fetchone() is not None:
            return
        time.sleep(0.02)
    raise AssertionError(query)
