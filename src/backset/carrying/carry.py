"""The carry: plan, copy, prove; what is in the new database afterwards is what was in the old."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from backset.carrying import (
    aside,
    comparison,
    handover,
    lookups,
    plan,
    rebuilding,
    sequences,
    snapshot,
    streaming,
    views,
)
from backset.carrying.watch import Watch
from backset.catalogs.catalog import shown
from backset.connections.session import connect
from backset.errors import StepFailedError
from backset.wording.quantities import bar

if TYPE_CHECKING:
    from backset.carrying.plan import CarryPlan
    from backset.configuration.rules import Rules
    from backset.migrations.migrating import Progress
    from backset.runs.build import Build


class Carried(NamedTuple):
    """What was done: the plan, how many rows each table got, by its name, and what else is so."""

    plan: CarryPlan
    rows: dict[str, int]
    notes: tuple[str, ...]


def carry(build: Build, rules: Rules, progress: Progress) -> Carried:
    """Copy the rows of the target into the new database.

    Raises StepFailedError with every obstacle, before the first row, or with the one that the
    server has found in a row.
    """
    watch = Watch.begin(build.live, rules)
    old, new = (partial(connect, each, build.purpose) for each in (build.target, build.subject))
    with snapshot.held(build.live) as moment:
        progress("comparing the two schemas")
        decided = plan.decide(build.live, build.session, rules)
        if decided.problems:
            raise StepFailedError.of(decided.problems)
        for each in decided.assumed:
            progress(each, lasting=True)
        set_aside = aside.set_aside(build.session, decided.transfers)
        lookups_there = lookups.keep(build.session, [each.table for each in decided.transfers])
        rows = streaming.copy(
            *(decided.transfers, moment, old, new),
            keys=set_aside.keys,
            progress=lambda done, total: progress(bar(done, total)),
        )
        watch.copied = comparison.compare(
            *(decided.transfers, moment, old, new),
            keys=set_aside.keys,
            progress=lambda done, total: progress(f"comparing, {done} of {total}"),
        )
    build.handover = partial(handover.promote, build.server, watch)
    stayed = lookups.bring_back(build.session, lookups_there)
    rebuilding.rebuild(set_aside, new, progress)
    sequences.advance(build.live, build.session, decided.transfers)
    views.refresh(build.session)
    return Carried(decided, {shown(*table): rows[table] for table in sorted(rows)}, tuple(stayed))
