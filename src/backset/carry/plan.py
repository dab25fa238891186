"""The plan of a carry: what comes, what stays behind, and what only the user can decide."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import psycopg
from psycopg import sql

from backset.carry import mapping, problems
from backset.carry.mapping import Cast, cast_of
from backset.carry.tables import TableCopy
from backset.catalog import columns, extension_rows, past
from backset.catalog.catalog import shown
from backset.described import described, key
from backset.settings.rules import Rules
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backset.carry.mapping import ColumnMapping, TableMapping, Tables
    from backset.connections.session import Session
    from backset.errors import Finding


@described()
class Left:
    """What a carry left behind, with consent, in `left` of the step `carry`.

    candidates: the names that it may have in the new schema, the likeliest first. is_computed:
    whether the new schema has that column, as a generated one.
    """

    what: Literal["table", "column", "extension", "large objects"] = key("what it is")
    name: str = key("its name in the old schema")
    count: int = key(
        "how many rows of a table or an extension, values of a column that are not NULL, or objects"
    )
    candidates: tuple[str, ...] = ()
    is_computed: bool = False

    def __str__(self) -> str:
        unit = {"table": "row", "extension": "row", "column": "value"}.get(self.what, "object")
        return f"{self.name} ({count(self.count, unit)})"

    def problem(self, left_already: tuple[str, ...]) -> Finding:
        """Say that nobody has agreed to it. left_already: what the settings leave behind so far."""
        if self.is_computed:
            return problems.computed(self.name, str(self), left_already)
        return problems.left(self.what, self.name, str(self), self.candidates, left_already)


@dataclass(frozen=True, slots=True, kw_only=True)
class CarryPlan:
    """What a carry would do, decided before the first row is copied.

    transfers: the tables that come. left: what has no place in the new schema, and is agreed to.
    assumed: what a run must say, too, such as fillings. notes: what else is worth a line.
    problems: what the user must decide first.
    """

    transfers: tuple[TableCopy, ...] = ()
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


def whole(session: Session, rules: Rules) -> tuple[TableCopy, ...]:
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
    uses = mapping.used_columns(old, before, after, rules)
    pairs = mapping.pairs(before, after, rules, zone, uses)
    problems = [*_unasked(before, after, pairs, rules)]
    if problems:  # what comes next would ask for what cannot be asked
        return CarryPlan(problems=tuple(problems))
    counted = [_counted(old, pair) for pair in pairs if pair.ways]
    pairs = [pair for pair, _ in counted]
    left = [
        *_left(old, before, after, schemas.large_objects, pairs, rules),
        *_left_of_extensions(old, new, rules),
    ]
    could_be = _open_renamings(left, rules)
    assumed = [*_zoned(pairs, zone), *_filled(pairs), *_idle(pairs)]
    notes = [*_excluded(before, rules), *_replaced(new, pairs, rules)]
    problems += [each.problem(rules.leave) for each in left if not rules.leaves(each.name)]
    for pair, rows in counted:
        if rows:
            found = _judge(old, pair, rows, rules.leave, could_be)
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


def _left(
    old: Session,
    before: Tables,
    after: Tables,
    large_objects: int,
    pairs: Sequence[TableMapping],
    rules: Rules,
) -> Iterator[Left]:
    """Yield what has no place in the new schema, where there is any of it.

    before, after: the tables of the old database, and of the new one. large_objects: how many of
    them the old one has.
    """
    for table in mapping.left_tables(before, pairs, rules):
        (rows,) = mapping.counts(old, table)
        if rows:
            candidates = mapping.renamed_tables(before, after, table, rules)
            yield Left("table", table.shown, rows, candidates)
    for table, homeless in mapping.left_columns(pairs).items():
        present = [sql.SQL("{} IS NOT NULL").format(sql.Identifier(c.name)) for c in homeless]
        _, *values = mapping.counts(old, table, present)
        for column, number in zip(homeless, values, strict=True):
            is_computed = mapping.computes(pairs, table, column)
            candidates = () if is_computed else mapping.renamed_columns(pairs, table, column)
            if number:
                name = f"{table.shown}.{column.name}"
                yield Left("column", name, number, candidates, is_computed=is_computed)
    if rules.carries_all and large_objects:  # then these are content, too
        yield Left("large objects", past.LARGE_OBJECTS, large_objects)


def _left_of_extensions(old: Session, new: Session, rules: Rules) -> Iterator[Left]:
    """Yield the rows in tables of extensions that the role may not write to the new database."""
    if rules.carries_all and old.info.dbname != new.info.dbname:  # in place it is known by now
        ours = {
            shown(each.schema, each.name) for each in extension_rows.tables(new) if each.may_write
        }
        there = extension_rows.counts(new)
        for name, number in extension_rows.counts(old).items():
            if name not in ours and number > there.get(name, 0):
                yield Left("extension", name, number)


def _open_renamings(left: Sequence[Left], rules: Rules) -> dict[str, list[str]]:
    """Return the new names that old columns may have, which nobody has agreed to leave behind."""
    found: dict[str, list[str]] = {}
    for each in left:
        for name in () if rules.leaves(each.name) else each.candidates:
            found.setdefault(name, []).append(each.name)
    return found


def _zoned(pairs: Sequence[TableMapping], zone: str) -> Iterator[str]:
    """Yield what must be known of the times that get or lose their zone."""
    zoned = [
        pair.name(way.new)
        for pair in pairs
        for way in pair.ways
        if way.old and not way.is_empty and cast_of(way.old, way.new) is Cast.ZONED
    ]
    if zoned:
        yield f"times without a zone are those of {zone}: {', '.join(zoned)}"


def _filled(pairs: Sequence[TableMapping]) -> Iterator[str]:
    for pair in pairs:
        yield from (
            f"{pair.name(way.new)} is filled with {way.fill}" for way in pair.ways if way.fill
        )


def _idle(pairs: Sequence[TableMapping]) -> Iterator[str]:
    idle = [pair.name(way.new) for pair in pairs for way in pair.ways if way.idle]
    if idle:
        yield f"not filled, since the old table has values of its own: {', '.join(idle)}"


def _excluded(before: Tables, rules: Rules) -> Iterator[str]:
    names = sorted(each.shown for each in before.values() if rules.excludes(each.shown))
    if names:
        yield f"not carried, as exclude says: {', '.join(names)}"


def _replaced(new: Session, pairs: Sequence[TableMapping], rules: Rules) -> Iterator[str]:
    """Yield which rows of the migrations would be taken away."""
    for pair in pairs:
        if pair.ways and rules.replaces(pair.new.shown):
            (rows,) = mapping.counts(new, pair.new)
            if rows:
                yield f"{pair.new.shown}: {count(rows, 'row')} of the migrations would make way"


def _transfer(pair: TableMapping, rows: int) -> TableCopy:
    return TableCopy(
        source=pair.old.key,
        table=pair.new.key,
        columns=tuple(way.new.name for way in pair.ways),
        query=mapping.query(pair),
        rows=rows,
        size_bytes=pair.old.size_bytes,
        filled=frozenset(way.new.name for way in pair.ways if way.old is None),
    )


def _unasked(
    before: Tables, after: Tables, pairs: Sequence[TableMapping], rules: Rules
) -> Iterator[Finding]:
    """Yield what is wrong before any row is looked at: names, and rights."""
    yield from (problems.unknown(*each) for each in mapping.unknown(before, after, rules))
    asked = [pair.old for pair in pairs] + [*mapping.left_tables(before, pairs, rules)]
    closed = {each.shown: each.guarded for each in asked if not each.readable}
    for name in sorted(closed):
        yield problems.unreadable(name, rules.flag, guarded=closed[name])


def _alone(
    old: Session, new: Session, pairs: Sequence[TableMapping], after: Tables, rules: Rules
) -> Iterator[Finding]:
    """Yield the tables whose rows refer to rows that will not be there."""
    carried = {pair.new.key for pair in pairs if pair.ways}
    for pair in pairs:
        for reference in pair.new.references:
            wanted = after.get(reference.table)
            if not wanted or wanted.key in carried or mapping.counts(new, wanted)[0]:
                continue
            values = [mapping.value(w) for w in pair.ways if w.new.name in reference.columns]
            if len(values) == len(reference.columns):
                all_set = sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(v) for v in values)
                if mapping.counts(old, pair.old, [all_set])[1]:
                    yield problems.alone(pair.new.shown, wanted.shown, rules)


@dataclass(slots=True)
class _Judgement:
    """What stands against carrying the rows of a table, and what else is worth a line."""

    problems: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _counted(old: Session, pair: TableMapping) -> tuple[TableMapping, int]:
    """Return a pair that knows which columns of another type are empty, and how many rows it has.

    Where there is nothing to lose, any type will do, and so will what only fills the column.
    """
    changed = [
        w for w in pair.ways if w.old and cast_of(w.old, w.new) not in {Cast.SAME, Cast.SAFE}
    ]
    present = [
        sql.SQL("{} IS NOT NULL").format(sql.Identifier(way.old.name)) for way in changed if way.old
    ]
    rows, *values = mapping.counts(old, pair.old, present)
    empty = [way for way, number in zip(changed, values, strict=True) if not number]
    ways = (_emptied(way) if way in empty else way for way in pair.ways)
    return replace(pair, ways=tuple(ways)), rows


def _emptied(way: ColumnMapping) -> ColumnMapping:
    if way.idle:
        return replace(way, old=None, fill=way.idle, idle="")
    return replace(way, is_empty=True)


def _judge(
    old: Session,
    pair: TableMapping,
    rows: int,
    left: tuple[str, ...] = (),
    could_be: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> _Judgement:
    """Look at each column of a pair of tables.

    rows: how many the old one has, at least one. left: what the settings leave behind. could_be:
    the old columns that may have become a new one.
    """
    found = _Judgement()
    for column in pair.missing:
        name = pair.name(column)
        found.problems.append(problems.missing(name, column, rows, could_be.get(name, ())))
    fresh = [column.name for column in pair.others if not column.generated]
    if fresh:
        found.notes.append(f"{pair.new.shown}: without a value of its own: {', '.join(fresh)}")
    for way in pair.ways:
        if way.old is None:
            _look_at_filling(old, pair, way, found)
        elif problem := _look_at_type(old, pair, way, found):
            name = f"{pair.old.shown}.{way.old.name}"
            found.problems.append(
                problems.idle(problem, way.idle, name, left) if way.idle else problem
            )
    _look_at_nulls(old, pair, found)
    return found


def _look_at_nulls(old: Session, pair: TableMapping, found: _Judgement) -> None:
    """Count the NULLs in columns that did not forbid them, in one reading of the table."""
    strict = [w for w in pair.ways if w.old and w.new.not_null and not w.old.not_null]
    conditions = [
        sql.SQL("{} IS NULL").format(sql.Identifier(way.old.name)) for way in strict if way.old
    ]
    if not conditions:
        return
    _, *nulls = mapping.counts(old, pair.old, conditions)
    for way, number in zip(strict, nulls, strict=True):
        if number:
            found.problems.append(problems.null(pair.name(way.new), way, number))


def _look_at_type(
    old: Session, pair: TableMapping, way: ColumnMapping, found: _Judgement
) -> Finding | None:
    assert way.old is not None  # noqa: S101  (else it is a filling)
    name, kind = pair.name(way.new), cast_of(way.old, way.new)
    if kind is not Cast.SAME:
        empty = ", without a value" if way.is_empty else ""
        found.notes.append(f"{name}: {way.old.type} → {way.new.type}{empty}")
    if way.is_empty:
        return None
    if kind is Cast.NEVER:
        return problems.never(name, way)
    if kind is Cast.DOUBTFUL:
        return problems.doubtful(name, way)
    condition = mapping.changed(way)
    return None if condition is None else _try(old, pair, way, condition)


def _try(
    old: Session, pair: TableMapping, way: ColumnMapping, condition: sql.Composable
) -> Finding | None:
    """Look for the values that would not come through a change of type."""
    name = pair.name(way.new)
    gone = mapping.gone(way)
    having = [mapping.having(way, label) for label in gone]
    try:
        _, changed, *numbers = mapping.counts(old, pair.old, [condition, *having])
    except psycopg.Error as error:
        words = (error.diag.message_primary or "").partition(":")[0]  # without the value
        return problems.failing(name, way, words)
    labels = [label for label, number in zip(gone, numbers, strict=True) if number]
    return problems.lossy(name, way, changed, labels) if changed else None


def _look_at_filling(
    old: Session, pair: TableMapping, way: ColumnMapping, found: _Judgement
) -> None:
    """Try an expression of the settings on the rows: it may be no SQL, or fail on a value."""
    name, condition = pair.name(way.new), mapping.cut(way)
    is_null = sql.SQL("{} IS NULL").format(mapping.value(way))
    try:
        _, nulls = mapping.counts(old, pair.old, [is_null])
        # On its own: what has one quote too many would be right twice.
        lost = mapping.counts(old, pair.old, [condition])[1] if condition else 0
    except psycopg.Error as error:
        words = (error.diag.message_primary or "").partition(": ")[0]
        found.problems.append(problems.unfillable(name, way.fill, words))
        return
    if nulls and way.new.not_null:
        found.problems.append(problems.null(name, way, nulls))
    if lost:
        found.problems.append(problems.cut(name, way, lost))
