"""Where the rows of a version table stand in what a script replaces, and the way from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backset.errors import StepFailedError
from backset.revisions import replaced
from backset.revisions.script_files import Revision, ancestors

if TYPE_CHECKING:
    from collections.abc import Sequence

A, B, C = Revision(id="a"), Revision(id="b", down=("a",)), Revision(id="c", down=("b",))
NEW = Revision(id="new", replaces=("a", "b", "c"), replaced_heads=("c",))
NEXT = Revision(id="next", down=("new",))
OTHER = Revision(id="other")


def nothing(_squash: Revision) -> Sequence[Revision]:
    """Find no old script."""
    return ()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["c"], "c, which new replaces (last of 3)"),
        (["b"], "b, which new replaces (number 2 of 3)"),
        (["c", "other"], "c, which new replaces (last of 3)"),
        (["new"], ""),
        (["other"], ""),
        (["strange"], ""),
        ([], ""),
    ],
)
def test_a_place_in_words(rows: list[str], words: str) -> None:
    """Rows of other branches are beside it; what has a script is not replaced."""
    assert "".join(map(str, replaced.places(rows, [NEW, NEXT, OTHER]))) == words


@pytest.mark.parametrize(
    ("rows", "scripts", "words"),
    [
        (["c", "new"], [NEW], "names c beside new"),
        (["c", "next"], [NEW, NEXT], "names c beside next"),
        (["c"], [NEW, Revision(id="x", replaces=("c",))], "c is replaced by each of new, x"),
    ],
)
def test_what_nobody_can_tell(rows: list[str], scripts: list[Revision], words: str) -> None:
    """It is refused with the reason, and no such database is told to follow."""
    (place,) = replaced.places(rows, scripts)
    with pytest.raises(StepFailedError, match=words):
        replaced.legs(place, scripts, lambda _: [A, B, C])
    assert replaced.followed([*rows, "strange"], scripts) == ()


def test_the_way_of_a_database_at_the_end_needs_no_old_script() -> None:
    """Only a row is written: nothing is searched for."""
    (place,) = replaced.places(["c"], [NEW, NEXT])
    (leg,) = replaced.legs(place, [NEW, NEXT], nothing)
    assert (leg.rows, leg.chain, leg.pending) == (("c",), (), ())


def test_the_way_from_the_middle() -> None:
    """What is left runs in its old order; what follows the new one has no part in it."""
    (place,) = replaced.places(["a"], [NEW, NEXT, OTHER])
    (leg,) = replaced.legs(place, [NEW, NEXT, OTHER], lambda _: [C, B, A])
    assert (leg.rows, leg.pending) == (("c",), ("b", "c"))
    assert {each.id for each in leg.chain} == {"a", "b", "c", "other"}


def test_a_head_that_another_one_depends_on_is_no_end() -> None:
    """Alembic refuses to go to both of them, since the one brings the other along."""
    heads = [A, B, Revision(id="c", down=("a",), depends_on=("b",))]
    squash = Revision(id="new", replaces=("a", "b", "c"), replaced_heads=("b", "c"))
    (place,) = replaced.places(["a"], [squash])
    (leg,) = replaced.legs(place, [squash], lambda _: heads)
    assert leg.rows == ("c",)


def test_a_squash_of_a_squash() -> None:
    """The way of a database from before both goes through both."""
    again = Revision(id="again", replaces=("new", "next"), replaced_heads=("next",))
    olds = {"again": [NEW, NEXT], "new": [A, B, C]}
    lost = replaced.strangers(["b"], [again])
    (place,) = replaced.nested(lost, [again], lambda squash: olds[squash.id])
    first, second = replaced.legs(place, [again], lambda squash: olds[squash.id])
    assert (first.squash.id, first.rows, first.pending) == ("new", ("c",), ("c",))
    assert (second.squash.id, second.rows, second.pending) == ("again", ("next",), ("next",))
    assert replaced.nested(["nowhere"], [again], lambda squash: olds[squash.id]) == []


@pytest.mark.parametrize("found", [[], [A, B], [B, C]])
def test_old_scripts_that_are_not_whole(found: list[Revision]) -> None:
    """A way with a gap is none: which is lacking is said."""
    (place,) = replaced.places(["a"], [NEW])
    with pytest.raises(StepFailedError, match=r"no file, no commit and no archive has (a|c)"):
        replaced.legs(place, [NEW], lambda _: found)


@st.composite
def chains(draw: st.DrawFn) -> list[Revision]:
    """Draw revisions, each of which follows some of those before it, or none."""
    made: list[Revision] = []
    for number in range(draw(st.integers(1, 12))):
        names = [each.id for each in made]
        down = draw(st.sets(st.sampled_from(names), max_size=2)) if names else set()
        made.append(Revision(id=f"r{number}", down=tuple(sorted(down))))
    return made


@given(chains(), st.data())
def test_the_way_ends_with_all_of_it(chain: list[Revision], data: st.DataObject) -> None:
    """From wherever it begins, what has run and what is pending are all that is replaced."""
    followed = {down for each in chain for down in each.down}
    heads = tuple(each.id for each in chain if each.id not in followed)
    every = tuple(each.id for each in chain)
    squash = Revision(id="new", replaces=every, replaced_heads=heads)
    done = ancestors(data.draw(st.lists(st.sampled_from(every), min_size=1)), chain)
    below = {down for each in chain if each.id in done for down in each.down}
    rows = sorted(done - below)
    (place,) = replaced.places(rows, [squash])
    assert place.is_at_end == (set(rows) == set(heads))
    *_, leg = replaced.legs(place, [squash], lambda _: chain)
    if not place.is_at_end:
        assert done.isdisjoint(leg.pending)
        assert done | {*leg.pending} == {*every}
        assert [*leg.pending] == [each for each in every if each in leg.pending]
    assert set(leg.rows) == set(heads)
