"""A script's lines that say what it follows are written anew, and nothing else of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backset.errors import StepFailedError
from backset.revisions.rewriting import rebased, rebased_file
from backset.revisions.script_files import parse

ALEMBICS = '''"""add users

Revision ID: ccc
Revises: bbb
Create Date: 2026-11-30 10:00:00

"""
from typing import Union

# revision identifiers, used by Alembic.
revision: str = 'ccc'
down_revision: Union[str, None] = 'bbb'  # not "bbb" by chance
branch_labels = None
depends_on = None


def upgrade() -> None:
    print("bbb")
'''


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            ALEMBICS,
            ALEMBICS.replace("Revises: bbb", "Revises: new").replace("= 'bbb'", "= 'new'"),
        ),
        (
            '"""m\n\nRevises: a, b\n"""\nrevision = "c"\ndown_revision = ("a", "b")\n',
            '"""m\n\nRevises: new\n"""\nrevision = "c"\ndown_revision = "new"\n',
        ),
        (
            "revision = 'c'\ndown_revision = ('a', 'x', 'b')\ndepends_on = ['y', 'b']\n",
            "revision = 'c'\ndown_revision = ('new', 'x')\ndepends_on = ['y', 'new']\n",
        ),
        (
            'revision = "c"\ndown_revision = (\n    "x",  # one\n    "a",  # two\n)\n',
            'revision = "c"\ndown_revision = (\n    "x",  # one\n    "new",  # two\n)\n',
        ),
        (
            "revision, down_revision = 'c', 'a'\n",
            "revision, down_revision = 'c', 'new'\n",
        ),
        (
            "# ä\r\n'''é\r\nRevises: a \r\n'''\r\nrevision = 'c'; down_revision = u'a' # ü\r\n",
            "# ä\r\n'''é\r\nRevises: new \r\n'''\r\nrevision = 'c'; down_revision = 'new' # ü\r\n",
        ),
        (
            "revision = 'c'\ndown_revision = ['a', 'b']\n\x0cx = '\u2028'\n",
            "revision = 'c'\ndown_revision = 'new'\n\x0cx = '\u2028'\n",
        ),
        (  # of Python 2
            "revision = 'c'\ndown_revision = 'a'\ndef upgrade():\n    print 'a'\n",
            "revision = 'c'\ndown_revision = 'new'\ndef upgrade():\n    print 'a'\n",
        ),
        (
            "\ufeff'''m\nRevises: a\n'''\nrevision = 'c'\ndown_revision = 'a'\n",
            "\ufeff'''m\nRevises: new\n'''\nrevision = 'c'\ndown_revision = 'new'\n",
        ),
        (
            "revision = 'c'\ndown_revision = 'a' 'b'\nx = 'ab'\n",
            "revision = 'c'\ndown_revision = 'new'\nx = 'ab'\n",
        ),
    ],
)
def test_only_the_names_change(before: str, after: str) -> None:
    """Quotes, comments, annotations and line ends stay; what became one is named once."""
    assert rebased(before, dict.fromkeys(("a", "b", "ab", "bbb"), "new")) == after


def test_bytes_that_are_no_utf_8_stay() -> None:
    """A file of another encoding is rewritten as it is."""
    before = b"# -*- coding: latin-1 -*-\n# \xe9\nrevision = 'c'\ndown_revision = 'a'\n"
    assert rebased_file(before, {"a": "b"}) == before.replace(b"'a'", b"'b'")


@pytest.mark.parametrize("value", ["'a' if revision else 'b'", "LAST", "('a', LAST)", "'x'"])
def test_what_is_no_plain_name_is_refused(value: str) -> None:
    """A name that is computed cannot be exchanged: the error says where, and what to write."""
    text = f"LAST = 'a'\nrevision = 'c'\ndown_revision = {value}\n"
    with pytest.raises(StepFailedError) as error:
        rebased(text, {"a": "new"}, Path("c.py"))
    assert error.value.what == (
        "c.py: what this revision follows is not written there as plain names"
    )
    assert error.value.remedy == "write new for a in its down_revision or depends_on by hand"


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\"'\\,"), min_size=1
)


@given(
    names=st.lists(NAMES, min_size=1, max_size=4, unique=True),
    new=NAMES,
    quote=st.sampled_from("'\""),
)
def test_any_names(names: list[str], new: str, quote: str) -> None:
    """Whatever the ids are made of, the script then follows the new one, once."""
    value = ", ".join(f"{quote}{each}{quote}" for each in names)
    text = f"revision = 'zz'\ndown_revision = ({value},)\nx = ({value},)\n"
    after = rebased(text, dict.fromkeys(names, new))
    found = parse(after)
    assert found is not None
    assert found.down == (new,)
    assert after.endswith(f"\nx = ({value},)\n")
