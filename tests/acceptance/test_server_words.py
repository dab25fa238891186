"""What a server has said of a failing migration reaches the person who has to mend it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.project import Project, laid_down

if TYPE_CHECKING:
    from pathlib import Path

_ENV = """
import os

from alembic import context
from sqlalchemy import create_engine, make_url

url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+DRIVER")
place = {}
if "DRIVER" == "pg8000":  # it takes the socket itself
    place = {"unix_sock": "{host}/.s.PGSQL.{port}".format_map(url.query)}
    url = url.set(query={})
with create_engine(url, connect_args=place).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
_UNKNOWN_TYPE = """
    CREATE TABLE orders (
        id int PRIMARY KEY, amount nummeric)"""
_TWICE = "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (7), (7)"
_NEEDED = "CREATE TABLE t (id int)", "CREATE VIEW v AS SELECT id FROM t", "DROP TABLE t"
_SECRET = {
    "key": (
        "CREATE TABLE t (api_token text PRIMARY KEY)",
        "INSERT INTO t VALUES ('c4nary'), ('c4nary')",
    ),
    "row": ("CREATE TABLE t (a text, b int NOT NULL)", "INSERT INTO t VALUES ('c4nary', NULL)"),
    "statement": ("ALTER ROLE nobody_has PASSWORD 'c4nary' VALID UNTIL",),
}


@pytest.fixture
def failing(tmp_path: Path, database_url: str) -> Project:
    """A project with one migration, which each test writes."""
    return laid_down(tmp_path / "project", "async", database_url)


def with_driver(project: Project, driver: str) -> None:
    """Let env.py connect by a driver."""
    env = project.folder / "migrations/env.py"
    text = env.read_text().replace('"].', '"].replace(":", "+asyncpg:", 1).')
    env.write_text(text if driver == "asyncpg" else _ENV.replace("DRIVER", driver))


def migrating(project: Project, *statements: str) -> Project:
    """Let the only migration of a project say these statements, one after the other."""
    versions = project.folder / "migrations/versions"
    for path in versions.glob("*.py"):
        path.unlink()
    body = "\n".join(f"    op.execute({each!r})" for each in statements)
    head = 'from alembic import op\nrevision = "z1"\ndown_revision = None\ndef upgrade():\n'
    (versions / "z1_all.py").write_text(f"{head}{body}\n")
    return project


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg", "pg8000"])
def test_the_place_in_the_statement_is_shown(failing: Project, driver: str) -> None:
    """Whichever driver brings it: PostgreSQL's words, its line, and a caret below the mistake."""
    with_driver(failing, driver)
    done = migrating(failing, _UNKNOWN_TYPE).invoke("reset-db")
    first, *quoted = done.stderr.splitlines()
    assert 'PostgreSQL: type "nummeric" does not exist → mend the migration' in first
    assert quoted[0] == "   LINE 3:         id int PRIMARY KEY, amount nummeric)"
    assert quoted[1].strip() == "^"
    assert quoted[0][quoted[1].index("^") :].startswith("nummeric")


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg", "pg8000"])
def test_detail_and_hint_are_kept(failing: Project, driver: str) -> None:
    """For people below the line, and for programs in `quoted`."""
    with_driver(failing, driver)
    done = migrating(failing, *_TWICE).invoke("reset-db", "--json")
    assert json.loads(done.stdout)["error"]["quoted"] == ["DETAIL: Key (id)=(7) already exists."]
    done = migrating(failing, *_NEEDED).invoke("reset-db")
    assert "   DETAIL: view v depends on table t\n" in done.stderr
    assert "   HINT: Use DROP ... CASCADE to drop the dependent objects too.\n" in done.stderr


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("of", ["error", "error.orig"])
def test_an_error_of_the_project_is_told_with_the_server_s(
    failing: Project, driver: str, of: str
) -> None:
    """The project's words come first, and PostgreSQL's below them."""
    with_driver(failing, driver)
    (script,) = migrating(failing, _UNKNOWN_TYPE).folder.glob("migrations/versions/*.py")
    head, body = script.read_text().split("    op.")
    tried = f"    try:\n        op.{body}    except Exception as error:\n"
    script.write_text(f"{head}{tried}        raise RuntimeError('our step failed') from {of}\n")
    first, *quoted = failing.invoke("reset-db").stderr.splitlines()
    assert "RuntimeError: our step failed → " in first
    assert quoted[0] == '   ERROR: type "nummeric" does not exist'
    assert any("LINE 3: " in line for line in quoted) or (driver, of) == ("asyncpg", "error.orig")


@pytest.mark.parametrize("statements", _SECRET.values(), ids=_SECRET)
def test_no_secret_is_quoted(failing: Project, statements: tuple[str, ...]) -> None:
    """Neither a value under a secret name, nor a whole row, nor a password in a statement."""
    done = migrating(failing, *statements).invoke("reset-db")
    assert done.returncode == 4
    assert "PostgreSQL: " in done.stderr
    assert "c4nary" not in done.stdout + done.stderr


def test_no_line_of_data_is_quoted(failing: Project) -> None:
    """Of COPY the number of the line is told, and not the line."""
    with_driver(failing, "psycopg")
    table = migrating(failing, "CREATE TABLE t (a text, b int NOT NULL)")
    (script,) = table.folder.glob("migrations/versions/*.py")
    copy = "op.get_bind().connection.cursor().copy('COPY t FROM STDIN') as rows"
    script.write_text(
        f"{script.read_text()}    with {copy}:\n        rows.write('c4nary\\t\\\\N\\n')\n"
    )
    done = failing.invoke("reset-db")
    assert 'null value in column "b"' in done.stderr
    assert "   CONTEXT: COPY t, line 1\n" in done.stderr
    assert "c4nary" not in done.stdout + done.stderr


def test_an_error_in_the_models_is_said_of_them(failing: Project) -> None:
    """The deepest line of the project's own code is named, not that of env.py that imports it."""
    (failing.folder / "shop").mkdir()
    (failing.folder / "shop/models.py").write_text("import os\n\nColumn('id', Integer)\n")
    env = failing.folder / "migrations/env.py"
    env.write_text(f"import shop.models\n{env.read_text()}")
    (line,) = failing.invoke("reset-db").stderr.splitlines()
    assert " shop/models.py:3: NameError: name 'Column' is not defined → mend that file, " in line


@pytest.mark.parametrize("folder", ["env/lib/python3/dist-packages", "__pypackages__/3/lib"])
def test_a_library_in_the_folder_of_the_project_is_not_its_code(
    failing: Project, folder: str
) -> None:
    """The line of the project that called it is named."""
    library = failing.folder / folder / "bookkeeping.py"
    library.parent.mkdir(parents=True)
    library.write_text("raise ValueError('no rate')\n")
    env = failing.folder / "migrations/env.py"
    begin = f"import sys\nsys.path.append({str(library.parent)!r})\nimport bookkeeping\n"
    env.write_text(begin + env.read_text())
    (line,) = failing.invoke("reset-db").stderr.splitlines()
    assert " env.py:3: ValueError: no rate → " in line or "migrations/env.py:3: ValueError" in line
