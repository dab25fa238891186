"""Extensions of the embedded PostgreSQL, and those that a role or a server has not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.servers import programs
from backset.servers.location import temporary_cluster
from tests.project import Project, laid_down, migrating, prints

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster

ASKED = ("citext", "hstore", "ltree", "pg_trgm", "btree_gist", "unaccent", "vector")
TABLE = (
    "".join(f"CREATE EXTENSION IF NOT EXISTS {each};" for each in ASKED)
    + """
CREATE TABLE place (
    id int PRIMARY KEY, name citext UNIQUE, more hstore, path ltree, at vector(2), during tsrange,
    names citext[], points vector(2)[], EXCLUDE USING gist (id WITH =, during WITH &&));
CREATE INDEX ON place USING gin (more);
CREATE INDEX ON place USING gin ((name::text) gin_trgm_ops);
CREATE INDEX ON place USING hnsw (at vector_l2_ops);
"""
)
ROWS = """
INSERT INTO place VALUES
    (1, 'Ada', 'a=>1, b=>NULL, "c d"=>"x,y"', 'top.one', '[1.5,-2]', '[2026-01-01,2026-01-02)',
     '{Ä,b}', ARRAY['[1,2]'::vector, '[3,4]']),
    (2, NULL, '', '', NULL, NULL, NULL, NULL);
"""
VECTORS = """
CREATE EXTENSION IF NOT EXISTS vector; CREATE TABLE place (id int PRIMARY KEY, at vector)
"""
SELECTED = "SELECT p::text FROM place p ORDER BY id"


@pytest.fixture
def place(tmp_path: Path, database_url: str) -> Project:
    """A project whose migrations make what they need, with rows."""
    project = migrating(laid_down(tmp_path / "project", "objects", database_url), TABLE)
    succeed(project, "reset-db")
    project.query(ROWS)
    return project


def succeed(project: Project, task: str, *more: str) -> str:
    """Run a task that must succeed; return what it says."""
    done = project.invoke(*task.split(), *more)
    assert done.returncode == 0, f"{task}: {done.stdout}{done.stderr}"
    return done.stdout


def test_rows_of_types_that_extensions_bring_are_kept(place: Project) -> None:
    """Carried, in place as well, and restored: each value as text, with its indexes."""
    before, rows = prints(place), place.query(SELECTED)
    place.query("CREATE EXTENSION tablefunc")  # as template1 may have given it to the old one
    for task in ("reset-db --carry", "restore --yes", "reset-db --carry --in-place"):
        succeed(place, task)
        assert (prints(place), place.query(SELECTED)) == (before, rows), task
        assert place.query("SELECT id FROM place WHERE name = 'ADA'") == [(1,)]
        assert place.query("SELECT 1 FROM pg_extension WHERE extname = 'tablefunc'"), task
    assert "at head" in succeed(place, "status")


@pytest.mark.slow
def test_rows_come_from_a_server_with_another_version(tmp_path: Path, database_url: str) -> None:
    """They come as text, and what may compare otherwise by now is named."""
    project = migrating(laid_down(tmp_path / "project", "objects", database_url), VECTORS)
    folder = programs.WHEELS[1].folder
    assert folder is not None
    with temporary_cluster(18, installation=folder / "pginstall18") as other:
        other.start()
        origin = other.url("postgres")
        with psycopg.connect(origin) as session:
            session.execute(VECTORS.encode())
            session.execute("INSERT INTO place VALUES (1, '[1,2]')")
        said = succeed(project, "carry", "--from", origin)
    assert "extension version: the extension vector is 0." in said
    assert project.query("SELECT * FROM place") == [(1, "[1,2]")]


@pytest.fixture
def modest(
    tmp_path: Path, cluster: Cluster, superuser: psycopg.Connection[Any], plain: str, name: str
) -> Project:
    """A project of a role that may create databases, and is no superuser."""
    for statement in ("ALTER ROLE {} CREATEDB", f"CREATE DATABASE {name} OWNER {{}}"):
        superuser.execute(sql.SQL(statement).format(sql.Identifier(plain)))
    return laid_down(tmp_path / "project", "objects", cluster.url(name, plain))


def test_an_extension_that_the_role_may_not_create_is_told_before_the_backup(
    modest: Project, cluster: Cluster, name: str, plain: str
) -> None:
    """With the SQL for a superuser; once that is done, the rebuild keeps what it got."""
    migrating(modest, "CREATE EXTENSION IF NOT EXISTS citext; CREATE TABLE t (id int)")
    assert "extension" not in succeed(modest, "reset-db")
    migrating(modest, "CREATE EXTENSION IF NOT EXISTS pageinspect; CREATE TABLE t (id int)")
    told = f"the migrations name the extension pageinspect, which the role {plain} may not create"
    create = f'in {name} → as a superuser, in the database that is rebuilt: CREATE EXTENSION "page'
    assert f"{told} {create}" in succeed(modest, "reset-db --plan")
    done = modest.invoke("reset-db")
    assert done.returncode == 4
    said = done.stdout + done.stderr
    assert f"{told} {create}" in said
    assert "permission denied" in done.stderr
    assert "in the database that is rebuilt: CREATE EXTENSION" in done.stderr
    as_administrator = Project(modest.folder, {"DATABASE_URL": cluster.url(name)})
    as_administrator.query('CREATE EXTENSION "pageinspect"')
    assert "could not create the extension pageinspect again" in succeed(modest, "reset-db")
    assert modest.query("SELECT 1 FROM pg_extension WHERE extname = 'pageinspect'")


def test_one_that_no_server_of_ours_has_is_named_with_what_to_do(modest: Project) -> None:
    """Most projects that ask for it want one function, which the server has by itself."""
    migrating(modest, 'CREATE EXTENSION "uuid-ossp"; CREATE TABLE t (id int)')
    done = modest.invoke("reset-db")
    assert done.returncode == 4
    assert 'extension "uuid-ossp" is not available → ' in done.stderr
    assert "gen_random_uuid() is built in since PostgreSQL 13" in done.stderr
    assert "the migrations name the extension uuid-ossp" in done.stdout + done.stderr


@pytest.fixture
def embedded(short_tmp: Path) -> Iterator[Project]:
    """A project without a server of its own."""
    project = laid_down(short_tmp / "project", "objects", "")
    del project.env["DATABASE_URL"]
    yield project
    succeed(project, "stop")


@pytest.mark.slow
def test_a_project_goes_on_with_another_package_of_programs(
    embedded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data, its backups and what it had promoted are those of an older pgvector."""
    version = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    migrating(embedded, VECTORS)
    with monkeypatch.context() as patch:
        patch.setattr(programs, "WHEELS", programs.WHEELS[1:])
        succeed(embedded, "reset-db")
        reached = Project(embedded.folder, {"DATABASE_URL": succeed(embedded, "url").strip()})
        reached.query("INSERT INTO place VALUES (1, '[1,2]')")
        ((old,),) = reached.query(version)
        succeed(embedded, "backup")
        succeed(embedded, "stop")
    said = succeed(embedded, "reset-db --carry")
    assert "server error" not in said
    (line,) = (each for each in said.splitlines() if " ! " in each)
    assert f"does not have extension vector: version {old}, schema public (this server has" in line
    assert reached.query(version) != [(old,)]
    succeed(embedded, "restore --yes")
    assert " ! " not in succeed(embedded, "reset-db --carry")
    assert reached.query("SELECT * FROM place") == [(1, "[1,2]")]
