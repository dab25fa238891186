"""Names of every kind go through the whole chain: databases, roles, schemas, tables."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from tests.incident.fingerprint import fingerprint
from tests.incident.project import lay_down
from tests.marks import slow_but
from tests.project import REPOSITORY, Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster

MIGRATION = """
from alembic import op
import sqlalchemy as sa
revision, down_revision = 'c0ffee000007', '0b228e9fec0b'
NAME, SCHEMA = {name!r}, {schema!r}
def upgrade():
    op.execute(sa.schema.CreateSchema(SCHEMA))
    for schema in (SCHEMA, None):
        op.create_table(NAME, sa.Column(NAME, sa.Text), sa.Column('id', sa.Integer, sa.Identity(),
                        primary_key=True), schema=schema)
def downgrade(): pass
"""
MODEL = """
from sqlalchemy import Column, Identity, Integer, Table
NAME = {name!r}
Table(NAME, Base.metadata, Column(NAME, Text), Column("id", Integer, Identity(), primary_key=True))
"""
SEED = """
import os, psycopg
from psycopg import sql
from backset.connections.target import Target
NAME, SCHEMA = {name!r}, {schema!r}
with psycopg.connect(**Target.parse(os.environ["DATABASE_URL"]).params) as session:
    for name in ([NAME], [SCHEMA, NAME]):
        insert = sql.SQL("INSERT INTO {{}} ({{}}) VALUES ('x')")
        session.execute(insert.format(sql.Identifier(*name), sql.Identifier(NAME)))
"""
NAMES = {
    "spaces and capitals": "A Name  with Spaces",
    "quotes": 'it\'s "quoted" `so`',
    "a semicolon": "a; DROP TABLE users; --",
    "of a path": "../a\\b/c",
    "of a URL": "a?b=c&d#e%41@f:g+h",
    "of a connection string": "a=b host='c'",
    "of formats": "%s {0} $1 {database}",
    "of a shell": "$(touch x) *.py ~ -U",
    "of an option": "--help",
    "not ASCII": "数据库 Größe 🐘",
    "63 bytes": "x" * 63,
    "63 bytes, not ASCII": "é" * 31 + "x",
    "a word of SQL": "table",
}


QUICK = ("quotes", "63 bytes, not ASCII")


@pytest.fixture(
    params=slow_but(NAMES.values(), lambda name: name in map(NAMES.get, QUICK)), ids=list(NAMES)
)
def odd(
    request: pytest.FixtureRequest, cluster: Cluster, superuser: psycopg.Connection[Any]
) -> Iterator[str]:
    """A name for everything: there is a role of it, who may create databases."""
    name: str = request.param
    superuser.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(sql.Identifier(name)))
    yield name
    owned = "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = %s"
    for (each,) in superuser.execute(owned, [name]).fetchall():
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")  # the server drops some itself
        superuser.execute(drop.format(sql.Identifier(each)))
    superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def named(tmp_path: Path, cluster: Cluster, odd: str) -> Project:
    """A project in which database, role, schema, table and column have that name."""
    folder = tmp_path / f"project {secrets.token_hex(2)}"
    folder.mkdir()
    lay_down(folder, REPOSITORY)
    schema = schema_of(odd)
    (folder / "alembic/versions/c0ffee000007_odd.py").write_text(
        MIGRATION.format(name=odd, schema=schema)
    )
    models, seed = folder / "app/models.py", folder / "scripts/add_mock_task_data.py"
    models.write_text(models.read_text() + MODEL.format(name=odd))
    seed.write_text(SEED.format(name=odd, schema=schema))
    project = Project(folder, {"DATABASE_URL": cluster.url(odd, odd)})
    key = json.dumps(odd, ensure_ascii=False)  # as TOML has it too
    expect, rows = f"{key} = [{key}]", f"{key} = 1"
    project.configure("[tool.backset.expect]", f"[tool.backset.expect]\n{expect}")
    project.configure("\nusers = 1\ntasks = 5\ntask_outputs = 30", f"\n{rows}")
    return project


def schema_of(name: str) -> str:
    """Return another name of that kind: a schema named as the role is first in its search_path."""
    return f"S{name[1:]}"


def test_a_name_of_any_kind_goes_through_the_whole_chain(named: Project, odd: str) -> None:
    """reset-db, undo, backup, restore, status and psql: exactly this database and no other."""
    url = named.url
    assert f"/{quote(odd, safe='')}?" in url
    prints = []
    for task in ("reset-db", "reset-db", "undo", "backup", "restore", "status"):
        done = named.invoke(task, *(["--yes"] if task == "restore" else []))
        assert done.returncode == 0, f"{task}: {done.stdout}{done.stderr}"
        prints.append(fingerprint(url))
    own = f"{schema_of(odd)}.{odd}"
    assert prints[0][f"public.{odd}"][0] == prints[0][own][0] == 1
    assert prints[2] == prints[3] == prints[4] == prints[0]
    assert odd in done.stdout
    done = named.invoke("psql", "--", "-Atc", "select current_database(), current_user")
    assert (done.returncode, done.stdout) == (0, f"{odd}|{odd}\n")
    assert named.query("SELECT count(*) FROM users") == [(0,)]
