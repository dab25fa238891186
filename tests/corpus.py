"""What happens to the databases of real projects: a function for each."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from backset.connections.target import Target
from tests.acceptance.test_search_path import led_to_app
from tests.git import commit, git
from tests.situations import alembic, built, versions

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.project import Project

_TABLES = """
    SELECT n.nspname::text, c.relname::text FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE relkind = 'r' AND nspname !~ '^(pg_|information_schema)' AND NOT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'version_num'
    ) ORDER BY 1, 2
"""
_NEEDED = """
    SELECT attname::text FROM pg_attribute
    WHERE attrelid = format('%%I.%%I', %s::text, %s::text)::regclass AND attnum > 0
    AND attnotnull AND NOT atthasdef AND attidentity = '' AND NOT attisdropped
"""
_ROWS = "SELECT to_jsonb(t) FROM {} AS t"
_IDENTITY = "SELECT oid FROM pg_database WHERE datname = current_database()"


def session(project: Project) -> psycopg.Connection[Any]:
    """Return a session on the target."""
    return psycopg.connect(**Target.parse(project.url).params)  # type: ignore[arg-type]


def tables(project: Project) -> list[tuple[str, str]]:
    """Return schema and name of what people store rows in."""
    return project.query(_TABLES)


def rows(project: Project) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the rows by table, without those of the version tables."""
    found = {}
    with session(project) as reading:
        for each in tables(project):
            read = reading.execute(sql.SQL(_ROWS).format(sql.Identifier(*each)))
            found[each] = [row for (row,) in read.fetchall()]
    return found


def lost(project: Project, before: dict[tuple[str, str], list[dict[str, Any]]]) -> list[str]:
    """Return the rows of before that are gone; of a column that is gone the values do not count."""
    now = rows(project)
    return [
        f"{table}: {row}"
        for table, several in before.items()
        for row in several
        if not any(_is_same(row, each) for each in now.get(table, []))
    ]


def _is_same(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(value == row[key] for key, value in other.items() if key in row)


def identity(project: Project) -> int:
    """Return what tells the target from another database of its name."""
    return int(project.query(_IDENTITY)[0][0])


def upgraded(project: Project, to: str = "") -> None:
    """Migrate as the project does, or up to a revision; then store a row wherever one fits."""
    if to:
        alembic(project, "upgrade", to)
    else:
        done = project.invoke("upgrade")
        assert done.returncode == 0, done.stdout + done.stderr
    for each in tables(project):
        with session(project) as writing:
            needed = writing.execute(_NEEDED, [*each]).fetchall()
            named = sql.SQL(", ").join(sql.Identifier(name) for (name,) in needed)
            ones = sql.SQL(", ").join([sql.SQL("'1'")] * len(needed))
            values = sql.SQL("({}) VALUES ({})").format(named, ones)
            insert = sql.SQL("INSERT INTO {} {}").format(
                sql.Identifier(*each), values if needed else sql.SQL("DEFAULT VALUES")
            )
            # It refers to another one, or it wants a value of an enum.
            with contextlib.suppress(psycopg.IntegrityError, psycopg.DataError):
                writing.execute(insert)


def then(statement: str, to: str = "") -> Callable[[Project], None]:
    """Return what migrates, and then changes the database by hand."""

    def make(project: Project) -> None:
        upgraded(project, to)
        project.query(statement)

    return make


def temporary(project: Project) -> None:
    """Use one temporary table: the server keeps its schema for the next session."""
    built(project)
    project.query("CREATE TEMPORARY TABLE basket (id serial, note text)")
    assert project.query("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'pg_temp_%'")


def temporary_and_lost(project: Project) -> None:
    """Lose the version besides."""
    temporary(project)
    project.query("DELETE FROM alembic_version")


def settings(project: Project, text: str) -> None:
    """Write the project's [tool.backset]."""
    (project.folder / "pyproject.toml").write_text(f"[tool.backset]\n{text}\n")


def with_init(project: Project) -> None:
    """Migrate by the project's command, after its `init` has made a table."""
    with (project.folder / "pyproject.toml").open("a") as file:
        file.write('init = ["python", "manage.py", "create"]\n')
    upgraded(project)


def with_a_new_tenant(project: Project) -> None:
    """Name one more schema to env.py, which nothing has been made in."""
    upgraded(project)
    settings(project, 'arguments = ["schemas=red,blue,green"]')


def led(project: Project) -> None:
    """Migrate into a schema that the database's search path names, and no migration makes."""
    led_to_app(project, "database")
    upgraded(project)


def led_and_orphaned(project: Project) -> None:
    """Name there a revision that nobody has."""
    led(project)
    project.query("UPDATE app.alembic_version SET version_num = 'dead'")


def of_two_applications(project: Project) -> None:
    """Let another application keep its revision in the same version table."""
    built(project)
    project.query("INSERT INTO alembic_version VALUES ('9e0')")
    project.query("CREATE TABLE geo_user (id int); INSERT INTO geo_user VALUES (1), (2)")


def in_a_folder_below(project: Project) -> None:
    """Move a script that has run to where Alembic does not look by itself."""
    built(project)
    year = versions(project) / "2024"
    year.mkdir()
    shutil.move(versions(project) / "c1_notes.py", year)


def squashed_under_the_first_id(project: Project) -> None:
    """Write all scripts into the first one, whose id stays; the others are in git only."""
    upgraded(project)
    git(project.folder, "init", "-q", "-b", "main")
    commit(project.folder, "Begin")
    for name in ("r1_users.py", "r2_name.py", "r3_notes.py"):
        (versions(project) / name).unlink()
    shutil.move(project.folder / "squashed.py", versions(project) / "r1_all.py")
    commit(project.folder, "Squash")


def squashed_and_changed(project: Project) -> None:
    """Let the new first script make more than the old ones did."""
    squashed_under_the_first_id(project)
    for path in (versions(project) / "r1_all.py", project.folder / "models.py"):
        text = path.read_text()
        columns = 'sa.Column("name", sa.Text)'
        assert columns in text
        path.write_text(text.replace(columns, f'{columns}, sa.Column("mail", sa.Text)'))


_NUMBERED = '''"""{doc}"""

from alembic import op

revision = "{id}"
down_revision = {down!r}


def upgrade():
    op.execute("CREATE TABLE {table} (id serial PRIMARY KEY)")
'''


def numbered(project: Project, generation: int) -> None:
    """Give `003` to one script, and after a squash to another one; the database has had either."""
    shutil.rmtree(versions(project))
    versions(project).mkdir()
    (project.folder / "models.py").write_text("import sqlalchemy as sa\nmetadata = None\n")

    def write(doc: str, name: str, down: str | None, table: str) -> None:
        text = _NUMBERED.format(doc=doc, id=name, down=down, table=table)
        (versions(project) / f"{name}_{table}.py").write_text(text)

    git(project.folder, "init", "-q", "-b", "main")
    write("Base", "001", None, "base")
    write("Users", "003", "001", "users")
    commit(project.folder, "Add users")
    if generation == 1:
        upgraded(project)
    (versions(project) / "003_users.py").unlink()
    commit(project.folder, "Take users back")
    write("Between", "002b", "001", "between")
    write("Orders", "003", "002b", "orders")
    commit(project.folder, "Add orders")
    if generation == 2:
        upgraded(project)
    (versions(project) / "003_orders.py").unlink()
    commit(project.folder, "Take orders back")


def numbered_first(project: Project) -> None:
    """Let the database have had the first of the two."""
    numbered(project, 1)


def numbered_second(project: Project) -> None:
    """Let the database have had the second of the two."""
    numbered(project, 2)


def all_heads(project: Project) -> None:
    """Accept both heads."""
    settings(project, 'heads = "all"')
    upgraded(project)


def billing(project: Project) -> None:
    """Name which of several databases is meant."""
    settings(project, '\n[tool.backset.ini]\ndatabases = "billing"')
    upgraded(project)
