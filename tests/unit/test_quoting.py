"""Names and texts are quoted in one place, and read back as they were."""

from __future__ import annotations

import pytest
from psycopg import sql

from backset.catalog import catalog
from backset.text import pasted

NAMES = ["users", "Users", "a.b", 'say "no"', "größe", "1st", "", "it's"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_quoted_as_the_driver_quotes_it(name: str) -> None:
    """With its schema before it; and it is read back."""
    assert pasted.quoted("audit", name) == sql.Identifier("audit", name).as_string(None)
    assert pasted.bare(pasted.quoted(name)) == name


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stays_plain_where_sql_reads_it_so(name: str) -> None:
    """People find it in their own scripts then."""
    wanted = name if name == "users" else pasted.quoted(name)
    assert pasted.quoted_if_needed(name) == wanted
    assert pasted.quoted_if_needed("audit", name) == f"audit.{wanted}"


def test_a_text() -> None:
    """Its apostrophes are doubled, and nothing else is."""
    assert pasted.literal("it's") == "'it''s'"
    assert pasted.literal("a\\b") == "'a\\b'"


def test_the_parts_of_a_name() -> None:
    """A dot in quotes divides nothing."""
    assert pasted.parts('public."a.b"."say ""no"""') == ["public", '"a.b"', '"say ""no"""']


def test_what_a_shown_name_may_mean() -> None:
    """A dot may be in either name, or between them."""
    assert catalog.meant("users") == [("public", "users")]
    assert catalog.meant("a.b.c") == [("public", "a.b.c"), ("a", "b.c"), ("a.b", "c")]
