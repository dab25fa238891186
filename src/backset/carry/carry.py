"""The carry: plan, copy, prove; what is in the new database afterwards is what was in the old.

Sequences go on behind the rows, and materialized views are filled.
"""

from __future__ import annotations

from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from psycopg import sql

from backset.carry import (
    comparison,
    constraints,
    copy,
    migration_rows,
    plan,
    sources,
    tables,
    writes,
)
from backset.carry.plan import Left
from backset.carry.writes import Watch
from backset.catalog import extension_rows, past
from backset.catalog.catalog import shown
from backset.connections.session import connect
from backset.errors import Finding, StepFailedError
from backset.inherit import extensions
from backset.text.quantities import bar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from backset.carry.plan import CarryPlan
    from backset.carry.tables import CarrySides, Name, TableCopy
    from backset.catalog.extension_rows import ExtensionRows
    from backset.catalog.past import Counter, Position
    from backset.connections.session import Session
    from backset.migrate.upgrading import Progress
    from backset.servers.swap import Swap
    from backset.settings.rules import Rules


class Carried(NamedTuple):
    """What was done: the plan, how many rows each table got, by its name, and what else is so.

    through: the files of the migrations that the rows went through in a copy. findings: what could
    not be done, and loses no row. promote: does the swap that it is given, or refuses it where the
    old database has been written to since; None where that does not count.
    """

    plan: CarryPlan
    rows: dict[str, int]
    notes: tuple[str, ...]
    through: Sequence[str]
    findings: tuple[Finding, ...]
    promote: Callable[[Swap, Progress], None] | None = None


def carry(sides: CarrySides, progress: Progress) -> Carried:
    """Copy the rows of the target, or of another origin, into the new database.

    Raises StepFailedError with every obstacle, before the first row, or with the one that the
    server has found in a row.
    """
    rules = sides.rules
    # What another database gets after it was copied, nobody expects here.
    is_watched = sides.new.is_beside and not sides.origin
    watch = Watch.begin(sides.old.session(), rules) if is_watched else None
    new = partial(
        connect, sides.new.target, sides.server.purpose, is_disposable=sides.new.is_beside
    )
    with sources.opened(sides, progress) as old, tables.snapshot_of(old.session) as moment:
        progress("comparing the two schemas")
        decided = plan.decide(old.session, sides.new.session(), rules, old.schemas)
        if decided.problems:
            raise StepFailedError.of(decided.problems)
        for each in decided.assumed:
            progress(each, lasting=True)
        is_here = sides.in_place.past is not None and old.schemas is not None
        split = (
            sides.in_place.past.partitions
            if sides.in_place.past and is_here
            else past.read_partitions(old.session)
        )
        for made in past.make(sides.new.session(), split, _names(decided)):
            own = (
                "; what it had of its own, rights or row security, it has not"
                if made.has_own
                else ""
            )
            progress(f"made the partition {shown(*made.name)}, which rows need{own}", lasting=True)
        carried = [each.table for each in decided.transfers]
        dropped = constraints.drop(sides.new.session(), decided.transfers)
        kept = migration_rows.keep(sides.new.session(), carried, rules.replaces)
        with tables.paired(old.connect, new, moment) as pairs:
            rows = copy.copy(
                *(decided.transfers, pairs),
                keys=dropped.keys,
                progress=lambda done, total: progress(bar(done, total)),
            )
            copied = comparison.compare(
                *(decided.transfers, pairs),
                keys=dropped.keys,
                progress=lambda done, total: progress(f"comparing, {done} of {total}"),
            )
        live = old.session if sides.origin else sides.old.session()  # no copy has these rows
        before = past.read_counters(old.session) if old.counters is None else old.counters
        of_extensions = (
            sides.in_place.past.extension_rows if sides.in_place.past else extension_rows.read(live)
        )
        others = extensions.other_versions(old.session, sides.new.session()) if sides.origin else []
        filled = past.populated(old.session) if old.populated is None else old.populated
    promote = None
    if watch is not None:
        watch.copied, watch.is_whole = old.copied or copied, old.copied is not None
        promote = partial(writes.promote, sides.server, watch)
    stayed = migration_rows.bring_back(sides.new.session(), kept)
    migration_rows.demand_unreferred(sides.new.session(), kept, dropped.constraints, carried, rules)
    constraints.rebuild(dropped, new, progress)
    if rules.carries_all:
        _give(sides, of_extensions, rules)
    advance(sides.new.session(), before, decided.transfers)
    unfilled = _refresh(sides.new.session(), filled)
    by_name = {shown(*table): rows[table] for table in sorted(rows)}
    found = (*starmap(_otherwise, others), *unfilled)
    return Carried(decided, by_name, tuple(stayed), old.through, found, promote)


def _names(decided: CarryPlan) -> dict[tuple[str, str], tuple[str, str]]:
    """Return the new table of each old one."""
    return {each.source: each.table for each in decided.transfers}


def _give(sides: CarrySides, rows: Sequence[ExtensionRows], rules: Rules) -> None:
    """Give the tables of extensions what people had written there. Raises StepFailedError."""
    lacking = extension_rows.give(sides.new.session(), rows).items()
    left = [Left("extension", *each) for each in lacking if not rules.leaves(each[0])]
    if left:
        raise StepFailedError.of([each.problem(rules.leave) for each in left])


def _refresh(session: Session, populated: Collection[tuple[str, str]]) -> list[Finding]:
    """Fill every materialized view that the migrations filled, or that had rows in the old one.

    One that reads another comes after it. Return a finding for each that cannot be filled: it stays
    as it is, and so do the rows of the tables.
    populated: those of the old database that could be read.
    """
    wanted = [[name[place] for name in populated] for place in (0, 1)]
    found = []
    for schema, name in session.execute(_VIEWS, wanted).fetchall():
        try:
            view = sql.Identifier(schema, name)
            session.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(view))
        except psycopg.Error as error:
            if session.broken:
                raise
            found.append(_unfilled(shown(schema, name), error))
    return found


def _otherwise(name: str, old: str, new: str) -> Finding:
    return Finding(
        kind="extension version",
        name=name,
        what=f"the extension {name} is {new} here, and {old} where the rows came from",
        why="the same values may sort or compare otherwise, as the notes of that extension say",
        remedy="install the same version on both servers, if that matters to your application",
    )


def _unfilled(name: str, error: psycopg.Error) -> Finding:
    words = (error.diag.message_primary or str(error)).partition("\n")[0]
    return Finding(
        kind="unfilled view",
        name=name,
        what=f"the materialized view {name} could not be filled: {words}",
        why="it does not show the rows that were carried",
        remedy=f"mend that, then REFRESH MATERIALIZED VIEW {name}",
    )


# How deep a view stands on others, plain ones included.
_VIEWS = """
WITH RECURSIVE reads (view, source) AS (
    SELECT DISTINCT r.ev_class, d.refobjid FROM pg_rewrite r
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
         AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
), depths (view, depth) AS (
    SELECT oid, 0 FROM pg_class WHERE relkind IN ('m', 'v')
    UNION SELECT reads.view, depth + 1 FROM depths JOIN reads ON reads.source = depths.view
)
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN depths ON depths.view = c.oid
WHERE c.relkind = 'm'
  AND (c.relispopulated
       OR (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[])))
  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass
                  AND x.objid = c.oid AND x.deptype = 'e')
GROUP BY 1, 2 ORDER BY max(depth), 1, 2
"""


def advance(new: Session, before: Sequence[Counter], transfers: Sequence[TableCopy]) -> int:
    """Let the new sequences go on behind the old ones and behind the rows; return how many moved.

    Those of the tables that rows came to, and those that no column uses. The old one is that of
    the same name, and that of the same column in the table that the rows are from.
    before: those of the old database.
    """
    sources = {each.table: each.source for each in transfers}
    wanted = [each for each in past.read_counters(new) if _is_wanted(each, sources)]
    furthest = _furthest(new, wanted)
    moved = 0
    for number, each in enumerate(wanted):
        theirs = [old.position for old in before if _is_before(old, each, sources)]
        if to := behind(each.position, theirs, furthest.get(number)):
            place = sql.Identifier(each.schema, each.name).as_string(new)
            new.execute("SELECT setval(%s::regclass, %s, %s)", [place, *to])
            moved += 1
    return moved


def _is_wanted(each: Counter, sources: Mapping[Name, Name]) -> bool:
    tables = {(schema, table) for schema, table, _ in each.columns}
    return not tables or not tables.isdisjoint(sources)


def _is_before(old: Counter, new: Counter, sources: Mapping[Name, Name]) -> bool:
    columns = [[*sources[s, t], column] for s, t, column in new.columns if (s, t) in sources]
    is_namesake = (old.schema, old.name) == (new.schema, new.name)
    return is_namesake or any(each in columns for each in old.columns)


def _furthest(session: Session, found: Sequence[Counter]) -> dict[int, int]:
    """Return the last value of the columns of each, in its own direction; none of empty ones."""
    queries = [
        sql.SQL("SELECT {}, {}({})::numeric FROM {}").format(
            number,
            sql.SQL("max" if each.position.step > 0 else "min"),
            sql.Identifier(column),
            sql.Identifier(schema, table),
        )
        for number, each in enumerate(found)
        for schema, table, column in each.numbers
    ]
    if not queries:
        return {}
    furthest: dict[int, int] = {}
    for number, value in session.execute(sql.SQL(" UNION ALL ").join(queries)):
        if value is not None:
            ahead = max if found[number].position.step > 0 else min
            furthest[number] = ahead(int(value), furthest.get(number, int(value)))
    return furthest


def behind(new: Position, old: Iterable[Position], furthest: int | None) -> tuple[int, bool] | None:
    """Return what setval() needs to let a sequence go on behind the old ones; None: it does.

    furthest: the greatest value of its columns, or the least where it counts downwards.
    It never goes back, and keeps to the lane of whoever is ahead, as with odd and even numbers.
    One that begins anew at its limit takes the place of the old one: its columns say nothing.
    """
    theirs = [each.next_value for each in old]
    if new.cycles:
        return new.moved(theirs[0]) if theirs and new.low <= theirs[0] <= new.high else None
    within = [each for each in theirs if new.low <= each <= new.high]
    ahead = max if new.step > 0 else min
    start = ahead([new.next_value, *within])
    if furthest is not None and (furthest - start) * new.step >= 0:
        start += ((furthest - start) // new.step + 1) * new.step
    return new.moved(start)
