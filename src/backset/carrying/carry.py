"""The carry: plan, copy, prove; what is in the new database afterwards is what was in the old."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from backset.carrying import plan, scratch_schema, snapshot, streaming
from backset.catalogs.catalog import shown
from backset.connections.session import connect
from backset.errors import StepFailedError
from backset.wording.quantities import amount

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from backset.carrying.plan import CarryPlan, Schemas
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

    def tell(done_bytes: int, all_bytes: int) -> None:
        progress(f"{amount(done_bytes)} of {amount(all_bytes)}")

    with _schemas(build, rules, progress) as schemas, snapshot.held(build.live) as moment:
        progress("comparing the two schemas")
        decided = plan.decide(build.live, build.session, rules, schemas)
        if decided.problems:
            raise StepFailedError.of(decided.problems)
        rows = streaming.copy(
            *(decided.transfers, moment),
            *(partial(connect, each, build.purpose) for each in (build.target, build.subject)),
            keys=decided.keys,
            progress=tell,
        )
    return Carried(decided, {shown(*table): number for table, number in rows.items()})


def _schemas(
    build: Build, rules: Rules, progress: Callable[[str], None]
) -> AbstractContextManager[Schemas | None]:
    """Give the old tables another place, where the target itself was cleared and rebuilt."""
    if build.past is None or build.taken is None:
        return nullcontext(None)
    return scratch_schema.filled(build, build.past, build.taken, rules, progress)
