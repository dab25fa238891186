"""In place, a run writes alone: what it takes from others for that while, they have afterwards."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.servers.programs import embedded_folder
from tests.clusters import as_superuser, running
from tests.marks import slow_but
from tests.project import Project, agreed, laid_down, prints

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster

ENV = """
from alembic import context
from sqlalchemy import create_engine, pool
import os

url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")
engine = create_engine(url, poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, transaction_per_migration={per_migration})
    with context.begin_transaction():
        context.run_migrations()
"""
SCRIPT = """
from alembic import op
revision, down_revision = {revision!r}, {down!r}
def upgrade():
{body}
"""
RIGHTS = """
SELECT relname, (SELECT string_agg(a::text, ' ' ORDER BY a::text)
                 FROM unnest(coalesce(relacl, acldefault('r', relowner))) a),
       (SELECT string_agg(a::text, ' ') FROM pg_attribute, unnest(attacl) a WHERE attrelid = c.oid)
FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'p')
ORDER BY 1
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server of this file's own: whole roles are at stake."""
    with running(18) as cluster:
        yield cluster


@pytest.fixture
def project(server: Cluster, tmp_path: Path) -> Project:
    """A project of a role that owns one database, where a shop has default privileges."""
    word = f"o{secrets.token_hex(4)}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        session.execute(f"CREATE ROLE {word} LOGIN".encode())
        session.execute(f"CREATE ROLE {word}_shop LOGIN".encode())
        session.execute(f"CREATE DATABASE {word} OWNER {word}".encode())
    made = laid_down(tmp_path / "project", "objects", server.url(word, word))
    made.query(
        f"ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {word}_shop"
    )
    return made


def migrate(project: Project, *revisions: str, per_migration: bool = True) -> None:
    """Let these be the migrations, each of them Python or SQL."""
    (project.folder / "migrations/env.py").write_text(ENV.format(per_migration=per_migration))
    versions = project.folder / "migrations/versions"
    for path in versions.glob("*.py"):
        path.unlink()
    for number, each in enumerate(revisions, 1):
        text = each.format(shop=f"{project.database}_shop")
        body = text if text.startswith("    ") else f"    op.execute({text!r})"
        down = f"r{number - 1}" if number > 1 else None
        script = SCRIPT.format(revision=f"r{number}", down=down, body=body)
        (versions / f"r{number}.py").write_text(script)


NOTE = "CREATE TABLE note (id int, body text)"
CONCURRENTLY = f"""
    op.execute({NOTE!r})
    with op.get_context().autocommit_block():
        op.execute('CREATE INDEX CONCURRENTLY i ON note (id)')
    op.execute('ALTER TABLE note RENAME TO remark')
""".strip("\n")
BY_PSQL = f"""
    import os, subprocess
    subprocess.run([PSQL, os.environ['DATABASE_URL'], '-c', {NOTE!r}], check=True)
""".strip("\n")
CHAINS = {
    "a table is renamed": (NOTE, "ALTER TABLE note RENAME TO remark"),
    "a table is dropped": (NOTE, "CREATE TABLE other (id int)", "DROP TABLE note"),
    "a table moves": (NOTE, "CREATE SCHEMA s2", "ALTER TABLE note SET SCHEMA s2"),
    "a right is revoked": (NOTE, "REVOKE INSERT ON note FROM {shop}"),
    "a name is used again": (
        "CREATE VIEW note AS SELECT 1 AS id",
        f"DROP VIEW note; {NOTE}; REVOKE ALL ON note FROM {{shop}}",
    ),
    "a column with rights is renamed": (
        f"{NOTE}; REVOKE ALL ON note FROM {{shop}}; GRANT UPDATE (body) ON note TO {{shop}}",
        "ALTER TABLE note RENAME COLUMN body TO words",
    ),
    "a migration acts as somebody else": (
        NOTE,
        "SET ROLE {shop}; INSERT INTO note VALUES (1, 'by the shop'); RESET ROLE",
    ),
    "an index is made concurrently, and then": (CONCURRENTLY,),
    "psql does it": (BY_PSQL,),
}


@pytest.mark.parametrize("name", slow_but(CHAINS, lambda each: each.startswith("a table is ren")))
def test_a_chain_ends_with_the_rights_that_it_gives(
    project: Project, server: Cluster, name: str
) -> None:
    """As Alembic alone would leave them, whatever the migrations do to what they have made."""
    chain = CHAINS[name]
    if "acts as" in name:
        shop = f"{project.database}_shop"
        as_superuser(server, project.database, f"GRANT {shop} TO {project.database}")
    psql = repr(str(embedded_folder(18) / "bin/psql"))
    chain = tuple(each.replace("PSQL", psql) for each in chain)
    migrate(project, *chain)
    assert project.invoke("upgrade").returncode == 0
    before = project.query(RIGHTS)
    for _ in range(2):
        done = project.invoke("reset-db", "--in-place")
        assert done.returncode == 0, done.stdout + done.stderr
        assert project.query(RIGHTS) == before
    settings = "SELECT count(*) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole"
    assert project.query(f"{settings} WHERE rolname = '{project.database}'") == [(0,)]


READS = {
    "the login": "ALTER ROLE {0} SET default_transaction_read_only TO on",
    "the database": "ALTER DATABASE {0} SET default_transaction_read_only TO on",
    "the login there": "ALTER ROLE {0} IN DATABASE {0} SET default_transaction_read_only TO on",
}


@pytest.mark.parametrize("whose", slow_but(READS, lambda each: each == "the login there"))
def test_a_backup_comes_back_where_sessions_only_read(
    project: Project, server: Cluster, whose: str
) -> None:
    """Whoever has said so, nothing is dropped that could not be loaded again."""
    migrate(project, NOTE)
    assert project.invoke("upgrade").returncode == 0
    project.query("INSERT INTO note VALUES (1, 'old')")
    before = prints(project)
    as_superuser(server, project.database, READS[whose].format(project.database))
    migrate(project, NOTE, "SELECT 1 / 0")
    done = agreed(project, "reset-db", "--in-place")
    assert done.returncode == 5, done.stdout + done.stderr
    assert prints(project) == before
    assert project.invoke("backup").returncode == 0
    done = agreed(project, "restore", "--yes", "--in-place")
    assert done.returncode == 0, done.stdout + done.stderr
    assert prints(project) == before


@pytest.mark.slow
def test_rights_come_back_with_the_tables_of_a_group(project: Project, server: Cluster) -> None:
    """What the login would give to new tables of its own is nothing to those of its group."""
    word = project.database
    as_superuser(server, word, f"CREATE ROLE {word}_g; GRANT {word}_g TO {word}")
    as_superuser(server, word, f"GRANT CREATE ON SCHEMA public TO {word}_g")
    migrate(project, NOTE)
    assert project.invoke("upgrade").returncode == 0
    project.query(
        f"ALTER TABLE note OWNER TO {word}_g; ALTER TABLE alembic_version OWNER TO {word}_g;"
        f"SET ROLE {word}_g; REVOKE ALL ON note, alembic_version FROM {word}_shop;"
        f"GRANT SELECT ON note TO {word}_shop"
    )
    before = project.query(RIGHTS)
    migrate(project, NOTE, "SELECT 1 / 0")
    done = project.invoke("reset-db", "--in-place")
    assert done.returncode == 5, done.stdout + done.stderr
    assert project.query(RIGHTS) == before
    as_superuser(
        server, word, f"ALTER ROLE {word} CREATEDB; ALTER DATABASE {word} OWNER TO {word}_g"
    )
    done = project.invoke("restore", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.query(RIGHTS) == before


@pytest.mark.slow
def test_what_was_left_half_built_is_not_the_backup_to_go_back_to(
    project: Project,
) -> None:
    """A run is killed, the next task brings the old rows back: `restore` means those."""
    migrate(project, NOTE)
    assert project.invoke("upgrade").returncode == 0
    project.query("INSERT INTO note VALUES (1, 'old')")
    before = prints(project)
    kill = "    import os, signal; os.kill(os.getppid(), signal.SIGKILL)"
    migrate(project, NOTE, kill)
    assert project.run("reset-db", "--in-place").returncode == -9
    migrate(project, NOTE)
    assert project.invoke("upgrade").returncode == 0
    assert prints(project) == before
    done = project.invoke("restore", "--yes", "--in-place")
    assert done.returncode == 0, done.stderr
    assert prints(project) == before


def test_rows_of_somebody_whom_no_right_tells_are_dumped(project: Project, server: Cluster) -> None:
    """An administrator writes between two migrations, and is gone when the second one fails."""
    write = (
        "    import psycopg\n"
        f"    with psycopg.connect({server.url(project.database)!r}) as session:\n"
        "        session.execute(\"INSERT INTO note VALUES (7, 'acknowledged')\")\n"
        "    raise ValueError('and then')"
    )
    migrate(project, NOTE)
    assert project.invoke("upgrade").returncode == 0
    migrate(project, NOTE, write)
    done = project.invoke("reset-db", "--in-place")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "what was written meanwhile is in " in done.stderr
    name = done.stderr.split("what was written meanwhile is in ")[1].split()[0]
    done = project.invoke("restore", name, "--in-place")
    assert done.returncode == 0, done.stderr
    assert project.query("SELECT body FROM note") == [("acknowledged",)]


def test_what_depends_on_our_tables_is_known_beforehand(project: Project, server: Cluster) -> None:
    """An administrator's view, or foreign key, would go, too: the plan says it as the run does."""
    migrate(project, "CREATE TABLE note (id int PRIMARY KEY)")
    assert project.invoke("upgrade").returncode == 0
    before = prints(project)
    theirs = "CREATE VIEW seen AS SELECT * FROM note; CREATE TABLE tied (id int REFERENCES note)"
    as_superuser(server, project.database, theirs)
    for flags in (["--plan"], []):
        done = project.invoke("reset-db", *flags)
        assert done.returncode == 3, done.stdout + done.stderr
        for each in ("view public.seen", "table public.tied"):
            assert f"{each} (owner postgres) depends on what would be dropped" in done.stderr
    as_superuser(server, project.database, "DROP TABLE tied; DROP VIEW seen")
    assert prints(project) == before
