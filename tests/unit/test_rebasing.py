"""A script that was started before a squash is rewritten in what names the old one, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backset.errors import StepFailedError
from backset.revisions.rebasing import planned, rewritten
from backset.revisions.script_files import Revision, parse

SQUASH = Revision(id="new", replaces=("a", "b", "c"), replaced_heads=("c",), path=Path("new.py"))


def script(text: str, name: str = "e.py") -> Revision:
    """Return what a text says of itself."""
    found = parse(text, Path(name))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("revision = 'e'\ndown_revision = 'c'\n", "revision = 'e'\ndown_revision = 'new'\n"),
        (
            'revision: str = "e"\ndown_revision: Union[str, None] = "c"  # after c\n',
            'revision: str = "e"\ndown_revision: Union[str, None] = "new"  # after c\n',
        ),
        (
            '"""c\n\nRevises: c\nDate: c\n"""\r\nrevision, down_revision = "e", "c"\r\nx = "c"',
            '"""c\n\nRevises: new\nDate: c\n"""\r\nrevision, down_revision = "e", "new"\r\nx = "c"',
        ),
        (
            "# ü\nrevision = 'e'\ndown_revision = None\ndepends_on = ['c',  # ü\n  'z']\n",
            "# ü\nrevision = 'e'\ndown_revision = None\ndepends_on = ['new',  # ü\n  'z']\n",
        ),
        (
            "\ufeffrevision = 'e'\ndown_revision = 'c'",
            "\ufeffrevision = 'e'\ndown_revision = 'new'",
        ),
    ],
)
def test_only_what_names_the_old_one_is_rewritten(old: str, new: str) -> None:
    """In every style; comments, quotes, ends of lines and other texts are as they were."""
    (change,) = planned([SQUASH, script(old.removeprefix("\ufeff"))])
    assert (change.renamed, change.left) == ("", ())
    assert rewritten(old.encode(), change) == new.encode()


def test_a_merge_of_replaced_heads_follows_one() -> None:
    """Alembic refuses a script that names one revision twice."""
    squash = Revision(id="new", replaces=("a", "b", "c"), replaced_heads=("b", "c"))
    text = "revision = 'e'\ndown_revision = ('b', 'c')\n"
    (change,) = planned([squash, script(text)])
    assert rewritten(text.encode(), change) == b"revision = 'e'\ndown_revision = \"new\"\n"


def test_one_from_before_the_last_gets_a_new_id() -> None:
    """And so does what follows it: a database that has run them has not run the rest."""
    first, second = "revision = 'e'\ndown_revision = 'b'\n", "revision = 'f'\ndown_revision = 'e'\n"
    changes = planned([SQUASH, script(first), script(second, "f.py")])
    assert [each.path.name for each in changes] == ["f.py", "e.py"]
    f, e = (
        script(rewritten(text.encode(), each).decode())
        for each, text in zip(changes, (second, first), strict=True)
    )
    assert e.down == ("new",)
    assert f.down == (e.id,)
    assert {e.id, f.id}.isdisjoint({"e", "f"})
    assert changes[1].left == ("c",)
    again = planned([SQUASH, script(first), f])
    assert again[0].renamed == e.id


@pytest.mark.parametrize(
    "text",
    [
        "revision = 'e'\nBASE = 'c'\ndown_revision = 'c' if BASE else 'c'\n",
        "print 'x'\nrevision = 'e'\ndown_revision = 'c'\n",
    ],
)
def test_what_is_written_in_a_way_of_its_own_is_refused(text: str) -> None:
    """It is named, and nothing is guessed."""
    change = planned([SQUASH, Revision(id="e", down=("c",), path=Path("e.py"))])[0]
    with pytest.raises(StepFailedError, match=r"e\.py"):
        rewritten(text.encode(), change)


def test_what_two_replace_is_refused() -> None:
    """Nobody can tell which one it is to follow."""
    other = Revision(id="other", replaces=("c",), replaced_heads=("c",))
    with pytest.raises(StepFailedError, match="which each of new, other replaces"):
        planned([SQUASH, other, Revision(id="e", down=("c",), path=Path("e.py"))])


@given(st.text(alphabet="ab c\n\r\t#ü'\"x", max_size=40), st.sampled_from(["'", '"', '"""']))
def test_everything_else_is_as_it_was(rest: str, quote: str) -> None:
    """Whatever stands behind the lines, the rewritten file differs in the id alone."""
    head = f"revision = 'e'\ndown_revision = {quote}c{quote}\n"
    text = head + rest
    if (found := parse(text, Path("e.py"))) is None:
        return
    try:
        compile(text, "e.py", "exec")
        (change,) = planned([SQUASH, found])
        made = rewritten(text.encode(), change)
    except (SyntaxError, ValueError, StepFailedError):
        return
    assert made == text.replace(f"{quote}c{quote}", f"{quote}new{quote}", 1).encode()
