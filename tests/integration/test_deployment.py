"""A database follows a squash without backset: one statement between two deployments."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.revisions.script_files import Folders, Revision
from backset.squash import exchange, tree
from backset.squash.production import statement
from backset.squash.selection import select

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backset.servers.programs import Programs
    from backset.squash.selection import Selection

INI = "[alembic]\nscript_location = %(here)s/migrations\n"
ENV = """
import os
import sqlalchemy as sa
from alembic import context

metadata = sa.MetaData()
for name in ("one", "two", "three", "four"):
    sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True))
engine = sa.create_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:"))
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata{options})
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = '''"""{revision}

Revises: {revises}
"""
import sqlalchemy as sa
from alembic import op
revision = {revision!r}
down_revision = {down!r}
def upgrade():
{body}
def downgrade():
    pass
'''


def body(tables: Sequence[str]) -> str:
    """Return what makes tables."""
    if not tables:
        return "    pass"
    made = "    op.create_table({!r}, sa.Column('id', sa.Integer, primary_key=True))"
    return "\n".join(map(made.format, tables))


def write(path: Path, revision: str, down: str | tuple[str, ...] | None, *tables: str) -> None:
    """Write a migration script."""
    text = REVISION.format(revision=revision, down=down, revises=down or "", body=body(tables))
    path.write_text(text)


class Shop:
    """A project of plain Alembic with the chain a ← b ← c ← d, of which c is the old head."""

    def __init__(self, root: Path, url: str, programs: Programs, options: str = "") -> None:
        self.root, self.url, self.programs = root, url, programs
        self.versions = root / "migrations/versions"
        self.versions.mkdir(parents=True)
        (root / "alembic.ini").write_text(INI)
        (root / "migrations/env.py").write_text(ENV.format(options=options))
        self.folders = Folders(root, (self.versions,), root / "backups")
        write(self.versions / "a.py", "a", None, "one")
        write(self.versions / "b.py", "b", "a", "two")
        write(self.versions / "c.py", "c", "b", "three")

    def alembic(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run plain Alembic."""
        return subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=self.root,
            env={**os.environ, "DATABASE_URL": self.url},
            capture_output=True,
            text=True,
            check=False,
        )

    def done(self, *arguments: str) -> str:
        """Run plain Alembic without an error; return what it prints."""
        ran = self.alembic(*arguments)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def squash(self) -> str:
        """Replace all that there is; return the statement for psql."""
        selection = select(self.folders.current())
        change = tree.read(selection, self.folders, "new")
        beside = self.root / "new.txt"
        write(beside, "new", None, "one", "two", "three")
        content = f"{beside.read_text()}\nreplaces = {selection.replaces!r}\n".encode()
        exchange.exchange(change, self.versions / "new.py", content, self.folders)
        [new] = scripts = self.folders.current()
        return statement(new, scripts)

    def psql(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a statement as a person would."""
        psql = self.programs.find("psql", 18)
        return subprocess.run(
            [str(psql), "-X", "-v", "ON_ERROR_STOP=1", self.url],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )

    def rows(self, table: str = "alembic_version") -> set[str]:
        """Return what the version table says."""
        with psycopg.connect(self.url) as session:
            return {row for (row,) in session.execute(f"SELECT version_num FROM {table}")}


def replacing(selection: Selection, new: str = "new") -> Revision:
    """Return the revision that a squash would write."""
    return Revision(id=new, replaces=selection.replaces, replaced_heads=selection.heads)


@pytest.fixture
def shop(tmp_path: Path, database_url: str, programs: Programs) -> Shop:
    """The project, with an empty database."""
    return Shop(tmp_path.resolve(), database_url, programs)


def test_the_deployment(shop: Shop) -> None:
    """The old scripts to their head, the statement, the new scripts: nothing runs twice."""
    shop.done("upgrade", "head")
    sql = shop.squash()
    assert "Can't locate revision identified by 'c'" in shop.alembic("upgrade", "head").stdout
    ran = shop.psql(sql)
    assert ran.returncode == 0, ran.stderr
    assert "NOTICE:  alembic_version names new now" in ran.stderr
    assert shop.done("current").strip() == "new (head)"
    shop.done("upgrade", "head")
    write(shop.versions / "d.py", "d", "new", "four")
    shop.done("upgrade", "head")
    assert "No new upgrade operations detected" in shop.done("check")


def test_a_database_that_was_not_at_the_old_head(shop: Shop) -> None:
    """The statement fails, says where it is, and changes nothing; so does it in an empty one."""
    shop.done("upgrade", "b")
    sql = shop.squash()
    ran = shop.psql(sql)
    assert ran.returncode == 3
    assert "ERROR:  alembic_version names b, not c" in ran.stderr
    hint = "HINT:  Nothing was changed. With the old scripts, run `alembic upgrade c` first."
    assert hint in ran.stderr
    assert shop.rows() == {"b"}
    with psycopg.connect(shop.url) as session:
        session.execute("DELETE FROM alembic_version")
    assert "ERROR:  alembic_version names nothing, not c" in shop.psql(sql).stderr
    with psycopg.connect(shop.url) as session:
        session.execute("DROP TABLE alembic_version")
    assert 'relation "alembic_version" does not exist' in shop.psql(sql).stderr


@pytest.mark.slow
def test_a_database_that_is_there_already(shop: Shop) -> None:
    """A second time it changes nothing; so does it where a script that followed has run."""
    shop.done("upgrade", "head")
    write(shop.versions / "d.py", "d", "c", "four")
    scripts = shop.folders.current()
    selection = select(scripts, last="c")
    sql = statement(replacing(selection), scripts)
    for _ in range(2):
        ran = shop.psql(sql)
        assert ran.returncode == 0, ran.stderr
        assert shop.rows() == {"new"}
    assert "alembic_version names new already" in ran.stderr
    with psycopg.connect(shop.url) as session:
        session.execute("UPDATE alembic_version SET version_num = 'd'")
    assert "alembic_version names d already" in shop.psql(sql).stderr


@pytest.mark.slow
def test_several_heads_become_one_row(shop: Shop) -> None:
    """All of them must be there; a row of another branch stays."""
    write(shop.versions / "c2.py", "c2", "b", "four")
    write(shop.versions / "x.py", "x", None)
    shop.done("upgrade", "c")
    shop.done("upgrade", "x")
    scripts = shop.folders.current()
    selection = select(scripts, first="a", last="heads")
    assert selection.heads == ("c", "c2")
    sql = statement(replacing(selection), scripts)
    ran = shop.psql(sql)
    assert "ERROR:  alembic_version names c, x, not c, c2" in ran.stderr
    assert "run `alembic upgrade c` and `alembic upgrade c2` first" in ran.stderr
    shop.done("upgrade", "heads")
    assert shop.psql(sql).returncode == 0
    assert shop.rows() == {"new", "x"}


def test_version_tables_elsewhere(tmp_path: Path, database_url: str, programs: Programs) -> None:
    """In another schema, under another name, and in several schemas: all follow, or none."""
    options = ', version_table="Odd \'name\'", version_table_schema="my ops"'
    shop = Shop(tmp_path.resolve(), database_url, programs, options)
    with psycopg.connect(shop.url) as session:
        session.execute('CREATE SCHEMA "my ops"; CREATE SCHEMA t1')
        session.execute("CREATE TABLE t1.alembic_version (version_num varchar(32) PRIMARY KEY)")
        session.execute("INSERT INTO t1.alembic_version VALUES ('a')")
    shop.done("upgrade", "head")
    scripts = shop.folders.current()
    tables = (("my ops", "Odd 'name'"), ("t1", "alembic_version"))
    sql = statement(replacing(select(scripts)), scripts, tables)
    ran = shop.psql(sql)
    assert "ERROR:  t1.alembic_version names a, not c" in ran.stderr
    odd = '"my ops"."Odd \'name\'"'
    assert (shop.rows(odd), shop.rows("t1.alembic_version")) == ({"c"}, {"a"})
    with psycopg.connect(shop.url) as session:
        session.execute("UPDATE t1.alembic_version SET version_num = 'c'")
    assert shop.psql(sql).returncode == 0
    assert (shop.rows(odd), shop.rows("t1.alembic_version")) == ({"new"}, {"new"})


@pytest.mark.slow
def test_the_statement_within_a_migration(shop: Shop) -> None:
    """`op.execute` takes it as it is: it has nothing that SQLAlchemy takes for a parameter."""
    shop.done("upgrade", "head")
    scripts = shop.folders.current()
    sql = statement(replacing(select(scripts), "it's 100% new"), scripts)
    program = (
        "import os, sys, sqlalchemy as sa\n"
        "url = os.environ['DATABASE_URL'].replace('postgresql:', 'postgresql+psycopg:')\n"
        "with sa.create_engine(url).begin() as connection:\n"
        "    connection.execute(sa.text(sys.stdin.read()))\n"
    )
    env = {**os.environ, "DATABASE_URL": shop.url}
    command = [sys.executable, "-c", program]
    subprocess.run(command, input=sql, text=True, env=env, check=True, capture_output=True)
    assert shop.rows() == {"it's 100% new"}
