"""A database that has standbys: what a swap means there, who reads there, what is dumped there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from backset.backups import backup as backups
from backset.backups.store import BackupStore
from backset.connections import heartbeat
from backset.connections.target import Target
from backset.errors import StepFailedError
from backset.process import identity
from backset.servers import replica, standbys, swap
from backset.servers.programs import Programs
from tests.clusters import at_hosts, majors, programs, running, standing_by, started
from tests.project import Project, agreed, databases, laid_down

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster

Pair = tuple["Cluster", "Cluster"]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A primary and its standby."""
    with running(18) as primary, standing_by(primary) as standby:
        yield primary, standby


@pytest.fixture
def beside(pair: Pair, tmp_path: Path) -> Project:
    """A project whose URL names both; its database is there once, with what it was built from."""
    project = laid_down(tmp_path / "project", "states", at_hosts("app", *pair))
    administered(pair[0], "DROP DATABASE IF EXISTS app__previous WITH (FORCE)")
    administered(pair[0], "DROP DATABASE IF EXISTS app WITH (FORCE)")
    assert agreed(project, "reset-db").returncode == 0
    return project


def administered(cluster: Cluster, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements on a server; return the rows of the last one."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as session:
        session.execute("SET synchronous_commit = local")
        for each in statements:
            cursor = session.execute(each.encode())
        return cursor.fetchall() if cursor.description else []


def caught_up(primary: Cluster, standby: Cluster) -> None:
    """Wait until a standby has replayed what its primary has committed."""
    [(reached,)] = administered(primary, "SELECT pg_current_wal_lsn()")
    query = f"SELECT pg_last_wal_replay_lsn() >= '{reached}'"
    deadline = time.monotonic() + 30
    while administered(standby, query) != [(True,)]:
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.02)


def replays(standby: Cluster, *, goes_on: bool) -> None:
    """Let a standby replay what it gets, or only keep it."""
    verb = "resume" if goes_on else "pause"
    with psycopg.connect(standby.url("postgres"), autocommit=True) as session:
        session.execute(f"SELECT pg_wal_replay_{verb}()".encode())
        while session.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() != (
            "not paused" if goes_on else "paused",
        ):
            pass


def oid(cluster: Cluster, name: str) -> int:
    """Return which database has a name there."""
    with psycopg.connect(cluster.url("postgres")) as session:
        query = "SELECT oid FROM pg_database WHERE datname = %s"
        (found,) = session.execute(query, [name]).fetchone() or (0,)
    return int(found)


def test_a_swap_is_waited_for_on_each_standby(pair: Pair, beside: Project) -> None:
    """`--standby` ends when the standby has the new database, or says which has not, and why."""
    primary, standby = pair
    replays(standby, goes_on=False)
    with reading(standby) as session:
        done = agreed(beside, "reset-db", "--standby=0.5", "--end-standby-sessions")
        session.execute("SELECT 1")  # to connect again would lead to the old one, too
    assert done.returncode == 6
    assert "app is the new database" in done.stdout
    of_the_primary, of_itself = done.stderr.splitlines()
    assert " behind) has not replayed the swap (who reads there is in the old" in of_the_primary
    assert f"{standby.socket_folder}:{standby.port} has not replayed the swap" in of_itself
    replays(standby, goes_on=True)
    done = agreed(beside, "undo", "--standby")
    assert done.returncode == 0, done.stderr
    assert oid(standby, "app") == oid(primary, "app") > 0
    assert f" · {standby.socket_folder}:{standby.port} has it, at c1 · " in done.stdout


def postgres(session: psycopg.Connection[Any], other: dict[str, Any]) -> standbys.Expected:
    """Return what a standby is to have of the database `postgres`; other: other values."""
    query = "SELECT oid FROM pg_database WHERE datname = 'postgres'"
    (number,) = session.execute(query).fetchone() or (0,)
    known = standbys.Expected(
        position=standbys.position(session),
        name="postgres",
        oid=number,
        revisions=(),
        server_id="",
    )
    return replace(known, **other)


def test_a_host_of_the_url_is_waited_for_whatever_the_primary_shows(
    pair: Pair,
) -> None:
    """A role that may not see how far a standby is asks the host itself, and waits for it."""
    primary, standby = pair
    with psycopg.connect(primary.url("postgres"), autocommit=True) as session:
        session.execute("CREATE ROLE short_sighted LOGIN")
        session.execute("SET ROLE short_sighted")
        others = [Target.parse(standby.url("postgres"))]
        found = standbys.await_replay(session, postgres(session, {}), others, 30, print)
        assert [each.name for each in found.lacking] == ["walreceiver"]
        replays(standby, goes_on=False)
        session.execute("SELECT pg_logical_emit_message(false, 'test', '', true)")
        seen: list[str] = []

        def say(text: str) -> None:
            if not seen:
                replays(standby, goes_on=True)
            seen.append(text)

        found = standbys.await_replay(session, postgres(session, {}), others, 30, say)
        assert [each.name for each in found.lacking] == ["walreceiver"]
        assert "has not replayed the swap" in seen[0]


def test_a_plan_names_standbys_and_slots(pair: Pair, tmp_path: Path) -> None:
    """How far each standby is, and what WAL a slot keeps for nobody; a subscription is none."""
    primary, standby = pair
    project = laid_down(tmp_path / "project", "states", at_hosts("app", standby, primary))
    with psycopg.connect(primary.url("postgres"), autocommit=True) as session:
        session.execute("SELECT pg_create_physical_replication_slot('spare', true)")
        try:
            told = project.invoke("reset-db", "--plan").stdout
        finally:
            session.execute("SELECT pg_drop_replication_slot('spare')")
    assert " standby   walreceiver (" in told
    assert "B behind)" in told
    assert " standby   nobody uses the slot spare, which keeps " in told


def test_a_wait_for_standbys_is_in_seconds(project: Project) -> None:
    """Anything else is refused before a step."""
    done = project.invoke("reset-db", "--standby=soon")
    assert done.returncode == 2
    assert done.stderr == " ✘ --standby is 'soon' → it must be seconds, such as 600\n"


def test_a_host_that_cannot_be_asked_is_named_with_what_it_says(pair: Pair, tmp_path: Path) -> None:
    """It may be a standby that has not replayed the swap: nobody is told that it has."""
    primary, _ = pair
    hosts = f"host={primary.socket_folder},/nowhere&port={primary.port},7"
    url = f"postgresql://postgres@/unasked?{hosts}"
    project = laid_down(tmp_path / "project", "states", url)
    done = agreed(project, "reset-db", "--standby=0.5")
    assert done.returncode == 6
    (line,) = done.stderr.splitlines()
    assert "/nowhere:7 may not have replayed the swap, and cannot be asked: " in line
    assert "→ look at that server, or correct the list of hosts" in line


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"oid": 1}, "postgres on {} is not the new database"),
        ({"revisions": ("c1",)}, "postgres on {} is without revision, not as here"),
        ({"server_id": "7"}, "{} is the standby of another server"),
    ],
)
def test_a_standby_must_have_that_very_database(
    pair: Pair, other: dict[str, Any], words: str
) -> None:
    """How far its WAL is, is not enough; and nobody waits for what will never come."""
    primary, standby = pair
    others = [Target.parse(standby.url("postgres"))]
    with psycopg.connect(primary.url("postgres"), autocommit=True) as session:
        expected = postgres(session, other)
        found = standbys.await_replay(session, expected, others, 30, print)
    (lack,) = found.lacking
    assert lack.what == words.format(others[0].address)


def test_a_standby_of_another_server_is_told(pair: Pair, beside: Project) -> None:
    """Its WAL may be farther, and its databases have the same oids: nobody there is ended."""
    primary, _ = pair
    with running(18) as other:
        old = oid(primary, "app")
        administered(other, f"CREATE DATABASE app OID {old}")
        other.stop()
        later = ("-l", "000000010000000A00000001")
        programs(other, "pg_resetwal", "-f", *later, "-D", str(other.data))
        other.start()
        other.stop()
        (other.data / "standby.signal").touch()
        other.start()
        where = f"{other.socket_folder}:{other.port}"
        with psycopg.connect(other.url("app"), application_name="theirs") as reader:
            beside.env["DATABASE_URL"] = at_hosts("app", *pair, other)
            done = agreed(beside, "reset-db", "--end-standby-sessions")
            assert done.returncode == 6
            (line,) = done.stderr.splitlines()
            assert f"{where} is the standby of another server (" in line
            reader.execute("SELECT 1")


@contextlib.contextmanager
def reading(standby: Cluster, name: str = "app", **more: str) -> Iterator[psycopg.Connection[Any]]:
    """Be connected to a database of a standby for the block, as an application is."""
    given = {"application_name": "api", **more}
    with contextlib.closing(psycopg.connect(standby.url(name), **given)) as session:  # type: ignore[arg-type]
        session.autocommit = True
        yield session


def test_who_reads_on_a_standby_is_told(pair: Pair, beside: Project) -> None:
    """In the plan, and after the swap, by application and role: they go on in the old database."""
    primary, standby = pair
    where = f"{standby.socket_folder}:{standby.port}"
    caught_up(primary, standby)
    with reading(standby) as api, reading(standby), reading(standby, application_name=""):
        plan = agreed(beside, "reset-db", "--plan").stdout
        said = "postgres (1 session), api of postgres (2 sessions)"
        assert f" · standby   {said} on {where} would go on in what is then app__previous" in plan
        confirm = json.loads(beside.invoke("reset-db", "--plan", "--json").stdout)["confirm"]
        done = beside.invoke("reset-db", "--json", "--confirm", confirm)
        caught_up(primary, standby)
        assert api.execute("SELECT current_database()").fetchone() == ("app__previous",)
        (told,) = json.loads(done.stdout)["notices"]
        assert told["text"].startswith(f"in app__previous on {where}: {said} → let them connect")
        assert [each["application"] for each in told["sessions"]] == ["api", "api", ""]
    assert "sessions" not in agreed(beside, "undo").stdout


def test_who_reads_on_a_standby_can_be_ended(pair: Pair, beside: Project) -> None:
    """Once the swap is there: those in the old database, and nobody else."""
    primary, standby = pair
    where = f"{standby.socket_folder}:{standby.port}"
    caught_up(primary, standby)
    ours = identity.application_name("carry")
    with (
        reading(standby) as old,
        reading(standby, "postgres") as elsewhere,
        reading(standby, application_name=ours) as run,
    ):
        plan = agreed(beside, "reset-db", "--end-standby-sessions", "--plan").stdout
        assert f"would end on {where}, once it has the new database: api of postgres (1" in plan
        done = agreed(beside, "reset-db", "--end-standby-sessions")
        assert done.returncode == 0, done.stderr
        assert f" ! ended on {where}: api of postgres (1 session)" in done.stdout
        assert f" · {where} has it, at c1 · " in done.stdout
        with pytest.raises(psycopg.OperationalError):
            old.execute("SELECT 1")
        elsewhere.execute("SELECT 1")
        run.execute("SELECT 1")
    with reading(standby) as new:
        assert new.execute("SELECT current_database()").fetchone() == ("app",)
        done = agreed(beside, "undo", "--end-standby-sessions")
        assert f" ! ended on {where}: api of postgres (1 session)" in done.stdout


def test_whom_the_role_may_not_end_is_named(pair: Pair, tmp_path: Path) -> None:
    """With what an administrator can do; the others are ended."""
    primary, standby = pair
    administered(primary, "CREATE ROLE owner LOGIN CREATEDB", "CREATE DATABASE owned OWNER owner")
    project = laid_down(tmp_path / "project", "states", at_hosts("owned", *pair))
    project.env["DATABASE_URL"] = project.env["DATABASE_URL"].replace("postgres@", "owner@")
    caught_up(primary, standby)
    assert agreed(project, "reset-db").returncode == 0
    caught_up(primary, standby)
    with reading(standby, "owned") as stays, reading(standby, "owned", user="owner") as goes:
        done = agreed(project, "reset-db", "--end-standby-sessions")
        assert done.returncode == 6
        (*_, line) = done.stderr.splitlines()
        assert re.search(r"api, pid \d+, as postgres on .*, may not be ended by owner \(", line)
        assert "SELECT pg_terminate_backend(" in line
        stays.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            goes.execute("SELECT 1")


def test_without_a_standby_to_ask_that_is_refused(pair: Pair, beside: Project) -> None:
    """Before a step, in one line; a plan says that nobody can be asked."""
    primary, _ = pair
    alone = {"DATABASE_URL": primary.url("app")}
    before = oid(primary, "app")
    for more, why in (("", "there is one host"), ("nowhere", "/nowhere:7 cannot be asked: ")):
        hosts = f"?host={primary.socket_folder},/nowhere&port={primary.port},7"
        env = {"DATABASE_URL": f"postgresql://postgres@/app{hosts}"} if more else alone
        done = beside.invoke("reset-db", "--end-standby-sessions", **env)
        assert done.returncode == 3
        (line,) = done.stderr.splitlines()
        assert why in line
        assert "→ name the standbys there, too, as in postgresql://app@db1,db2/app" in line
    assert oid(primary, "app") == before
    told = beside.invoke("reset-db", "--plan", **env).stdout
    assert " · standby   /nowhere:7 cannot be asked who reads there: " in told
    told = beside.invoke("reset-db", "--plan", **alone).stdout
    unasked = "on 1 standby, nobody can ask → name each standby in DATABASE_URL, beside the primary"
    assert f" · standby   who reads {unasked}" in told
    done = agreed(Project(beside.folder, alone), "reset-db")
    assert f"who is in app__previous {unasked}" in done.stdout


FROM_STANDBY = {"BACKSET_BACKUP_FROM": "standby"}


def taken(project: Project) -> dict[str, Any]:
    """Return the manifest of the newest backup."""
    found = (json.loads(each.read_text()) for each in project.folder.glob("backups/app/*.json"))
    return max(found, key=lambda each: each["number"])


def test_a_backup_can_come_from_a_standby(pair: Pair, beside: Project) -> None:
    """It has all that was committed when it began, though the standby was behind then."""
    primary, standby = pair
    where = f"{standby.socket_folder}:{standby.port}"
    assert (
        "into backups/app · from a standby"
        in beside.invoke("backup", "--plan", **FROM_STANDBY).stdout
    )
    replays(standby, goes_on=False)
    with psycopg.connect(primary.url("app")) as session:
        session.execute("SET synchronous_commit = off")
        session.execute("INSERT INTO users SELECT n, n::text FROM generate_series(1, 500) AS n")
    later = threading.Timer(0.7, replays, [standby], {"goes_on": True})
    later.start()
    done = beside.invoke("backup", "--prove", **FROM_STANDBY)
    later.join()
    assert done.returncode == 0, done.stderr
    assert f" · backup    {where} has not replayed what is committed" in done.stdout
    assert f" · from the standby {where} · proved" in done.stdout
    about = taken(beside)
    assert about["rows"] == {"users": 500, "tasks": 0, "notes": 0, "alembic_version": 1}
    [(now,)] = administered(primary, "SELECT (pg_current_wal_lsn() - '0/0')::int8")
    assert 0 < about["wal_position"] <= now
    assert f" · the same state as {about['name']}, one file" in beside.invoke("backup").stdout
    assert taken(beside)["is_remade"] is about["is_remade"] is False


def test_what_a_rebuild_makes_again_is_known_on_a_standby(pair: Pair, beside: Project) -> None:
    """Its backup may go one day: nobody has written to the database since it was rebuilt."""
    caught_up(*pair)
    done = beside.invoke("backup", **FROM_STANDBY)
    assert done.returncode == 0, done.stderr
    assert taken(beside)["is_remade"] is True


def test_a_standby_that_stays_behind_is_not_dumped(
    pair: Pair, beside: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said of each host why; nothing is touched."""
    primary, standby = pair
    monkeypatch.setattr(standbys, "WAIT_S", 0.3)
    caught_up(primary, standby)
    before = oid(primary, "app")
    replays(standby, goes_on=False)
    try:
        done = agreed(beside, "reset-db", "--cold")
        assert done.returncode == 0
        beside.env |= FROM_STANDBY
        done = agreed(beside, "reset-db")
    finally:
        replays(standby, goes_on=True)
    assert done.returncode == 4
    assert "no standby can be dumped: " in done.stderr
    assert "has not replayed what is committed → look at that standby, or dump the" in done.stderr
    assert oid(primary, "app__previous") == before
    assert databases(beside) == {"", "__previous"}


def test_rows_of_an_unlogged_table_are_never_lost(pair: Pair, beside: Project) -> None:
    """No standby has them: the primary is dumped, and the line says which tables these are."""
    primary, standby = pair
    with psycopg.connect(primary.url("app")) as session:
        session.execute("CREATE UNLOGGED TABLE cache AS SELECT generate_series(1, 9) AS id")
    words = " · from the primary: no standby has the rows of cache (UNLOGGED)"
    assert words in beside.invoke("backup", "--plan", **FROM_STANDBY).stdout
    done = beside.invoke("backup", "--prove", **FROM_STANDBY)
    assert (done.returncode, words in done.stdout) == (0, True), done.stderr
    assert taken(beside)["rows"]["cache"] == 9
    caught_up(primary, standby)
    target = Target.parse(standby.url("app"))
    with pytest.raises(psycopg.errors.FeatureNotSupported):  # were it so since that look
        dumped_from(target, beside)


def dumped_from(target: Target, project: Project) -> None:
    """Take a backup of a standby, as the step does once it has looked."""
    store = BackupStore(project.folder / "other")
    with replica.dumping(target):
        backups.take(store, target, lambda: (), Programs({}, project.folder), zstd_above=10**12)


class Dumping(threading.Thread):
    """A backup of a standby that is taken meanwhile; `errors` has how it failed."""

    def __init__(self, target: Target, project: Project) -> None:
        super().__init__()
        self._from = target, project
        self.errors: list[StepFailedError] = []

    def run(self) -> None:
        """Take it."""
        try:
            dumped_from(*self._from)
        except StepFailedError as found:
            self.errors.append(found)


_PG_DUMP_WAITS = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE NOT granted AND application_name LIKE 'backset backup for %'
"""


def test_a_dump_that_a_standby_ends_is_told(pair: Pair, beside: Project) -> None:
    """What is replayed goes first there: the line says what to set, and no backup is left."""
    primary, standby = pair
    administered(standby, "ALTER SYSTEM SET max_standby_streaming_delay = 0")
    administered(standby, "SELECT pg_reload_conf()")
    target = Target.parse(standby.url("app"))
    dumping = Dumping(target, beside)
    with (
        psycopg.connect(primary.url("app"), autocommit=True) as session,
        psycopg.connect(primary.url("app")) as locking,
    ):
        locking.execute("LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
        session.execute("SELECT pg_logical_emit_message(true, 'test', '')")
        caught_up(primary, standby)
        dumping.start()
        while administered(standby, _PG_DUMP_WAITS) == [(0,)]:
            time.sleep(0.02)
        session.execute("TRUNCATE users CASCADE")
    dumping.join(30)
    administered(standby, "ALTER SYSTEM RESET max_standby_streaming_delay")
    administered(standby, "SELECT pg_reload_conf()")
    (found,) = dumping.errors
    assert f"the standby {target.address} has ended the dump: " in found.what
    assert "conflict with recovery" in found.what
    assert found.remedy.startswith("if that was to replay, SET hot_standby_feedback = on there")
    assert not [*(beside.folder / "other").glob("**/*.json")]


def test_a_standby_that_falls_silent_holds_up_no_dump(
    pair: Pair, beside: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sessions may wait for ever: the run asks that server, too, whether it is there."""
    for name, seconds in (("_EVERY_S", 0.1), ("_ANSWER_S", 0.2), ("_SILENT_S", 1.0)):
        monkeypatch.setattr(heartbeat, name, seconds)
    primary, standby = pair
    server = int((standby.data / "postmaster.pid").read_text().split()[0])
    target = Target.parse(standby.url("app"))
    dumping = Dumping(target, beside)
    with psycopg.connect(primary.url("app")) as locking:
        locking.execute("LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
        with psycopg.connect(primary.url("app"), autocommit=True) as session:
            session.execute("SELECT pg_logical_emit_message(true, 'test', '')")
        caught_up(primary, standby)
        dumping.start()
        while administered(standby, _PG_DUMP_WAITS) == [(0,)]:
            time.sleep(0.02)
        os.kill(server, signal.SIGSTOP)
        dumping.join(30)
        os.kill(server, signal.SIGCONT)
    dumping.join(30)
    (found,) = dumping.errors
    assert found.what.startswith("the server has not answered for 1 s: ")


_PG_DUMP_READS = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name LIKE 'backset backup for %' AND state = 'active' AND query ~ 'COPY.*users'
"""


@pytest.mark.slow
def test_a_run_whose_dump_a_standby_ends_says_so_in_one_line(pair: Pair, beside: Project) -> None:
    """Though its own session there is ended, too; nothing of the dump counts as a backup."""
    primary, standby = pair
    beside.env |= {**FROM_STANDBY, "BACKSET_ZSTD_ABOVE": "1000000000000"}  # gzip takes its time
    administered(standby, "ALTER SYSTEM SET max_standby_streaming_delay = 0")
    administered(standby, "SELECT pg_reload_conf()")
    with psycopg.connect(primary.url("app"), autocommit=True) as session:
        session.execute("INSERT INTO notes VALUES (1)")
        large = "SELECT n, n || repeat(md5(n::text), 30) FROM generate_series(1, 120000) AS n"
        session.execute(f"INSERT INTO users {large}".encode())
        with beside.start("backup") as process:
            while administered(standby, _PG_DUMP_READS) == [(0,)]:
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            session.execute("DELETE FROM notes")
            session.execute("VACUUM notes")
            _, errors = process.communicate(timeout=60)
    administered(standby, "ALTER SYSTEM RESET max_standby_streaming_delay")
    administered(standby, "SELECT pg_reload_conf()")
    assert process.returncode == 4
    (line,) = filter(None, errors.splitlines())
    assert " has ended the dump: " in line
    assert line.endswith(" or dump the primary this time: BACKSET_BACKUP_FROM=primary")
    assert not [*beside.folder.glob("backups/app/*.json")]


def test_any_other_host_is_a_wrong_setting(beside: Project) -> None:
    """Such as the name of one: the URL says which ones there are."""
    done = beside.invoke("backup", BACKSET_BACKUP_FROM="db2")
    assert done.returncode == 2
    assert "backup_from is 'db2' → it must be primary or standby" in done.stderr


def test_the_primary_is_dumped_where_a_standby_cannot_be(pair: Pair, beside: Project) -> None:
    """In place, and where the URL names one host; the line says so."""
    primary, _ = pair
    beside.env |= FROM_STANDBY
    done = beside.invoke("backup", DATABASE_URL=primary.url("app"))
    assert done.returncode == 0, done.stderr
    assert " · from the primary: DATABASE_URL names no standby" in done.stdout
    done = agreed(beside, "reset-db", "--in-place")
    assert done.returncode == 0, done.stderr
    assert " · from the primary: in place, the backup is all that is left" in done.stdout


def test_a_synchronous_standby_is_told_and_holds_up_nothing(
    pair: Pair, beside: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, it has the swap on disk; gone, the run ends all the same, and says what is lacking."""
    primary, standby = pair
    monkeypatch.setattr(swap, "LIMIT_S", 0.5)
    administered(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'")
    administered(primary, "SELECT pg_reload_conf()")
    query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
    try:
        while administered(primary, query) != [(1,)]:
            time.sleep(0.02)
        done = agreed(beside, "reset-db", "--standby")
        assert done.returncode == 0, done.stderr
        on_disk = "app is on the server's own disk, and walreceiver (synchronous) has it on disk"
        assert on_disk in done.stdout
        programs(standby, "pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(standby.data))
        try:
            done = agreed(beside, "reset-db", "--standby=0.5", "--timeout", "60")
        finally:
            started(standby)
    finally:
        administered(primary, "ALTER SYSTEM RESET synchronous_standby_names")
        administered(primary, "SELECT pg_reload_conf()")
    assert "app is on the server's own disk, and not yet on a standby (*) as far" in done.stdout
    assert done.returncode == 6
    assert f"{standby.socket_folder}:{standby.port} may not have replayed the swap" in done.stderr


@pytest.mark.parametrize("major", majors(17, 16, 15, 14, 13))
def test_older_servers_do_all_of_that(major: int, tmp_path: Path) -> None:
    """A dump of the standby with its rows counted in one snapshot, the wait, and the end."""
    with running(major) as primary, standing_by(primary) as standby:
        project = laid_down(tmp_path / "project", "states", at_hosts("app", primary, standby))
        assert agreed(project, "reset-db").returncode == 0
        with psycopg.connect(primary.url("app")) as session:
            session.execute("INSERT INTO users SELECT n, n::text FROM generate_series(1, 50) AS n")
        caught_up(primary, standby)
        where = f"{standby.socket_folder}:{standby.port}"
        with reading(standby) as old:
            project.env |= FROM_STANDBY
            done = agreed(project, "reset-db", "--end-standby-sessions")
            assert done.returncode == 0, done.stderr
            assert f" · from the standby {where}" in done.stdout
            assert f" ! ended on {where}: api of postgres (1 session)" in done.stdout
            assert f" · {where} has it, at c1" in done.stdout
            with pytest.raises(psycopg.OperationalError):
                old.execute("SELECT 1")
        assert taken(project)["rows"]["users"] == 50
        done = agreed(project, "restore", "--yes", "--standby")
        assert done.returncode == 0, done.stderr
        assert project.query("SELECT count(*) FROM users") == [(50,)]
