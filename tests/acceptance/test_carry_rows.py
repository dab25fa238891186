"""Rows that the clean schema refuses: `reset-db --carry` says which, and what would help."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.marks import slow_but
from tests.project import Project, laid_down, migrating

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bare(tmp_path: Path, database_url: str) -> Project:
    """A project without models, whose only migration is what migrating() says."""
    return laid_down(tmp_path / "bare", "objects", database_url)


ROLES = "CREATE TABLE roles (id int PRIMARY KEY, name text UNIQUE); INSERT INTO roles VALUES "


@pytest.mark.slow
def test_what_refers_to_a_row_that_made_way_is_told(bare: Project) -> None:
    """A row of a migration refers to another, for which an old one of the same name stands."""
    perms = "CREATE TABLE perms (role int REFERENCES roles); INSERT INTO perms VALUES (2), (1)"
    migrating(bare, f"{ROLES} (1, 'admin'), (2, 'user'), (3, 'guest'); {perms}")
    bare.query(f"{ROLES} (1, 'admin'), (5, 'user'), (3, 'visitor')")
    done = bare.invoke("reset-db", "--carry")
    assert done.returncode == 4, done.stdout + done.stderr
    assert (
        "perms: perms_role_fkey: 1 row refers to what a migration wrote to roles, which made way "
        "for an old one of the same name: role=2"
    ) in done.stderr
    assert "give that row of roles the id that the migration gives it" in done.stderr
    bare.query("UPDATE roles SET id = 2 WHERE id = 5")
    assert bare.invoke("reset-db", "--carry").returncode == 0
    rows = [(1, "admin"), (2, "user"), (3, "visitor")]
    assert bare.query("SELECT * FROM roles ORDER BY 1") == rows


@pytest.mark.parametrize(
    "preference",
    slow_but(
        [
            "array_nulls = off",
            "standard_conforming_strings = off",
        ],
        lambda preference: "strings" in preference,
    ),
)
def test_what_a_database_prefers_changes_no_value(
    bare: Project, name: str, preference: str
) -> None:
    """Backup, plan, copy and comparison read and write literals as ever; the setting stays."""
    table = "CREATE TABLE t (id int PRIMARY KEY, a text[], b text CHECK (b IS NOT NULL))"
    migrating(bare, table)
    rows = [(1, [None, "NULL", "a\\b", "'"], "\\n")]
    bare.query(f"{table}; INSERT INTO t VALUES (1, '{{NULL,\"NULL\",a\\\\b,''}}', '\\n')")
    assert bare.query("TABLE t") == rows
    bare.query(f"ALTER DATABASE {name} SET {preference}")
    for _ in range(2):
        done = bare.invoke("reset-db", "--carry")
        assert done.returncode == 0, done.stdout + done.stderr
        assert bare.query("TABLE t") == rows
        setting, _, value = preference.split()
        assert bare.query(f"SHOW {setting}") == [(value,)]


# What a migration that draws its ids at random writes: other ones in each build.
DRAWN = """
CREATE TABLE roles (id uuid PRIMARY KEY, name text UNIQUE);
CREATE TABLE perms (id uuid PRIMARY KEY, role uuid REFERENCES roles, what text);
CREATE TABLE staff (email text PRIMARY KEY, role uuid REFERENCES roles);
INSERT INTO roles VALUES (gen_random_uuid(), 'admin'), (gen_random_uuid(), 'user');
INSERT INTO perms SELECT gen_random_uuid(), id, 'read' FROM roles;
"""


@pytest.mark.parametrize(
    "where",
    slow_but(["project", "owned"], lambda where: where == "project"),
    ids=["swap", "in place"],
)
@pytest.mark.slow
def test_rows_with_random_ids_are_replaced(
    tmp_path: Path, request: pytest.FixtureRequest, where: str
) -> None:
    """The setting that is printed can be pasted, and the old rows are there alone, each time.

    What refers to them goes on to do so.
    """
    bare = laid_down(tmp_path / "bare", "objects", request.getfixturevalue(where).url)
    migrating(bare, DRAWN)
    assert bare.invoke("reset-db").returncode == 0
    bare.query("INSERT INTO staff SELECT name || '@x', id FROM roles")
    rows = [bare.query(f"SELECT * FROM {each} ORDER BY 1") for each in ("roles", "perms", "staff")]
    done = bare.invoke("reset-db", "--carry", "--cold")  # a clone would have the ids of before
    assert done.returncode == (4 if where == "project" else 5), done.stdout + done.stderr
    assert "perms_role_fkey: 2 rows refer to what a migration wrote to roles" in done.stderr
    setting = 'replace = ["roles", "perms"]'
    assert f"let the old rows alone be there: [tool.backset] {setting}" in done.stderr
    (bare.folder / "pyproject.toml").write_text(f"[tool.backset]\n{setting}\n")
    plan = bare.invoke("reset-db", "--carry", "--plan")
    assert plan.returncode == 0, plan.stderr
    if where == "project":
        assert "roles: 2 rows of the migrations would make way" in plan.stdout
    for _ in range(2):
        done = bare.invoke("reset-db", "--carry", "--cold")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "perms: 2 rows of the migrations made way" in done.stdout
        names = ("roles", "perms", "staff")
        assert [bare.query(f"SELECT * FROM {each} ORDER BY 1") for each in names] == rows


def test_tables_are_left_out_by_name_and_pattern(bare: Project) -> None:
    """Nobody types the others: excluded tables have what the migrations write there alone."""
    migrating(
        bare,
        "CREATE SCHEMA logs; CREATE TABLE a (id int); CREATE TABLE logs.x (id int); "
        "CREATE TABLE audit_a (id int); CREATE TABLE audit_b (id int); INSERT INTO audit_b "
        "VALUES (0); CREATE TABLE parent (id int PRIMARY KEY); "
        "CREATE TABLE child (id int REFERENCES parent)",
    )
    settings = bare.folder / "pyproject.toml"
    settings.write_text("[tool.backset]\nexclude = ['audit_*', 'logs.*', 'parent']\n")
    assert bare.invoke("reset-db").returncode == 0
    for each in ("a", "logs.x", "audit_a", "audit_b", "parent", "child"):
        bare.query(f"INSERT INTO {each} VALUES (1)")
    done = bare.invoke("reset-db", "--carry", "--plan")
    assert done.returncode == 4
    assert "let [tool.backset] exclude name child as well, or parent no longer" in done.stderr
    settings.write_text("[tool.backset]\nexclude = ['audit_*', 'logs.*']\nreplace = 'all'\n")
    done = bare.invoke("reset-db", "--carry", "--plan")
    assert "not carried, as exclude says: audit_a, audit_b, logs.x" in done.stdout
    done = bare.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stdout + done.stderr
    counts = "SELECT (SELECT sum(id) FROM audit_a), (SELECT sum(id) FROM audit_b), "
    counts += "(SELECT sum(id) FROM logs.x), (SELECT sum(id) FROM a), (SELECT sum(id) FROM child)"
    assert bare.query(counts) == [(None, 0, None, 1, 1)]
    settings.write_text("[tool.backset]\nexclude = ['audits_*']\nreplace = ['rolse']\n")
    done = bare.invoke("reset-db", "--carry", "--plan")
    assert done.returncode == 4
    assert "exclude names audits_*, which is not in that schema" in done.stderr
    assert "replace names rolse, which is not in that schema" in done.stderr


VIEWS = """
CREATE TABLE t (id int PRIMARY KEY, n int);
CREATE MATERIALIZED VIEW total AS SELECT sum(n) FROM t WITH NO DATA;
CREATE VIEW said AS SELECT 'total ' || sum FROM total;
CREATE MATERIALIZED VIEW above AS SELECT * FROM said WITH NO DATA;
CREATE MATERIALIZED VIEW asleep AS SELECT * FROM t WITH NO DATA;
CREATE MATERIALIZED VIEW share AS SELECT 6 / n FROM t WITH NO DATA;
"""
POPULATED = "SELECT matviewname FROM pg_matviews WHERE ispopulated ORDER BY 1"


@pytest.mark.parametrize(
    "where", slow_but(["project", "owned"], "project".__eq__), ids=["swap", "in place"]
)
@pytest.mark.slow
def test_views_that_could_be_read_can_be_read_again(
    tmp_path: Path, request: pytest.FixtureRequest, where: str
) -> None:
    """Those that were filled are filled, one after what it reads; the others are left as they are.

    One that the new rows make fail is a finding, and every row is there. In place it keeps the
    backup from being loaded, so that nothing is dropped.
    """
    bare = laid_down(tmp_path / "bare", "objects", request.getfixturevalue(where).url)
    migrating(bare, VIEWS)
    assert bare.invoke("reset-db").returncode == 0
    bare.query("INSERT INTO t VALUES (1, 2), (2, 3)")
    for each in ("total", "above", "share"):
        bare.query(f"REFRESH MATERIALIZED VIEW {each}")
    done = bare.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bare.query(POPULATED) == [("above",), ("share",), ("total",)]
    assert bare.query("SELECT * FROM above") == [("total 5",)]
    if where == "project":
        assert bare.invoke("backup").returncode == 0
        dump = max(bare.folder.rglob("*.dump"))
        done = bare.invoke("carry", "--from", str(dump))
        assert done.returncode == 0, done.stdout + done.stderr
        assert bare.query(POPULATED) == [("above",), ("share",), ("total",)]
    bare.query("INSERT INTO t VALUES (3, 0)")
    done = bare.invoke("reset-db", "--carry")
    assert bare.query("SELECT count(*) FROM t") == [(3,)]
    if where == "owned":
        assert done.returncode == 4
        assert "cannot be loaded again, so nothing was dropped: division by zero" in done.stderr
        return
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the materialized view share could not be filled: division by zero" in done.stdout
    assert bare.query(POPULATED) == [("above",), ("total",)]
