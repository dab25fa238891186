"""Where a name without a schema goes is the same after a rebuild, whoever has made that schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest

from backset.connections.target import Target
from backset.inherit.extensions import MadeByExtension
from backset.inherit.property import Property
from tests.conftest import ROLE
from tests.marks import slow_but
from tests.project import Project, databases, laid_down, migrating

if TYPE_CHECKING:
    from pathlib import Path

    from backset.servers.cluster import Cluster

WHERE = """
SELECT n.nspname::text || '.' || relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind = 'r' AND nspname !~ '^(pg_|information)' ORDER BY 1
"""
RIGHTS = """
SELECT nspowner::regrole::text, unnest(nspacl)::text FROM pg_namespace WHERE nspname = 'app'
ORDER BY 2
"""
LED = (
    "poolclass=pool.NullPool",
    "poolclass=pool.NullPool, connect_args={'options': '-csearch_path=app,public'}",
)
IN_APP = [("app.alembic_version",), ("app.books",)]


def led_to_app(project: Project, by: str) -> None:
    """Make the schema by hand, with a right, and lead names without a schema there."""
    target = Target.parse(project.url)
    with psycopg.connect(**target.params, autocommit=True) as session:  # type: ignore[arg-type]
        session.execute("CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO PUBLIC")
        if by == "env.py":
            file = project.folder / "migrations/env.py"
            file.write_text(file.read_text().replace(*LED))
            assert "csearch_path" in file.read_text()
            return
        if by == "options":
            sign = "&" if "?" in project.url else "?"
            project.env["DATABASE_URL"] += f"{sign}options={quote('-csearch_path=app,public')}"
            return
        who = "DATABASE {0}" if by == "database" else "ROLE CURRENT_USER IN DATABASE {0}"
        who = who.format(target.database)
        session.execute(f"ALTER {who} SET search_path = app, public".encode())


@pytest.mark.parametrize(
    ("by", "flag"),
    slow_but(
        [
            ("database", ""),
            ("database", "--in-place"),
            ("role", ""),
            ("role", "--in-place"),
            ("options", ""),
            ("options", "--in-place"),
            ("env.py", ""),
            ("env.py", "--in-place"),
        ],
        lambda case: case in {("database", ""), ("role", "--in-place"), ("env.py", "")},
    ),
)
def test_a_schema_that_no_migration_makes(
    tmp_path: Path, database_url: str, by: str, flag: str
) -> None:
    """It is there before the migrations, with its owner and rights; no table is in `public`."""
    project = laid_down(tmp_path / "p", "locations", database_url)
    led_to_app(project, by)
    assert project.invoke("upgrade").returncode == 0
    rights = project.query(RIGHTS)
    assert project.query(WHERE) == IN_APP
    for _ in range(2):
        done = project.invoke("reset-db", "--cold", *([flag] if flag else []))
        assert (done.returncode, done.stderr) == (0, ""), done
        assert project.query(WHERE) == IN_APP
        assert project.query(RIGHTS) == rights


@pytest.mark.parametrize("flag", slow_but(["", "--in-place"], lambda it: it == ""))
def test_a_schema_that_a_migration_makes(tmp_path: Path, database_url: str, flag: str) -> None:
    """It is left to that migration, which would stop at one that is there already."""
    project = laid_down(tmp_path / "p", "locations", database_url)
    (project.folder / "migrations/versions").mkdir()
    toml = project.folder / "pyproject.toml"
    toml.write_text(toml.read_text().replace("year_2023", "migrations/versions"))
    migrating(project, "CREATE SCHEMA app; CREATE TABLE shelves (id int)")
    for path in (project.folder / "year_2024").iterdir():
        path.unlink()
    name = Target.parse(database_url).database
    project.query(f"ALTER DATABASE {name} SET search_path = app, public")
    for _ in range(2):
        done = project.invoke("reset-db", "--cold", *([flag] if flag else []))
        assert (done.returncode, done.stderr) == (0, ""), done
        assert project.query(WHERE) == [("app.shelves",), ("public.alembic_version",)]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('op.execute("CREATE SCHEMA app")', True),
        ("op.execute('create schema \"app\"')", True),
        ('op.execute("CREATE " "SCHEMA app AUTHORIZATION joe")', True),
        ('op.execute(CreateSchema("app"))', True),
        ('op.execute(sa.schema.CreateSchema("app", if_not_exists=True))', False),
        ('op.execute("CREATE SCHEMA IF NOT EXISTS app")', False),
        ('op.execute(f"CREATE SCHEMA {name}")', False),
        ('op.execute("CREATE SCHEMA application")', False),
        ('op.execute("CREATE TABLE app.books (id int)")', False),
    ],
)
def test_what_the_scripts_say(tmp_path: Path, text: str, *, left: bool) -> None:
    """One that holds a version table was there first, unless a script could not run then."""
    (tmp_path / "a1.py").write_text(text)
    made = MadeByExtension.of([tmp_path], frozenset({"app"}))
    schema = Property(kind="schema", name="app", value=(), statements=lambda _: [], own=True)
    assert made.includes(schema) is left
    soft = any(word in text for word in ("IF NOT", "if_not", "{name}"))
    assert MadeByExtension.of([tmp_path]).includes(schema) is (left or soft)


@pytest.mark.slow
def test_a_schema_of_another_role(
    tmp_path: Path, tcp_url: str, superuser: psycopg.Connection[Any], cluster: Cluster
) -> None:
    """Owner and rights of an administrator's schema: as far as the role may give them, or told."""
    project = laid_down(tmp_path / "p", "locations", tcp_url)
    name = Target.parse(tcp_url).database
    with psycopg.connect(cluster.url(name), autocommit=True) as session:
        session.execute(f"CREATE SCHEMA app; GRANT USAGE, CREATE ON SCHEMA app TO {ROLE}".encode())
        session.execute(f"ALTER DATABASE {name} SET search_path = app".encode())
    assert project.invoke("upgrade").returncode == 0
    assert project.query(WHERE) == IN_APP
    done = project.invoke("reset-db", "--cold")
    assert done.returncode == 0, done
    assert "does not have rights on schema app: owner 'postgres'" in done.stdout + done.stderr
    assert project.query(WHERE) == IN_APP


@pytest.mark.slow
def test_the_schemas_of_tenants(tmp_path: Path, database_url: str) -> None:
    """What env.py makes in schemas that `-x` names is found there: tables, columns, enums, rows."""
    project = laid_down(tmp_path / "p", "tenants_asked", database_url)
    assert project.invoke("reset-db").returncode == 0
    assert project.invoke("status").returncode == 0
    project.query("INSERT INTO red.orders DEFAULT VALUES")
    for now, state in (
        ("UPDATE {}.alembic_version SET version_num = 'a1'", "half applied: column orders.note"),
        ("UPDATE {}.alembic_version SET version_num = 'dead'", "orphaned revision: red.alembic_ve"),
        ("DELETE FROM {}.alembic_version", "ahead: "),
    ):
        for tenant in ("red", "blue"):
            project.query(now.format(tenant))
        assert f" state     {state}" in (found := project.invoke("status")).stdout, found
        done = project.invoke("repair")
        assert (done.returncode, " ✔ stamp " in done.stdout) == (0, True), done
        assert project.query("SELECT id FROM red.orders") == [(1,)]
    project.query("ALTER TYPE blue.order_state ADD VALUE 'gone'")
    assert "extra enum value: the enum blue.order_state" in project.invoke("status").stderr


@pytest.mark.slow
def test_a_schema_that_stands_for_others(tmp_path: Path, database_url: str) -> None:
    """What migrations make in one that is translated for each tenant is found in theirs."""
    project = laid_down(tmp_path / "p", "tenants_asked", database_url)
    scripts = "migrations/versions"
    translated = 'connection=connection.execution_options(schema_translate_map={"tenant": schema})'
    for path, old, new in (
        (f"{scripts}/a1_orders.py", '"orders",', '"orders", schema="tenant", *['),
        (f"{scripts}/a1_orders.py", 'name="order_state")),', 'name="order_state"))],'),
        (f"{scripts}/b1_note.py", 'op.add_column("orders"', 'op.create_table("notes"'),
        (f"{scripts}/b1_note.py", "sa.Text))", 'sa.Text), schema="tenant")'),
        ("migrations/env.py", "target_metadata=models.metadata", "target_metadata=None"),
        ("migrations/env.py", "connection=connection", translated),
    ):
        text = (project.folder / path).read_text()
        assert old in text
        (project.folder / path).write_text(text.replace(old, new, 1))
    assert project.invoke("upgrade").returncode == 0
    for tenant in ("red", "blue"):
        project.query(f"UPDATE {tenant}.alembic_version SET version_num = 'a1'")
        project.query(f"DROP TABLE {tenant}.notes")
    done = project.invoke("status")
    assert " state     behind: the database is at a1, head is b1: 1 revision" in done.stdout, done
    done = project.invoke("repair")
    assert (done.returncode, " ✔ upgrade " in done.stdout) == (0, True), done


@pytest.mark.slow
def test_a_proof_has_that_schema_too(tmp_path: Path, database_url: str) -> None:
    """A version that got lost is stamped: the chain makes the same in its scratch database."""
    project = laid_down(tmp_path / "p", "locations", database_url)
    led_to_app(project, "database")
    assert project.invoke("upgrade").returncode == 0
    project.query("INSERT INTO books DEFAULT VALUES")
    project.query("DELETE FROM alembic_version")
    done = project.invoke("repair", "--yes")
    assert done.returncode == 0, done
    assert project.query("SELECT version_num FROM app.alembic_version") == [("b1",)]
    assert project.query("SELECT id FROM app.books") == [(1,)]
    assert databases(project) == {""}
