"""Obstacles: what stops a carry before its first row, each with the line that mends it. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from backset.carry.mapping import is_array
from backset.errors import Finding, Setting
from backset.text import pasted
from backset.text.explanations import UNHIDDEN
from backset.text.pasted import BLANK, literal, quoted_if_needed, string
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.carry.mapping import ColumnMapping
    from backset.catalog.columns import Column
    from backset.settings.rules import Rules

_SAMPLES = {  # what a filling may look like, by the type that it is for
    "boolean": "false",
    "smallint": "0",
    "integer": "0",
    "bigint": "0",
    "numeric": "0",
    "real": "0",
    "double precision": "0",
    "text": "''",
    "character varying": "''",
    "character": "''",
    "bytea": "''",
    "interval": "'0'",
    "time without time zone": "localtime",
    "json": "'{}'",
    "jsonb": "'{}'",
    "uuid": "gen_random_uuid()",
    "date": "current_date",
    "timestamp with time zone": "now()",
    "timestamp without time zone": "localtimestamp",
}
_UNSEEN = "it would be lost unseen"
_MOST_CANDIDATES = 3  # are named


def filling(name: str, expression: str) -> Setting:
    """Return the setting that fills a column."""
    return Setting(table="tool.backset.fill", key=string(name), value=string(expression))


def leaving(name: str, already: tuple[str, ...] = ()) -> Setting:
    """Return the setting that agrees to what is left behind. already: what the settings leave."""
    there = tuple(map(string, already))
    return Setting(table="tool.backset", key="leave", value=(string(name),), already=there)


def renaming(name: str, old: str) -> Setting:
    """Return the setting that lets a table or a column have the values of an old one."""
    return Setting(table="tool.backset.rename", key=string(name), value=string(old))


def _choice(setting: Setting, advice: str) -> Setting:
    return replace(setting, is_choice=True, advice=advice)


def _line(setting: Setting) -> str:
    value = setting.value
    text = value if isinstance(value, str) else pasted.listed([*setting.already, *value])
    return f"[{setting.table}] {setting.key} = {text}"


def _sample(column: Column) -> str:
    """Return what a filling may look like, by the type that it is for."""
    base = re.sub(r"\(.*?\)", "", column.base)
    if base.endswith("[]"):
        return "'{}'"
    return _SAMPLES.get(base) or (literal(column.labels[0]) if column.labels else BLANK)


def unknown(key: str, name: str) -> Finding:
    """Say that a rule names what neither schema has, or not the one that it should."""
    return Finding(
        kind="unknown name",
        name=name,
        what=f"{key} names {name}, which is not in that schema",
        why="a rule that means nothing hides a mistake",
        remedy='tables as "users" or "schema.users", columns as "users.email"; in rename and fill '
        "the new name comes first, and replace names tables of the new schema",
    )


def unreadable(name: str, flag: str, *, guarded: bool) -> Finding:
    """Say that the role may not read every row of an old table. flag: what names others.

    guarded: whether row security hides them.
    """
    return Finding(
        kind="unreadable rows",
        name=name,
        what=f"the role may not read every row of {name}",
        why="the rest would be left behind unseen",
        remedy=f"{UNHIDDEN if guarded else f'GRANT SELECT ON {name}'}; or carry others with {flag} "
        "TABLE,…",
    )


_UNCARRIED = {
    "large objects": "nothing carries them",
    "extension": "it is an extension's table, where the role could not write them",
}


def left(
    what: str,
    name: str,
    shown: str,
    candidates: Sequence[str] = (),
    left_already: tuple[str, ...] = (),
) -> Finding:
    """Say that something has no place in the new schema.

    candidates: the names that it may have there, the likeliest first; then only the user knows.
    left_already: what the settings leave behind so far.
    """
    where = _UNCARRIED.get(what, f"the new schema has no such {what}")
    renamings = [renaming(each, name) for each in candidates[:_MOST_CANDIDATES]]
    ways = ", or ".join(map(_line, renamings))
    agreed = leaving(name, left_already)
    settings: tuple[Setting, ...] = (agreed,)
    if renamings:
        chosen = [_choice(each, "if it was renamed") for each in renamings]
        settings = (*chosen, _choice(agreed, "if it is gone"))
    return Finding(
        kind="left behind",
        name=name,
        what=f"{shown}: {where}",
        why=_UNSEEN,
        remedy=(f"if it was renamed: {ways}; else " if ways else "")
        + f"--drop-data, or {_line(leaving(name))}",
        settings=settings,
    )


def computed(name: str, shown: str, left_already: tuple[str, ...]) -> Finding:
    """Say that a column with values of its own has become a generated one."""
    return Finding(
        kind="left behind",
        name=name,
        what=f"{shown}: the column is generated in the new schema",
        why="what the server computes may be something else",
        remedy=f"--drop-data, or {_line(leaving(name))}",
        settings=(leaving(name, left_already),),
    )


def idle(found: Finding, expression: str, name: str, left_already: tuple[str, ...]) -> Finding:
    """Say of values that do not fit that a filling would do, once they may be left behind."""
    remedy = f"{expression} in [tool.backset.fill] does not use the old values: to leave these "
    remedy += f"behind, add {_line(leaving(name))}"
    return replace(found, remedy=remedy, settings=(leaving(name, left_already),))


def missing(name: str, column: Column, rows: int, could_be: Sequence[str] = ()) -> Finding:
    """Say that a new column must have a value, and that old rows have none for it.

    could_be: the old columns that have no place, and may have become this one.
    """
    setting, unless = filling(name, _sample(column)), ""
    if could_be:
        old = " or ".join(could_be[:_MOST_CANDIDATES])
        setting = _choice(setting, f"if it is not {old} by another name")
        unless = f"{setting.advice}: "
    return Finding(
        kind="missing value",
        name=name,
        what=f"{name} is new, NOT NULL and without a default, for {count(rows, 'row')}",
        why="the server would refuse the first of them",
        remedy=unless + _line(setting),
        settings=(setting,),
    )


def null(name: str, way: ColumnMapping, rows: int) -> Finding:
    """Say that a column became NOT NULL, and that old rows have NULL in it."""
    source = way.fill if way.old is None else quoted_if_needed(way.old.name)
    if way.old and way.old.base != way.new.base:
        source += f"::{way.new.base}"
    sample = way.idle or _sample(way.new)
    setting = filling(name, sample if way.is_empty else f"coalesce({source}, {sample})")
    return Finding(
        kind="missing value",
        name=name,
        what=f"{name} is NOT NULL, and {count(rows, 'row')} would have NULL there",
        why="the server would refuse the first of them",
        remedy=_line(setting),
        settings=(setting,),
    )


def lossy(name: str, way: ColumnMapping, rows: int, labels: Sequence[str] = ()) -> Finding:
    """Say that values of old rows would not come through a change of type.

    labels: those of the old enum that rows have, and the new one has not.
    """
    assert way.old is not None  # noqa: S101  (only such ways change a type)
    sample = f"{quoted_if_needed(way.old.name)}::{way.new.base}"
    if way.new.labels:
        sample = _relabelled(way.old, labels or ("…",), literal(way.new.labels[0]))
    change = f"{way.old.type} → {way.new.type}"
    if labels:
        change = f"{way.new.type} has no {', '.join(map(literal, labels))}"
    setting = filling(name, sample)
    changing = _choice(setting, f"this changes {count(rows, 'value')}")
    return Finding(
        kind="lossy type",
        name=name,
        what=f"{count(rows, 'value')} of {name} do{'es' * (rows == 1)} not fit: {change}",
        why="a cast would change them, or the server refuse them",
        remedy=_line(setting),
        settings=(changing,),
    )


def _relabelled(old: Column, labels: Sequence[str], other: str) -> str:
    """Return the expression that puts another label, an SQL literal, in the place of some."""
    source = quoted_if_needed(old.name)
    if is_array(old):
        replaced = f"{source}::text[]"
        for label in labels:
            replaced = f"array_replace({replaced}, {literal(label)}, {other})"
        return replaced
    whens = " ".join(f"WHEN {literal(label)} THEN {other}" for label in labels)
    return f"CASE {source}::text {whens} ELSE {source}::text END"


def failing(name: str, way: ColumnMapping, words: str) -> Finding:
    """Say that the server cannot cast a value of an old row; its words come without the value."""
    assert way.old is not None  # noqa: S101  (only such ways change a type)
    return Finding(
        kind="impossible type",
        name=name,
        what=f"a value of {name} cannot be cast from {way.old.type} to {way.new.type}: {words}",
        why="the server would refuse it",
        remedy=_line(filling(name, BLANK)),
        settings=(filling(name, BLANK),),
    )


def never(name: str, way: ColumnMapping) -> Finding:
    """Say that there is no cast that could be tried."""
    assert way.old is not None  # noqa: S101  (only such ways change a type)
    return Finding(
        kind="impossible type",
        name=name,
        what=f"{name} changes from {way.old.type} to {way.new.type}, for which there is no cast",
        why="nobody but you knows what its values become",
        remedy=_line(filling(name, BLANK)),
        settings=(filling(name, BLANK),),
    )


def doubtful(name: str, way: ColumnMapping) -> Finding:
    """Say that every value would be taken, and may mean something else then."""
    assert way.old is not None  # noqa: S101  (only such ways change a type)
    source = quoted_if_needed(way.old.name)
    sample = f"{source}::{way.new.base}"
    return Finding(
        kind="doubtful type",
        name=name,
        what=f"{name} changes from {way.old.type} to {way.new.type}",
        why="what its values mean then, depends on what they meant",
        remedy=_line(filling(name, sample)),
        settings=(filling(name, sample),),
    )


def unfillable(name: str, expression: str, words: str) -> Finding:
    """Say that the server cannot evaluate the expression of a rule on the old rows."""
    return Finding(
        kind="failing rule",
        name=name,
        what=f"{name} cannot be filled with {expression}: {words}",
        why="it is an SQL expression over the row of the old table",
        remedy="mend it in [tool.backset.fill]",
    )


def cut(name: str, way: ColumnMapping, rows: int) -> Finding:
    """Say that what fills a column would be cut or rounded there; a cast of the rule agrees."""
    setting = filling(name, f"({way.fill})::{way.new.base}")
    setting = _choice(setting, f"this cuts or rounds {count(rows, 'value')} to fit")
    return Finding(
        kind="lossy type",
        name=name,
        what=f"{count(rows, 'value')} of {way.fill} would not fit in {name}: {way.new.type}",
        why="a cast would cut or round them",
        remedy=f"if that is meant: {_line(setting)}",
        settings=(setting,),
    )


def alone(table: str, wanted: str, rules: Rules) -> Finding:
    """Say that rows refer to rows of a table that is not carried, and is empty."""
    remedy = f"{rules.flag} {','.join([*rules.tables, wanted])}"
    if rules.excludes(wanted):
        remedy = f"let [tool.backset] exclude name {table} as well, or {wanted} no longer"
    return Finding(
        kind="missing parent",
        name=table,
        what=f"rows of {table} refer to {wanted}, which is not carried",
        why="its foreign key would refuse them",
        remedy=remedy,
    )


def made_way(
    what: str, name: str, table: str, columns: str, carried: Sequence[str], rules: Rules
) -> Finding:
    """Say that a row refers to one of the migrations in `table` that made way for an old one.

    what: in words. name: of the table that refers to it, by these columns of `table`. carried: the
    tables that get old rows.
    """
    settings: tuple[Setting, ...] = ()
    remedy = (
        f"in the old database, give that row of {table} the {columns} that the migration gives it, "
        f"or carry no rows of {table}: [tool.backset] exclude"
    )
    if name in carried:
        already = tuple(map(string, rules.replace))
        both = tuple(map(string, dict.fromkeys([table, name])))
        setting = Setting(table="tool.backset", key="replace", value=both, already=already)
        remedy = f"let the old rows alone be there: {_line(setting)}"
        settings = (setting,)
    return Finding(
        kind="missing parent",
        name=name,
        what=what,
        why="its foreign key would refuse it",
        remedy=remedy,
        settings=settings,
    )


def going_without(revisions: Sequence[str]) -> str:
    """Return the ways out where pending revisions would change rows, and cannot."""
    listed = ", ".join(map(string, revisions))
    return (
        "`invoke upgrade` first, then this; or, where the rows need not go through that: "
        f"[tool.backset] unmigrated = [{listed}]"
    )
