"""The same database afterwards: what was set on the old one is set on the new one, or is told."""

from __future__ import annotations

import functools
import json
import re
import secrets
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.inherit.extensions import Announced, uncreatable
from backset.inherit.property import Property
from backset.servers import programs
from tests.clusters import running
from tests.incident.project import lay_down
from tests.project import REPOSITORY, Project, agreed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster

OWNER, READER = 'own "er', "Read er's"
ROLES = f"""
CREATE ROLE "own ""er" LOGIN CREATEDB; CREATE ROLE "{READER}";
SET allow_in_place_tablespaces = on; CREATE TABLESPACE "ta""ble space" LOCATION '';
"""
MIGRATION = '''"""A second schema."""

from alembic import op

revision, down_revision = "5ec0d5c4e3a1", "0b228e9fec0b"


def upgrade():
    for statement in {statements!r}:
        op.execute(statement)
'''
SECOND_SCHEMA = ('CREATE SCHEMA "Au dit"', 'CREATE TABLE "Au dit"."e""vents" (id int PRIMARY KEY)')
# What is set while the database is empty: it governs how the migrations make their objects.
# A database with an extension that its owner could not make again is not rebuilt beside it.
EXTENSION = """
CREATE SCHEMA "ex tensions";
CREATE EXTENSION vector SCHEMA "ex tensions";
"""
BEFORE = """
ALTER DATABASE {db} SET search_path = "$user", public, 'we"ird, ', '';
ALTER DATABASE {db} SET DateStyle = 'ISO, DMY';
ALTER DATABASE {db} SET work_mem = '5MB';
ALTER DATABASE {db} SET log_statement = 'none';
ALTER DATABASE {db} SET session_preload_libraries = '$libdir/vector', 'vector';
ALTER DATABASE {db} SET backset.other = 'it''s "so" = \\';
ALTER ROLE {owner} IN DATABASE {db} SET timezone = 'Europe/Rome';
ALTER ROLE {reader} IN DATABASE {db} SET search_path = '';
COMMENT ON DATABASE {db} IS 'of the user';
REVOKE ALL ON DATABASE {db} FROM PUBLIC;
GRANT CONNECT ON DATABASE {db} TO {reader} WITH GRANT OPTION;
GRANT TEMPORARY ON DATABASE {db} TO {reader};
GRANT USAGE ON SCHEMA public TO {reader} WITH GRANT OPTION;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE {maker} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE {maker} GRANT SELECT ON TABLES TO {reader};
ALTER DEFAULT PRIVILEGES FOR ROLE {maker} IN SCHEMA public GRANT UPDATE ON SEQUENCES TO {reader};
ALTER DEFAULT PRIVILEGES FOR ROLE {reader} GRANT USAGE ON TYPES TO {owner} WITH GRANT OPTION;
"""
# What is about the objects that the migrations make.
AFTER = """
ALTER SCHEMA "Au dit" OWNER TO {reader};
GRANT USAGE, CREATE ON SCHEMA "Au dit" TO {owner};
ALTER DEFAULT PRIVILEGES FOR ROLE {maker} IN SCHEMA "Au dit" GRANT INSERT ON TABLES TO {reader};
CREATE PUBLICATION "pub licà" FOR TABLE users (id, email) WHERE (email <> 'it''s {{me}} %%'), tasks
       WITH (publish = 'insert, truncate', publish_via_partition_root = true);
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE PUBLICATION audit FOR TABLES IN SCHEMA "Au dit";
CREATE PUBLICATION nothing;
ALTER PUBLICATION nothing OWNER TO {reader};
ALTER DATABASE {db} CONNECTION LIMIT 7;
ALTER DATABASE {db} IS_TEMPLATE true;
"""


@dataclass
class House:
    """A server with a superuser, a plain owner and a reader, and one project on it."""

    cluster: Cluster
    project: Project
    name: str
    role: str

    def execute(self, text: str, database: str | None = None) -> None:
        """Run statements, one by one, as the superuser."""
        known = {"db": self.name, "owner": OWNER, "reader": READER, "maker": self.role}
        names = {key: sql.Identifier(value) for key, value in known.items()}
        url = self.cluster.url(database or self.name)
        with psycopg.connect(url, autocommit=True) as session:
            for statement in sql.SQL(text).format(**names).as_string(session).split(";\n"):
                session.execute(statement.replace("%%", "%").encode())

    def query(self, text: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a query, as the superuser."""
        with psycopg.connect(self.cluster.url(database or self.name)) as session:
            return session.execute(text.encode()).fetchall()

    def administer(self, remedy: str) -> None:
        """Do what a finding says, as an administrator would: in psql."""
        found = re.fullmatch(r"as an administrator, in (.+?): ((?s:.+))", remedy)
        assert found, remedy
        where = "postgres" if found[1] == "another database" else found[1]
        assert where in {"postgres", self.name}
        self.run("psql", where, "--no-psqlrc", "--command", found[2])

    def run(self, program: str, database: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs; it may complain, and need not succeed."""
        path = programs.embedded_folder(self.cluster.major) / "bin" / program
        argv = [str(path), *arguments, "--dbname", self.cluster.url(database)]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout

    def dump(self, suffix: str = "") -> list[str]:
        """Return everything that pg_dump knows of a database but its rows: the judge here."""
        text = self.run("pg_dump", self.name + suffix, "--create", "--schema-only")
        assert "CREATE DATABASE" in text
        text = re.sub(r"backset previous( \S+)?\n", "", text.replace("__previous", ""))
        lines = [line for line in text.splitlines() if not re.match(r"--|\\(un)?restrict|$", line)]
        versions = self.query("SELECT extname, extversion FROM pg_extension", self.name + suffix)
        return sorted(lines) + sorted(map(str, versions))

    def rebuild(self, *arguments: str) -> list[dict[str, str]]:
        """Run `invoke reset-db`, or another task; return its findings."""
        done = self.project.invoke(*(arguments or ("reset-db",)), "--json")
        content = json.loads(done.stdout)
        assert done.returncode == 0, "\n".join(content["error"]["lines"])
        findings: list[dict[str, str]] = content["findings"]
        return findings

    def add_migration(self, *statements: str) -> None:
        """Put a migration behind the clean one."""
        path = self.project.folder / "alembic/versions/5ec0d5c4e3a1_second.py"
        path.write_text(MIGRATION.format(statements=statements))


@pytest.fixture(scope="module")
def started() -> Iterator[Callable[[int], Cluster]]:
    """What returns the running server of a major version, with roles and a tablespace."""
    with ExitStack() as stack:
        yield functools.cache(lambda major: stack.enter_context(furnished(major)))


@contextmanager
def furnished(major: int) -> Iterator[Cluster]:
    """Start a throw-away server."""
    with running(major) as made:
        with psycopg.connect(made.url("postgres"), autocommit=True) as session:
            for statement in ROLES.split(";"):
                session.execute(statement.encode())
        yield made


@pytest.fixture
def house(
    started: Callable[[int], Cluster], tmp_path: Path, request: pytest.FixtureRequest
) -> House:
    """A project whose database is owned by the role that rebuilds it: a superuser, or not."""
    major, role = request.param
    server = started(major)
    name = f't "{secrets.token_hex(4)}'
    folder = tmp_path / "project"
    folder.mkdir()
    lay_down(folder, REPOSITORY)
    made = House(server, Project(folder, {"DATABASE_URL": server.url(name, role)}), name, role)
    made.execute("CREATE DATABASE {db} OWNER {maker} TEMPLATE template0", "postgres")
    return made


as_both = pytest.mark.parametrize(
    "house",
    [
        pytest.param((18, "postgres")),
        pytest.param((18, OWNER)),
        pytest.param((16, "postgres"), marks=pytest.mark.every_server),
        pytest.param((16, OWNER), marks=pytest.mark.every_server),
    ],
    indirect=True,
)
as_superuser = pytest.mark.parametrize("house", [(18, "postgres")], indirect=True)
as_owner = pytest.mark.parametrize("house", [(18, OWNER)], indirect=True)


def furnish(house: House) -> None:
    """Set everything that can be set on a database, around the migrations."""
    house.add_migration(*SECOND_SCHEMA)
    house.execute('ALTER DATABASE {db} SET TABLESPACE "ta""ble space"', "postgres")
    if house.role != OWNER:
        house.execute(EXTENSION)
    house.execute(BEFORE)
    assert house.project.invoke("upgrade").returncode == 0
    # In place a schema of somebody else's stays, and a migration cannot make it a second time.
    given = 'ALTER SCHEMA "Au dit" OWNER TO {reader};\n'
    house.execute(AFTER if house.role != OWNER else AFTER.replace(given, ""))


@as_both
def test_everything_is_there_again(house: House) -> None:
    """A superuser gets the same database; a plain owner is told the rest, as SQL that does it."""
    furnish(house)
    before = house.dump()
    findings = house.rebuild()
    assert bool(findings) == (house.role == OWNER)
    for each in findings:
        house.administer(each["remedy"])
    assert house.dump() == before
    assert house.query("SELECT count(*) FROM public.users") == [(1,)]


@as_superuser
def test_undo_brings_it_all_back(house: House) -> None:
    """Comment and connection limit included: they travel with the database that has them."""
    furnish(house)
    old = house.dump()
    house.rebuild()
    house.execute("COMMENT ON DATABASE {db} IS 'new';\nALTER DATABASE {db} CONNECTION LIMIT 9")
    house.rebuild("undo")
    assert house.dump() == old
    assert [line for line in house.dump("__previous") if "CONNECTION LIMIT = 9" in line]


@as_superuser
@pytest.mark.slow
def test_an_extension_that_the_migrations_make_is_left_to_them(house: House) -> None:
    """A plain CREATE EXTENSION would fail where it is there already."""
    house.add_migration("CREATE EXTENSION vector")
    assert house.project.invoke("upgrade").returncode == 0
    for task in ("reset-db", "reset"):
        assert house.rebuild(task) == []
    assert house.query("SELECT FROM pg_extension WHERE extname = 'vector'") == []
    assert house.project.invoke("upgrade").returncode == 0, "reset had made it"


@as_superuser
@pytest.mark.slow
def test_an_extension_made_by_hand_is_there_before_the_migrations(house: House) -> None:
    """They use its type, and do not make it; even one that drops the whole schema loses nothing."""
    house.execute("CREATE EXTENSION vector")
    house.add_migration("CREATE SCHEMA s", "CREATE TABLE s.points (at vector(3))")
    assert house.rebuild() == []
    assert house.query("SELECT at FROM s.points") == []
    house.add_migration("DROP EXTENSION vector")
    assert house.rebuild() == []
    for name in ("__previous", ""):
        assert [line[:10] for line in house.dump(name)].count("('vector',") == 1


@as_superuser
def test_another_version_of_an_extension_is_told(house: House) -> None:
    """The server has no files of the old version any more: the new database has the default one."""
    house.execute("CREATE EXTENSION vector")
    house.execute("UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'vector'")
    (finding,) = house.rebuild()
    assert "extension vector: version 0.0.1, schema public" in finding["what"]
    assert finding["why"] == "this server has the files of another version"
    assert "UPDATE" not in finding["remedy"]
    default = "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"
    there = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    assert house.query(there) == house.query(default)


@as_owner
def test_a_table_that_is_gone_is_told_and_the_others_are_published(house: House) -> None:
    """The publication itself and its other tables are as before."""
    assert house.project.invoke("upgrade").returncode == 0
    house.project.query("CREATE TABLE gone (); CREATE PUBLICATION p FOR TABLE gone, tasks, users")
    (finding,) = house.rebuild()
    assert "publication p, table public.gone" in finding["what"]
    assert 'relation "public.gone" does not exist' in finding["why"]
    assert finding["remedy"].endswith('ALTER PUBLICATION "p" ADD TABLE ONLY "public"."gone"')
    published = "SELECT tablename FROM pg_publication_tables ORDER BY 1"
    assert house.query(published) == [("tasks",), ("users",)]


@as_owner
def test_what_the_migrations_grant_themselves_stays(house: House) -> None:
    """The old rights come first; what the migrations add to them is no finding."""
    house.execute(
        "GRANT TEMPORARY ON DATABASE {db} TO {reader};\nGRANT USAGE ON SCHEMA public TO {reader}"
    )
    house.add_migration(
        f'GRANT CREATE ON SCHEMA public TO "{OWNER.replace(chr(34), chr(34) * 2)}"',
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    )
    assert house.rebuild() == []
    rights = """SELECT has_schema_privilege(%s, 'public', 'USAGE'),
                       has_schema_privilege(%s, 'public', 'CREATE')"""
    with psycopg.connect(house.project.url) as session:
        assert session.execute(rights, [READER, OWNER]).fetchone() == (True, True)
        query = "SELECT defaclacl FROM pg_default_acl"
        assert session.execute(query).rowcount == 1


@as_owner
def test_a_database_for_reading_only_is_one_again(house: House) -> None:
    """Before the swap that setting would have stopped the migrations."""
    house.execute("ALTER DATABASE {db} SET default_transaction_read_only = on")
    done = agreed(house.project, "reset-db")
    assert done.returncode == 0, done.stderr
    assert house.query("SHOW default_transaction_read_only") == [("on",)]
    assert house.query("SELECT count(*) FROM users") == [(1,)]


@as_owner
def test_a_secret_in_a_setting_is_shown_to_nobody(house: House) -> None:
    """A plain role may not set it again; the finding says which one, and not its value."""
    house.execute("ALTER DATABASE {db} SET app.jwt_secret = 'canary''s %%@ value'")
    done = house.project.invoke("reset-db")
    assert done.returncode == 0
    assert "canary" not in done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(" ! promote ")]
    assert 'permission denied to set parameter "app.jwt_secret"' in line
    assert line.endswith("""SET "app"."jwt_secret" TO '***'""")


@as_superuser
def test_restore_gives_what_a_dump_does_not_hold(house: House) -> None:
    """pg_dump leaves out what belongs to the database as a whole."""
    furnish(house)
    assert house.rebuild() == []
    old = house.dump()
    assert house.rebuild("restore", "--yes") == []
    about_it = [line for line in old if re.search(r"DATABASE", line)]
    assert len(about_it) > 15
    assert [line for line in house.dump() if re.search(r"DATABASE", line)] == about_it


@as_superuser
@pytest.mark.slow
def test_reset_gives_it_too_and_undo_still_finds_the_last_good_database(house: House) -> None:
    """An empty database with an extension and default privileges displaces no good one."""
    furnish(house)
    house.rebuild("reset-db", "--no-seed")
    house.project.query("INSERT INTO users (id, email) VALUES ('me', 'me@here')")
    findings = house.rebuild("reset")
    assert {each["why"] for each in findings} <= {
        "it waits for the migrations",
        'schema "Au dit" does not exist',
    }
    assert [line[:10] for line in house.dump()].count("('vector',") == 1
    house.project.invoke("reset-db", "--no-seed")
    assert house.query("SELECT id FROM users", f"{house.name}__previous") == [("me",)]


@as_owner
@pytest.mark.slow
def test_a_plain_database_costs_one_look_at_each(house: House) -> None:
    """Nothing was set: the old one and the new one are read once, and nothing is run.

    The new one once more when it is verified, for the template.
    """
    for _ in range(2):
        house.rebuild()
    house.execute("ALTER SYSTEM SET log_statement = 'all';\nSELECT pg_reload_conf()", "postgres")
    start = house.cluster.log.stat().st_size
    house.rebuild()
    house.execute("ALTER SYSTEM RESET log_statement;\nSELECT pg_reload_conf()", "postgres")
    log = house.cluster.log.read_text(errors="replace")[start:]
    assert log.count("FROM pg_publication p ORDER BY pubname") == 3
    for word in ("REVOKE", "GRANT ", "ALTER SCHEMA", "CREATE EXTENSION"):
        assert word not in log


@as_owner
def test_a_trusted_extension_comes_back_in_its_own_version(house: House, short_tmp: Path) -> None:
    """The default is a newer one by now; its owner may make it, so nothing stops the swap."""
    (short_tmp / "extension").mkdir()
    control = "default_version = '2'\ntrusted = true\nsuperuser = true\nrelocatable = true\n"
    (short_tmp / "extension/simple.control").write_text(control)
    for version in (1, 2):
        (short_tmp / f"extension/simple--{version}.sql").write_text("CREATE TYPE one AS (n int);")
    path = f"ALTER SYSTEM SET extension_control_path = '$system:{short_tmp}'"
    house.execute(path + ";\nSELECT pg_reload_conf()", "postgres")
    try:
        house.project.query("CREATE SCHEMA s; CREATE EXTENSION simple SCHEMA s VERSION '1'")
        with psycopg.connect(house.project.url) as session:
            assert uncreatable(session) == ()
        assert house.rebuild() == []
        query = "SELECT extversion, extnamespace::regnamespace::text FROM pg_extension ORDER BY oid"
        assert house.query(query)[1:] == [("1", "s")]
    finally:
        reset = "ALTER SYSTEM RESET extension_control_path;\nSELECT pg_reload_conf()"
        house.execute(reset, "postgres")


@as_both
def test_who_could_not_make_an_extension_again(house: House) -> None:
    """A superuser can make any; plpgsql comes with every database."""
    house.execute("CREATE EXTENSION vector")
    with psycopg.connect(house.project.url) as session:
        assert uncreatable(session) == (("vector",) if house.role == OWNER else ())


@pytest.mark.parametrize(
    ("script", "left"),
    [
        ("op.execute('create  extension IF NOT EXISTS vector')", {"vector"}),
        ('op.execute("CREATE EXTENSION \\"uuid-ossp\\" WITH SCHEMA x")', {"uuid-ossp"}),
        ("op.execute('CREATE EXTENSION IF NOT '\n    'EXISTS ' 'Vector;')", {"vector"}),
        ("op.execute('CREATE TABLE vector ()')", set()),
        ("op.execute(f'CREATE EXTENSION {name}')", {"own one"}),
        ("op.execute('CREATE EXTENSION %s' % name)", {"own one"}),
        ("op.execute('CREATE EXTENSION ' + name)", {"own one"}),
    ],
)
def test_which_extensions_the_scripts_make(tmp_path: Path, script: str, left: set[str]) -> None:
    """Those that they name; where only a run tells the name, those that the role owns."""
    (tmp_path / "a.py").write_text(script)
    (tmp_path / "b.txt").write_text("CREATE EXTENSION hstore")
    announced = Announced.of([tmp_path])
    known = {"vector": False, "uuid-ossp": False, "hstore": False, "own one": True}
    assert {
        name
        for name, own in known.items()
        if announced.includes(
            Property(kind="extension", name=name, value=(), statements=lambda _: [], own=own)
        )
    } == left
