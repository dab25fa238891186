"""What both states of a chain have, altered: tables with their columns, types, sequences.

All else is dropped and made again: `difference`.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.squash import layout
from backset.squash.built import constraint_name
from backset.squash.composing import tidied
from backset.squash.ordering import Unit
from backset.text.pasted import bare, parts, quoted_if_needed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from backset.catalog.schema import Item
    from backset.connections.session import Session
    from backset.migrate.answers import Rendered
    from backset.squash.built import BuiltObjects
    from backset.squash.statements import Entry

FIRST, ALTERED, ROWS, FILLED, LAST = -1, 4, 5, 6, 90  # ranks, as in composing
_ENUM = re.compile(r"CREATE TYPE \S.* AS ENUM \(")
_LABEL = re.compile(r"'(?:[^']|'')*'")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainState:
    """One of the two databases: what stands in it, that as code, a session on it."""

    built: BuiltObjects
    rendered: Rendered
    session: Session


class Altering:
    """Writes what alters things that both states have.

    exchanged: names of enums that are not to get labels, but anew. names: those of enums, by their
    code. later: what comes when rows are there, or before all else. unsaid: keys of what cannot be
    changed.
    """

    def __init__(self, old: ChainState, new: ChainState, exchanged: Collection[str]) -> None:
        self._exchanged = exchanged
        self._before, self._after = old.built, new.built
        self._rendered = new.rendered
        self._op = new.rendered.op
        self.names: dict[str, str] = {}
        self.later: list[Unit] = []
        self.unsaid: list[str] = []
        self._number = -1

    def unit(self, rank: int, place: int, up: Sequence[str], needs: Sequence[int] = ()) -> Unit:
        """Return a unit with a number of its own, which is below that of each entry."""
        self._number -= 1
        return Unit(number=self._number, rank=rank, place=(place, 0), needs={*needs}, up=[*up])

    def executed(self, statements: Sequence[str]) -> list[str]:
        """Return the code that runs statements."""
        return [layout.execute(each, self._op) for each in statements]

    # ------------------------------------------------------------------ tables

    def columns(self, table: str) -> Iterator[tuple[Item | None, Item | None]]:
        """Yield the columns of a table in both states, the old one first."""
        olds = {each.key: each for each in self._before.parts(table, "column")}
        news = {each.key: each for each in self._after.parts(table, "column")}
        for key in [*olds, *(each for each in news if each not in olds)]:
            yield olds.get(key), news.get(key)

    def cuts(self, old: Item | None, new: Item | None) -> bool:
        """Tell whether a change of a column is one that a view does not survive."""
        if old is None:
            return False
        if new is None or old.aspects["type"] != new.aspects["type"]:
            return True
        type_ = f"type {old.aspects['type'].removesuffix('[]')}"
        labels = [items.get(type_) for items in (self._before.items, self._after.items)]
        texts = [each.aspects.get("labels", "") if each else "" for each in labels]
        return texts[0] != texts[1] and not self._gets_labels(type_.partition(" ")[2], *texts)

    def _gets_labels(self, name: str, before: str, after: str) -> bool:
        """Tell whether an enum keeps its labels in their order, and gets more of them."""
        known, labels = _LABEL.findall(before), _LABEL.findall(after)
        return name not in self._exchanged and [each for each in labels if each in known] == known

    def altered(self, old: Entry, new: Entry) -> Unit:
        """Return what changes a table that both have; empty where nothing does."""
        unit, filled = self.unit(ALTERED, new.place, ()), list[str]()
        if old.statements == new.statements:
            return unit
        unit.needs = set(new.needs)
        columns = self._rendered_columns(new)
        for before, after in self.columns(new.key):
            if after is None and before is not None:
                words = f"{self._name_first(new)}, {layout.string(_bare(before))}"
                unit.up.append(f"{self._op}.drop_column({words}{self._schema_of(new)})")
            elif before is None and after is not None:
                unit.up.append(self._added(new, after, columns.get(_bare(after)), filled))
            elif before is not None and after is not None:
                unit.up += self._altered_column(new, before, after, filled)
        filled += self._checks(new)
        unit.up += self.executed([*self._settings(old, new)])
        if filled:
            needs = [unit.number, *new.needs]
            self.later.append(self.unit(FILLED, new.place, filled, needs))
        return unit

    def _settings(self, old: Entry, new: Entry) -> Iterator[str]:
        """Yield what changes how a table is kept."""
        before, after = (each.items[new.key].aspects for each in (self._before, self._after))
        name = quoted_if_needed(new.schema, new.name)
        if before.get("persistence") != after.get("persistence"):
            yield f"ALTER TABLE {name} SET {'UNLOGGED' if 'persistence' in after else 'LOGGED'}"
        options, others = (
            [each for each in state.get("options", "").split(", ") if each]
            for state in (before, after)
        )
        if more := [each for each in others if each not in options]:
            yield f"ALTER TABLE {name} SET ({', '.join(more)})"
        names = [each.partition("=")[0] for each in others]
        less = [each.partition("=")[0] for each in options]
        if less := [each for each in less if each not in names]:
            yield f"ALTER TABLE {name} RESET ({', '.join(less)})"
        for each in old.statements[1:]:
            if each not in new.statements:
                undone = _undone(each)
                yield from [undone] if undone else []
                self.unsaid += [] if undone else [new.key]
        yield from (each for each in new.statements[1:] if each not in old.statements)
        for aspect in ("access method", "partition key", "parents"):
            if before.get(aspect) != after.get(aspect):
                self.unsaid.append(new.key)

    def _rendered_columns(self, table: Entry) -> dict[str, ast.Call]:
        """Return the columns as Alembic renders them, by their names."""
        rendered = self._rendered.tables.get(table.key)
        if rendered is None:
            return {}
        calls = _parts_of(rendered.code)
        return {
            str(each.args[0].value): each
            for each in calls
            if isinstance(each, ast.Call)
            and ast.unparse(each.func).endswith("Column")
            and isinstance(each.args[0], ast.Constant)
        }

    def _added(self, table: Entry, column: Item, call: ast.Call | None, filled: list[str]) -> str:
        """Return what adds a column; where rows are there it is filled before it must be."""
        has_values = {"default", "generated", "identity"} & column.aspects.keys()
        said = _says_not_null(self._after, column)
        waits = column.aspects["null"] == "forbidden" and (said or not has_values)
        name = quoted_if_needed(table.schema, table.name)
        own = parts(column.name)[-1]
        if waits and not said:
            filled += self.executed([f"ALTER TABLE {name} ALTER COLUMN {own} SET NOT NULL"])
        defaults = self._entries_of(column)
        if call is None or defaults or "identity" in column.aspects:
            text = _in_sql(column, waits=waits, has_entry=bool(defaults))
            return layout.execute(f"ALTER TABLE {name} ADD COLUMN {own} {text}", self._op)
        call = tidied(ast.unparse(call), self.names)
        call.keywords = [each for each in call.keywords if each.arg != "comment"]
        for each in call.keywords:
            if each.arg == "nullable" and waits:
                each.value = ast.Constant(value=True)
        words = f"{self._name_first(table)}, {ast.unparse(call)}{self._schema_of(table)}"
        return layout.call(f"{self._op}.add_column({words})")

    def _entries_of(self, column: Item) -> list[Entry]:
        """Return the entries that give a column its default on their own."""
        key = f"default value for {column.name}"
        return [each for each in self._after.entries.values() if each.key == key]

    def _altered_column(
        self,
        table: Entry,
        old: Item,
        new: Item,
        filled: list[str],
    ) -> list[str]:
        """Return what changes a column."""
        name, own = quoted_if_needed(table.schema, table.name), parts(new.name)[-1]
        head = f"ALTER TABLE {name} ALTER COLUMN {own}"
        before, after = old.aspects, new.aspects
        differ = {
            each for each in before.keys() | after.keys() if before.get(each) != after.get(each)
        }
        if {"generated", "collation"} & differ:
            self.unsaid.append(new.key)
        found = []
        if "type" in differ:
            if "default" in before:
                found.append(f"{head} DROP DEFAULT")
            text = f"{head} TYPE {after['type']}"
            casts = not _widens(before["type"], after["type"])
            found.append(text + (f" USING {own}::{after['type']}" if casts else ""))
        if ("default" in differ or ("type" in differ and "default" in after)) and not (
            self._entries_of(new)
        ):
            text = f"SET DEFAULT {after['default']}" if "default" in after else "DROP DEFAULT"
            found.append(f"{head} {text}")
        was = before["null"] == "forbidden" and not _says_not_null(self._before, old)
        is_now = after["null"] == "forbidden" and not _says_not_null(self._after, new)
        if was and not is_now:
            found.append(f"{head} DROP NOT NULL")
        elif is_now and not was:
            filled += self.executed([f"{head} SET NOT NULL"])
        if "identity" in differ and "identity" not in after:
            found.append(f"{head} DROP IDENTITY")
        elif "identity" in differ and "identity" in before:
            found.append(f"{head} SET GENERATED {after['identity'].upper()}")
        return self.executed(found)

    def _checks(self, table: Entry) -> list[str]:
        """Return what changes the constraints that pg_dump has in the table itself."""
        olds, news = (
            {
                each.key: each.aspects["definition"]
                for each in state.parts(table.key, "constraint")
                if each.key not in state.by_key
            }
            for state in (self._before, self._after)
        )
        name = quoted_if_needed(table.schema, table.name)
        for key in sorted(olds):
            if olds[key] != news.get(key):
                own = quoted_if_needed(constraint_name(self._before.items[key]))
                drop = self.executed([f"ALTER TABLE {name} DROP CONSTRAINT {own}"])
                self.later.append(self.unit(FIRST, -table.place, drop))
        found = [
            f"ALTER TABLE {name} ADD CONSTRAINT "
            f"{quoted_if_needed(constraint_name(self._after.items[key]))} {news[key]}"
            for key in sorted(news)
            if news[key] != olds.get(key)
        ]
        return self.executed(found)

    # ------------------------------------------------------------------ types and sequences

    def retyped(self, old: Entry, new: Entry) -> Iterator[str]:
        """Yield what changes a type or a sequence that both have."""
        name = quoted_if_needed(new.schema, new.name)
        if old.kind == "SEQUENCE":
            yield from self.executed(self._sequence(new, name))
        elif old.kind == "DOMAIN":
            yield from self.executed([*self._domain(new, name)])
        elif _ENUM.match(old.statements[0]) and _ENUM.match(new.statements[0]):
            before, after = (_LABEL.findall(each.statements[0]) for each in (old, new))
            if self._gets_labels(name, *(each.statements[0] for each in (old, new))):
                yield from self.executed([*_new_labels(name, before, after)])
            else:
                yield from self.executed([*self._relabelled(new, name)])
        else:
            self.unsaid.append(new.key)

    def _sequence(self, new: Entry, name: str) -> list[str]:
        aspects = self._after.items[new.key].aspects
        cycle = "CYCLE" if "cycle" in aspects else "NO CYCLE"
        words = {
            "AS": "type", "START WITH": "start", "INCREMENT BY": "increment",
            "MINVALUE": "minimum", "MAXVALUE": "maximum", "CACHE": "cache",
        }  # fmt: skip
        text = " ".join(f"{word} {aspects[each]}" for word, each in words.items())
        return [f"ALTER SEQUENCE {name} {text} {cycle}"]

    def _domain(self, new: Entry, name: str) -> Iterator[str]:
        before, after = (each.items[new.key].aspects for each in (self._before, self._after))
        if any(before.get(each) != after.get(each) for each in ("type", "collation")):
            self.unsaid.append(new.key)
        if before.get("default") != after.get("default"):
            text = f"SET DEFAULT {after['default']}" if "default" in after else "DROP DEFAULT"
            yield f"ALTER DOMAIN {name} {text}"
        if before.get("null") != after.get("null"):
            yield f"ALTER DOMAIN {name} {'SET' if 'null' in after else 'DROP'} NOT NULL"
        suffix = f" on {new.key.partition(' ')[2]}"
        olds, news = (
            {
                key: each.aspects["definition"]
                for key, each in state.items.items()
                if each.kind == "constraint"
                and not each.parent
                and key.endswith(suffix)
                and key not in state.by_key
            }
            for state in (self._before, self._after)
        )
        for key in olds:
            if olds[key] != news.get(key):
                own = quoted_if_needed(constraint_name(self._before.items[key]))
                yield f"ALTER DOMAIN {name} DROP CONSTRAINT {own}"
        for key in news:
            if news[key] != olds.get(key):
                own = quoted_if_needed(constraint_name(self._after.items[key]))
                yield f"ALTER DOMAIN {name} ADD CONSTRAINT {own} {news[key]}"

    def _relabelled(self, new: Entry, name: str) -> Iterator[str]:
        """Yield what gives an enum other labels: by another one in its place."""
        former = f"{new.name}__former"[:63]
        yield f"ALTER TYPE {name} RENAME TO {quoted_if_needed(former)}"
        yield new.statements[0]
        kind = new.key.partition(" ")[2]
        for key, item in self._before.items.items():
            type_ = item.aspects.get("type", "")
            if item.kind != "column" or key not in self._after.items:
                continue
            if type_.removesuffix("[]") != kind or self._after.items[key].aspects["type"] != type_:
                continue
            *table, own = parts(item.name)
            head = f"ALTER TABLE {'.'.join(table)} ALTER COLUMN {own}"
            many = "[]" if type_.endswith("[]") else ""
            if "default" in item.aspects:
                yield f"{head} DROP DEFAULT"
            yield f"{head} TYPE {name}{many} USING {own}::text{many}::{name}{many}"
            if "default" in self._after.items[key].aspects:
                yield f"{head} SET DEFAULT {self._after.items[key].aspects['default']}"
        yield f"DROP TYPE {quoted_if_needed(new.schema, former)}"

    # ------------------------------------------------------------------ words

    def _name_first(self, table: Entry) -> str:
        return layout.string(table.name)

    def _schema_of(self, table: Entry) -> str:
        if table.schema == self._rendered.schema:
            return ""
        return f", schema={layout.string(table.schema)}"

    def name_of(self, table: Entry) -> str:
        """Return the arguments that name a table in an operation."""
        return self._name_first(table) + self._schema_of(table)


def _parts_of(code: str) -> list[ast.expr]:
    """Return what a table is made of in the code that makes it."""
    call = ast.parse(code, mode="eval").body
    return call.args[1:] if isinstance(call, ast.Call) else []


def _says_not_null(state: BuiltObjects, column: Item) -> bool:
    """Tell whether a constraint of its own says NOT NULL of a column, as with NO INHERIT."""
    words = f"NOT NULL {parts(column.name)[-1]} "
    constraints = state.parts(column.parent, "constraint")
    return any(f"{each.aspects.get('definition', '')} ".startswith(words) for each in constraints)


def _bare(column: Item) -> str:
    return bare(parts(column.name)[-1])


def _in_sql(column: Item, *, waits: bool, has_entry: bool) -> str:
    """Return a column as ALTER TABLE has it."""
    aspects = column.aspects
    words = [aspects["type"]]
    if "collation" in aspects:
        words.append(f"COLLATE {aspects['collation']}")
    if "generated" in aspects:
        text, _, kind = aspects["generated"].rpartition(" ")
        words.append(f"GENERATED ALWAYS AS ({text}) {kind.upper()}")
    if "default" in aspects and not has_entry:
        words.append(f"DEFAULT {aspects['default']}")
    if aspects["null"] == "forbidden" and not waits:
        words.append("NOT NULL")
    return " ".join(words)


def _new_labels(name: str, before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """Yield what adds labels to an enum, each where it belongs."""
    known = list(before)
    for place, label in enumerate(after):
        if label in known:
            continue
        where = f" AFTER {after[place - 1]}" if place else f" BEFORE {known[0]}"
        yield f"ALTER TYPE {name} ADD VALUE {label}{where}"
        known.append(label)


def _undone(statement: str) -> str:
    """Return what takes back a setting of a table; nothing where that is not known."""
    for pattern, usual in _USUAL.items():
        text, times = re.subn(pattern, usual, statement)
        if times:
            return text
    return ""


_USUAL = {
    r" FORCE ROW LEVEL SECURITY$": " NO FORCE ROW LEVEL SECURITY",
    r" SET STATISTICS \d+$": " SET STATISTICS -1",
    r" REPLICA IDENTITY \w+$": " REPLICA IDENTITY DEFAULT",
    r" SET COMPRESSION \w+$": " SET COMPRESSION DEFAULT",
    r" SET STORAGE \w+$": " SET STORAGE DEFAULT",
}


def _widens(before: str, after: str) -> bool:
    """Tell whether every value of a type is one of another, by an assignment."""
    texts = ("character varying", "text")
    if before.startswith(texts) and after.startswith(texts):
        return True
    numbers = ("smallint", "integer", "bigint", "numeric")
    return before in numbers and after in numbers[numbers.index(before) :]
