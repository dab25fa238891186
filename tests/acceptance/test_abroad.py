"""Where people's databases are: roles that may do little, and databases that are not one's own."""

from __future__ import annotations

import re
import secrets
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.connections.session import connect
from backset.connections.target import Target
from backset.servers.server import Server
from tests.clusters import running
from tests.project import Project, laid_down, migrating, prints

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster

STATEMENTS = """
CREATE TABLE person (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                   person_id bigint REFERENCES person, body text);
"""
ROWS = "INSERT INTO person (name) VALUES ('Ada'), ('Bob'); INSERT INTO note (body) VALUES ('x')"


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server of this file's own: roles and rights of a whole server are at stake."""
    with running(18) as cluster:
        yield cluster


@pytest.fixture
def word() -> str:
    """What the names of one test's roles and database begin with."""
    return f"a{secrets.token_hex(4)}"


def made(server: Cluster, *statements: str) -> None:
    """Run statements, each by itself, as an administrator of the server."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        for each in statements:
            session.execute(each.encode())


@contextmanager
def confined(server: Cluster) -> Iterator[None]:
    """Let nobody but superusers connect to the maintenance databases for the block."""
    names = ("postgres", "template1")
    made(server, *(f"REVOKE CONNECT ON DATABASE {each} FROM PUBLIC" for each in names))
    yield
    made(server, *(f"GRANT CONNECT ON DATABASE {each} TO PUBLIC" for each in names))


def project_of(server: Cluster, folder: Path, database: str, role: str) -> Project:
    """Return a project with two tables, for a role that lives on the socket."""
    return migrating(laid_down(folder, "objects", server.url(database, role)), STATEMENTS)


def succeed(project: Project, *arguments: str) -> str:
    """Run a task that must succeed; return all that it says."""
    done = project.invoke(*arguments)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def digest_of(refusal: str) -> str:
    """Return what a refusal says that `--confirm` must be."""
    found = re.search(r"--confirm (\w+)", refusal)
    assert found, refusal
    return found[1]


def write(project: Project, statements: str) -> None:
    """Write rows as the application does."""
    with psycopg.connect(project.url) as session:
        session.execute(statements.encode())


def test_a_role_that_may_connect_to_its_own_database_alone(
    server: Cluster, word: str, tmp_path: Path
) -> None:
    """All that it needs is there: every task but those that swap, with no setting."""
    made(server, f"CREATE ROLE {word} LOGIN", f"CREATE DATABASE {word} OWNER {word}")
    with confined(server):
        project = project_of(server, tmp_path / "project", word, word)
        assert project.invoke("status").returncode == 6  # there is something to do
        for task in ("upgrade", "status", "verify", "backup", "seed", "wait"):
            succeed(project, task)
        write(project, ROWS)
        before = prints(project)
        plan = succeed(project, "reset-db", "--plan")
        assert f"the role {word} may connect to {word} alone" in plan
        succeed(project, "reset-db", "--carry")
        assert prints(project) == before
        succeed(project, "reset-db")
        succeed(project, "restore", "--yes")
        assert prints(project) == before
        done = project.invoke("undo")
        assert done.returncode == 3
        assert f'GRANT CONNECT ON DATABASE postgres TO "{word}"' in done.stderr


def test_one_lock_for_all_roles(server: Cluster, word: str, tmp_path: Path) -> None:
    """One comes to the maintenance database and one does not: the target's own lock is for both."""
    member = f"{word}_member"
    made(
        server,
        f"CREATE ROLE {word} LOGIN CREATEDB",
        f"CREATE ROLE {member} LOGIN IN ROLE {word}",
        f"CREATE DATABASE {word} OWNER {word}",
        f"GRANT CONNECT ON DATABASE postgres TO {word}",
    )
    one = project_of(server, tmp_path / "one", word, word)
    two = project_of(server, tmp_path / "two", word, member)
    for first, second, cut in ((one, two, False), (two, one, True)):
        with confined(server) if cut else nullcontext():
            target = Target.parse(first.url)
            with Server(target, "reset-db") as held, connect(target, "reset-db") as session:
                held.lock()
                held.lock(session=session)
                done = second.invoke("upgrade")
        assert done.returncode == 75, done.stderr
        assert f"another run holds the lock of {word}: backset reset-db" in done.stderr


def test_the_database_postgres(tmp_path: Path) -> None:
    """It is what an image of PostgreSQL gives an application: it is swapped, when agreed to."""
    with running(18) as cluster:
        project = project_of(cluster, tmp_path / "project", "postgres", "postgres")
        with psycopg.connect(cluster.url("postgres")):
            done = project.invoke("reset-db")
        assert done.returncode == 3
        assert "connect to (connected: postgres@socket" in done.stderr
        succeed(project, "reset-db")  # it is empty, and nobody else is there
        write(project, ROWS)
        before = prints(project)
        done = project.invoke("reset-db")
        assert done.returncode == 3
        assert "postgres is what tools of the whole server connect to" in done.stderr
        succeed(project, "reset-db", "--confirm", digest_of(done.stderr))
        assert prints(project) != before
        succeed(project, "undo", "--confirm", digest_of(project.invoke("undo").stderr))
        assert prints(project) == before
        comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database d"
        comment += " WHERE datname = 'postgres'"
        assert project.query(comment) == [("default administrative connection database",)]
        for task in ("status", "verify", "backup", "upgrade"):
            succeed(project, task)
        template = Project(project.folder, {"DATABASE_URL": cluster.url("template1")})
        assert "belongs to PostgreSQL itself" in template.invoke("reset-db").stderr


@pytest.mark.parametrize("inherits", ["INHERIT", "NOINHERIT"])
def test_a_role_that_is_set_at_login(
    server: Cluster, word: str, tmp_path: Path, inherits: str
) -> None:
    """current_user is another one than session_user: nothing fails, and we are in nobody's way."""
    login = f"{word}_login"
    made(
        server,
        f"CREATE ROLE {word} CREATEDB",
        f"CREATE ROLE {login} LOGIN {inherits} IN ROLE {word}, pg_read_all_stats",
        f"ALTER ROLE {login} SET role = {word}",
        f"CREATE DATABASE {word} OWNER {word}",
    )
    project = project_of(server, tmp_path / "project", word, login)
    succeed(project, "reset-db")
    write(project, ROWS)
    before = prints(project)
    with psycopg.connect(project.url):  # a session of the application, which is ended
        succeed(project, "reset-db", "--carry")
    assert prints(project) == before
    owners = (
        "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relname IN ('person', 'note')"
    )
    assert project.query(owners) == [(word,)]
    succeed(project, "undo")
    succeed(project, "reset-db", "--in-place")
    succeed(project, "restore", "--yes", "--in-place")
    assert prints(project) == before
    succeed(project, "protect")
    assert "is protected" in project.invoke("reset-db").stderr
    succeed(project, "unprotect", "--confirm", word)
    succeed(project, "status")
