"""Rows are compared as multisets, and what every build makes anew is told as such."""

from __future__ import annotations

from collections import Counter

from backset.catalog.schema import Sides
from backset.prove.rows import TableRows, between, unstable

SIDES = Sides("the old chain", "the new chain")
COLUMNS = ("created_at", "id", "name")


def rows(
    *given: tuple[str | None, ...], columns: tuple[str, ...] = COLUMNS, digest: bool = False
) -> dict[str, TableRows]:
    """Return the rows of the table `roles`."""
    made = TableRows(columns=columns, key=("id",), rows=Counter(given), total=len(given))
    if digest:
        made = TableRows(columns=columns, key=(), rows=Counter(given), total=50_000, is_digest=True)
    return {"roles": made}


def compared(
    old: dict[str, TableRows],
    new: dict[str, TableRows],
    volatile: dict[str, set[str]] | None = None,
) -> list[str]:
    """Return the differences in words, a minor one with `~`."""
    found = between(old, new, SIDES, volatile or {})
    return [("~ " if each.minor else "") + each.text for each in found]


def test_the_order_of_rows_is_no_difference() -> None:
    """A table is a multiset: how often a row is there counts."""
    columns = ("a", "b")
    old = rows(("x", "1"), ("y", "2"), columns=columns)
    new = rows(("y", "2"), ("x", "1"), columns=columns)
    assert compared(old, new) == []
    twice = rows(("x", "1"), ("x", "1"), ("y", "2"), columns=columns)
    assert compared(twice, old) == ["row a=x, b=1 of roles is only in the old chain"]


def test_a_row_is_named_by_its_key() -> None:
    """With what differs in it; a row of one side is shown whole."""
    old = rows(("t", "1", "admin"), ("t", "2", "user"))
    new = rows(("t", "1", "root"), ("t", "3", None))
    assert compared(old, new) == [
        "row id=1 of roles: name is admin in the old chain, root in the new chain",
        "row created_at=t, id=2, name=user of roles is only in the old chain",
        "row created_at=t, id=3, name=null of roles is only in the new chain",
    ]


def test_what_every_build_makes_anew_is_one_minor_difference() -> None:
    """However many rows there are; another name in them is still seen."""
    old = rows(("10:00", "1", "admin"), ("10:00", "2", "user"))
    new = rows(("10:01", "1", "admin"), ("10:01", "2", "user"))
    again = rows(("10:02", "1", "admin"), ("10:02", "2", "user"))
    volatile = unstable(new, again)
    assert volatile == {"roles": {"created_at"}}
    assert compared(old, new, volatile) == [
        "~ table roles: its 2 rows are alike but for created_at, which every build makes anew"
    ]
    other = rows(("10:01", "1", "admin"), ("10:01", "2", "guest"))
    assert compared(old, other, volatile) == [
        "row id=2 of roles: name is user in the old chain, guest in the new chain"
    ]


def test_a_key_that_is_made_anew_names_no_row() -> None:
    """Rows with a random key are compared by the rest of them."""
    old = rows(("t", "uuid-1", "admin"))
    new = rows(("t", "uuid-2", "root"))
    assert compared(old, new, {"roles": {"id"}}) == [
        "row created_at=t, name=admin of roles is only in the old chain",
        "row created_at=t, name=root of roles is only in the new chain",
    ]


def test_many_rows_are_counted() -> None:
    """Ten are shown."""
    old, new = rows(*(("t", str(number), "x") for number in range(25))), rows()
    found = compared(old, new)
    assert len(found) == 11
    assert found[-1] == "table roles: 15 rows more that differ"


def test_a_secret_is_not_shown() -> None:
    """A column that is called like one is blanked, and a difference in it still said."""
    columns = ("id", "password_hash")
    found = compared(rows(("1", "s3cret"), columns=columns), rows(("1", "other"), columns=columns))
    assert found == [
        "row id=1 of roles: password_hash is *** in the old chain, *** in the new chain"
    ]


def test_a_column_of_one_side_is_the_schemas_matter() -> None:
    """Rows are compared in the columns that both sides have."""
    old, new = rows(("1", "x"), columns=("id", "name")), rows(("t", "1", "x"))
    assert compared(old, new) == []


def test_a_large_table_is_compared_by_digests() -> None:
    """The columns are named in which it differs."""
    old, new = rows(("d1", "d2", "d3"), digest=True), rows(("d1", "d2", "d4"), digest=True)
    assert compared(old, new) == ["table roles: its 50,000 rows have other values in name"]
    assert compared(old, rows(("t", "1", "x"))) == [
        "table roles has 50,000 rows in the old chain, 1 in the new chain"
    ]
