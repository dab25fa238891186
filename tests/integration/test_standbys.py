"""Synchronous replication: a standby that is away holds nobody up, and is waited for in sight."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from backset.connections.activity import Waits
from backset.connections.target import Target
from backset.servers import swap
from backset.servers.server import Server
from tests.clusters import crash, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backset.connections.activity import Backend
    from backset.servers.cluster import Cluster
    from tests.project import Project

NAMES = "a standby (synchronous_standby_names: away)"


@pytest.fixture(scope="module")
def lonely() -> Iterator[Cluster]:
    """A server whose commits wait for a standby that is away."""
    with running(18) as made:
        yield made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a second and a half only."""
    monkeypatch.setattr(swap, "LIMIT_S", 1.5)


def administered(cluster: Cluster, *statements: str) -> None:
    """Run statements as somebody who does not wait."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as session:
        session.execute("SET synchronous_commit = local")
        for each in statements:
            session.execute(each.encode())


def wait_for(cluster: Cluster, names: str) -> None:
    """Let every commit wait for standbys of these names from now on.

    A session knows of them before the checkpointer does, which says whether commits wait.
    """
    told = f"ALTER SYSTEM SET synchronous_standby_names = '{names}'"
    administered(cluster, told, "SELECT pg_reload_conf()")
    while waits(cluster) != bool(names):
        pass


def waits(cluster: Cluster) -> bool:
    """Return whether a commit that comes now waits for a standby."""
    url = cluster.url("postgres")
    with (
        closing(psycopg.connect(url, autocommit=True)) as committing,
        closing(psycopg.connect(url, autocommit=True)) as watching,
    ):
        committing.pgconn.send_query(b"SELECT pg_logical_emit_message(true, 'test', '')")
        asked = "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = %s"
        while committing.pgconn.is_busy():
            if watching.execute(asked, [committing.info.backend_pid]).fetchone() == (True,):
                committing.cancel_safe()
                return True
            committing.pgconn.consume_input()
        return False


@pytest.fixture
def away(lonely: Cluster) -> Iterator[str]:
    """The URL of a database there, with rows."""
    administered(lonely, "DROP DATABASE IF EXISTS app WITH (FORCE)", "CREATE DATABASE app")
    with psycopg.connect(lonely.url("app")) as session:
        session.execute("CREATE TABLE old AS SELECT 1 AS id")
    wait_for(lonely, "away")
    yield lonely.url("app")
    wait_for(lonely, "")
    with psycopg.connect(lonely.url("postgres"), autocommit=True) as session:
        for (name,) in session.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, 'app')"
        ).fetchall():
            session.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_the_swap_does_not_wait_for_a_standby(away: str) -> None:
    """It is over before one comes; the target can be connected to, while one is waited for."""
    notices: list[str] = []

    def notice(text: str, _clients: Sequence[Backend] = ()) -> None:
        notices.append(text)

    target = Target.parse(away)
    with Server(target, "test") as server:
        old = server.databases()["app"]
        swap.make(server, server.names.next, "next", old)
        swap.promote(server, old, None, old_is_empty=False)
        swap.discard(server)
        told: list[str] = []
        names, began = [server.names.target], server.session.info.backend_pid
        with Waits(server.maintenance, names, began, notice):
            waiting = threading.Thread(target=lambda: told.append(swap.confirm(server)))
            waiting.start()
            with psycopg.connect(away) as session:
                assert session.execute("SELECT to_regclass('old')").fetchone() == (None,)
            assert waiting.is_alive()
            waiting.join(30)
    assert told == ["on the server's own disk, and not yet on a standby (away) as far as is known"]
    assert notices == [f"waits for {NAMES}"]


def test_a_standby_that_answers_is_waited_for(lonely: Cluster, away: str) -> None:
    """Then there is nothing to say; here it is one of no name that lets all waiting go."""
    with Server(Target.parse(away), "test") as server:
        assert swap.awaited(server.session) == "away"
        came = threading.Event()

        def come() -> None:
            came.set()
            wait_for(lonely, "")

        comes = threading.Timer(0.5, come)
        comes.start()
        assert swap.confirm(server) == ""
        assert came.is_set()
        comes.join()
        assert swap.awaited(server.session) == ""


def test_a_server_that_is_gone_has_not_told_of_its_standbys(lonely: Cluster, away: str) -> None:
    """Nobody is told that a standby has the new database, and no thread dies of it."""
    late = "on the server's own disk, and not yet on a standby"
    with Server(Target.parse(away), "test") as server:
        crashes = threading.Timer(0.5, crash, [lonely])
        crashes.start()
        assert swap.confirm(server) == f"{late} (away) as far as is known"
        assert swap.confirm(server) == f"{late} as far as is known"
        crashes.join()
        pid = int((lonely.data / "postmaster.pid").read_text().split()[0])
    with Server(Target.parse(away), "test") as server:
        halt = threading.Timer(0.5, os.kill, [pid, signal.SIGSTOP])  # nobody takes the cancel
        ends = threading.Timer(4, os.kill, [pid, signal.SIGCONT])
        for each in (halt, ends):
            each.start()
        assert swap.confirm(server) == f"{late} (away) as far as is known"
        for each in (halt, ends):
            each.join()


@pytest.mark.parametrize("setting", ["off", "local"])
def test_a_login_that_waits_for_no_standby_does_not_here(
    lonely: Cluster, away: str, setting: str
) -> None:
    """What its role has set for its own commits is meant for these, too."""
    administered(lonely, f"ALTER ROLE postgres SET synchronous_commit = {setting}")
    try:
        with Server(Target.parse(away), "test") as server:
            assert swap.confirm(server) == ""
    finally:
        administered(lonely, "ALTER ROLE postgres RESET synchronous_commit")


def test_a_run_says_what_is_durable_where(project: Project, away: str) -> None:
    """In the plan before, in the line of the swap after; then back again, and in place."""
    project.env["DATABASE_URL"] = away
    plan = project.invoke("reset", "--plan")
    words = "would commit to the server's own disk, then wait up to 2 s for a standby (away)"
    assert words in plan.stdout
    late = "app is on the server's own disk, and not yet on a standby (away)"
    done = project.invoke("reset")
    assert done.returncode == 0, done.stderr
    assert f"waits for {NAMES}" in done.stdout
    assert late in done.stdout
    assert rows(away) is None
    assert words in project.invoke("undo", "--plan").stdout
    done = project.invoke("undo")
    assert (done.returncode, late in done.stdout) == (0, True), done.stderr
    assert rows(away) == [(1,)]
    done = project.invoke("reset", "--in-place")
    assert (done.returncode, late in done.stdout) == (0, True), done.stderr
    assert rows(away) is None


def rows(url: str) -> list[tuple[Any, ...]] | None:
    """Return the rows of the old database, if it is this one."""
    with psycopg.connect(url) as session:
        if session.execute("SELECT to_regclass('old')").fetchone() == (None,):
            return None
        return session.execute("SELECT id FROM old").fetchall()


def test_waiting_for_a_standby_can_be_ended(project: Project, away: str) -> None:
    """Then it is said that the swap has happened."""
    project.env["DATABASE_URL"] = away
    with project.start("reset") as process:
        assert process.stdout is not None
        assert any(f"waits for {NAMES}" in line for line in process.stdout)
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "app has been swapped already; `invoke undo` goes back" in errors
    assert rows(away) is None


@pytest.mark.slow
def test_a_whole_rebuild_and_a_restore_are_held_up_by_no_standby(
    project: Project, away: str
) -> None:
    """Neither what migrations and the seed command commit waits, nor what is loaded of a dump."""
    project.env["DATABASE_URL"] = away
    late = "app is on the server's own disk, and not yet on a standby (away)"
    for words in (["reset-db"], ["restore", "--yes"], ["reset-db"], ["reset-db", "--in-place"]):
        done = project.invoke(*words, "--timeout", "30")
        assert (done.returncode, late in done.stdout) == (0, True), done.stdout + done.stderr
