"""A password is blanked however a program spells it."""

from __future__ import annotations

import pytest

from backset.wording.redaction import blank
from tests.canary import CANARY, spellings

SECRET = CANARY + "\\é🐘"
SPELLINGS = spellings(SECRET)


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_known_password_is_blanked_in_every_spelling(spelling: str) -> None:
    """And nothing else of the line."""
    assert blank(f"before <{spelling}> after", {SECRET}) == "before <***> after"


@pytest.mark.parametrize(
    ("text", "blanked"),
    [
        ("postgresql://u:other@h/x", "postgresql://u:***@h/x"),
        ("postgresql:///x?password=other&user=u", "postgresql:///x?password=***&user=u"),
        ("host=h password=other user=u", "host=h password=*** user=u"),
        (r"password='it\'s a' user=u", "password=*** user=u"),
        ("http://h:80/x and 12:30", "http://h:80/x and 12:30"),
    ],
)
def test_an_unknown_password_is_blanked_where_it_can_be_told(text: str, blanked: str) -> None:
    """Inside a URL, and as libpq's keyword."""
    assert blank(text) == blanked


def test_a_url_with_a_raw_password_leaves_no_piece_of_it() -> None:
    """Its own @ and / would end a URL's password too early."""
    text = f"cannot connect to postgresql://u:{SECRET}@h/x"
    assert blank(text, {SECRET}) == "cannot connect to postgresql://u:***@h/x"


def test_a_very_short_password_spoils_no_message() -> None:
    """`a` as a password would turn every word into stars."""
    assert blank("a database", {"a"}) == "a database"
