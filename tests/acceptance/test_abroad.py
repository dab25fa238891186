"""Where people's databases are: roles that may do little, and databases that are not one's own."""

from __future__ import annotations

import re
import secrets
import tempfile
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.connections.session import connect
from backset.connections.target import Target
from backset.servers.server import Server
from tests.clusters import as_superuser, running
from tests.incident.fingerprint import fingerprint
from tests.incident.project import lay_down
from tests.marks import slow_but
from tests.project import REPOSITORY, Project, laid_down, migrating, prints

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "inherits", slow_but(["INHERIT", "NOINHERIT"], lambda each: each == "NOINHERIT")
)
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


# What a platform with authentication puts into an application's database, in short.
PLATFORM = """
CREATE SCHEMA auth AUTHORIZATION {auth};
GRANT USAGE ON SCHEMA auth TO {role};
CREATE TABLE auth.users (id int PRIMARY KEY, mail text);
CREATE TABLE auth.sessions (id int PRIMARY KEY, user_id int REFERENCES auth.users);
INSERT INTO auth.users VALUES (1, 'ada'), (2, 'bob'); INSERT INTO auth.sessions VALUES (1, 1);
ALTER TABLE auth.users OWNER TO {auth}; ALTER TABLE auth.sessions OWNER TO {auth};
GRANT SELECT, REFERENCES, TRIGGER ON auth.users TO {role};
CREATE FUNCTION auth.note() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE EVENT TRIGGER {auth}_note ON ddl_command_end EXECUTE FUNCTION auth.note();
CREATE PUBLICATION {auth}_all;
GRANT CREATE ON SCHEMA public TO {role};
"""
# The application refers to the platform's table, and listens to it.
ON_A_PLATFORM = (
    STATEMENTS
    + """
CREATE TABLE profile (id int PRIMARY KEY REFERENCES auth.users, name text);
CREATE FUNCTION greet() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.profile VALUES (new.id, new.mail); RETURN new; END $$;
CREATE TRIGGER greeted AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION greet();
"""
)


def everything(server: Cluster, database: str) -> list[tuple[object, ...]]:
    """Return what stands in a database of others': objects, owners, rights, and rows."""
    with psycopg.connect(server.url(database)) as session:
        objects = session.execute(
            """
            SELECT o.type, o.identity, c.relowner::regrole::text, c.relacl::text
            FROM pg_class c, pg_identify_object('pg_class'::regclass, c.oid, 0) o
            WHERE o.schema IN ('auth', 'shop')
            UNION ALL SELECT 'event trigger', evtname, evtowner::regrole::text, NULL
            FROM pg_event_trigger UNION ALL
            SELECT 'publication', pubname, pubowner::regrole::text, NULL FROM pg_publication
            UNION ALL SELECT 'schema', nspname, nspowner::regrole::text, nspacl::text
            FROM pg_namespace WHERE nspname IN ('auth', 'shop') ORDER BY 1, 2
            """
        ).fetchall()
        tables = session.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('auth', 'shop')"
        ).fetchall()
        rows = [
            (schema, table, *session.execute(f"SELECT count(*) FROM {schema}.{table}".encode()))
            for schema, table in sorted(tables)
        ]
    return [*objects, *rows]


@pytest.mark.slow
@pytest.mark.parametrize("rights", ["LOGIN CREATEDB", "LOGIN", "LOGIN SUPERUSER"])
def test_a_platforms_schema_stays_whatever_is_rebuilt(
    server: Cluster, word: str, tmp_path: Path, rights: str
) -> None:
    """In no strategy, and in no two runs, does anything of its owner's change."""
    auth = f"{word}_auth"
    made(
        server,
        f"CREATE ROLE {word} {rights}",
        f"CREATE ROLE {auth}",
        f"CREATE DATABASE {word} OWNER {word}",
    )
    as_superuser(server, word, PLATFORM.format(auth=auth, role=word))
    project = project_of(server, tmp_path / "project", word, word)
    migrating(project, ON_A_PLATFORM)
    before = everything(server, word)
    plan = succeed(project, "reset-db", "--plan")
    assert "in place: the schema auth, " in plan
    assert "belongs to others, and stays" in plan
    succeed(project, "reset-db")
    write(project, ROWS)
    with psycopg.connect(server.url(word)) as session:
        session.execute("INSERT INTO auth.users VALUES (3, 'cyd')")
    assert project.query("SELECT id, name FROM profile") == [(3, "cyd")]
    before = everything(server, word)
    succeed(project, "backup")
    for task in (["reset-db", "--carry"], ["reset-db"], ["restore", "--yes"], ["reset-db"]):
        succeed(project, *task)
        assert everything(server, word) == before
    done = project.invoke("undo")
    assert done.returncode != 0
    done = project.invoke("carry", f"--from={project.url}")
    assert done.returncode == 3
    assert "the schema auth" in done.stderr
    assert "would take it away" in done.stderr
    assert "OWNER TO" not in plan + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("others", ["another role's", "the same role's"])
def test_a_second_application_in_a_schema_of_its_own(
    server: Cluster, word: str, tmp_path: Path, others: str
) -> None:
    """It has a version table of its own, and its tables, rows and rights are as before."""
    owner = f"{word}_shop" if others == "another role's" else word
    made(
        server,
        f"CREATE ROLE {word} LOGIN CREATEDB",
        *([f"CREATE ROLE {owner}"] if owner != word else []),
        f"CREATE DATABASE {word} OWNER {word}",
    )
    as_superuser(
        server,
        word,
        f"""
        CREATE SCHEMA shop AUTHORIZATION {owner}; SET ROLE {owner};
        CREATE TABLE shop.alembic_version (version_num varchar(32) PRIMARY KEY);
        INSERT INTO shop.alembic_version VALUES ('5b09');
        CREATE TABLE shop.item (id int); INSERT INTO shop.item SELECT generate_series(1, 9);
        """,
    )
    project = project_of(server, tmp_path / "project", word, word)
    before = everything(server, word)
    succeed(project, "reset-db")
    write(project, ROWS)
    for words in (["reset-db", "--carry"], ["reset-db"], ["restore", "--yes"]):
        assert "belongs to others, and stays" in succeed(project, *words)
        assert everything(server, word) == before
    for task in ("status", "verify", "upgrade", "backup"):
        succeed(project, task)


def test_a_second_application_among_the_tables_of_this_one(
    server: Cluster, word: str, tmp_path: Path
) -> None:
    """Whose each table is, nobody can tell: nothing is replaced, and the reason is said."""
    made(server, f"CREATE ROLE {word} LOGIN CREATEDB", f"CREATE DATABASE {word} OWNER {word}")
    project = project_of(server, tmp_path / "project", word, word)
    succeed(project, "reset-db")
    write(
        project,
        "CREATE TABLE shop_version (version_num varchar(32) PRIMARY KEY);"
        "CREATE TABLE item (id int); INSERT INTO shop_version VALUES ('5b09')",
    )
    before = prints(project)
    for flags in ([], ["--in-place"], ["--carry"]):
        done = project.invoke("reset-db", *flags)
        assert done.returncode == 3
        assert "shop_version is another application's version table" in done.stderr
    assert prints(project) == before


@pytest.mark.parametrize("strategy", slow_but([[], ["--in-place"]], bool))
@pytest.mark.slow
def test_what_a_member_of_a_group_builds_is_the_groups(
    server: Cluster, word: str, tmp_path: Path, strategy: list[str]
) -> None:
    """As it was: the application and the colleagues can go on, and the login is as it was, too."""
    one, other = f"{word}_one", f"{word}_other"
    made(
        server,
        f"CREATE ROLE {word}",
        f"CREATE ROLE {one} LOGIN CREATEDB IN ROLE {word}",
        f"CREATE ROLE {other} LOGIN CREATEDB IN ROLE {word}",
        f"CREATE ROLE {word}_app LOGIN",
        f"CREATE DATABASE {word} OWNER {word}",
    )
    project = project_of(server, tmp_path / "project", word, one)
    as_superuser(
        server,
        word,
        f"SET ROLE {word}; {STATEMENTS} {ROWS};"
        "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);"
        "INSERT INTO alembic_version VALUES ('z1');"
        f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {word}_app;"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {word}_app",
    )
    owners = (
        "SELECT DISTINCT pg_get_userbyid(relowner), relacl::text FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    before, rows = project.query(owners), prints(project)
    assert len(before) == 1
    colleague = Project(project.folder, {"DATABASE_URL": server.url(word, other)})
    assert f"as {word}, whose tables these are" in succeed(project, "reset-db", "--plan", *strategy)
    for each in (project, colleague):
        for task in (["reset-db", "--carry"], ["restore", "--yes"], ["reset-db"]):
            succeed(each, *task, *strategy)
            assert each.query(owners) == before
            assert Project(each.folder, {"DATABASE_URL": server.url(word, f"{word}_app")}).query(
                "SELECT count(*) FROM person"
            )
        if not strategy:
            succeed(each, "undo")
        succeed(each, "restore", "--yes", *strategy)
        assert prints(each) == rows
    settings = "SELECT setconfig FROM pg_db_role_setting JOIN pg_roles r ON r.oid = setrole"
    assert project.query(f"{settings} WHERE rolname LIKE '{word}%'") == []


def test_tables_that_would_change_hands_want_a_word(
    server: Cluster, word: str, tmp_path: Path
) -> None:
    """A superuser who rebuilds an application's database would own it all."""
    boss = f"{word}_boss"
    made(
        server,
        f"CREATE ROLE {word} LOGIN CREATEDB",
        f"CREATE ROLE {boss} LOGIN SUPERUSER",
        f"CREATE DATABASE {word} OWNER {word}",
    )
    project = project_of(server, tmp_path / "project", word, word)
    succeed(project, "reset-db")
    write(project, ROWS)
    before = prints(project)
    owner = "SELECT tableowner::text FROM pg_tables WHERE tablename = 'person'"
    as_boss = Project(project.folder, {"DATABASE_URL": server.url(word, boss)})
    done = as_boss.invoke("reset-db", "--carry")
    assert done.returncode == 3
    assert f"the tables of {word} belong to {word}, and would be {boss}'s" in done.stderr
    as_boss.env["DATABASE_URL"] += f"&options=-crole%3D{word}"
    succeed(as_boss, "reset-db", "--carry")
    assert project.query(owner) == [(word,)]
    assert prints(project) == before


def test_all_rights_on_the_database_are_none_in_its_schema(
    server: Cluster, word: str, tmp_path: Path
) -> None:
    """From PostgreSQL 15 on; known before anything is dropped, with the statement that helps."""
    made(
        server,
        f"CREATE ROLE {word} LOGIN",
        f"CREATE DATABASE {word}",
        f"GRANT ALL ON DATABASE {word} TO {word}",
    )
    project = project_of(server, tmp_path / "project", word, word)
    done = project.invoke("reset-db")
    assert done.returncode == 3
    grant = f'GRANT CREATE ON SCHEMA public TO "{word}"'
    assert grant in done.stderr
    as_superuser(server, word, grant)
    succeed(project, "reset-db")
    succeed(project, "reset-db")


@pytest.mark.slow
def test_an_extension_that_the_role_may_not_create_is_never_lost(
    server: Cluster, word: str, tmp_path: Path
) -> None:
    """In place it stays; what can only swap is refused before the backup."""
    made(server, f"CREATE ROLE {word} LOGIN CREATEDB", f"CREATE DATABASE {word} OWNER {word}")
    as_superuser(server, word, "CREATE EXTENSION vector")
    project = project_of(server, tmp_path / "project", word, word)
    for _ in range(2):
        assert "in place: " in succeed(project, "reset-db")
    done = project.invoke("carry", f"--from={project.url}")
    assert done.returncode == 3
    assert "could not create the extension vector again, so a swap would lose it" in done.stderr
    assert project.query("SELECT extname FROM pg_extension WHERE extname = 'vector'")


def test_a_platforms_new_database_is_empty_for_the_project(
    server: Cluster, word: str, tmp_path: Path
) -> None:
    """What stands there is the platform's: the cure is `upgrade`, and it is the right database."""
    auth = f"{word}_auth"
    made(
        server,
        f"CREATE ROLE {word} LOGIN CREATEDB",
        f"CREATE ROLE {auth}",
        f"CREATE DATABASE {word} OWNER {word}",
    )
    as_superuser(server, word, PLATFORM.format(auth=auth, role=word))
    laid = tmp_path / "project"
    laid.mkdir()
    lay_down(laid, REPOSITORY)
    project = Project(laid, {"DATABASE_URL": server.url(word, word)})
    done = project.invoke("status")
    assert "wrong database" not in done.stdout + done.stderr
    assert "invoke upgrade" in done.stdout + done.stderr
    succeed(project, "upgrade")
    assert "wrong database" not in succeed(project, "status")


@pytest.mark.parametrize(
    ("rights", "flags", "needed"),
    slow_but(
        [
            ("LOGIN CREATEDB", ["--carry"], 7),
            ("LOGIN CREATEDB", [], 5),
            ("LOGIN", ["--carry"], 7),
            ("LOGIN", [], 5),
        ],
        lambda each: each[2] == 7 and "CREATEDB" in each[0],
    ),
)
def test_few_sessions_are_enough_or_refused_beforehand(
    server: Cluster, word: str, tmp_path: Path, rights: str, flags: list[str], needed: int
) -> None:
    """What a run needs is said before anything is done, and with that it succeeds."""
    made(server, f"CREATE ROLE {word} {rights}", f"CREATE DATABASE {word} OWNER {word}")
    project = project_of(server, tmp_path / "project", word, word)
    succeed(project, "upgrade")
    write(project, ROWS)
    before = prints(project)
    made(server, f"ALTER ROLE {word} CONNECTION LIMIT {needed - 1}")
    for also in ([], ["--plan"]):
        done = project.invoke("reset-db", *flags, *also)
        assert done.returncode == 3
        assert f"the run needs {needed} sessions at once: the role {word} may" in done.stderr
    assert prints(project) == before
    made(server, f"ALTER ROLE {word} CONNECTION LIMIT {needed}")
    succeed(project, "reset-db", *flags)


def test_a_proof_needs_few_sessions(server: Cluster, word: str, tmp_path: Path) -> None:
    """Where a role has no more than four, the chain is built after the target was looked at."""
    made(server, f"CREATE ROLE {word} LOGIN CREATEDB", f"CREATE DATABASE {word} OWNER {word}")
    project = project_of(server, tmp_path / "project", word, word)
    succeed(project, "upgrade")
    made(server, f"ALTER ROLE {word} CONNECTION LIMIT 4")
    assert "the chain was built beside it: identical" in succeed(project, "status", "--prove")


def test_what_a_run_in_place_says_is_true(server: Cluster, word: str, tmp_path: Path) -> None:
    """The command that goes back works as printed; who may not be ended is not said to be."""
    other = f"{word}_other"
    made(
        server,
        f"CREATE ROLE {word} LOGIN CREATEDB",
        f"CREATE ROLE {other} LOGIN",
        f"CREATE DATABASE {word} OWNER {word}",
    )
    project = project_of(server, tmp_path / "project", word, word)
    succeed(project, "reset-db")
    write(project, ROWS)
    before = prints(project)
    with psycopg.connect(server.url(word, other)) as session:
        session.execute("SELECT 1")
        session.rollback()
        said = succeed(project, "reset-db", "--in-place", "--plan")
        said += succeed(project, "reset-db", "--in-place")
        assert session.execute("SELECT 1").fetchone() == (1,)
    assert other not in said
    assert "would stop this" not in said
    command = re.search(r"`invoke (restore \S+ --in-place)` goes back", said)
    assert command
    succeed(project, *command[1].split())
    assert prints(project) == before


def test_what_an_application_wrote_into_a_run_that_fails_is_in_a_dump(
    server: Cluster, word: str, tmp_path: Path
) -> None:
    """In place its rows go when the backup comes back: where they are is said, and they are."""
    made(server, f"CREATE ROLE {word} LOGIN", f"CREATE DATABASE {word} OWNER {word}")
    project = project_of(server, tmp_path / "project", word, word)
    succeed(project, "upgrade")
    write(project, ROWS)
    before = prints(project)
    script = project.folder / "seed.py"
    script.write_text(
        "import os, sys, psycopg\n"
        "url = os.environ['DATABASE_URL']\n"
        "application = psycopg.connect(url, application_name='shop', autocommit=True)\n"
        "application.execute(\"INSERT INTO person (name) VALUES ('acknowledged')\")\n"
        "print('ready', flush=True)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    os.closerange(0, 3)\n"
        "    import time; time.sleep(30); os._exit(0)\n"
        "os._exit(1)\n"
    )
    (project.folder / "pyproject.toml").write_text('[tool.backset]\nseed = ["python", "seed.py"]\n')
    done = project.invoke("reset-db")
    assert done.returncode == 5, done.stdout + done.stderr
    assert prints(project) == before
    found = re.search(r"was written meanwhile is in (\S+)", done.stderr)
    assert found, done.stderr
    succeed(project, "restore", found[1])
    assert project.query("SELECT name FROM person") == [("acknowledged",)]


@pytest.fixture(scope="module")
def extended() -> Iterator[Cluster]:
    """A server with an extension that lets pg_dump dump the rows which people add to its table."""
    with tempfile.TemporaryDirectory(prefix="bs-") as folder:  # every account may come to it
        Path(folder).chmod(0o755)
        yield from _extended(Path(folder))


def _extended(folder: Path) -> Iterator[Cluster]:
    (folder / "extension").mkdir()
    for name, trusted in (("registry", "false"), ("ledger", "true")):
        control = f"default_version = '1'\ntrusted = {trusted}\n"
        (folder / f"extension/{name}.control").write_text(control)
        (folder / f"extension/{name}--1.sql").write_text(
            "CREATE TABLE entry (id int PRIMARY KEY, what text);"
            "INSERT INTO entry VALUES (1, 'the extension''s own');"
            "SELECT pg_catalog.pg_extension_config_dump('entry', 'WHERE id > 1');"
        )
    with running(18, settings=[f"extension_control_path = '$system:{folder}'"]) as cluster:
        yield cluster


def test_rows_in_a_table_of_an_extension_are_carried(
    extended: Cluster, word: str, tmp_path: Path
) -> None:
    """A spatial reference system of one's own is such a row: by a swap, in place, and a restore."""
    other = f"{word}_other"
    for each in (word, other):
        made(extended, f"CREATE DATABASE {each}")
        as_superuser(extended, each, "CREATE EXTENSION registry")
    project = project_of(extended, tmp_path / "project", word, "postgres")
    succeed(project, "upgrade")
    write(project, f"{ROWS}; INSERT INTO entry VALUES (2, 'mine')")
    mine = "SELECT what FROM entry WHERE id > 1"
    elsewhere = {"DATABASE_URL": extended.url(other)}
    succeed(project, "reset-db", "--carry")
    assert project.query(mine) == [("mine",)]
    assert project.invoke("carry", f"--from={project.url}", "--yes", **elsewhere).returncode == 0
    assert project.query(mine, other) == [("mine",)]
    succeed(project, "reset-db", "--carry", "--in-place")
    assert project.query(mine) == [("mine",)]
    succeed(project, "backup")
    write(project, "DELETE FROM entry WHERE id > 1; INSERT INTO entry VALUES (3, 'of today')")
    succeed(project, "restore", "--yes", "--in-place")
    assert project.query(mine) == [("mine",)]
    succeed(project, "reset-db", "--in-place")
    assert project.query(mine) == []


@pytest.mark.parametrize(
    "extension", slow_but(["registry", "ledger"], lambda each: each == "ledger")
)
def test_rows_in_a_table_of_an_extension_that_the_role_may_not_write(
    extended: Cluster, word: str, tmp_path: Path, extension: str
) -> None:
    """They stay in place; in a new database they would be missing, which is said beforehand."""
    made(extended, f"CREATE ROLE {word} LOGIN CREATEDB", f"CREATE DATABASE {word} OWNER {word}")
    project = project_of(extended, tmp_path / "project", word, word)
    succeed(project, "upgrade")
    write(project, ROWS)
    rows = "GRANT SELECT ON entry TO PUBLIC; INSERT INTO entry VALUES (2, 'mine')"
    as_superuser(extended, word, f"CREATE EXTENSION {extension}; {rows}")
    done = project.invoke("reset-db", "--carry")
    if extension == "ledger":  # the role could create it, and owns nothing of it
        assert done.returncode == 4
        what = "entry (1 row): it is an extension's table, where the role could not write them"
        assert what in done.stderr
        succeed(project, "reset-db", "--carry", "--in-place")
    else:
        assert done.returncode == 0, done.stderr
    assert project.query("SELECT what FROM entry WHERE id > 1") == [("mine",)]


def test_rows_that_the_role_may_not_read_are_known_before_anything_is_done(
    server: Cluster, word: str, tmp_path: Path
) -> None:
    """FORCE ROW LEVEL SECURITY holds for the owner, too: the plan says so, and what helps."""
    made(server, f"CREATE ROLE {word} LOGIN CREATEDB", f"CREATE DATABASE {word} OWNER {word}")
    project = project_of(server, tmp_path / "project", word, word)
    succeed(project, "upgrade")
    write(project, f"{ROWS}; ALTER TABLE note ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    for flags in (["--plan"], [], ["--in-place"]):
        done = project.invoke("reset-db", *flags)
        assert done.returncode == 3
        assert f"the role {word} may not read every row of note" in done.stderr
        assert "→ its owner can run ALTER TABLE … NO FORCE ROW LEVEL SECURITY" in done.stderr
        assert "GRANT SELECT" not in done.stderr
    write(project, "ALTER TABLE note NO FORCE ROW LEVEL SECURITY")
    succeed(project, "reset-db")


def test_what_was_mended_elsewhere_is_not_brought_back(
    server: Cluster, word: str, tmp_path: Path
) -> None:
    """Killed in one checkout, rebuilt in another: the first one's file says nothing any more."""
    made(server, f"CREATE ROLE {word} LOGIN", f"CREATE DATABASE {word} OWNER {word}")
    project = project_of(server, tmp_path / "project", word, word)
    succeed(project, "reset-db")
    write(project, ROWS)
    script = project.folder / "seed.py"
    script.write_text("import os, signal; os.kill(os.getppid(), signal.SIGKILL)\n")
    settings = project.folder / "pyproject.toml"
    settings.write_text('[tool.backset]\nseed = ["python", "seed.py"]\n')
    assert project.run("reset-db").returncode == -9
    assert list((project.folder / "backups").rglob("in-place.json"))
    settings.unlink()
    elsewhere = {"BACKSET_BACKUPS": str(tmp_path / "elsewhere")}
    assert "half built" in project.invoke("status", **elsewhere).stderr
    done = project.invoke("reset-db", **elsewhere)
    assert done.returncode == 0, done.stderr
    ours = "setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())"
    assert project.query(f"SELECT setconfig FROM pg_db_role_setting WHERE {ours}") == []
    write(project, ROWS)
    before = prints(project)
    for task in ("upgrade", "reset-db"):
        said = succeed(project, task, *(["--carry"] if task == "reset-db" else []))
        assert "killed" not in said
        assert prints(project) == before


def test_a_run_that_was_killed_leaves_the_login_as_it_was(
    server: Cluster, word: str, tmp_path: Path
) -> None:
    """What it acts as there for a rebuild goes with the next run; of a confined role, too."""
    one = f"{word}_one"
    made(
        server,
        f"CREATE ROLE {word}",
        f"CREATE ROLE {one} LOGIN IN ROLE {word}",
        f"CREATE DATABASE {word} OWNER {word}",
    )
    project = project_of(server, tmp_path / "project", word, one)
    version = "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"
    as_superuser(
        server,
        word,
        f"SET ROLE {word}; {STATEMENTS} {ROWS}; {version};"
        "INSERT INTO alembic_version VALUES ('z1')",
    )
    before = prints(project)
    (project.folder / "seed.py").write_text(
        "import os, signal; os.kill(os.getppid(), signal.SIGKILL)\n"
    )
    settings = project.folder / "pyproject.toml"
    settings.write_text('[tool.backset]\nseed = ["python", "seed.py"]\n')
    owner = "SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public'"
    roles = "SELECT setconfig FROM pg_db_role_setting JOIN pg_roles r ON r.oid = setrole"
    roles += f" WHERE rolname = '{one}'"
    with confined(server):
        assert project.run("reset-db").returncode == -9
        ((left,),) = project.query(roles)
        assert f"role={word}" in left
        settings.unlink()
        succeed(project, "upgrade")  # there are no rows, so it brings the old ones back
        assert project.query(roles) == []
        assert prints(project) == before
        assert project.query(owner) == [(word,)]


# What an administrator puts into an application's database that its role could not make again.
BY_AN_ADMINISTRATOR = {
    "an extension": "CREATE EXTENSION vector",
    "a schema": "CREATE SCHEMA reports; CREATE TABLE reports.daily (day date)",
    "a table": "CREATE TABLE audited (id int)",
    "a function": "CREATE FUNCTION audit() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "an event trigger": (
        "CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';"
        "CREATE EVENT TRIGGER {0}_note ON ddl_command_end EXECUTE FUNCTION note()"
    ),
    "default privileges": "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {0}",
    "a publication": "CREATE PUBLICATION {0}_all FOR ALL TABLES",
}


@pytest.mark.parametrize(
    "what", slow_but([*BY_AN_ADMINISTRATOR, "all of it"], lambda each: each == "all of it")
)
def test_a_proof_leaves_alone_what_an_administrator_made(
    server: Cluster, word: str, tmp_path: Path, what: str
) -> None:
    """`repair` proves where the database is, stamps it, and no row is lost."""
    made(server, f"CREATE ROLE {word} LOGIN CREATEDB", f"CREATE DATABASE {word} OWNER {word}")
    project = project_of(server, tmp_path / "project", word, word)
    succeed(project, "upgrade")
    write(project, ROWS)
    wanted = {what: BY_AN_ADMINISTRATOR.get(what, "; ".join(BY_AN_ADMINISTRATOR.values()))}
    as_superuser(server, word, wanted[what].format(word))
    write(project, "UPDATE alembic_version SET version_num = 'gone'")

    def rows() -> dict[str, tuple[int, str | None]]:
        found = fingerprint(server.url(word))
        return {table: each for table, each in found.items() if "alembic" not in table}

    before = rows()
    done = project.invoke("repair", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical at z1" in done.stdout
    assert "not compared: " in done.stdout or what == "default privileges"
    assert rows() == before
    assert project.query("SELECT version_num FROM alembic_version") == [("z1",)]


@pytest.mark.slow
def test_what_others_own_is_no_difference_from_the_models(
    server: Cluster, word: str, tmp_path: Path
) -> None:
    """A table that no model has is nobody's to drop where it is another's; and nobody's to read."""
    made(server, f"CREATE ROLE {word} LOGIN CREATEDB", f"CREATE DATABASE {word} OWNER {word}")
    lay_down(tmp_path, REPOSITORY)
    project = Project(tmp_path, {"DATABASE_URL": server.url(word, word)})
    succeed(project, "reset-db")
    as_superuser(server, word, "; ".join(BY_AN_ADMINISTRATOR.values()).format(word))
    for task in ("status", "verify", "reset-db", "status"):
        succeed(project, task)
    write(project, "CREATE TABLE left_over (id int)")
    done = project.invoke("status")
    assert done.returncode == 6
    assert "table left_over is only in the database" in done.stderr
    assert "table audited" not in done.stderr


PARTED = """
CREATE TABLE reading (at int NOT NULL, place text NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE reading_0 PARTITION OF reading FOR VALUES FROM (0) TO (10)
"""
AT_RUN_TIME = """
CREATE TABLE reading_1 PARTITION OF reading FOR VALUES FROM (10) TO (20) PARTITION BY LIST (place);
CREATE TABLE reading_1_a PARTITION OF reading_1 FOR VALUES IN ('a', 'it''s');
CREATE TABLE reading_1_b PARTITION OF reading_1 DEFAULT;
CREATE TABLE reading_2 PARTITION OF reading FOR VALUES FROM (20) TO (30);
INSERT INTO reading VALUES (1, 'a'), (11, 'it''s'), (12, 'z')
"""


@pytest.mark.parametrize("flags", slow_but([[], ["--in-place"]], bool))
def test_partitions_that_rows_need_are_made(
    server: Cluster, word: str, tmp_path: Path, flags: list[str]
) -> None:
    """What an application made at run time no migration knows; empty ones stay away."""
    made(server, f"CREATE ROLE {word} LOGIN CREATEDB", f"CREATE DATABASE {word} OWNER {word}")
    project = project_of(server, tmp_path / "project", word, word)
    migrating(project, PARTED)
    succeed(project, "upgrade")
    write(project, AT_RUN_TIME)
    rows = "SELECT tableoid::regclass::text, at, place FROM reading ORDER BY at"
    before = project.query(rows)
    said = succeed(project, "reset-db", "--carry", *flags)
    assert "made the partition reading_1_a, which rows need" in said
    assert project.query(rows) == before
    assert project.query("SELECT to_regclass('reading_2')") == [(None,)]


@pytest.mark.slow
def test_what_a_login_may_by_its_own_setting_stays(
    server: Cluster, word: str, tmp_path: Path
) -> None:
    """A setting of the same name that is not the run's is not touched, and stops nothing."""
    made(server, f"CREATE ROLE {word} LOGIN", f"CREATE DATABASE {word} OWNER {word}")
    own = "ALTER ROLE {0} IN DATABASE {0} SET default_transaction_read_only TO {1}"
    project = project_of(server, tmp_path / "project", word, word)
    settings = "SELECT setconfig FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole"
    for value in ("off", "on"):
        made(server, own.format(word, value))
        succeed(project, "reset-db")
        left = project.query(f"{settings} WHERE rolname = '{word}'")
        assert left == [([f"default_transaction_read_only={value}"],)]


BY_YEAR = """
CREATE TABLE reading (at int NOT NULL, place text NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE reading_all PARTITION OF reading FOR VALUES FROM (0) TO (100);
CREATE TABLE spread (id int) PARTITION BY HASH (id)
"""


def test_a_partition_that_rows_do_not_need_is_not_made(
    server: Cluster, word: str, tmp_path: Path
) -> None:
    """The new schema has a place for them; of those by hash, all are needed."""
    made(server, f"CREATE ROLE {word} LOGIN CREATEDB", f"CREATE DATABASE {word} OWNER {word}")
    project = project_of(server, tmp_path / "project", word, word)
    migrating(project, f"{PARTED}; CREATE TABLE spread (id int) PARTITION BY HASH (id)")
    succeed(project, "upgrade")
    hashed = (
        "CREATE TABLE spread_{0} PARTITION OF spread FOR VALUES WITH (MODULUS 2, REMAINDER {0})"
    )
    write(project, f"{AT_RUN_TIME}; {hashed.format(0)}; {hashed.format(1)}")
    write(project, "INSERT INTO spread VALUES (1)")
    migrating(project, BY_YEAR)
    said = succeed(project, "reset-db", "--carry")
    assert "made the partition reading" not in said
    assert project.query("SELECT count(*) FROM reading_all") == [(3,)]
    write(project, "INSERT INTO spread SELECT generate_series(2, 50)")
