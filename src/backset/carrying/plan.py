"""The plan of a carry: what comes, what stays behind, and what only the user can decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from backset.carrying import expressions, leftovers, mapping, obstacles, suitability
from backset.carrying.mapping import Fit, fit
from backset.carrying.tables import Transfer
from backset.catalogs import columns, past
from backset.configuration.rules import Rules
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backset.carrying.leftovers import Left
    from backset.carrying.mapping import Pair, Tables
    from backset.connections.session import Session
    from backset.errors import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class CarryPlan:
    """What a carry would do, decided before the first row is copied.

    transfers: the tables that come. left: what has no place in the new schema, and is agreed to.
    assumed: what a run must say, too, such as fillings. notes: what else is worth a line.
    problems: what the user must decide first.
    """

    transfers: tuple[Transfer, ...] = ()
    left: tuple[Left, ...] = ()
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[Finding, ...] = ()

    def lines(self) -> list[str]:
        """Return the plan in lines for people, without its problems."""
        come = " · ".join(f"{each.name} {each.rows}" for each in self.transfers)
        lines = [come or "no rows", *self.assumed, *self.notes]
        return lines + [f"left behind: {each}" for each in self.left]


@dataclass(frozen=True, slots=True)
class Schemas:
    """The tables of both sides, and how many large objects the old one has."""

    before: Tables
    after: Tables
    large_objects: int

    @classmethod
    def read(cls, old: Session, new: Session) -> Schemas:
        """Read them where each has a database of its own."""
        return cls(columns.read(old), columns.read(new), past.large_objects(old))


def whole(session: Session, rules: Rules) -> tuple[Transfer, ...]:
    """Return every table that is carried as it stands, for comparing a database with its copy."""
    tables = columns.read(session)
    same = Rules(tables=rules.tables, exclude=rules.exclude)
    pairs = (pair for pair in mapping.pairs(tables, tables, same) if pair.ways)
    return tuple(_transfer(pair, 0) for pair in pairs if pair.old.shown not in rules.leave)


def decide(old: Session, new: Session, rules: Rules, schemas: Schemas | None = None) -> CarryPlan:
    """Compare two catalogs, and ask the old rows where these alone cannot tell.

    old: in a transaction, in whose snapshot the rows are going to be read.
    schemas: what both sides are, if that cannot be read from the two sessions.
    """
    schemas = schemas or Schemas.read(old, new)
    before, after = schemas.before, schemas.after
    (zone,) = old.execute("SHOW TimeZone").fetchone() or ("UTC",)
    uses = expressions.used_columns(old, before, after, rules)
    pairs = mapping.pairs(before, after, rules, zone, uses)
    problems = [*_unasked(before, after, pairs, rules)]
    if problems:  # what comes next would ask for what cannot be asked
        return CarryPlan(problems=tuple(problems))
    counted = [suitability.counted(old, pair) for pair in pairs if pair.ways]
    pairs = [pair for pair, _ in counted]
    left = [
        *leftovers.find(old, before, after, schemas.large_objects, pairs, rules),
        *leftovers.of_extensions(old, new, rules),
    ]
    could_be = _open_renamings(left, rules)
    assumed = [*_zoned(pairs, zone), *_filled(pairs), *_idle(pairs)]
    notes = [*_excluded(before, rules), *_replaced(new, pairs, rules)]
    problems += [each.problem(rules.leave) for each in left if not rules.leaves(each.name)]
    for pair, rows in counted:
        if rows:
            found = suitability.judge(old, pair, rows, rules.leave, could_be)
            problems += found.problems
            notes += found.notes
    transfers = tuple(_transfer(pair, rows) for pair, rows in counted)
    problems += _alone(old, new, pairs, after, rules)
    return CarryPlan(
        transfers=transfers,
        left=tuple(each for each in left if rules.leaves(each.name)),
        assumed=tuple(assumed),
        notes=tuple(notes),
        problems=tuple(problems),
    )


def _open_renamings(left: Sequence[Left], rules: Rules) -> dict[str, list[str]]:
    """Return the new names that old columns may have, which nobody has agreed to leave behind."""
    found: dict[str, list[str]] = {}
    for each in left:
        for name in () if rules.leaves(each.name) else each.candidates:
            found.setdefault(name, []).append(each.name)
    return found


def _zoned(pairs: Sequence[Pair], zone: str) -> Iterator[str]:
    """Yield what must be known of the times that get or lose their zone."""
    zoned = [
        pair.name(way.new)
        for pair in pairs
        for way in pair.ways
        if way.old and not way.is_empty and fit(way.old, way.new) is Fit.ZONED
    ]
    if zoned:
        yield f"times without a zone are those of {zone}: {', '.join(zoned)}"


def _filled(pairs: Sequence[Pair]) -> Iterator[str]:
    for pair in pairs:
        yield from (
            f"{pair.name(way.new)} is filled with {way.fill}" for way in pair.ways if way.fill
        )


def _idle(pairs: Sequence[Pair]) -> Iterator[str]:
    idle = [pair.name(way.new) for pair in pairs for way in pair.ways if way.idle]
    if idle:
        yield f"not filled, since the old table has values of its own: {', '.join(idle)}"


def _excluded(before: Tables, rules: Rules) -> Iterator[str]:
    names = sorted(each.shown for each in before.values() if rules.excludes(each.shown))
    if names:
        yield f"not carried, as exclude says: {', '.join(names)}"


def _replaced(new: Session, pairs: Sequence[Pair], rules: Rules) -> Iterator[str]:
    """Yield which rows of the migrations would be taken away."""
    for pair in pairs:
        if pair.ways and rules.replaces(pair.new.shown):
            (rows,) = expressions.counts(new, pair.new)
            if rows:
                yield f"{pair.new.shown}: {count(rows, 'row')} of the migrations would make way"


def _transfer(pair: Pair, rows: int) -> Transfer:
    return Transfer(
        source=pair.old.key,
        table=pair.new.key,
        columns=tuple(way.new.name for way in pair.ways),
        query=expressions.query(pair),
        rows=rows,
        size_bytes=pair.old.size_bytes,
        filled=frozenset(way.new.name for way in pair.ways if way.old is None),
    )


def _unasked(
    before: Tables, after: Tables, pairs: Sequence[Pair], rules: Rules
) -> Iterator[Finding]:
    """Yield what is wrong before any row is looked at: names, and rights."""
    yield from (obstacles.unknown(*each) for each in mapping.unknown(before, after, rules))
    asked = [pair.old for pair in pairs] + [*mapping.left_tables(before, pairs, rules)]
    closed = {each.shown: each.guarded for each in asked if not each.readable}
    for name in sorted(closed):
        yield obstacles.unreadable(name, rules.flag, guarded=closed[name])


def _alone(
    old: Session, new: Session, pairs: Sequence[Pair], after: Tables, rules: Rules
) -> Iterator[Finding]:
    """Yield the tables whose rows refer to rows that will not be there."""
    carried = {pair.new.key for pair in pairs if pair.ways}
    for pair in pairs:
        for reference in pair.new.references:
            wanted = after.get(reference.table)
            if not wanted or wanted.key in carried or expressions.counts(new, wanted)[0]:
                continue
            values = [expressions.value(w) for w in pair.ways if w.new.name in reference.columns]
            if len(values) == len(reference.columns):
                all_set = sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(v) for v in values)
                if expressions.counts(old, pair.old, [all_set])[1]:
                    yield obstacles.alone(pair.new.shown, wanted.shown, rules)
