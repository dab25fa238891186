"""A sequence that rows have overtaken goes on behind them, and behind the one that made them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backset.carry.carry import behind
from backset.catalog.past import Position

UNUSED = Position(last_value=1, is_called=False, step=1, low=1, high=2**31 - 1, cycles=False)
DOWN = replace(UNUSED, last_value=-1, step=-1, low=-100, high=-1)


def at(last_value: int, of: Position = UNUSED, *, is_called: bool = True) -> Position:
    """Return a sequence that stands here."""
    return replace(of, last_value=last_value, is_called=is_called)


@pytest.mark.parametrize(
    ("new", "old", "furthest", "expected"),
    [
        (UNUSED, [], None, None),
        (UNUSED, [UNUSED], None, None),
        (UNUSED, [at(7)], None, (7, True)),
        (UNUSED, [at(7)], 5, (7, True)),
        (UNUSED, [at(7)], 9, (9, True)),
        (UNUSED, [], 9, (9, True)),
        (UNUSED, [at(1)], 1, (1, True)),
        (UNUSED, [at(1000, is_called=False)], None, (999, True)),
        (at(20), [at(7)], 9, None),
        (UNUSED, [at(7), at(12)], 9, (12, True)),
        (DOWN, [at(-7, DOWN)], -5, (-7, True)),
        (DOWN, [], -9, (-9, True)),
        (DOWN, [DOWN], None, None),
    ],
)
def test_the_next_value_is_behind_all(
    new: Position, old: list[Position], furthest: int | None, expected: tuple[int, bool] | None
) -> None:
    """Behind the old sequences and the rows, whichever is further; never back."""
    assert behind(new, old, furthest) == expected


def test_a_lane_is_kept() -> None:
    """One that gives odd numbers, beside another server with even ones, goes on with odd ones."""
    odd = replace(UNUSED, step=2)
    assert behind(odd, [at(7, odd)], 12) == (11, True)
    assert at(11, odd).next_value == 13


def test_one_that_has_come_to_its_limit_is_used_up() -> None:
    """As the old one was: the next value is an error, and not one that is there already."""
    small = replace(UNUSED, high=32767)
    assert behind(small, [at(32767, small)], 32767) == (32767, True)
    low = replace(DOWN, low=-3)
    assert behind(low, [], -3) == (-3, True)


def test_an_old_one_beyond_the_new_limit_does_not_count() -> None:
    """The type became smaller, and the rows fit: what they leave free can be used."""
    small = replace(UNUSED, high=32767)
    assert behind(small, [at(40000)], 500) == (500, True)


def test_one_that_begins_anew_stands_where_the_old_one_stood() -> None:
    """The greatest value of its column says nothing of where it is."""
    cycle = replace(UNUSED, high=10, cycles=True)
    assert behind(cycle, [at(3, cycle)], 10) == (3, True)
    assert behind(cycle, [], 10) is None
    assert behind(cycle, [at(10, cycle)], 10) is None
