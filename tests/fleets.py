"""A fleet of databases on a server of the tests: made as copies, in one project of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
from psycopg import sql

from backset.connections.target import Target
from tests.conftest import PASSWORD, ROLE

if TYPE_CHECKING:
    from backset.servers.cluster import Cluster
    from tests.project import Project

_REVISION = '''"""{id}."""
from alembic import op

revision = "{id}"
down_revision = "{down}"


def upgrade():
    op.execute("CREATE TABLE {id} (id int PRIMARY KEY)")


def downgrade():
    op.execute("DROP TABLE {id}")
'''


def populate(project: Project, number: int, revision: str = "") -> list[str]:
    """Make databases beside the target, `NAME_t000` and on, as copies of it; return their names.

    revision: up to which the target is migrated before; without one it stays as it is.
    """
    if revision:
        upgrade = ("upgrade",) if revision == "head" else ("alembic", "--", "upgrade", revision)
        done = project.invoke(*upgrade)
        assert done.returncode == 0, done.stderr
    names = [f"{project.database}_t{each:03}" for each in range(number)]
    target = Target.parse(project.url)
    params = {**target.params, "dbname": "postgres"}
    with psycopg.connect(**params, autocommit=True) as session:  # type: ignore[arg-type]
        for name in names:
            copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
            session.execute(copy.format(*map(sql.Identifier, (name, target.database))))
    return names


def describe(project: Project, *tables: str) -> None:
    """Give the project these tables of [[tool.backset.fleet]]."""
    path = project.folder / "pyproject.toml"
    text = "".join(f"\n[[tool.backset.fleet]]\n{each}\n" for each in tables)
    path.write_text(path.read_text() + text)


def add_revision(project: Project, name: str, statements: str = "") -> str:
    """Add a revision at the head of the project's chain, which makes a table of its name."""
    versions = project.folder / "alembic/versions"
    heads = {path.name.partition("_")[0] for path in versions.glob("*.py")}
    downs = {
        line.split('"')[1]
        for path in versions.glob("*.py")
        for line in path.read_text().splitlines()
        if line.startswith("down_revision") and '"' in line
    }
    (down,) = heads - downs
    text = _REVISION.format(id=name, down=down)
    if statements:
        text = text.replace(f'op.execute("CREATE TABLE {name} (id int PRIMARY KEY)")', statements)
    (versions / f"{name}_.py").write_text(text)
    return name


def revisions(project: Project, names: list[str]) -> dict[str, str]:
    """Return where each database is."""
    query = "SELECT version_num FROM alembic_version"
    return {name: project.query(query, name)[0][0] for name in names}


def over_tcp(cluster: Cluster, database: str) -> str:
    """Return a URL with a password, of the role that has one."""
    return f"postgresql://{ROLE}:{quote(PASSWORD, safe='')}@127.0.0.1:{cluster.tcp_port}/{database}"


def give(project: Project, names: list[str]) -> None:
    """Let that role own databases, and what is in them."""
    for name in names:
        query = f"SELECT format('ALTER TABLE %I OWNER TO {ROLE}', tablename) FROM pg_tables "
        for (statement,) in project.query(f"{query}WHERE schemaname = 'public'", name):
            project.query(statement, name)
        project.query(f"ALTER DATABASE {name} OWNER TO {ROLE}", name)
        project.query(f"ALTER SCHEMA public OWNER TO {ROLE}", name)
