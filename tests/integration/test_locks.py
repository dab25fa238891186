"""Locks and other sessions: nothing waits for ever, and nothing waits without saying for whom."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from psycopg.pq import TransactionStatus

from backset.connections import activity
from backset.connections.activity import Backend, Waits, listed
from backset.connections.session import LOCK_TIMEOUT_S, connect, explained
from backset.connections.target import Target
from backset.errors import HeldUpError, LockedError, StepFailedError
from backset.process.identity import application_name, token, without_token
from backset.runs import login
from backset.runs.run import Run
from backset.servers import swap
from backset.servers.server import Server
from backset.settings.reader import load
from backset.text.quantities import moment
from tests.clusters import free_port
from tests.conftest import PASSWORD, ROLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from backset.servers.cluster import Cluster

NOBODY = Backend(0, None, None, "", None, None, None, None, may_end=False, is_superuser=True)


@pytest.fixture
def server(database_url: str) -> Iterator[Server]:
    """The maintenance session of a run whose target exists."""
    with Server(Target.parse(database_url), "test") as opened:
        yield opened


@pytest.fixture
def owned(cluster: Cluster, superuser: psycopg.Connection[Any], name: str) -> str:
    """The URL of a database of a plain role."""
    create = sql.SQL("CREATE DATABASE {} OWNER {}")
    superuser.execute(create.format(sql.Identifier(name), sql.Identifier(ROLE)))
    return cluster.url(name, ROLE)


def test_a_session_goes_on_behind_a_statement_that_a_signal_has_torn(server: Server) -> None:
    """In place the backup comes back over it: a run would end with a half-built database else."""
    server.session.execute("BEGIN")
    server.session.pgconn.send_query(b"SELECT pg_sleep(60)")
    server.recover()
    assert server.session.execute("SELECT 1").fetchone() == (1,)
    assert server.session.info.transaction_status == TransactionStatus.IDLE


@contextmanager
def holding(url: str, statement: str, **params: str) -> Iterator[int]:
    """Have somebody else's psql sit idle in a transaction that ran a statement; give its pid."""
    params = {"application_name": "psql", **params}
    with psycopg.connect(url, **params) as session:  # type: ignore[arg-type]
        session.execute(statement.encode())
        yield session.info.backend_pid


class Notices(list[tuple[str, "Sequence[Backend]"]]):
    """What a run was told."""

    def __call__(self, text: str, clients: Sequence[Backend] = ()) -> None:
        """Keep a notice."""
        self.append((text, clients))


def watched(server: Server, notices: Notices) -> Waits:
    """Watch as a run does."""
    names, began = [server.names.target], server.session.info.backend_pid
    return Waits(server.maintenance, names, began, notices)


def test_a_statement_of_ours_ends_by_itself_and_names_who_held_it_up(server: Server) -> None:
    """A notice after a second, an error in the end: application, address, pid, state, age."""
    url, notices = server.target.url, Notices()
    with psycopg.connect(url) as session:
        session.execute("CREATE TABLE t ()")
    with holding(url, "LOCK TABLE t") as psql, connect(server.target, "test") as ours:
        assert ours.execute("SHOW lock_timeout").fetchone() == (f"{LOCK_TIMEOUT_S // 60}min",)
        ours.execute("SET lock_timeout = '2500ms'")
        with (
            pytest.raises(HeldUpError) as caught,
            watched(server, notices),
            explained(server.target),
        ):
            ours.execute("SELECT FROM t")
    who = f"psql@socket, pid {psql}, idle in transaction for "
    ((text, clients),) = notices
    assert text.startswith(f"waits for {who}")
    assert [client.pid for client in clients] == [psql]
    assert f"(it waited for {who}" in caught.value.what
    assert "lock timeout" in caught.value.what


def test_a_session_without_a_name_is_watched_too(server: Server) -> None:
    """A driver may give no name to the sessions of Alembic or of the seed command."""
    url, notices = server.target.url, Notices()
    with psycopg.connect(url) as session:
        session.execute("CREATE TABLE t ()")
    with (
        holding(url, "LOCK TABLE t") as psql,
        psycopg.connect(url, autocommit=True) as child,
        watched(server, notices),
    ):
        child.execute("SET lock_timeout = '1500ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            child.execute("SELECT FROM t")
    ((text, _),) = notices
    assert text.startswith(f"postgres waits for psql@socket, pid {psql}, ")


@pytest.mark.parametrize("is_beside", [True, False])
def test_what_a_run_does_beside_is_not_told(server: Server, *, is_beside: bool) -> None:
    """A drop that goes on meanwhile is no news; two sessions of a migration that block are."""
    notices, target = Notices(), server.maintenance if is_beside else server.target
    with (
        connect(target, "test") as first,
        connect(target, "test") as second,
        watched(server, notices),
    ):
        first.execute("SELECT pg_advisory_lock(4711)")
        second.execute("SET lock_timeout = '1500ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            second.execute("SELECT pg_advisory_lock(4711)")
    assert len(notices) == (0 if is_beside else 1)


def test_who_waits_for_us_is_not_told(server: Server) -> None:
    """That an application waits for a migration is not what holds the run up."""
    url, notices = server.target.url, Notices()
    with connect(server.target, "test") as ours, ours.transaction():
        ours.execute("CREATE TABLE t (); LOCK TABLE t")
        with psycopg.connect(url, autocommit=True) as application, watched(server, notices):
            application.execute("SET lock_timeout = '1500ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                application.execute("CREATE TABLE t ()")
    assert notices == []


def test_a_look_costs_a_short_run_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first second is over no session is opened, and leaving waits for none."""

    def never(*_arguments: object) -> None:
        raise AssertionError("it looked")

    monkeypatch.setattr(activity, "connect", never)
    with watched(server, Notices()):
        pass


def test_a_server_that_goes_away_is_not_the_watchers_business(server: Server) -> None:
    """The run itself says so; the thread ends without a word."""
    notices = Notices()
    gone = Target.parse(f"postgresql://u@127.0.0.1:{free_port()}/db")
    with Waits(gone, [], 0, notices) as waits:
        waits._thread.join()  # noqa: SLF001  (it is over when it has failed)
    assert notices == []
    assert server.databases()


def test_a_plain_role_sees_less_of_others_and_says_what_it_can(
    cluster: Cluster, owned: str, name: str
) -> None:
    """User, application and pid of a superuser's session, that it may not be ended, and the way."""
    with (
        psycopg.connect(cluster.url(name), application_name="psql") as admin,
        psycopg.connect(owned, application_name="web") as own,
        Server(Target.parse(owned), "test") as plain,
    ):
        found = {client.pid: client for client in plain.sessions(name)}
        its, mine = found[admin.info.backend_pid], found[own.info.backend_pid]
        assert (its.user, its.state, its.connected_s, its.may_end) == (
            "postgres",
            None,
            None,
            False,
        )
        assert str(its).endswith(f"pid {admin.info.backend_pid}")
        assert str(mine) == f"web@socket, pid {own.info.backend_pid}, connected for 0 s"
        assert mine.may_end
        ((client, remedy),) = plain.immovable()
        assert client == its
        assert f"SELECT pg_terminate_backend({its.pid})" in remedy
        assert "pg_signal_backend" not in remedy  # a superuser's session is beyond that as well


def test_a_session_of_another_role_needs_a_grant(
    cluster: Cluster, superuser: psycopg.Connection[Any], owned: str, name: str
) -> None:
    """The remedy names it, and with it the session can be ended."""
    superuser.execute("CREATE ROLE stranger LOGIN")
    try:
        with (
            psycopg.connect(cluster.url(name, "stranger")),
            Server(Target.parse(owned), "test") as plain,
        ):
            ((_, remedy),) = plain.immovable()
            assert f'GRANT pg_signal_backend TO "{ROLE}"' in remedy
            superuser.execute(f"GRANT pg_signal_backend TO {ROLE}")
            assert plain.immovable() == []
            assert activity.end(plain.session, [name])
    finally:
        superuser.execute(f"REVOKE pg_signal_backend FROM {ROLE}")
        superuser.execute("DROP ROLE stranger")


def test_a_swap_that_cannot_be_fails_soon_and_names_everyone(
    cluster: Cluster, owned: str, name: str
) -> None:
    """Before RENAME gives up, which names nobody; nothing is renamed and nobody was ended."""
    with Server(Target.parse(owned), "test") as plain:
        swap.make(plain, plain.names.next, "next", plain.databases()[name])
        with psycopg.connect(cluster.url(name)) as admin, psycopg.connect(owned) as own:
            with pytest.raises(StepFailedError, match="cannot be swapped while") as caught:
                swap.promote(plain, plain.databases()[name], None, old_is_empty=False)
            assert f"pid {admin.info.backend_pid} on {name}" in caught.value.what
            assert f"pg_terminate_backend({admin.info.backend_pid})" in caught.value.remedy
            own.execute("SELECT 1")
        assert set(plain.databases()) == {name, plain.names.next}


def test_a_swap_waits_for_nobodys_transaction(server: Server) -> None:
    """Somebody else's uncommitted ALTER DATABASE stops it after a while, with a name."""
    swap.make(server, server.names.next, "next", None)
    notices = Notices()
    lock = f'COMMENT ON DATABASE "{server.names.target}" IS NULL'
    with (
        holding(server.maintenance.url, lock) as psql,
        pytest.raises(StepFailedError) as caught,
        watched(server, notices),
    ):
        swap.promote(server, server.databases()[server.names.target], None, old_is_empty=False)
    assert f"(it waited for psql@socket, pid {psql}" in caught.value.what
    assert notices
    assert set(server.databases()) == {server.names.target, server.names.next}


def test_who_waits_for_the_lock_goes_on_when_it_is_free(server: Server) -> None:
    """The holder is named once; then the lock is ours."""
    server.lock()
    notices: list[str] = []
    with Server(server.target, "second") as second:
        thread = threading.Thread(target=second.lock, args=(notices.append,))
        thread.start()
        while not notices:
            time.sleep(0.01)
        assert thread.is_alive()
        server.session.close()
        thread.join(60)
        assert not thread.is_alive()
    (text,) = notices
    who = f"{without_token(application_name('test'))}, since "
    assert text.startswith(f"waits for the lock of {server.names.target}: {who}")


def test_two_spellings_of_one_target_have_one_lock(
    cluster: Cluster, server: Server, name: str
) -> None:
    """It is on the server, so a host name, an address and a socket are the same."""
    server.lock()
    for host in ("127.0.0.1", "localhost"):
        url = f"postgresql://{ROLE}:{quote(PASSWORD, safe='')}@{host}:{cluster.port}/{name}"
        with Server(Target.parse(url), "second") as second, pytest.raises(LockedError):
            second.lock()


def test_the_age_of_a_lock_of_another_day_has_its_date() -> None:
    """`14:02:11` alone would be taken for today's."""
    now = datetime.now(UTC)
    assert moment(now) == f"{now.astimezone():%H:%M:%S}"
    before = now - timedelta(days=2)
    assert moment(before) == f"{before.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def those_that_live(server: Server, names: Iterable[str]) -> set[str]:
    """Open a session of each name, end what dead runs have left, and tell which ones go on."""
    url = server.target.url
    sessions = {each: psycopg.connect(url, application_name=each) for each in names}
    server.lock()
    server.end_dead_runs()
    live = set()
    for name, session in sessions.items():
        with closing(session), suppress(psycopg.OperationalError):
            session.execute("SELECT 1")
            live.add(name)
    return live


def test_what_a_killed_run_left_connected_is_ended_under_the_lock(server: Server) -> None:
    """Its seed command would write beside the next one; who only looks holds no lock, and stays."""
    names = {"backset seed on x, pid 1": False, "backset verify on x, pid 1": True, "psql": True}
    assert those_that_live(server, names) == {each for each, lives in names.items() if lives}


def test_a_run_with_another_maintenance_database_is_seen(cluster: Cluster, server: Server) -> None:
    """An advisory lock is of one database, and not every role may come to the same one."""
    held = "SELECT pg_advisory_lock(hashtextextended(%s, 0))"
    name = "backset reset-db on app, pid 7 #0123456789abcd"
    with psycopg.connect(cluster.url("template1"), autocommit=True, application_name=name) as other:
        other.execute(held, [f"backset:{server.names.target}"])
        with pytest.raises(LockedError, match="backset reset-db on app, pid 7, since"):
            server.lock()
        notices: list[str] = []
        thread = threading.Thread(target=server.lock, args=(notices.append,))
        thread.start()
        while not notices:
            time.sleep(0.01)
        assert thread.is_alive()
        other.execute("SELECT pg_advisory_unlock_all()")
        thread.join(60)
        assert not thread.is_alive()
    assert server.session.execute(_OURS).fetchone() == (1,)


_OURS = """
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
"""


def test_who_waits_for_the_lock_in_the_target_is_not_lost_by_a_swap(server: Server) -> None:
    """Whatever ends its session there, such as the swap of the other run: it goes on waiting."""
    server.lock()
    notices: list[str] = []
    with Server(server.target, "second") as second:
        pid = second.session.info.backend_pid
        thread = threading.Thread(target=second.lock, args=(notices.append,))
        thread.start()
        while not notices:
            time.sleep(0.01)
        server.session.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert thread.is_alive()
        server.session.close()
        thread.join(60)
        assert not thread.is_alive()
        assert second.session.execute(_OURS).fetchone() == (1,)


def waited(run: Run, meanwhile: Callable[[], object]) -> None:
    """Let a run wait for the lock of another one, and something happen before it has it."""
    run.open()
    notices: list[str] = []
    thread = threading.Thread(target=run.lock, args=(notices.append,))
    thread.start()
    while not notices:
        time.sleep(0.01)
    meanwhile()
    thread.join(60)
    assert not thread.is_alive()


def test_a_run_goes_on_with_the_session_on_which_it_has_the_lock(
    server: Server, tmp_path: Path
) -> None:
    """Whoever could write is kept out by that one, where another run has ended the first one."""
    server.lock()
    settings = load(tmp_path, {"DATABASE_URL": server.target.url})
    with Run(settings, server.target, "second", beside=False) as run:

        def end() -> None:
            pid = run.server.session.info.backend_pid
            server.session.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            server.session.close()

        waited(run, end)
        run.in_place.writers.keep_out()
        assert login.is_set(run.server.session, run.target.database)


def test_a_target_that_is_gone_when_the_lock_is_free(server: Server, tmp_path: Path) -> None:
    """It is a new one then, as for a run that has not waited."""
    server.lock()
    settings = load(tmp_path, {"DATABASE_URL": server.target.url})
    with Run(settings, server.target, "second", beside=False) as run:

        def drop() -> None:
            name = sql.Identifier(server.names.target)
            server.session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
            server.session.close()

        waited(run, drop)
        assert run.current.database is None


def test_a_run_in_a_container_is_not_taken_for_a_dead_one(server: Server) -> None:
    """It has our host name, and a pid that no process has here; its lock and its session stay."""
    name = application_name("reset-db")
    mark, pid = token(), f"pid {os.getpid()}"
    elsewhere = name.replace(mark, "0" * 14).replace(pid, "pid 4194399")
    with Server(server.target, "other") as other:
        other.lock()
        other.session.execute("SELECT set_config('application_name', %s, false)", [elsewhere])
        with pytest.raises(LockedError, match="pid 4194399, since"):
            server.lock()
        other.session.execute("SELECT 1")


def test_only_what_a_dead_run_left_connected_is_ended(server: Server) -> None:
    """A run that waits for the lock may do so in the target; so may what its programs hold open."""
    own = "backset reset-db on x, pid 1 #"
    names = {
        own + "aaaaaa11111111": True,  # waits for the lock, or has lost it
        "backset seed for x, pid 1 #aaaaaa11111111": True,
        "backset seed for x, pid 2 #bbbbbb22222222": False,
    }
    assert those_that_live(server, names) == {each for each, lives in names.items() if lives}


@pytest.mark.skipif(sys.platform != "linux", reason="the names of the options are Linux's")
def test_an_end_that_vanished_is_noticed_by_both(cluster: Cluster, name: str) -> None:
    """Half a minute of silence, then three questions; what the URL says about it goes first."""
    url = f"postgresql://{ROLE}:{quote(PASSWORD, safe='')}@127.0.0.1:{cluster.port}/postgres"
    for query, idle in (("", 30), ("?keepalives_idle=7", 7)):
        with connect(Target.parse(url + query), "test") as session:
            with socket.socket(fileno=session.fileno()) as ours:
                assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle
                assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
                ours.detach()
            assert session.execute("SHOW tcp_keepalives_idle").fetchone() == ("30",)
            assert session.execute("SHOW tcp_user_timeout").fetchone() == ("60000",)


def test_sessions_of_one_application_are_listed_together() -> None:
    """A pool of fifty does not fill the screen."""
    known = replace(NOBODY, application="web", address="10.0.0.7", state="idle", state_s=1.0)
    pool = [replace(known, pid=pid, connected_s=pid * 60.0) for pid in range(1, 5)]
    busy = {"state": "idle in transaction", "state_s": 200.0, "connected_s": 999.0}
    psql = replace(known, pid=9, application="psql", address="socket", **busy)  # type: ignore[arg-type]
    assert listed([*pool, psql]) == (
        "psql@socket, pid 9, idle in transaction for 3 min; "
        "web@10.0.0.7 (4 sessions, the oldest connected for 4 min)"
    )
    assert str(NOBODY) == "a prepared transaction"
