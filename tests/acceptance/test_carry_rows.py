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


VIEWS = """
CREATE TABLE t (id int PRIMARY KEY, n int);
CREATE MATERIALIZED VIEW total AS SELECT sum(n) FROM t WITH NO DATA;
CREATE VIEW said AS SELECT 'total ' || sum FROM total;
CREATE MATERIALIZED VIEW above AS SELECT * FROM said WITH NO DATA;
CREATE MATERIALIZED VIEW asleep AS SELECT * FROM t WITH NO DATA;
CREATE MATERIALIZED VIEW share AS SELECT 6 / n FROM t WITH NO DATA;
"""
POPULATED = "SELECT matviewname FROM pg_matviews WHERE ispopulated ORDER BY 1"


@pytest.mark.parametrize("where", ["project", "owned"], ids=["swap", "in place"])
def test_views_that_could_be_read_can_be_read_again(
    tmp_path: Path, request: pytest.FixtureRequest, where: str
) -> None:
    """Those that were filled are filled, one after what it reads; the others are left as they are.

    One that the new rows make fail is a finding, and every row is there.
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
    bare.query("INSERT INTO t VALUES (3, 0)")
    done = bare.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the materialized view share could not be filled: division by zero" in done.stdout
    assert bare.query("SELECT count(*) FROM t") == [(3,)]
    assert bare.query(POPULATED) == [("above",), ("total",)]
