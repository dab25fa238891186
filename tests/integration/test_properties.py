"""The same database afterwards: what was set on the old one is set on the new one, or is told."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset import programs
from backset.embedded import temporary_cluster
from backset.extensions import Announced, uncreatable
from tests.conftest import REPOSITORY, Project
from tests.incident.project import lay_down

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.cluster import Cluster

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
BEFORE = """
CREATE SCHEMA "ex tensions";
CREATE EXTENSION vector SCHEMA "ex tensions";
ALTER DATABASE {db} SET search_path = "$user", public, 'we"ird, ', '';
ALTER DATABASE {db} SET DateStyle = 'ISO, DMY';
ALTER DATABASE {db} SET work_mem = '5MB';
ALTER DATABASE {db} SET log_statement = 'none';
ALTER DATABASE {db} SET session_preload_libraries = '$libdir/vector', 'vector';
ALTER DATABASE {db} SET backset.protected = 'it''s "so" = \\';
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
        text = text.replace("__previous", "").replace("backset previous\n", "")
        lines = [line for line in text.splitlines() if not re.match(r"--|\\(un)?restrict|$", line)]
        versions = self.query("SELECT extname, extversion FROM pg_extension", self.name + suffix)
        return sorted(lines) + sorted(map(str, versions))

    def rebuild(self, *arguments: str) -> list[dict[str, str]]:
        """Run `invoke reset-db`, or another task; return its findings."""
        done = self.project.invoke(*(arguments or ("reset-db",)), "--json")
        content = json.loads(done.stdout)
        assert done.returncode == 0, content["error"]
        findings: list[dict[str, str]] = content["findings"]
        return findings

    def add_migration(self, *statements: str) -> None:
        """Put a migration behind the clean one."""
        path = self.project.folder / "alembic/versions/5ec0d5c4e3a1_second.py"
        path.write_text(MIGRATION.format(statements=statements))


@pytest.fixture(scope="module", params=[18, 16])
def server(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server of each major version that the packages bring, with roles and a tablespace."""
    made = temporary_cluster(request.param)
    made.start()
    try:
        with psycopg.connect(made.url("postgres"), autocommit=True) as session:
            for statement in ROLES.split(";"):
                session.execute(statement.encode())
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.folder.parent)


@pytest.fixture(params=["postgres", OWNER])
def house(server: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> House:
    """A project whose database is owned by the role that rebuilds it: a superuser, or not."""
    name = f't "{secrets.token_hex(4)}'
    folder = tmp_path / "project"
    folder.mkdir()
    lay_down(folder, REPOSITORY)
    url = server.url(name, request.param)
    made = House(server, Project(folder, {"DATABASE_URL": url}), name, request.param)
    made.execute(
        'CREATE DATABASE {db} OWNER {maker} TABLESPACE "ta""ble space" TEMPLATE template0',
        "postgres",
    )
    return made


def only(house: House, role: str) -> None:
    """Skip for the role that a test is not about: it would say the same again."""
    if house.role != role:
        pytest.skip(f"it is about {role}")


def furnish(house: House) -> None:
    """Set everything that can be set on a database, around the migrations."""
    house.add_migration(*SECOND_SCHEMA)
    house.execute(BEFORE)
    assert house.project.invoke("upgrade").returncode == 0
    house.execute(AFTER)


def test_everything_is_there_again(house: House) -> None:
    """A superuser gets the same database; a plain owner is told the rest, as SQL that does it."""
    furnish(house)
    findings = house.rebuild()
    assert bool(findings) == (house.role == OWNER)
    for each in findings:
        house.administer(each["remedy"])
        print(each)
    assert house.dump() == house.dump("__previous")
    assert house.query("SELECT count(*) FROM public.users") == [(1,)]


def test_undo_brings_it_all_back(house: House) -> None:
    """Comment and connection limit included: they travel with the database that has them."""
    only(house, "postgres")
    furnish(house)
    old = house.dump()
    house.rebuild()
    house.execute("COMMENT ON DATABASE {db} IS 'new';\nALTER DATABASE {db} CONNECTION LIMIT 9")
    house.rebuild("undo")
    assert house.dump() == old
    assert [line for line in house.dump("__previous") if "CONNECTION LIMIT = 9" in line]
