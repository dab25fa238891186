"""A pooler between us and PostgreSQL: refused where it shares sessions, else worked through."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import psycopg
import pytest

from backset.connections.session import SessionPids, connect, is_shared, process_of
from backset.connections.target import Target
from backset.errors import StepFailedError
from backset.servers import swap
from backset.servers.server import Server
from tests import poolers
from tests.clusters import free_port
from tests.conftest import PASSWORD, ROLE
from tests.project import databases, prints
from tests.states import rebuilt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster
    from tests.project import Project

needs_pgbouncer = pytest.mark.skipif(bool(poolers.why_not()), reason=poolers.why_not())


@contextmanager
def pooler(folder: Path, server: int, mode: str, more: str = "") -> Iterator[int]:
    """Run PgBouncer before a server, with a configuration of its own; yield its port."""
    port = free_port()
    with poolers.running(folder, port, server, (ROLE, PASSWORD), f"pool_mode = {mode}\n{more}"):
        yield port


def used(url: str) -> None:
    """Let a pooler have several sessions of a database that nobody uses at the moment."""
    with ExitStack() as opened:
        for _ in range(3):
            opened.enter_context(psycopg.connect(url)).execute("SELECT 1")


@needs_pgbouncer
@pytest.mark.parametrize("more", ["", poolers.AROUND])
def test_a_pooler_that_shares_sessions_is_refused(
    project: Project, cluster: Cluster, name: str, tmp_path: Path, more: str
) -> None:
    """At once, with what to do; a run would fail in its middle, and its lock would hold nobody."""
    rebuilt(project)
    user = f"{ROLE}:{quote(PASSWORD, safe='')}@127.0.0.1"
    project.query(f'ALTER DATABASE "{name}" OWNER TO {ROLE}')
    before, stood = prints(project), databases(project)
    direct = project.url
    with pooler(tmp_path, cluster.port, "transaction", more) as port:
        project.env["DATABASE_URL"] = f"postgresql://{user}:{port}/{name}"
        for each in (name, "postgres"):
            used(f"postgresql://{user}:{port}/{each}")
        for task in ("status", "reset-db", "wait"):
            done = project.invoke(task)
            assert done.returncode == 2, done.stdout + done.stderr
            (line,) = done.stderr.splitlines()
            assert "is a pooler that gives each transaction another session → give DATABASE" in line
    project.env["DATABASE_URL"] = direct
    assert (prints(project), databases(project)) == (before, stood)
    assert project.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


@needs_pgbouncer
def test_a_pooler_with_a_session_for_each_client_is_worked_through(
    project: Project, cluster: Cluster, name: str, tmp_path: Path
) -> None:
    """Beside, with the rows, in place, and back: what it calls a session's process is not that."""
    user = f"{ROLE}:{quote(PASSWORD, safe='')}@127.0.0.1"
    project.query(f'ALTER DATABASE "{name}" OWNER TO {ROLE}')
    direct = project.url
    with pooler(tmp_path, cluster.port, "session") as port:
        project.env["DATABASE_URL"] = f"postgresql://{user}:{port}/{name}"
        succeed(project, "reset-db")
        write = "INSERT INTO users (id, email) VALUES ('me', 'me@here')"
        mine = "SELECT email FROM users WHERE id = 'me'"
        project.query(write)
        succeed(project, "reset-db", "--carry")
        assert project.query(mine) == [("me@here",)]
        succeed(project, "reset-db", "--in-place")
        assert project.query(mine) == []
        project.query(write)
        succeed(project, "reset-db", "--in-place", "--carry")
        assert project.query(mine) == [("me@here",)]
        succeed(project, "undo")
        succeed(project, "status")
    project.env["DATABASE_URL"] = direct
    assert project.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


@needs_pgbouncer
def test_a_pooler_that_adds_its_client_to_names_hides_no_session_of_a_run(
    project: Project, cluster: Cluster, name: str, tmp_path: Path
) -> None:
    """No run takes its own sessions for those of another one, nor its seed command's."""
    user = f"{ROLE}:{quote(PASSWORD, safe='')}@127.0.0.1"
    project.query(f'ALTER DATABASE "{name}" OWNER TO {ROLE}')
    direct = project.url
    with pooler(tmp_path, cluster.port, "session", "application_name_add_host = 1") as port:
        project.env["DATABASE_URL"] = f"postgresql://{user}:{port}/{name}"
        succeed(project, "reset-db")
        done = project.invoke("reset-db", "--in-place", "--carry")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "backset" not in done.stdout  # what the pooler itself keeps open has no name
    project.env["DATABASE_URL"] = direct
    assert project.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


def succeed(project: Project, *words: str) -> None:
    """Run a task that has to end well."""
    done = project.invoke(*words)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_session_that_is_somebody_elses_by_now_stops_a_run(database_url: str) -> None:
    """What no look at a pooler has shown is asked again before each thing that depends on it."""
    target = Target.parse(database_url)
    with Server(target, "test") as server, connect(server.maintenance, "test") as other:
        server.lock()
        process_of(server.session)
        swap.make(server, server.names.next, "next", None)
        server.session.pgconn, other.pgconn = other.pgconn, server.session.pgconn
        with pytest.raises(StepFailedError, match="given our session to somebody else"):
            swap.create(server, server.names.scratch, None)
        with pytest.raises(StepFailedError, match="given our session to somebody else"):
            swap.promote(server, server.databases()[server.names.target], None, old_is_empty=True)
        assert set(server.databases()) == {server.names.target, server.names.next}


def test_what_is_shared(database_url: str) -> None:
    """Two sessions of the server are not; one that answers for two is."""
    session: psycopg.Connection[Any]
    with psycopg.connect(database_url, autocommit=True) as session:
        assert not is_shared(session, lambda: psycopg.connect(database_url, autocommit=True))
        one = cast("psycopg.Connection[Any]", nullcontext(session))
        assert is_shared(session, lambda: one)
        (pid,) = session.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        assert not SessionPids(session.info.backend_pid, pid).is_doubtful
