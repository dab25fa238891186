"""The swap: all of it or nothing of it, whoever is connected."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from backset.catalog import catalog
from backset.connections.session import connect, end
from backset.connections.target import Target
from backset.errors import LockedError, RefusedError, StepFailedError
from backset.process.identity import application_name, token, without_token
from backset.runs.run import Run
from backset.servers import derived, swap
from backset.servers.server import Names, Server
from backset.settings.reader import load
from tests.conftest import PASSWORD, ROLE
from tests.marks import slow_but

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.servers.cluster import Cluster
    from backset.servers.server import Database

MARK = sql.SQL("CREATE TABLE {} ()")


@pytest.fixture
def server(database_url: str) -> Iterator[Server]:
    """The maintenance session of a run whose target exists."""
    with Server(Target.parse(database_url), "test") as opened:
        yield opened


def put(server: Server, database: str, content: str) -> None:
    """Leave a recognizable table in a database."""
    with psycopg.connect(**server.target.named(database).params) as session:  # type: ignore[arg-type]
        session.execute(MARK.format(sql.Identifier(content)))


def content(server: Server) -> dict[str, str]:
    """Return the recognizable table of each database: target, next, previous, discard."""
    found = {}
    for each in server.databases().values():
        if each.is_closed:
            allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true")
            server.session.execute(allow.format(sql.Identifier(each.name)))
        with psycopg.connect(**server.target.named(each.name).params) as session:  # type: ignore[arg-type]
            row = session.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            ).fetchone()
            suffix = each.name.removeprefix(server.target.database)
            found[suffix.removesuffix(f"_{each.oid}")] = row[0] if row else ""
    return found


def drop_what_was_set_aside(server: Server) -> None:
    """Do what the server does after each swap, and wait for it."""
    for each in server.databases().values():
        if each.mark == "discard":
            swap.drop(server, each.name)


def build_next(server: Server, what: str) -> None:
    """Make `__next` with something in it."""
    old = server.databases().get(server.names.target)
    swap.make(server, server.names.next, "next", old)
    put(server, server.names.next, what)


def promote(server: Server, *, old_is_empty: bool = False) -> None:
    """Promote as the chain does."""
    databases = server.databases()
    names = server.names
    swap.promote(
        server,
        databases.get(names.target),
        databases.get(names.previous),
        old_is_empty=old_is_empty,
    )


def test_next_becomes_the_target_and_the_target_previous(server: Server) -> None:
    """Two renames, one transaction."""
    put(server, server.names.target, "old")
    build_next(server, "new")
    promote(server)
    assert content(server) == {"": "new", "__previous": "old"}


def test_an_older_previous_steps_aside_in_the_same_transaction(server: Server) -> None:
    """It is there until the new one is in place, and then it is named for removal."""
    put(server, server.names.target, "first")
    for what in ("second", "third"):
        build_next(server, what)
        promote(server)
    assert content(server) == {"": "third", "__previous": "second", "__discard": "first"}


def test_an_empty_target_never_displaces_a_good_previous(server: Server) -> None:
    """After `reset`, a rebuild keeps what `undo` should bring back."""
    put(server, server.names.target, "good")
    swap.make(server, server.names.next, "next", None)
    promote(server)
    build_next(server, "new")
    promote(server, old_is_empty=True)
    assert content(server) == {"": "new", "__previous": "good", "__discard": ""}


def test_undo_twice_is_redo(server: Server) -> None:
    """The exchange goes both ways."""
    put(server, server.names.target, "old")
    build_next(server, "new")
    promote(server)
    for expected in ({"": "old", "__previous": "new"}, {"": "new", "__previous": "old"}):
        databases = server.databases()
        swap.exchange(server, databases[server.names.target], databases[server.names.previous])
        assert content(server) == expected


def test_the_comment_of_the_target_stays_with_the_target(server: Server) -> None:
    """Our own marks are seen on no database that the user works with."""
    swap.comment(server, server.names.target, "the user's words")
    build_next(server, "new")
    promote(server)
    databases = server.databases()
    assert (databases[server.names.target].comment, databases[server.names.target].mark) == (
        "the user's words",
        "",
    )
    assert databases[server.names.previous].mark == "previous"
    swap.exchange(server, databases[server.names.target], databases[server.names.previous])
    assert server.databases()[server.names.target].comment == "the user's words"


def test_a_client_that_reconnects_in_a_loop_cannot_stop_it(server: Server) -> None:
    """A pool of clients hammers the target; the swap still happens, and they meet the new one."""
    put(server, server.names.target, "old")
    build_next(server, "new")
    over, connected = threading.Event(), threading.Event()
    errors: list[str] = []

    def hammer() -> None:
        while not over.is_set():
            try:
                with psycopg.connect(**server.target.params) as session:  # type: ignore[arg-type]
                    connected.set()
                    session.execute("SELECT pg_sleep(0.01)")
            except psycopg.OperationalError as error:
                errors.append(str(error))

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        assert connected.wait(10)
        for _ in range(3):
            promote(server)
            drop_what_was_set_aside(server)
            build_next(server, "newer")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    swap.drop(server, server.names.next)
    assert content(server) == {"": "newer", "__previous": "newer"}
    assert errors, "the clients were never interrupted, so the test proves nothing"


def test_an_open_transaction_is_ended_not_waited_for(server: Server) -> None:
    """An idle session that has read a table holds nobody up."""
    put(server, server.names.target, "old")
    build_next(server, "new")
    with psycopg.connect(**server.target.params) as idle:  # type: ignore[arg-type]
        idle.execute("SELECT count(*) FROM old")
        promote(server)
        with pytest.raises(psycopg.OperationalError):
            idle.execute("SELECT 1")
        idle.close()


def test_what_fails_at_last_undoes_all_before_it(server: Server) -> None:
    """The renames are rolled back with it."""
    put(server, server.names.target, "old")
    build_next(server, "new")

    def fail(session: psycopg.Connection[object]) -> None:
        session.execute("SELECT 1/0")

    old = server.databases()[server.names.target]
    with pytest.raises(StepFailedError, match="cannot be swapped: division by zero"):
        swap.promote(server, old, None, old_is_empty=False, last=fail)
    assert content(server) == {"": "old", "__next": "new"}


def test_a_session_that_may_not_be_ended_is_named(
    cluster: Cluster, superuser: psycopg.Connection[object], name: str
) -> None:
    """A plain owner cannot end a superuser's session: nothing is renamed, and it says who it is."""
    superuser.execute(
        sql.SQL("CREATE DATABASE {} OWNER {}").format(*map(sql.Identifier, (name, ROLE)))
    )
    url = cluster.url(name, ROLE)
    with Server(Target.parse(url), "test") as plain:
        swap.make(plain, plain.names.next, "next", plain.databases()[name])
        admin = psycopg.connect(cluster.url(name))
        who = rf"postgres, pid {admin.info.backend_pid} on {name}.*"
        with admin, pytest.raises(StepFailedError, match=who):
            promote(plain)
        assert set(plain.databases()) == {name, plain.names.next}


@pytest.mark.parametrize(
    "database", ['quo"te; DROP TABLE x', "Capital Letters", "é" * 31, "n" * 63]
)
def test_any_name_works(
    cluster: Cluster, superuser: psycopg.Connection[object], database: str
) -> None:
    """Quotes, spaces, other scripts and 63 bytes."""
    target = Target.parse(cluster.url(database))
    with Server(target, "test") as server:
        try:
            swap.create(server, database, None)
            put(server, database, "old")
            build_next(server, "new")
            promote(server)
            assert sorted((each.name, each.mark) for each in server.databases().values()) == sorted(
                [(database, ""), (Names.of(database).previous, "previous")]
            )
        finally:
            for each in server.databases():
                drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
                superuser.execute(drop.format(sql.Identifier(each)))


def test_the_likeness_of_the_target(server: Server, superuser: psycopg.Connection[object]) -> None:
    """Owner, encoding and locale of the new database are those of the old one."""
    database = server.names.target
    superuser.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(database)))
    like = sql.SQL(
        "CREATE DATABASE {} TEMPLATE template0 OWNER {} ENCODING 'LATIN1' "
        "LOCALE_PROVIDER libc LOCALE 'C'"
    )
    superuser.execute(like.format(sql.Identifier(database), sql.Identifier(ROLE)))
    swap.create(server, server.names.next, server.databases()[database])
    made, old = server.databases()[server.names.next], server.databases()[database]
    for aspect in ("owner", "encoding", "provider", "collate", "ctype", "locale"):
        assert getattr(made, aspect) == getattr(old, aspect)
    assert (made.owner, made.encoding, made.provider) == (ROLE, "LATIN1", "c")


def test_an_owner_by_membership_without_its_rights_is_no_owner(
    cluster: Cluster, superuser: psycopg.Connection[object], name: str
) -> None:
    """A NOINHERIT member could create the new database and then neither rename nor drop it."""
    superuser.execute("CREATE ROLE boss; CREATE ROLE member LOGIN CREATEDB NOINHERIT")
    superuser.execute("GRANT boss TO member")
    superuser.execute(sql.SQL("CREATE DATABASE {} OWNER boss").format(sql.Identifier(name)))
    try:
        with Server(Target.parse(cluster.url(name, "member")), "test") as server:
            assert not server.databases()[name].owned
    finally:
        superuser.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        superuser.execute("DROP ROLE member; DROP ROLE boss")


def test_timeouts_of_the_application_do_not_end_a_run(
    cluster: Cluster, superuser: psycopg.Connection[object], name: str
) -> None:
    """Neither the lock nor a long statement ends with what a role has set for its sessions."""
    superuser.execute(
        "CREATE ROLE hasty LOGIN CREATEDB; ALTER ROLE hasty SET idle_session_timeout = 100"
    )
    superuser.execute("ALTER ROLE hasty SET statement_timeout = 100")
    try:
        with Server(Target.parse(cluster.url(name, "hasty")), "test") as server:
            server.lock()
            server.session.execute("SELECT pg_sleep(0.3)")
            time.sleep(0.3)
            assert server.databases() == {}
    finally:
        superuser.execute("DROP ROLE hasty")


@pytest.mark.parametrize(
    ("statement", "empty"),
    [
        ("SELECT 1", True),
        ("CREATE TYPE mood AS ENUM ('fine')", False),
        ("CREATE PUBLICATION p FOR ALL TABLES", False),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO public", False),
        ("SELECT lo_create(0)", False),
    ],
)
def test_what_counts_as_empty(database_url: str, statement: str, *, empty: bool) -> None:
    """Whatever somebody has made is worth a backup."""
    with psycopg.connect(database_url) as session:
        session.execute(statement.encode())
        assert catalog.is_empty(session) is empty


def test_a_drop_that_was_interrupted_stands_in_nobodys_way(server: Server) -> None:
    """PostgreSQL leaves an invalid database then: it can only be dropped, and it is."""
    build_next(server, "new")
    server.session.execute(
        "UPDATE pg_database SET datconnlimit = -2 WHERE datname = %s", [server.names.next]
    )
    settings = load(Path(), {"DATABASE_URL": server.target.url})
    with Run(settings, server.target, "test", beside=True) as run:
        run.open()
        derived.clear(run.server, run.current.databases)
    assert set(server.databases()) == {server.names.target}


def test_a_template_can_be_set_aside_and_dropped(server: Server) -> None:
    """The target may have been marked as a template for tests."""
    for _ in range(3):
        statement = sql.SQL("ALTER DATABASE {} IS_TEMPLATE true")
        server.session.execute(statement.format(sql.Identifier(server.names.target)))
        build_next(server, "new")
        promote(server)
        drop_what_was_set_aside(server)
    assert content(server) == {"": "new", "__previous": "new"}
    plain = sql.SQL("ALTER DATABASE {} IS_TEMPLATE false")
    server.session.execute(plain.format(sql.Identifier(server.names.previous)))


def test_a_second_run_stops_at_once_and_says_who_holds_the_lock(server: Server) -> None:
    """The lock is the target's, and it is free again when its holder has gone."""
    server.lock()
    with Server(server.target, "second") as second, pytest.raises(LockedError) as caught:
        second.lock()
    assert f"{without_token(application_name('test'))}, since" in caught.value.what
    with Server(server.target.named("another"), "third") as third:
        third.lock()
    server.session.close()
    with Server(server.target, "fourth") as fourth:
        while fourth.session.execute(_HELD).fetchone() != (0,):  # the server sees it later
            pass
        fourth.lock()


def test_the_lock_is_free_at_once_when_its_run_goes_on(server: Server) -> None:
    """One task after another in a run wants the lock; a closed session may keep it for a while."""
    for _ in range(100):
        with Server(server.target, "first") as first:
            first.lock()
        assert server.session.execute(_HELD).fetchone() == (0,)


_HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"


def test_a_session_of_this_run_that_is_going_is_waited_for(server: Server) -> None:
    """What a run does after an error needs the lock again, and the server may be slow to let go."""
    with connect(server.target, "test") as second:
        first = connect(server.target, "test")
        server.lock(None, first)
        pid = first.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        going = threading.Timer(0.5, os.kill, [pid, signal.SIGCONT])
        going.start()
        end(first)
        server.lock(None, second)
        going.join()


def test_the_lock_of_a_dead_run_is_waited_for(server: Server) -> None:
    """The server may still be at a killed run's last statement: that is nobody to wait for."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    name = application_name("reset-db").replace(f"pid {os.getpid()}", f"pid {dead.pid}")
    with Server(server.target, "killed") as killed:
        killed.lock()
        killed.session.execute("SELECT set_config('application_name', %s, false)", [name])
        ending = threading.Timer(0.5, killed.session.close)
        ending.start()
        server.lock()
        ending.join()


@pytest.mark.slow
def test_databases_that_come_and_go_meanwhile_are_no_error(
    server: Server, cluster: Cluster
) -> None:
    """The server drops what was set aside when it has the time: while another run looks."""
    over = threading.Event()

    def come_and_go(name: str) -> None:
        made = sql.SQL("CREATE DATABASE {} STRATEGY FILE_COPY").format(sql.Identifier(name))
        with psycopg.connect(cluster.url("postgres"), autocommit=True) as session:
            while not over.is_set():
                session.execute(made)
                session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))

    names = (server.names.next, server.names.previous, server.names.clean)
    threads = [threading.Thread(target=come_and_go, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4000):
            assert server.databases().keys() <= {server.names.target, *names}
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_wrong_password_is_one_line_without_it(cluster: Cluster, name: str) -> None:
    """The server's words, where, and what to do."""
    wrong = "wr0ng-secret"
    url = f"postgresql://{ROLE}:{wrong}@127.0.0.1:{cluster.port}/{name}"
    with pytest.raises(StepFailedError) as caught:
        Server(Target.parse(url), "test")
    (line,) = caught.value.lines()
    assert "password authentication failed" in line
    assert wrong not in line
    assert PASSWORD not in line
    assert "\n" not in line


def seen(server: Server) -> tuple[Database, Database | None]:
    """Return target and previous as a run sees them at its gate."""
    databases = server.databases()
    return databases[server.names.target], databases.get(server.names.previous)


def everything(server: Server) -> list[tuple[object, ...]]:
    """Return oid, name, comment and openness of each database that is named like the target."""
    return server.session.execute(
        "SELECT oid, datname, shobj_description(oid, 'pg_database'), datallowconn FROM pg_database"
        " WHERE starts_with(datname, %s) ORDER BY oid",
        [server.names.target],
    ).fetchall()


@pytest.fixture
def promoted(server: Server) -> Server:
    """A target with a `__previous`, and a `__next` that is ready for the next swap."""
    put(server, server.names.target, "first")
    build_next(server, "second")
    promote(server)
    build_next(server, "third")
    return server


PREVIOUS_ANEW = "DROP DATABASE {previous}; CREATE DATABASE {previous}"
MEANWHILE = {
    "an unmarked previous": (PREVIOUS_ANEW, "__previous is another database by now"),
    "a previous that says it is ours": (
        PREVIOUS_ANEW + "; COMMENT ON DATABASE {previous} IS 'backset previous'",
        "__previous is another database by now",
    ),
    "a previous that somebody has taken over": (
        "COMMENT ON DATABASE {previous} IS 'mine now'",
        "the comment of .*__previous does not say any more what it is",
    ),
    "a protected previous": (
        "ALTER DATABASE {previous} SET backset.protected = 'on'",
        "__previous is protected",
    ),
    "a protected target": (
        "ALTER DATABASE {target} SET backset.protected = 'on'",
        " is protected",
    ),
    "another target": (
        "ALTER DATABASE {target} RENAME TO {target}_aside; CREATE DATABASE {target}",
        " is another database by now",
    ),
    "another next": (
        "DROP DATABASE {next}; CREATE DATABASE {next}",
        "__next is not what this run has built",
    ),
    "another run's next": (
        """COMMENT ON DATABASE {next} IS 'backset next {{"of":"{target}","run":"abc"}}'""",
        "__next is not what this run has built",
    ),
}
QUICK = {"an unmarked previous", "a protected target", "another run's next"}


@pytest.mark.parametrize("what", slow_but(MEANWHILE, lambda what: what in QUICK))
def test_what_was_done_meanwhile_stops_the_swap(promoted: Server, what: str) -> None:
    """Since the gate: it is refused by name, and every database stays as it is by then."""
    statements, words = MEANWHILE[what]
    old, previous = seen(promoted)
    names = promoted.names
    for each in statements.split("; "):
        text = each.format(target=names.target, previous=names.previous, next=names.next)
        promoted.session.execute(text.encode())
    stood = everything(promoted)
    with pytest.raises(RefusedError, match=words):
        swap.promote(promoted, old, previous, old_is_empty=False)
    assert everything(promoted) == stood


def test_a_previous_that_came_meanwhile_stops_the_swap(server: Server) -> None:
    """There was none at the gate; one that somebody made since is not ours, and keeps its users."""
    build_next(server, "new")
    old, previous = seen(server)
    assert previous is None
    swap.create(server, server.names.previous, None)
    theirs = server.target.named(server.names.previous)
    with psycopg.connect(**theirs.params) as session:  # type: ignore[arg-type]
        with pytest.raises(RefusedError, match="__previous exists and backset did not make it"):
            swap.promote(server, old, previous, old_is_empty=False)
        session.execute("SELECT 1")


def test_it_is_asked_again_when_nobody_can_change_it_any_more(
    promoted: Server, superuser: psycopg.Connection[object]
) -> None:
    """Between the last look and the renames somebody is faster: all is rolled back."""
    old, previous = seen(promoted)
    assert previous is not None
    text = f"COMMENT ON DATABASE {previous.name} IS 'mine now'".encode()
    with psycopg.connect(superuser.info.dsn) as other:
        other.execute(text)  # RENAME waits for this
        ending = threading.Timer(0.5, other.commit)
        ending.start()
        with pytest.raises(RefusedError, match="does not say any more what it is"):
            swap.promote(promoted, old, previous, old_is_empty=False)
        ending.join()
    assert content(promoted) == {"": "second", "__previous": "first", "__next": "third"}


def test_a_comment_that_was_written_meanwhile_stays(promoted: Server) -> None:
    """What the user says of the target last is what the new one says."""
    old, previous = seen(promoted)
    swap.comment(promoted, promoted.names.target, "written during the run")
    swap.promote(promoted, old, previous, old_is_empty=False)
    target, kept = seen(promoted)
    assert target.comment == "written during the run"
    assert kept is not None
    assert (kept.mark, kept.comment) == ("previous", "written during the run")


def test_a_target_that_was_put_right_meanwhile_is_swapped(promoted: Server) -> None:
    """A run begins by bringing back what a killed one left half built, and removes its mark."""
    swap.comment(promoted, promoted.names.target, "backset unfinished 20261101-101010-abc")
    old, previous = seen(promoted)
    assert old.mark == "unfinished"
    swap.comment(promoted, promoted.names.target, "the user's words")
    swap.promote(promoted, old, previous, old_is_empty=False)
    target, kept = seen(promoted)
    assert (target.comment, kept and kept.comment) == ("the user's words", "the user's words")


def test_nobody_comes_to_what_is_about_to_be_dropped(promoted: Server) -> None:
    """Whatever somebody would begin there would be gone without a word."""
    promote(promoted)
    (discarded,) = [each for each in promoted.databases().values() if each.mark == "discard"]
    where = promoted.target.named(discarded.name)
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        psycopg.connect(**where.params)  # type: ignore[arg-type]


def test_a_run_does_not_wait_for_the_drop_of_the_one_before(promoted: Server) -> None:
    """The server takes its time over what was set aside; the next run goes on meanwhile."""
    promote(promoted)
    (discarded,) = [each for each in promoted.databases().values() if each.mark == "discard"]
    with psycopg.connect(promoted.maintenance.url) as slow:
        slow.execute(f"COMMENT ON DATABASE {discarded.name} IS NULL".encode())
        slow.execute(swap.comment_on(discarded.name, swap.mark(promoted.names, "discard")))
        swap.discard(promoted)
        until = time.monotonic() + 10
        while not promoted.is_being_dropped(discarded):
            assert time.monotonic() < until
        derived.clear(promoted, promoted.databases())
        build_next(promoted, "fourth")
        promote(promoted)
        swap.discard(promoted)
        assert discarded.name in promoted.databases()
    until = time.monotonic() + 30
    while set(promoted.databases()) != {promoted.names.target, promoted.names.previous}:
        assert time.monotonic() < until
        time.sleep(0.05)


@contextmanager
def another_run(
    url: str, name: str = "backset reset-db on app, pid 7 #0123456789abcd"
) -> Iterator[psycopg.Connection[object]]:
    """Have a session as that of a run on another machine or in a container; give it."""
    with psycopg.connect(url, autocommit=True, application_name=name) as session:
        yield session


def another_runs_next(server: Server) -> None:
    """Make `__next` as that run does."""
    build_next(server, "theirs")
    text = swap.mark(server.names, "next").replace(token(), "0123456789abcd")
    swap.comment(server, server.names.next, text)


def test_what_another_run_builds_is_not_dropped_while_that_lives(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have lost the lock, and goes on; nobody else takes away what it works on."""
    monkeypatch.setattr("backset.servers.server._CLEANING_S", 0.3)
    another_runs_next(server)
    with another_run(server.maintenance.url):
        with pytest.raises(LockedError, match=r"works on \S+__next: backset reset-db on app"):
            derived.clear(server, server.databases())
        assert content(server) == {"": "", "__next": "theirs"}
    derived.clear(server, server.databases())
    assert content(server) == {"": ""}


def test_a_run_that_fails_takes_away_its_own_alone(server: Server) -> None:
    """Another one may have begun to build since: it had lost the lock without noticing."""
    another_runs_next(server)
    derived.drop_after(server, server.names.next, StepFailedError("a step failed", "mend it"))
    assert content(server) == {"": "", "__next": "theirs"}
    swap.comment(server, server.names.next, swap.mark(server.names, "next"))
    derived.drop_after(server, server.names.next, StepFailedError("a step failed", "mend it"))
    assert content(server) == {"": ""}


OLDER = ("next", "previous 20261101-101010-abc", "discard", "scratch")


@pytest.mark.parametrize("mark", slow_but(OLDER, lambda mark: mark.startswith("previous")))
def test_marks_of_backset_before_are_understood(server: Server, mark: str) -> None:
    """They name neither target nor run."""
    word, _, label = mark.partition(" ")
    name = getattr(server.names, word)
    swap.create(server, name, None)
    swap.comment(server, name, f"backset {mark}\nthe user's words")
    found = server.databases()[name]
    assert (found.mark, found.label, found.comment) == (word, label, "the user's words")
    assert derived.foreign(server, server.databases()) == ()
    derived.clear(server, server.databases())
    assert (name in server.databases()) is (word == "previous")


@pytest.mark.parametrize("word", slow_but(["next", "previous"], lambda word: word == "previous"))
def test_what_says_that_it_is_anothers_is_not_ours(server: Server, word: str) -> None:
    """Two long names could be cut to the same one: the mark has the whole name of the target."""
    name = getattr(server.names, word)
    swap.create(server, name, None)
    other = Names.of(server.names.target + "_and_more")
    swap.comment(server, name, swap.mark(other, word))
    assert derived.foreign(server, server.databases()) == (name,)
    old, previous = seen(server)
    with pytest.raises(RefusedError):
        swap.promote(server, old, previous, old_is_empty=False)
    with pytest.raises(RefusedError, match=f"{name} exists and backset did not make it beside"):
        swap.drop(server, name)
    assert name in server.databases()


@pytest.mark.parametrize("mark", ["protected", "unfinished 20260131T090000Z-at-a1"])
def test_a_target_that_has_the_name_of_a_derived_database_is_not_ours(
    server: Server, mark: str
) -> None:
    """The marks that a target itself has do not say that it was made beside another one."""
    for word in ("next", "scratch"):
        swap.create(server, getattr(server.names, word), None)
        swap.comment(server, getattr(server.names, word), swap.marked(mark))
    derived.clear_scratch(server, server.databases())
    assert derived.foreign(server, server.databases()) == (server.names.next,)
    with pytest.raises(RefusedError, match="exists and backset did not make it beside"):
        swap.drop(server, server.names.next)
    assert {server.names.next, server.names.scratch} <= server.databases().keys()


@pytest.mark.parametrize("own", [None, "local"])
def test_commits_wait_as_ever_once_it_is_the_target(server: Server, own: str | None) -> None:
    """In the new one nobody waits for disk or standby until then; what the old one says stays."""

    def said(name: str) -> str:
        with psycopg.connect(**server.target.named(name).params) as session:  # type: ignore[arg-type]
            return str((session.execute("SHOW synchronous_commit").fetchone() or ("",))[0])

    build_next(server, "new")
    assert said(server.names.next) == "off"
    if own:  # as it is inherited
        statement = sql.SQL("ALTER DATABASE {} SET synchronous_commit = {}")
        next_ = sql.Identifier(server.names.next)
        server.session.execute(statement.format(next_, sql.Literal(own)))
    promote(server)
    assert said(server.names.target) == (own or "on")


def test_a_server_is_not_left_alone_with_many_drops(promoted: Server) -> None:
    """A fleet's rebuilds would take its connections: from the fourth on each is waited for."""
    promote(promoted)
    (discarded,) = [each for each in promoted.databases().values() if each.mark == "discard"]
    with ExitStack() as others:
        for number in range(4):
            session = connect(promoted.maintenance, "discard")
            others.callback(session.close)
            session.execute(f"SET application_name = 'backset discard on a, pid {number}'".encode())
        swap.discard(promoted)
        assert discarded.name not in promoted.databases()
