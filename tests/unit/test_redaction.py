"""A password is blanked however a program spells it."""

from __future__ import annotations

import sys
import threading
import time
from base64 import b64encode
from urllib.parse import quote

import pytest

from backset.text.redaction import blank
from tests.canary import CANARY, spellings
from tests.marks import slow_but

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


@pytest.mark.parametrize("secret", ["a", "q7", "p@1", "é", "'", "x y"])
def test_a_short_password_takes_its_word_along(secret: str) -> None:
    """Where it stood in a word, nobody could tell it from the stars; other words stay."""
    found = spellings(secret)
    for spelling in (found[each] for each in ("raw", "percent", "percent twice", "JSON", "SQL")):
        for around in ("{}", "un{}ed", "ü{}é"):
            text = f"no <{around.format(spelling)}> of it"
            assert blank(text, {secret}) == "no <***> of it"
    assert blank("", {secret}) == ""


def test_no_password_blanks_nothing() -> None:
    """An empty one stands everywhere."""
    assert blank("a database", {""}) == "a database"


# A password that begins like what a seed prints: `re` would try every combination of spellings.
LIKE = "customer_portal_staging_pw1"
SECRETS = [LIKE, "a" * 30 + "b", SECRET, "\\" * 20 + "x", "%25" * 9, "''\"\"%%''", "pw12", "q"]
TOKEN = b64encode(bytes(each**3 % 251 for each in range(1100))).decode()
PIECES = [
    *(LIKE[:-1], f"{LIKE[:-1]}2 ", "a", "a" * 30 + " ", "\\", "\\x", "\\u00", "%", "%25", "'\""),
    *("q ", "://u:", "://u:x@", "password='", "password=x ", "password='\\'", "é", "::"),
    *(TOKEN[:-1], quote(TOKEN[:-1], safe="")),
    *SECRETS[2:],
    *SPELLINGS.values(),
    *(each[:-1] for each in SPELLINGS.values()),
]


@pytest.mark.parametrize(
    "secret", slow_but([*SECRETS, TOKEN], lambda each: each in {LIKE, SECRET, "q", TOKEN})
)
def test_a_line_of_a_megabyte_takes_no_time(secret: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever it consists of, and however long the password is: a token has 1,500 characters."""
    lines = {piece: piece * (1_000_000 // len(piece.encode())) for piece in PIECES}
    slow = {piece for piece, line in lines.items() if seconds(line, secret) > 0.2}
    assert {piece for piece in slow if seconds(lines[piece], secret) > 0.2} == set()
    assert capfd.readouterr().err == ""  # RE2 would say there when it has too little memory


def seconds(line: str, secret: str) -> float:
    """Return the processor time that it takes to blank a secret in a line."""
    began = time.thread_time()
    blank(line, {secret})
    return time.thread_time() - began


def test_others_go_on_meanwhile() -> None:
    """A thread that looks for a password lets the one go on that hears signals.

    For once the interpreter takes no thread off by itself: who goes on meanwhile was let go on.
    """
    line = "customer_portal_" * 2_000_000
    interval = sys.getswitchinterval()
    thread = threading.Thread(target=blank, args=(line, {LIKE}))
    meanwhile = 0
    sys.setswitchinterval(60)
    try:
        thread.start()
        while thread.is_alive():
            meanwhile += 1
            time.sleep(0.001)
    finally:
        sys.setswitchinterval(interval)
    assert meanwhile > 3


def test_of_very_many_the_rest_is_left_out() -> None:
    """Each takes a little of Python's time; nobody reads the thousandth."""
    text = blank("pw12 " * 5000, {"pw12"})
    assert set(text.split()) == {"***"}
    assert len(text) < 5000
