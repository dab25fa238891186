"""Suitability: whether the rows of an old table can stand in the new one, value by value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.carrying import expressions, obstacles
from backset.carrying.mapping import Fit, fit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.carrying.mapping import Pair, Way
    from backset.connections.session import Session
    from backset.errors import Finding


@dataclass(slots=True)
class Judgement:
    """What stands against carrying the rows of a table, and what else is worth a line."""

    problems: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def counted(old: Session, pair: Pair) -> tuple[Pair, int]:
    """Return a pair that knows which columns of another type are empty, and how many rows it has.

    Where there is nothing to lose, any type will do, and so will what only fills the column.
    """
    changed = [w for w in pair.ways if w.old and fit(w.old, w.new) not in {Fit.SAME, Fit.SAFE}]
    present = [
        sql.SQL("{} IS NOT NULL").format(sql.Identifier(way.old.name)) for way in changed if way.old
    ]
    rows, *values = expressions.counts(old, pair.old, present)
    empty = [way for way, number in zip(changed, values, strict=True) if not number]
    ways = (_emptied(way) if way in empty else way for way in pair.ways)
    return replace(pair, ways=tuple(ways)), rows


def _emptied(way: Way) -> Way:
    if way.idle:
        return replace(way, old=None, fill=way.idle, idle="")
    return replace(way, is_empty=True)


def judge(
    old: Session,
    pair: Pair,
    rows: int,
    left: tuple[str, ...] = (),
    could_be: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Judgement:
    """Look at each column of a pair of tables.

    rows: how many the old one has, at least one. left: what the settings leave behind. could_be:
    the old columns that may have become a new one.
    """
    found = Judgement()
    for column in pair.missing:
        name = pair.name(column)
        found.problems.append(obstacles.missing(name, column, rows, could_be.get(name, ())))
    fresh = [column.name for column in pair.others if not column.generated]
    if fresh:
        found.notes.append(f"{pair.new.shown}: without a value of its own: {', '.join(fresh)}")
    for way in pair.ways:
        if way.old is None:
            _look_at_filling(old, pair, way, found)
        elif problem := _look_at_type(old, pair, way, found):
            name = f"{pair.old.shown}.{way.old.name}"
            found.problems.append(
                obstacles.idle(problem, way.idle, name, left) if way.idle else problem
            )
    _look_at_nulls(old, pair, found)
    return found


def _look_at_nulls(old: Session, pair: Pair, found: Judgement) -> None:
    """Count the NULLs in columns that did not forbid them, in one reading of the table."""
    strict = [w for w in pair.ways if w.old and w.new.not_null and not w.old.not_null]
    conditions = [
        sql.SQL("{} IS NULL").format(sql.Identifier(way.old.name)) for way in strict if way.old
    ]
    if not conditions:
        return
    _, *nulls = expressions.counts(old, pair.old, conditions)
    for way, number in zip(strict, nulls, strict=True):
        if number:
            found.problems.append(obstacles.null(pair.name(way.new), way, number))


def _look_at_type(old: Session, pair: Pair, way: Way, found: Judgement) -> Finding | None:
    assert way.old is not None  # noqa: S101  (else it is a filling)
    name, kind = pair.name(way.new), fit(way.old, way.new)
    if kind is not Fit.SAME:
        empty = ", without a value" if way.is_empty else ""
        found.notes.append(f"{name}: {way.old.type} → {way.new.type}{empty}")
    if way.is_empty:
        return None
    if kind is Fit.NEVER:
        return obstacles.never(name, way)
    if kind is Fit.DOUBTFUL:
        return obstacles.doubtful(name, way)
    condition = expressions.changed(way)
    return None if condition is None else _try(old, pair, way, condition)


def _try(old: Session, pair: Pair, way: Way, condition: sql.Composable) -> Finding | None:
    """Look for the values that would not come through a change of type."""
    name = pair.name(way.new)
    gone = expressions.gone(way)
    having = [expressions.having(way, label) for label in gone]
    try:
        _, changed, *numbers = expressions.counts(old, pair.old, [condition, *having])
    except psycopg.Error as error:
        words = (error.diag.message_primary or "").partition(":")[0]  # without the value
        return obstacles.failing(name, way, words)
    labels = [label for label, number in zip(gone, numbers, strict=True) if number]
    return obstacles.lossy(name, way, changed, labels) if changed else None


def _look_at_filling(old: Session, pair: Pair, way: Way, found: Judgement) -> None:
    """Try an expression of the settings on the rows: it may be no SQL, or fail on a value."""
    name, condition = pair.name(way.new), expressions.cut(way)
    is_null = sql.SQL("{} IS NULL").format(expressions.value(way))
    try:
        _, nulls = expressions.counts(old, pair.old, [is_null])
        # On its own: what has one quote too many would be right twice.
        lost = expressions.counts(old, pair.old, [condition])[1] if condition else 0
    except psycopg.Error as error:
        words = (error.diag.message_primary or "").partition(": ")[0]
        found.problems.append(obstacles.unfillable(name, way.fill, words))
        return
    if nulls and way.new.not_null:
        found.problems.append(obstacles.null(name, way, nulls))
    if lost:
        found.problems.append(obstacles.cut(name, way, lost))
