"""A database of many tables is asked in parts, and the answer is the same as in one piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.catalog import catalog
from backset.catalog.catalog import LaggingSequence

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 130  # three parts
TABLES = f"""
DO $$ BEGIN FOR n IN 1..{MANY} LOOP
    EXECUTE format('CREATE TABLE t%s (id serial PRIMARY KEY, seen timestamptz)', n);
    EXECUTE format('INSERT INTO t%s (seen) SELECT timestamptz ''2024-01-01 UTC'' + %s * '
                   'interval ''1 day'' FROM generate_series(1, %s)', n, n, n);
END LOOP; END $$
"""
LOCKED = "SELECT count(*) FROM pg_locks WHERE pid = %s AND relation >= 16384"


@pytest.fixture
def session(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A session on a database in which table number n has n rows."""
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute(TABLES)
        yield session


def test_every_table_is_counted(session: psycopg.Connection[Any]) -> None:
    """With and without a limit, in a transaction of the caller and without one."""
    expected = {f"t{number}": number for number in range(1, MANY + 1)}
    assert catalog.row_counts(session) == expected
    names = catalog.tables(session)
    few = {name: min(rows, 5) for name, rows in expected.items()}
    assert catalog.counts(session, names, at_most=5) == few
    with session.transaction():
        assert catalog.row_counts(session) == expected
        assert session.execute(LOCKED, [session.info.backend_pid]).fetchone() == (0,)
    assert catalog.counts(session, []) == {}


def test_the_parts_are_of_one_moment(session: psycopg.Connection[Any], database_url: str) -> None:
    """A row that somebody adds between two parts is not counted, and no lock of a part stays."""
    count = sql.SQL("SELECT count(*) FROM {}")
    queries = [count.format(sql.Identifier(f"t{number}")) for number in range(1, MANY + 1)]
    found = catalog.rows(session, queries)
    first = next(found)
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute(f"INSERT INTO t{MANY} (seen) VALUES (now())")
        assert other.execute(LOCKED, [session.info.backend_pid]).fetchone() == (0,)
    assert [rows for (rows,) in (first, *found)] == list(range(1, MANY + 1))
    assert session.execute(queries[-1]).fetchone() == (MANY + 1,)


def test_the_youngest_row_is_in_any_of_them(session: psycopg.Connection[Any]) -> None:
    """What is in the future does not count."""
    assert catalog.youngest_row(session) == "2024-05-10 00:00:00"
    session.execute("INSERT INTO t3 (seen) VALUES ('2024-06-01 12:00 UTC'), ('infinity'), (NULL)")
    assert catalog.youngest_row(session) == "2024-06-01 12:00:00"


def test_sequences_that_lag(session: psycopg.Connection[Any]) -> None:
    """Each is named, those of partitioned tables and of parents as well; empty tables have none."""
    assert catalog.lagging_sequences(session) == []
    session.execute("""
        UPDATE t7 SET id = 70 WHERE id = 7; UPDATE t120 SET id = 500 WHERE id = 120;
        CREATE TABLE a (id serial, day int) PARTITION BY RANGE (day);
        CREATE TABLE a_1 PARTITION OF a FOR VALUES FROM (0) TO (9);
        INSERT INTO a (id, day) VALUES (3, 1);
        CREATE TABLE b (id serial); CREATE TABLE b_1 () INHERITS (b); INSERT INTO b_1 VALUES (4);
        CREATE TABLE c (id serial)
    """)
    assert catalog.lagging_sequences(session) == [
        LaggingSequence("a_id_seq", 1, "a.id", 3),
        LaggingSequence("b_id_seq", 1, "b.id", 4),
        LaggingSequence("t120_id_seq", 121, "t120.id", 500),
        LaggingSequence("t7_id_seq", 8, "t7.id", 70),
    ]
