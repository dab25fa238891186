"""Every shape of a shared or managed server with every main task: right, or refused in clear words.

Whatever the task does, what stands in the database for everybody is the same afterwards: objects,
owners, rights, policies, default privileges, publications; and the rows of everybody else.
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from tests.clusters import as_superuser, running
from tests.marks import slow_but
from tests.project import laid_down, migrating

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from backset.servers.cluster import Cluster

TABLES = """
CREATE TABLE person (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                   person_id bigint REFERENCES person, body text);
CREATE FUNCTION people() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.person';
ALTER TABLE note ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_notes ON note USING (true);
"""
OURS = ("person", "note", "alembic_version")
ROWS = "INSERT INTO person (name) VALUES ('Ada'), ('Bob'); INSERT INTO note (body) VALUES ('x')"
VERSIONS = """
CREATE TABLE alembic_version (
    version_num varchar(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
"""
TASKS = (
    "status",
    "verify",
    "upgrade",
    "backup",
    "reset-db --plan",
    "reset-db",
    "reset-db --carry",
    "reset-db --in-place",
    "reset-db --carry --in-place",
    "backup",
    "restore --yes",
    "restore --yes --in-place",
    "repair --yes",
    "reset-db",
    "undo",
    "status",
)
QUICK = ("reset-db --carry", "reset-db")
SHARED = {"undo": "belongs to others; a swap would take it away → use `invoke reset-db`"}
KEPT = {"undo": "there is no {0}__previous to go back to"}
GROUP = {"undo": 'as an administrator: ALTER ROLE "{0}_one" SET role = "{0}"'}
ROLE = {"undo": "may not create databases → as an administrator: ALTER ROLE"}


@dataclass(frozen=True)
class Shape:
    """A server as people have it; {0} is a word that all its names begin with.

    roles: what an administrator does on the server; inside, and later: in the database, before and
    after the first migration. login: who runs backset. people: who does what there, before as well
    as after. refused: tasks, and words of the refusal. sessions: how many others are open.
    is_confined: whether only superusers may connect to the maintenance databases.
    """

    roles: tuple[str, ...]
    inside: str = ""
    later: str = ""
    login: str = "{0}"
    migrations: str = TABLES
    people: tuple[tuple[str, str], ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    sessions: int = 0
    is_confined: bool = False


OWNER = ("CREATE ROLE {0} LOGIN CREATEDB", "CREATE DATABASE {0} OWNER {0}")
AUTH = """
CREATE SCHEMA auth AUTHORIZATION {0}_auth; GRANT USAGE ON SCHEMA auth TO {0};
SET ROLE {0}_auth;
CREATE TABLE auth.users (id int PRIMARY KEY, mail text);
INSERT INTO auth.users VALUES (1, 'ada'), (2, 'bob');
GRANT SELECT, REFERENCES, TRIGGER ON auth.users TO {0};
RESET ROLE;
CREATE FUNCTION auth.noted() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE EVENT TRIGGER {0}_noted ON ddl_command_end EXECUTE FUNCTION auth.noted();
CREATE PUBLICATION {0}_realtime;
ALTER DEFAULT PRIVILEGES FOR ROLE {0} GRANT SELECT ON TABLES TO {0}_anon;
GRANT CREATE ON SCHEMA public TO {0};
"""
SHOP = """
CREATE SCHEMA shop AUTHORIZATION {role};
SET ROLE {role};
CREATE TABLE shop.basket (id int PRIMARY KEY, what text);
INSERT INTO shop.basket VALUES (1, 'tea');
CREATE TABLE shop.alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO shop.alembic_version VALUES ('s1');
{more}
"""
SHAPES = {
    "an authentication platform": Shape(
        roles=(
            "CREATE ROLE {0}_auth",
            "CREATE ROLE {0}_anon LOGIN",
            *OWNER,
        ),
        inside=AUTH,
        migrations=TABLES
        + "CREATE TABLE profile (id int PRIMARY KEY REFERENCES auth.users, name text);",
        people=(("{0}_anon", "SELECT count(*) FROM person"),),
        refused=SHARED,
    ),
    "a master role with rights, but no superuser": Shape(
        roles=(
            "CREATE ROLE {0}_managed CREATEDB CREATEROLE",
            "CREATE ROLE {0} LOGIN CREATEDB CREATEROLE IN ROLE {0}_managed, pg_signal_backend",
            "CREATE DATABASE {0} OWNER {0}",
            "CREATE ROLE {0}_app LOGIN",
        ),
        inside="ALTER DEFAULT PRIVILEGES FOR ROLE {0} GRANT SELECT ON TABLES TO {0}_app;"
        "ALTER DATABASE {0} SET work_mem = '8MB'",
        people=(("{0}_app", "SELECT count(*) FROM person"),),
    ),
    "its own database alone, few connections, and a pool": Shape(
        roles=("CREATE ROLE {0} LOGIN CONNECTION LIMIT 20", "CREATE DATABASE {0} OWNER {0}"),
        refused=ROLE,
        sessions=12,
        is_confined=True,
    ),
    "a list of extensions that are allowed": Shape(
        roles=OWNER,
        inside="CREATE EXTENSION vector",
        migrations=TABLES + "CREATE TABLE item (id int PRIMARY KEY, place vector(2));",
        refused=KEPT,
    ),
    "a superuser for everything": Shape(
        roles=("CREATE ROLE {0} LOGIN SUPERUSER", "CREATE DATABASE {0} OWNER {0}")
    ),
    "a group owns it": Shape(
        roles=(
            "CREATE ROLE {0}",
            "CREATE ROLE {0}_one LOGIN CREATEDB IN ROLE {0}",
            "CREATE ROLE {0}_two LOGIN IN ROLE {0}",
            "CREATE ROLE {0}_app LOGIN",
            "CREATE DATABASE {0} OWNER {0}",
        ),
        inside="ALTER DEFAULT PRIVILEGES FOR ROLE {0} GRANT SELECT, INSERT ON TABLES TO {0}_app;"
        f"SET ROLE {{0}}; {TABLES} {VERSIONS} INSERT INTO alembic_version VALUES ('z1')",
        login="{0}_one",
        people=(
            ("{0}_app", "INSERT INTO person (name) VALUES ('by the application')"),
            ("{0}_two", "SELECT people()"),
        ),
    ),
    "a group that its members have to set": Shape(
        roles=(
            "CREATE ROLE {0}",
            "CREATE ROLE {0}_one LOGIN NOINHERIT IN ROLE {0}",
            "CREATE DATABASE {0} OWNER {0}",
            "ALTER ROLE {0}_one IN DATABASE {0} SET role = {0}",
        ),
        login="{0}_one",
        refused=GROUP,
    ),
    "two applications, isolated": Shape(
        roles=("CREATE ROLE {0}_shop LOGIN", *OWNER),
        inside=SHOP.format(role="{0}_shop", more=""),
        people=(("{0}_shop", "SELECT * FROM shop.basket"),),
        refused=SHARED,
    ),
    "two applications that read each other": Shape(
        roles=("CREATE ROLE {0}_shop LOGIN", *OWNER),
        inside=SHOP.format(
            role="{0}_shop",
            more="GRANT USAGE ON SCHEMA shop TO {0}; GRANT SELECT ON ALL TABLES IN SCHEMA shop TO"
            " {0}",
        )
        + "; RESET ROLE; ALTER DEFAULT PRIVILEGES FOR ROLE {0} GRANT SELECT ON TABLES TO {0}_shop",
        people=(
            ("{0}_shop", "SELECT * FROM shop.basket, person"),
            ("{0}", "SELECT * FROM shop.basket"),
        ),
        refused=SHARED,
    ),
    "two applications of one role": Shape(
        roles=OWNER,
        inside=SHOP.format(role="{0}", more=""),
        people=(("{0}", "SELECT * FROM shop.basket"),),
        refused=SHARED,
    ),
    "a migrator and an application": Shape(
        roles=(
            "CREATE ROLE {0}_app LOGIN",
            "CREATE ROLE {0} LOGIN CREATEDB",
            "CREATE DATABASE {0} OWNER {0}",
        ),
        inside="ALTER DEFAULT PRIVILEGES FOR ROLE {0} GRANT SELECT, INSERT ON TABLES TO {0}_app;"
        "ALTER DEFAULT PRIVILEGES FOR ROLE {0} GRANT USAGE ON SEQUENCES TO {0}_app",
        people=(
            ("{0}_app", "INSERT INTO person (name) VALUES ('by the application')"),
            ("{0}_app", "SELECT * FROM note"),
        ),
    ),
    "a quota of five sessions for each developer": Shape(
        roles=(
            "CREATE ROLE {0} LOGIN CREATEDB CONNECTION LIMIT 5",
            "CREATE DATABASE {0} OWNER {0}",
        ),
        refused={"--carry": "the run needs "},
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server of this file's own: roles and rights of a whole server are at stake."""
    with running(18) as cluster:
        yield cluster


def standing(server: Cluster, database: str) -> dict[str, Any]:
    """Return what stands there for everybody, and the rows of everybody but the project."""
    with psycopg.connect(server.url(database)) as session:
        found = {name: session.execute(query.encode()).fetchall() for name, query in ALL.items()}
        rows = []
        for schema, table in session.execute(OF_OTHERS, [list(OURS)]).fetchall():
            ask = sql.SQL("SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {} t")
            identifier = sql.Identifier(schema, table)
            rows += [(schema, table, *row) for row in session.execute(ask.format(identifier))]
    return {**found, "rows": rows}


_USERS = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
_ACL = "(SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest({}) a)"
ALL = {
    "relations": f"""
        SELECT n.nspname, relname, relkind, relowner::regrole::text, {_ACL.format("relacl")},
               relrowsecurity FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE {_USERS} ORDER BY 1, 2""",
    "policies": "SELECT polname, polrelid::regclass::text FROM pg_policy ORDER BY 1, 2",
    "routines": f"""
        SELECT p.oid::regprocedure::text, proowner::regrole::text, {_ACL.format("proacl")}
        FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE {_USERS} ORDER BY 1""",
    "schemas": f"""
        SELECT nspname, nspowner::regrole::text, {_ACL.format("nspacl")} FROM pg_namespace n
        WHERE {_USERS} ORDER BY 1""",
    "default privileges": f"""
        SELECT defaclrole::regrole::text, defaclnamespace, defaclobjtype,
               {_ACL.format("defaclacl")} FROM pg_default_acl ORDER BY 1, 2, 3""",
    "publications": "SELECT pubname, pubowner::regrole::text FROM pg_publication ORDER BY 1",
    "event triggers": "SELECT evtname, evtowner::regrole::text FROM pg_event_trigger ORDER BY 1",
    "extensions": "SELECT extname, extowner::regrole::text FROM pg_extension ORDER BY 1",
    "database": f"""
        SELECT datname, datdba::regrole::text, {_ACL.format("datacl")} FROM pg_database
        WHERE datname = current_database()""",
    "settings": """
        SELECT setrole::regrole::text, setconfig FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
        ORDER BY 1""",
}
OF_OTHERS = """
SELECT schemaname, tablename FROM pg_tables
WHERE schemaname <> 'information_schema' AND schemaname !~ '^pg_'
  AND NOT (schemaname = 'public' AND (tablename = ANY(%s) OR tablename IN ('profile', 'item')))
ORDER BY 1, 2
"""


def hindrance(shape: Shape, task: str) -> str:
    """Return the words with which a task is to be refused; empty where it is to succeed."""
    return next((words for part, words in shape.refused.items() if part in task), "")


@pytest.mark.parametrize(
    "tasks", [pytest.param(TASKS, marks=pytest.mark.slow, id="every"), pytest.param(QUICK, id="q")]
)
@pytest.mark.parametrize("name", slow_but(SHAPES, lambda name: name in list(SHAPES)[:4]))
def test_what_stands_for_everybody_is_the_same_afterwards(
    server: Cluster, tmp_path: Path, name: str, tasks: tuple[str, ...]
) -> None:
    """0 objects and 0 rows of others change; who could go on before, can go on."""
    shape, word = SHAPES[name], f"m{secrets.token_hex(3)}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        for each in shape.roles:
            session.execute(each.format(word).encode())
    as_superuser(server, word, shape.inside.replace("{0}", word) or "SELECT 1")
    login = shape.login.format(word)
    project = laid_down(tmp_path / "project", "objects", server.url(word, login))
    migrating(project, shape.migrations)
    with ExitStack() as stack:
        if shape.is_confined:
            stack.enter_context(confined(server))
        assert project.invoke("upgrade").returncode == 0
        as_superuser(server, word, (shape.later or ROWS).replace("{0}", word))
        for _ in range(shape.sessions):
            stack.enter_context(psycopg.connect(server.url(word, login)))
        go_on(server, word, shape)
        before = standing(server, word)
        for task in tasks:
            words = hindrance(shape, task).format(word)
            done = project.invoke(*task.split())
            assert (done.returncode == 0) == (not words), f"{task}: {done.stdout}{done.stderr}"
            assert words in done.stdout + done.stderr, task
            assert differences(before, standing(server, word)) == [], task
            go_on(server, word, shape)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Any]:
    """Return what is on one side only."""
    return [
        (kind, each)
        for kind, old in before.items()
        for each in (*old, *after[kind])
        if (each in old) != (each in after[kind])
    ]


def go_on(server: Cluster, word: str, shape: Shape) -> None:
    """Let people do what they do there."""
    for role, statement in shape.people:
        with psycopg.connect(server.url(word, role.format(word))) as session:
            session.execute(statement.encode())


@contextmanager
def confined(server: Cluster) -> Iterator[None]:
    """Let nobody but superusers connect to the maintenance databases for the block."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        session.execute("REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC")
        yield
        session.execute("GRANT CONNECT ON DATABASE postgres, template1 TO PUBLIC")
