"""Rows of the migrations, in tables that get old rows: those that nothing replaces stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.carry import migration_rows

if TYPE_CHECKING:
    from tests.integration.two_databases import Databases


def test_rows_of_a_table_that_inherits_stay_there(databases: Databases) -> None:
    """Whole, with the columns that the other table does not have; those of partitions as well."""
    databases.new.execute(
        "CREATE TABLE a (id int PRIMARY KEY, name text); CREATE TABLE b (extra text) INHERITS (a);"
        "INSERT INTO a VALUES (9, 'nine');"
        "INSERT INTO b VALUES (8, 'eight', 'y'), (7, 'x', 'y');"
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY LIST (id);"
        "CREATE TABLE p1 PARTITION OF p DEFAULT; INSERT INTO p VALUES (1), (2)"
    )
    session = databases.new
    kept = migration_rows.keep(session, [("public", "a"), ("public", "b"), ("public", "p")])
    databases.new.execute(
        "INSERT INTO a VALUES (1, 'old'); INSERT INTO b VALUES (7, 'x', 'y');"
        "INSERT INTO p VALUES (2)"
    )
    assert migration_rows.bring_back(session, kept) == [
        "a: 1 row of the migrations beside",
        "b: 1 row of the migrations beside",
        "p: 1 row of the migrations beside",
    ]
    for table, rows in (
        ("ONLY a", [(1, "old"), (9, "nine")]),
        ("b", [(7, "x", "y"), (8, "eight", "y")]),
        ("p", [(1,), (2,)]),
    ):
        assert session.execute(f"SELECT * FROM {table} ORDER BY 1".encode()).fetchall() == rows


def test_a_table_that_inherits_and_is_not_carried_keeps_its_rows(databases: Databases) -> None:
    """Only the table that is named is emptied."""
    databases.new.execute(
        "CREATE TABLE a (id int); CREATE TABLE b (extra text) INHERITS (a);"
        "INSERT INTO a VALUES (1); INSERT INTO b VALUES (2, 'x')"
    )
    session = databases.new
    kept = migration_rows.keep(session, [("public", "a")])
    assert session.execute("SELECT * FROM a").fetchall() == [(2,)]
    migration_rows.bring_back(session, kept)
    assert session.execute("TABLE b").fetchall() == [(2, "x")]
    assert session.execute("SELECT * FROM ONLY a").fetchall() == [(1,)]
