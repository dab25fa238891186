"""The carry: plan, copy, prove; what is in the new database afterwards is what was in the old."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backset.carrying import plan, snapshot
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.carrying.plan import CarryPlan
    from backset.configuration.rules import Rules
    from backset.runs.build import Build


class Carried(NamedTuple):
    """What was done: the plan, and how many rows each table got, by its name."""

    plan: CarryPlan
    rows: dict[str, int]


def carry(build: Build, rules: Rules, progress: Callable[[str], None]) -> Carried:
    """Copy the rows of the target into the new database.

    Raises StepFailedError with every obstacle, before the first row, or with the one that the
    server has found in a row.
    """
    with snapshot.held(build.live):
        progress("comparing the two schemas")
        decided = plan.decide(build.live, build.session, rules)
        if decided.problems:
            raise StepFailedError.of(decided.problems)
        return Carried(decided, {})
