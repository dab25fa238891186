"""The carry: plan, copy, prove; what is in the new database afterwards is what was in the old."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from backset.carrying import origins, plan, snapshot, streaming
from backset.catalogs.catalog import shown
from backset.connections.session import connect
from backset.errors import StepFailedError
from backset.wording.quantities import amount

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
    """Copy the rows of the target, or of another origin, into the new database.

    Raises StepFailedError with every obstacle, before the first row, or with the one that the
    server has found in a row.
    """

    def tell(done_bytes: int, all_bytes: int) -> None:
        progress(f"{amount(done_bytes)} of {amount(all_bytes)}")

    with origins.opened(build, progress) as old, snapshot.held(old.session) as moment:
        progress("comparing the two schemas")
        decided = plan.decide(old.session, build.session, rules)
        if decided.problems:
            raise StepFailedError.of(decided.problems)
        rows = streaming.copy(
            *(decided.transfers, moment, old.connect),
            partial(connect, build.subject, build.purpose),
            keys=decided.keys,
            progress=tell,
        )
    return Carried(decided, {shown(*table): number for table, number in rows.items()})
