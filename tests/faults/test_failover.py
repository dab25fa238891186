"""The primary dies under a run: a few trials of the campaign, each in another way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import campaign, failover
from tests.marks import slow_but

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.failover import Pair


@pytest.fixture(scope="module")
def pair(signals_as_on_a_terminal: None) -> Iterator[Pair]:
    """A primary and its standby, for all trials of this module."""
    with failover.opened() as opened:
        yield opened


NUMBERS = [12, 1, 2, 16]  # in the upgrade, and in other steps


@pytest.mark.parametrize(
    "number",
    slow_but(NUMBERS, lambda number: number == NUMBERS[0]),
    ids=[failover.fault_of(each).name for each in NUMBERS],
)
def test_no_promise_is_broken_by_a_failover(pair: Pair, number: int) -> None:
    """The old or the new database is on the new primary, told as it is; the next run cleans up."""
    trial = campaign.perform(pair, number, failover.fault_of(number))
    assert trial.broken == [], "\n".join(trial.log)
