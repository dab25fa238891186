"""Mapping: which old column each new one gets its values from, and how these fit there. Pure."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from psycopg import errors, sql

from backset.settings import values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import LiteralString

    from backset.catalog.columns import Column, Table
    from backset.connections.session import Session
    from backset.settings.rules import Rules

    Tables = Mapping[tuple[str, str], Table]

    Uses = Mapping[str, frozenset[str]]  # the old columns that the filling of a new one uses

_NO_USES: Uses = MappingProxyType({})
_MODIFIER = re.compile(r"\((\d+)(?:,(-?\d+))?\)")
_TEXTS = {"text", "character varying"}
# What one means as the other depends on a time zone.
_ZONED = ({"timestamp", "timestamptz"}, {"date", "timestamptz"})
_OF_NO_DAY = {"time", "timetz"}  # whose zone depends on the day, too
_UNLIMITED = {"character": "bpchar", "bit": "bit varying"}  # by these names it would be 1
_SHORT = {
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
    "time with time zone": "timetz",
}
_WIDER = {  # every value of the first is one of the others, too
    "smallint": {"integer", "bigint", "numeric", "real", "double precision"},
    "integer": {"bigint", "numeric", "double precision"},
    "bigint": {"numeric"},
    "real": {"double precision"},
    "date": {"timestamp"},
    "character varying": {"text"},
    "text": {"character varying"},
    "jsonb": {"json"},
    "cidr": {"inet"},
    "macaddr": {"macaddr8"},
}
# What a text often takes the place of: codes, numbers, keys.
_AS_TEXT = {"character", "smallint", "integer", "bigint", "numeric", "uuid"}


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """How a column of the new schema gets its values: from `old`, or by the expression `fill`.

    uses: the old columns that are in `fill`. idle: a filling that does nothing, since the old table
    has the column and the expression does not use it. is_empty: no row has a value in `old`.
    zone: the time zone in which values without one are meant.
    """

    new: Column
    old: Column | None
    fill: str = ""
    uses: frozenset[str] = frozenset()
    idle: str = ""
    is_empty: bool = False
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class TableMapping:
    """A table of each schema: the rows of the old one go into the new one.

    ways: the columns that get a value. others: those that the server fills, by a default, with
    NULL, or as generated ones; `missing` are those that it cannot fill.
    """

    old: Table
    new: Table
    ways: tuple[ColumnMapping, ...]
    others: tuple[Column, ...]

    @property
    def missing(self) -> list[Column]:
        """The columns that must have a value, and get none."""
        return [
            each
            for each in self.others
            if each.not_null and not (each.default or each.generated or each.identity)
        ]

    def name(self, column: Column) -> str:
        """Return the name of a column of the new table, as people write it."""
        return f"{self.new.shown}.{column.name}"


def sources(old: Tables, new: Tables, rules: Rules) -> Iterator[tuple[Table, Table]]:
    """Yield the tables, old and new, whose rows are to be carried, in the new schema's order."""
    for table in new.values():
        source = _source(table, old, rules)
        if source is not None and rules.carries(source.shown, table.shown):
            yield source, table


def pairs(
    old: Tables, new: Tables, rules: Rules, zone: str = "UTC", uses: Uses = _NO_USES
) -> list[TableMapping]:
    """Return the tables whose rows are to be carried, with how each column gets its values.

    zone: the time zone in which times without one are meant.
    uses: what the server has told of the fillings; without it none replaces what an old column has.
    """
    return [_pair(*tables, rules, zone, uses) for tables in sources(old, new, rules)]


def left_tables(old: Tables, found: Sequence[TableMapping], rules: Rules) -> list[Table]:
    """Return the old tables that are to be carried, but have no place in the new schema."""
    matched = {pair.old.key for pair in found if pair.ways}
    return [each for each in old.values() if each.key not in matched and rules.carries(each.shown)]


def left_columns(found: Sequence[TableMapping]) -> dict[Table, list[Column]]:
    """Return the old columns, by table, that no column of the new schema takes.

    A column that an expression uses counts as taken; a generated one has no values of its own.
    """
    left: dict[Table, list[Column]] = {}
    for table in {pair.old.key: pair.old for pair in found if pair.ways}.values():
        ways = [way for pair in found if pair.old.key == table.key for way in pair.ways]
        taken = {way.old.name for way in ways if way.old}
        taken = taken.union(*(way.uses for way in ways))
        homeless = [
            column for column in table.columns if column.name not in taken and not column.generated
        ]
        if homeless:
            left[table] = homeless
    return left


def renamed_columns(found: Sequence[TableMapping], table: Table, column: Column) -> tuple[str, ...]:
    """Return the new columns that a left one may have been renamed to, the likeliest first."""
    return _nearest(
        column.name,
        [
            pair.name(each)
            for pair in found
            if pair.old.key == table.key
            for each in pair.others
            if _is_kindred(column, each) and not each.generated
        ],
    )


def renamed_tables(old: Tables, new: Tables, table: Table, rules: Rules) -> tuple[str, ...]:
    """Return the new tables that a left one may have been renamed to, the likeliest first.

    They are those without an old one that have more than half of its columns, by their names.
    """
    names = {each.name for each in table.columns}
    return _nearest(
        table.name,
        [
            each.shown
            for each in new.values()
            if _source(each, old, rules) is None
            and 2 * len(names & {column.name for column in each.columns}) > len(names)
        ],
    )


def _nearest(name: str, candidates: Sequence[str]) -> tuple[str, ...]:
    """Return the candidates, those first that are spelled most like the name."""
    alike = SequenceMatcher(b=name)

    def unlike(candidate: str) -> float:
        alike.set_seq1(candidate.rpartition(".")[2])
        return -alike.ratio()

    return tuple(sorted(candidates, key=unlike))


def computes(found: Sequence[TableMapping], table: Table, column: Column) -> bool:
    """Tell whether a left column is a generated one of the new schema."""
    pairs = (pair for pair in found if pair.old.key == table.key)
    return any(each.name == column.name and each.generated for p in pairs for each in p.others)


def _source(table: Table, old: Tables, rules: Rules) -> Table | None:
    """Return the old table of a new one: by a rule, else the one of the same name.

    A rule that has nothing to rename any more stays in the settings without harm.
    """
    name = rules.rename.get(table.shown)
    renamed = next((each for each in old.values() if each.shown == name), None)
    return renamed or old.get(table.key)


def _pair(old: Table, new: Table, rules: Rules, zone: str, uses: Uses) -> TableMapping:
    ways, others = [], []
    for column in new.columns:
        way = _way(old, new, column, rules, uses)
        if way is None:
            others.append(column)
        else:
            ways.append(replace(way, zone=zone))
    return TableMapping(old, new, tuple(ways), tuple(others))


def _way(old: Table, new: Table, column: Column, rules: Rules, uses: Uses) -> ColumnMapping | None:
    name = f"{new.shown}.{column.name}"
    given = rules.rename.get(name, "").removeprefix(f"{old.shown}.")
    source = old.column(given) or old.column(column.name)
    if column.generated:
        return None
    fill, used = rules.fill.get(name, ""), uses.get(name, frozenset())
    if fill and (
        source is None
        or source.name in used
        or rules.leaves(name)
        or rules.leaves(f"{old.shown}.{source.name}")
    ):
        return ColumnMapping(column, None, fill, used)
    # A filling is for databases without the column.
    return ColumnMapping(column, source, idle=fill) if source else None


def unknown(old: Tables, new: Tables, rules: Rules) -> list[tuple[str, str]]:
    """Return (key, name) of every name in the rules that is not in the schema where it should be.

    What may be left behind, or was renamed, is gone from the schema of the next carry.
    """
    before, after = _all_names(old), _all_names(new)
    wanted = [] if rules.carries_all else [("carry", name, before | after) for name in rules.tables]
    wanted += [("rename", name, after) for name in rules.rename]
    made = {each.shown for each in new.values()}
    if rules.replace != values.ALL_TABLES:
        wanted += [("replace", name, made) for name in rules.replace]
    wanted += [("rename", was, before) for name, was in rules.rename.items() if name not in before]
    wanted += [("fill", name, after) for name in rules.fill]
    tables = made | {each.shown for each in old.values()}
    idle = [("exclude", each) for each in rules.exclude if not fnmatch.filter(tables, each)]
    return [(key, name) for key, name, known in wanted if name not in known] + idle


def _all_names(tables: Tables) -> set[str]:
    columns = {f"{t.shown}.{column.name}" for t in tables.values() for column in t.columns}
    return columns | {each.shown for each in tables.values()}


class Cast(Enum):
    """How an old column's values come into a new one.

    SAME: as they are. SAFE: by a cast that no value fails or loses something in. ASK: only the
    values can tell, by a cast there and back. ZONED: as ASK, in the time zone of the old database,
    as ALTER TABLE would do it. LABELS: only the values can tell, by the labels of the new enum.
    KEYS: as ASK, but what is lost are keys that an object has twice; its spelling may change.
    DOUBTFUL: every value would be taken, but may mean something else. NEVER: there is no cast that
    can be tried.
    """

    SAME = "same"
    SAFE = "safe"
    ASK = "ask"
    ZONED = "zoned"
    LABELS = "labels"
    KEYS = "keys"
    DOUBTFUL = "doubtful"
    NEVER = "never"


def cast_of(old: Column, new: Column) -> Cast:
    """Tell how the values of a column of the old schema fit into one of the new schema."""
    if (old.base, old.members) == (new.base, new.members) and set(old.labels) <= set(new.labels):
        return Cast.SAME
    if new.labels:
        return _into_enum(old, new)
    if _plain(new.base) in _TEXTS:  # every value has a text
        length = _modifier(old.base) if _plain(old.base) in _TEXTS else ()
        return Cast.SAFE if _holds("text", length, _modifier(new.base)) else Cast.ASK
    if new.builtin:
        return _of_builtin(old, new) if old.builtin else Cast.NEVER
    return _into_extension(old, new)


def _is_kindred(old: Column, new: Column) -> bool:
    """Tell whether one may be the other by another name, as far as their types can tell."""
    before, after = _element(old), _element(new)
    if is_array(old) != is_array(new):
        return False
    ranges = _WIDER.get(before, set()) | {each for each, more in _WIDER.items() if before in more}
    is_zoned = {before, after} in _ZONED
    kind = cast_of(old, new)
    is_spelled = kind is Cast.SAFE and (before in _AS_TEXT or bool(old.labels))
    is_alike = is_zoned or is_spelled or kind in {Cast.SAME, Cast.LABELS}
    return before == after or after in ranges or is_alike


def _into_enum(old: Column, new: Column) -> Cast:
    if is_array(old) == is_array(new) and old.labels and set(old.labels) <= set(new.labels):
        return Cast.SAME
    alike = is_array(old) == is_array(new)
    return Cast.LABELS if alike and (old.labels or _element(old) in _TEXTS) else Cast.NEVER


def _into_extension(old: Column, new: Column) -> Cast:
    """Tell it for a type of an extension, which may be in another schema, or a user's own."""
    same = _plain(old.base).rpartition(".")[2] == _plain(new.base).rpartition(".")[2]
    if same and old.members == new.members and _modifier(old.base) == _modifier(new.base):
        return Cast.SAME
    is_text = not old.builtin or _plain(old.base) in _TEXTS
    return Cast.DOUBTFUL if is_text and not new.members else Cast.NEVER


def _of_builtin(old: Column, new: Column) -> Cast:
    if is_array(old) != is_array(new):
        return Cast.ASK
    before, after = _element(old), _element(new)
    holds = _holds(after, _modifier(old.base), _modifier(new.base))
    if before == after or after in _WIDER.get(before, ()):
        return Cast.SAFE if holds else Cast.ASK
    if {before, after} == _OF_NO_DAY:
        return Cast.DOUBTFUL
    if (before, after) == ("json", "jsonb"):
        return Cast.KEYS
    is_zoned = {before, after} in _ZONED and not is_array(new)  # of an array a cast does the same
    return Cast.ZONED if is_zoned else Cast.ASK


def _holds(base: str, old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Tell whether a modifier of the type allows at least what another one does."""
    if not new or old == new:
        return True
    if not old:
        return False
    if base == "numeric":
        (precision, scale), (more, finer) = old, new
        return finer >= scale and more - finer >= precision - scale
    return base not in {"character", "bit"} and new >= old


def _plain(base: str) -> str:
    """Return a type without its modifier, and by its short name."""
    name = _MODIFIER.sub("", base)
    return _SHORT.get(name, name)


def _modifier(base: str) -> tuple[int, ...]:
    found = _MODIFIER.search(base)
    return tuple(int(each or 0) for each in found.groups()) if found else ()


def unlimited(column: Column) -> str:
    """Return the type of a column without its modifier, so that no value is cut or rounded."""
    if not _modifier(column.base):
        return column.base
    name = _MODIFIER.sub("", column.base)
    return _UNLIMITED.get(name.removesuffix("[]"), name.removesuffix("[]")) + "[]" * is_array(
        column
    )


def _element(column: Column) -> str:
    """Return the type of a column, or of the elements of an array, without its modifier."""
    return _plain(column.base.removesuffix("[]"))


def is_array(column: Column) -> bool:
    """Tell whether the values of a column are arrays."""
    return column.base.endswith("[]")


def query(pair: TableMapping) -> sql.Composed:
    """Return the SELECT whose columns the new table takes, in the order of the pair's ways."""
    values = sql.SQL(", ").join(value(way) for way in pair.ways)
    return sql.SQL("SELECT {} FROM {}").format(values, rows(pair.old))


def rows(table: Table) -> sql.Composed:
    """Return what stands after FROM: a table that others inherit from, without their rows."""
    only = sql.SQL("" if table.partitioned else "ONLY ")
    return sql.SQL("{}{}").format(only, sql.Identifier(*(table.place or table.key)))


def value(way: ColumnMapping) -> sql.Composable:
    """Return the expression of a way over the row of the old table, in the type of the new column.

    Where only the new database may know that type, it is the text that the type reads.
    What fills a column is not cut to its length: the server would refuse it rather.
    """
    if way.old is None:
        wide = unlimited(way.new) if way.new.builtin else "text"
        return sql.SQL("({})::{}").format(raw(way.fill), raw(wide))
    if way.is_empty:
        return sql.SQL("NULL::text")
    name, kind = sql.Identifier(way.old.name), cast_of(way.old, way.new)
    if kind is Cast.ZONED:
        return _cast(_moved(name, way.old.base, way.zone), way)
    return name if kind is Cast.SAME else _cast(name, way)


def changed(way: ColumnMapping) -> sql.Composable | None:
    """Return the condition of the rows whose value would not come through; None if all would.

    A cast that a value fails raises the server's error.
    """
    if way.old is None:
        return None
    name, kind = sql.Identifier(way.old.name), cast_of(way.old, way.new)
    if kind is Cast.LABELS:
        labels = sql.SQL("label <> ALL({})").format(list(way.new.labels))
        return _with_label(way.old, labels)
    if kind is Cast.KEYS:
        rows = "SELECT unnest({})" if is_array(way.old) else "SELECT {}"
        every = sql.SQL(rows).format(name)
        return sql.SQL(_TWICE).format(value(way), every)
    if kind is Cast.ZONED:
        back = _moved(value(way), way.new.base, way.zone)
        return sql.SQL("{}::{} IS DISTINCT FROM {}").format(back, raw(way.old.base), name)
    if kind is not Cast.ASK:
        return None
    there_and_back = sql.SQL("{}::{}::{}::text IS DISTINCT FROM {}::text")
    return there_and_back.format(name, raw(way.new.base), raw(way.old.base), name)


def cut(way: ColumnMapping) -> sql.Composable | None:
    """Return the condition of the rows whose filling a cast would cut or round; None if of none.

    It is evaluated once, since it may have another value each time.
    """
    narrow, wide = raw(way.new.base), raw(unlimited(way.new))
    if way.new.builtin and way.new.base in _INTEGERS:
        differs = sql.SQL(_ROUNDED).format(narrow)
    elif way.new.builtin and narrow != wide:
        differs = sql.SQL("v::{0}::{1} IS DISTINCT FROM v::{1}").format(narrow, wide)
    else:
        return None
    # Without OFFSET the server would put the expression in twice.
    once = sql.SQL("(SELECT {} FROM (SELECT ({}) AS v OFFSET 0) AS filled)")
    return once.format(differs, raw(way.fill))


def gone(way: ColumnMapping) -> list[str]:
    """Return the labels of an enum that the new one does not have."""
    labels = way.old.labels if way.old and way.new.labels else ()
    return [label for label in labels if label not in way.new.labels]


def having(way: ColumnMapping, label: str) -> sql.Composable:
    """Return the condition of the rows that have a label of the old enum."""
    assert way.old is not None  # noqa: S101  (only such ways have one)
    return _with_label(way.old, sql.SQL("label = {}").format(label))


def _with_label(column: Column, condition: sql.Composable) -> sql.Composed:
    """Return the condition of the rows of which a label, or one in an array, fulfils another."""
    text = "unnest({}::text[])" if is_array(column) else "unnest(ARRAY[{}::text])"
    labels = sql.SQL(text).format(sql.Identifier(column.name))
    return sql.SQL("EXISTS (SELECT FROM {} AS label WHERE {})").format(labels, condition)


def counts(session: Session, table: Table, conditions: Sequence[sql.Composable] = ()) -> list[int]:
    """Return how many rows a table has, and how many of them fulfil each condition.

    An error, as of a cast that a value fails, leaves the transaction of the session usable.
    """
    counted = [sql.SQL("count(*) FILTER (WHERE {})").format(each) for each in conditions]
    wanted = sql.SQL(", ").join([sql.SQL("count(*)"), *counted])
    with session.transaction():
        found = session.execute(sql.SQL("SELECT {} FROM {}").format(wanted, rows(table)))
        return list(found.fetchone() or ())


def raw(text: str) -> sql.SQL:
    """Return SQL as it is: the name of a type from the catalog, or what the user's settings say."""
    return sql.SQL(cast("LiteralString", text))  # type: ignore[redundant-cast]


def _moved(expression: sql.Composable, base: str, zone: str) -> sql.Composed:
    """Return a time with a zone as the local time there, and a local time as that moment."""
    time = sql.SQL("{}::timestamp" if base == "date" else "{}").format(expression)
    return sql.SQL("({} AT TIME ZONE {})").format(time, zone)


def _cast(expression: sql.Composable, way: ColumnMapping) -> sql.Composed:
    kind = way.new.base if way.new.builtin else "text"
    return sql.SQL("{}::{}").format(expression, raw(kind))


def used_columns(session: Session, old: Tables, new: Tables, rules: Rules) -> Uses:
    """Return the old columns that each filling uses, by the name of the new column.

    Nothing is executed and nothing is written: it works on a standby, too.
    """
    return {
        name: frozenset(each.name for each in source.columns if _uses(session, source, fill, each))
        for source, table in sources(old, new, rules)
        for column in table.columns
        if (fill := rules.fill.get(name := f"{table.shown}.{column.name}"))
    }


def _uses(session: Session, table: Table, fill: str, column: Column) -> bool:
    """Tell whether an expression of that name in it cannot do without the column.

    One that is wrong in itself counts as using what it names: then it is tried, and told. By its
    schema and table nothing but the table itself can be named, so that is not known to be used.
    """
    name = re.escape(column.name.replace('"', '""'))
    if not re.search(rf"(?<!\w){name}(?!\w)", fill, re.IGNORECASE):
        return False
    error = _error(session, fill, _without(table, column))
    if isinstance(error, errors.UndefinedTable):
        return _error(session, fill, rows(table)) is not None
    return error is not None


def _error(session: Session, fill: str, source: sql.Composable) -> Exception | None:
    """Return what the server has against an expression over some rows, none of which it reads."""
    query = sql.SQL("EXPLAIN SELECT ({}) FROM {}").format(raw(fill), source)
    try:
        with session.transaction():
            session.execute(query)
    except errors.Error as error:
        return error
    return None


def _without(table: Table, column: Column) -> sql.Composed:
    """Return what stands after FROM for a table without a column.

    A table of the column's name gets another: its name would mean the row where there is no column.
    """
    _, name = table.place or table.key
    others = [sql.Identifier(each.name) for each in table.columns if each.name != column.name]
    listed = sql.SQL(", ").join([sql.SQL("tableoid"), sql.SQL("ctid"), *others])
    alias = sql.Identifier(f"{name}_" if name == column.name else name)
    return sql.SQL("(SELECT {} FROM {}) AS {}").format(listed, rows(table), alias)


_INTEGERS = {"smallint", "integer", "bigint"}
_ROUNDED = "jsonb_typeof(to_jsonb(v)) = 'number' AND to_jsonb(v) <> to_jsonb(v::{})"
# The cast fails at what jsonb cannot hold, and so is in the condition of each row.
_TWICE = """
CASE WHEN ({}) IS NOT NULL THEN EXISTS (
    WITH RECURSIVE nodes (node) AS (
        {} UNION ALL SELECT inner_node.value FROM nodes CROSS JOIN LATERAL (
            SELECT value FROM json_each(CASE json_typeof(node) WHEN 'object' THEN node END)
            UNION ALL SELECT value
            FROM json_array_elements(CASE json_typeof(node) WHEN 'array' THEN node END)
        ) AS inner_node
    )
    SELECT FROM nodes WHERE (
        SELECT count(*) > count(DISTINCT key)
        FROM json_object_keys(CASE json_typeof(node) WHEN 'object' THEN node END) AS key)
) END"""
