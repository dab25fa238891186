"""The rows of a database are read whole, and of a large table by a sum for each column."""

from __future__ import annotations

import psycopg
import pytest

from backset.catalog import past
from backset.catalog.schema import Sides
from backset.prove import rows

SIDES = Sides("the one", "the other")
MAKE = """
CREATE TABLE roles (id int PRIMARY KEY, name text, note text);
INSERT INTO roles VALUES (1, 'admin', ''), (2, 'user', NULL), (3, 'guest', 'x');
CREATE TABLE none (a int); CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE parted (a int, b int, PRIMARY KEY (b, a)) PARTITION BY RANGE (a);
CREATE TABLE part PARTITION OF parted DEFAULT; INSERT INTO parted VALUES (1, 2);
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('cf94a9256bdb');
"""
# what happens to the rows → what is said of them, whole, and of their sums
CHANGES = {
    "UPDATE roles SET name = 'root' WHERE id = 1": (
        "row id=1 of roles: name is admin in the one, root in the other",
        "table roles: its 3 rows have other values in name",
    ),
    "UPDATE roles SET note = NULL WHERE id = 1": (
        "row id=1 of roles: note is  in the one, null in the other",
        "table roles: its 3 rows have other values in note",
    ),
    "INSERT INTO none VALUES (1)": ("row a=1 of none is only in the other",) * 2,
    "DELETE FROM roles WHERE id = 3": (
        "row id=3, name=guest, note=x of roles is only in the one",
        "table roles has 3 rows in the one, 2 in the other",
    ),
}


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_rows_is_told(
    database_url: str, change: str, monkeypatch: pytest.MonkeyPatch, *, is_large: bool
) -> None:
    """Whether a table is small, and each row is named, or large, and its columns are."""
    if is_large:
        monkeypatch.setattr(rows, "_WHOLE_ROWS", 1)
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute(MAKE.encode())
        before = rows.read(session)
        assert before.keys() == {"roles", "none", "nothing", "parted", past.LARGE_OBJECTS}
        assert before["parted"].key == ("a", "b")
        assert before["roles"].is_digest == is_large
        assert rows.between(before, rows.read(session), SIDES, {}) == []
        session.execute(change.encode())
        (found,) = rows.between(before, rows.read(session), SIDES, {})
    assert found.text == CHANGES[change][is_large]


LARGE = "SELECT max(oid) FROM pg_largeobject_metadata"
# what happens to one of two large objects → what is said of them, whole, and where they are large
LARGE_CHANGES = {
    f"SELECT lo_put(({LARGE}), 3000000, 'end')": (
        ["of the large objects is only in the one", "of the large objects is only in the other"],
        ["the list of large objects: its 2 rows have other values in bytes"],
    ),
    f"SELECT lo_unlink(({LARGE}))": (
        ["of the large objects is only in the one"],
        ["the list of large objects has 2 rows in the one, 1 in the other"],
    ),
    f"DO $$ BEGIN EXECUTE format('COMMENT ON LARGE OBJECT %s IS %L', ({LARGE}), 'logo'); END $$": (
        ["comment=null of the large objects is only", "comment=logo of the large objects is only"],
        [],
    ),
    f"SELECT lo_from_bytea(0, lo_get(old)), lo_unlink(old) FROM ({LARGE}) AS l (old)": ([], []),
}


@pytest.mark.parametrize("is_large", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("change", LARGE_CHANGES)
def test_a_change_of_large_objects_is_told(
    database_url: str, change: str, monkeypatch: pytest.MonkeyPatch, *, is_large: bool
) -> None:
    """By their content, owner, rights and comment; their numbers are as it happens."""
    if is_large:
        monkeypatch.setattr(rows, "_WHOLE_BYTES", 1000)
    make = "SELECT lo_from_bytea(0, 'a'), lo_from_bytea(0, repeat('x', 2500000)::bytea)"
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute(make.encode())
        before = rows.read(session)
        assert before[past.LARGE_OBJECTS].total == 2
        session.execute(change.encode())
        found = rows.between(before, rows.read(session), SIDES, {})
    wanted = LARGE_CHANGES[change][is_large]
    assert len(found) == len(wanted)
    assert all(words in each.text for words, each in zip(wanted, found, strict=True))
