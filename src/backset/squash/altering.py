"""What a part of a chain has changed: the difference of two databases, as code that makes it.

Of each entry of pg_dump that both have, with the same SQL, nothing is said. Tables that both have
are altered; functions are replaced; enums get labels; all else is dropped and made again.
"""

from __future__ import annotations

import ast
import copy
import re
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from backset.squash import inserted, layout
from backset.squash.built import constraint_name
from backset.squash.composing import Composer, said, taken_back, tidied
from backset.squash.ordering import Unit
from backset.text.pasted import bare, parts, quoted_if_needed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from backset.catalog.schema import Item
    from backset.connections.session import Session
    from backset.migrate.worker import Rendered
    from backset.squash.built import BuiltObjects
    from backset.squash.statements import Entry

_FIRST, _ALTERED, _ROWS, _FILLED, _LAST = -1, 4, 5, 6, 90  # ranks, as in composing
# What is not made again where it has changed.
_ALTERED_KINDS = {
    *("TABLE", "SEQUENCE", "TYPE", "DOMAIN", "FUNCTION", "PROCEDURE", "COMMENT", "ACL"),
    *("DEFAULT ACL", "DEFAULT", "SCHEMA", "EXTENSION"),
}
_DEPENDENT = {"VIEW", "MATERIALIZED VIEW", "RULE", "POLICY", "TRIGGER", "FK CONSTRAINT", "INDEX"}
_OF_COLUMNS = {"VIEW", "MATERIALIZED VIEW", "RULE", "POLICY", "TRIGGER"}
_SAID_OF = {"COMMENT", "ACL"}
# What stands in the way as long as it is there; all else goes when nothing needs it any more.
_GOES_FIRST = {
    *("VIEW", "MATERIALIZED VIEW", "RULE", "POLICY", "TRIGGER", "FK CONSTRAINT", "INDEX"),
    *("CONSTRAINT", "CHECK CONSTRAINT", "TABLE", "FOREIGN TABLE", "STATISTICS", "EVENT TRIGGER"),
    *("PUBLICATION", "PUBLICATION TABLE", "ROW SECURITY", "AGGREGATE", "CAST", "OPERATOR"),
}
_GO_ALONG = {"SEQUENCE OWNED BY", "TABLE ATTACH", "INDEX ATTACH"}
_OF_PARTITIONS = {"CONSTRAINT", "INDEX", "STATISTICS"}  # whose table is not told elsewhere
_IN_THE_WAY = {"FK CONSTRAINT", "TRIGGER", "POLICY", "RULE"}
_ENUM = re.compile(r"CREATE TYPE \S.* AS ENUM \(")
_REFERENCE = re.compile(r"FOREIGN KEY \([^()]*\) REFERENCES (?P<table>[^()]*)\(")
_LABEL = re.compile(r"'(?:[^']|'')*'")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainState:
    """One of the two databases: what stands in it, that as code, a session on it."""

    built: BuiltObjects
    rendered: Rendered
    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Alteration:
    """The code that makes one state of another. unsaid: keys of what it cannot change."""

    code: str
    plain: tuple[str, ...]
    unsaid: tuple[str, ...]


def between(old: ChainState, new: ChainState, *, rows: bool) -> Alteration:
    """Return what makes the new state of the old one."""
    found = _Altering(old, new, ()).change(rows=rows)
    # Within a transaction nothing can use a label that it has added itself.
    used = [each for each in _ADDED.finditer(found.code) if _is_used(each["label"], found.code)]
    if not used:
        return found
    return _Altering(old, new, {each["type"] for each in used}).change(rows=rows)


_ADDED = re.compile(r"ALTER TYPE (?P<type>\S+) ADD VALUE '(?P<label>(?:[^']|'')*)'")


def _is_used(label: str, code: str) -> bool:
    others = "\n".join(line for line in code.splitlines() if not _ADDED.search(line))
    return re.search(rf"(?<!\w){re.escape(label)}(?!\w)", others) is not None


class _Altering:
    """Finds what has changed. exchanged: names of enums that are not to get labels, but anew."""

    def __init__(self, old: ChainState, new: ChainState, exchanged: Collection[str]) -> None:
        self._exchanged = exchanged
        self._old, self._new = old, new
        self._before, self._after = old.built, new.built
        self._sa, self._op = new.rendered.sa, new.rendered.op
        self._names: dict[str, str] = {}
        self._unsaid: list[str] = []
        olds = {_identity(each): each for each in self._before.entries.values()}
        news = {_identity(each): each for each in self._after.entries.values()}
        self._come = {each.number for name, each in news.items() if name not in olds}
        self._gone = {each.number for name, each in olds.items() if name not in news}
        self._both = [(olds[name], each) for name, each in news.items() if name in olds]
        self._changed = [(a, b) for a, b in self._both if a.statements != b.statements]
        self._number = -1
        self._covered: set[int] = set()  # entries that an operation makes as well
        self._later: list[Unit] = []
        # A part of what is altered in its columns may be in the way.
        self._cut = {
            a.number
            for a, b in self._both
            if a.kind == "TABLE" and any(self._cuts(*each) for each in self._columns(a.key))
        }
        self._again = self._made_again()

    def change(self, *, rows: bool) -> Alteration:
        """Return the code."""
        replaced = dict(self._replaced())
        altered = {b.number: self._altered(a, b) for a, b in self._both if a.kind == "TABLE"}
        for a, b in self._changed:
            if a.kind in {"TYPE", "DOMAIN", "SEQUENCE"} and a.number not in self._again:
                altered[b.number] = self._unit(_ALTERED - 2, b.place, [*self._retyped(a, b)])
        altered = {number: unit for number, unit in altered.items() if unit.up}
        again = {b.number for a, b in self._both if a.number in self._again}
        numbers = (self._come | again | replaced.keys()) - self._covered - altered.keys()
        made = copy.copy(self._after)
        made.entries = {
            number: replaced.get(number, each)
            for number, each in self._after.entries.items()
            if number in numbers
        }
        composer = Composer(made, self._new.rendered, (), altered, self._names)
        composer.add([*self._dropped(), *self._told(), *self._later])
        if rows:
            composer.add(self._row_units())
        code, _ = composer.texts(self._new.session if rows else None)
        return Alteration(code=code, plain=tuple(composer.plain), unsaid=tuple(self._unsaid))

    def _unit(self, rank: int, place: int, up: Sequence[str], needs: Sequence[int] = ()) -> Unit:
        self._number -= 1
        return Unit(number=self._number, rank=rank, place=(place, 0), needs={*needs}, up=[*up])

    def _executed(self, statements: Sequence[str]) -> list[str]:
        return [layout.execute(each, self._op) for each in statements]

    # ------------------------------------------------------------------ what is made once more

    def _made_again(self) -> set[int]:
        """Return the old entries that are dropped, and made anew with all that needs them."""
        found = {a.number for a, b in self._changed if a.kind not in _ALTERED_KINDS}
        found |= {
            a.number for a, b in self._changed if a.kind in _ROUTINES and _head(a) != _head(b)
        }
        sequences = [(a, b) for a, b in self._both if a.kind == "SEQUENCE" and self._goes(a)]
        found |= {
            a.number
            for a, b in sequences
            if not (_is_own(a) and _is_own(b))
            or b.key in self._after.covered(self._after.table_of(b))  # its column makes it
        }
        for each in self._before.entries.values():
            needs = set(each.needs)
            if each.number in self._gone:
                continue
            needs_made = needs & (found | self._gone)
            if (
                (each.kind in _DEPENDENT and needs_made)
                or (each.kind in _OF_COLUMNS and needs & self._cut)
                or (each.kind in _SAID_OF and set(each.needs[:1]) & found)
            ):
                found.add(each.number)
        return found

    def _replaced(self) -> Iterator[tuple[int, Entry]]:
        """Yield functions that have changed, with what replaces them."""
        for a, b in self._changed:
            if a.kind in _ROUTINES and a.number not in self._again:
                first, *others = b.statements
                text = "CREATE OR REPLACE " + first.removeprefix("CREATE ")
                yield b.number, replace(b, statements=(text, *others))

    def _dropped(self) -> Iterator[Unit]:
        """Yield what drops the old entries, each before what it needs."""
        owned = self._with_their_tables()
        entries = [
            each
            for each in self._before.entries.values()
            if each.number in self._gone | self._again and each.number not in owned
        ]
        for each in sorted(entries, key=lambda one: one.place, reverse=True):
            if each.kind in _SAID_OF | {"DEFAULT ACL"}:
                continue
            if each.kind == "TABLE":
                up = [f"{self._op}.drop_table({self._name_of(each)})"]
            elif each.kind == "ROW SECURITY":
                name = quoted_if_needed(each.schema, each.name)
                up = self._executed([f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY"])
            else:
                up = self._executed(each.drop)
            rank = _FIRST if each.kind in _GOES_FIRST else _LAST
            yield self._unit(rank, -each.place, up)
        for a, _ in self._both:
            if a.kind == "SEQUENCE" and a.number not in self._again and self._goes(a):
                # Of a table that was renamed the sequence stays.
                name = quoted_if_needed(a.schema, a.name)
                up = self._executed([f"ALTER SEQUENCE {name} OWNED BY NONE"])
                yield self._unit(_FIRST - 1, a.place, up)

    def _with_their_tables(self) -> set[int]:
        """Return the old entries that go when their tables, or their columns, do."""
        entries = self._before.entries
        gone = [entries[each] for each in self._gone | self._again]
        keys = {each.key for each in gone if each.key}
        tables = {each.number for each in gone if each.kind == "TABLE"}
        return {
            each.number
            for each in entries.values()
            if each.kind in _GO_ALONG
            or self._column_is_gone(each)
            or (
                each.kind not in _IN_THE_WAY
                and (
                    self._before.table_of(each) in keys
                    or (each.kind in _OF_PARTITIONS and tables.intersection(each.needs))
                )
            )
        }

    def _column_is_gone(self, entry: Entry) -> bool:
        """Tell whether it belongs to a column that goes, as a sequence or a default does."""
        if entry.kind == "SEQUENCE":
            return self._goes(entry) or not _is_own(entry)
        if entry.kind != "DEFAULT":
            return False
        return f"column {entry.key.partition(' for ')[2]}" not in self._after.items

    def _goes(self, sequence: Entry) -> bool:
        """Tell whether a sequence goes with the column that it belongs to."""
        item = self._before.items.get(sequence.key)
        name = item.aspects.get("column", "") if item else ""
        return bool(name) and f"column {name}" not in self._after.items

    def _told(self) -> Iterator[Unit]:
        """Yield what changes comments and rights of what stays."""
        kept = {a.number for a, _ in self._both if a.number not in self._again}
        for each in self._before.entries.values():
            if each.number not in self._gone or each.kind not in _SAID_OF | {"DEFAULT ACL"}:
                continue
            if each.needs and each.needs[0] not in kept:
                continue
            if each.kind == "COMMENT":
                if each.name.startswith("COLUMN ") and self._column_of(each) is None:
                    continue
                head = re.match(r"COMMENT ON .*? IS (?=')", each.statements[0], re.DOTALL)
                up = [f"{head[0]}NULL"] if head else []
            else:
                up = [*map(taken_back, reversed(said(self._before, each)))]
            # What is made from now on gets no default privileges.
            rank = _FIRST if each.kind == "DEFAULT ACL" else _LAST - 1
            yield self._unit(rank, each.place, self._executed(up))
        for a, b in self._changed:
            if a.kind in _SAID_OF | {"DEFAULT ACL"} and a.number not in self._again:
                olds, news = said(self._before, a), said(self._after, b)
                gone = [each for each in olds if each not in news]
                less = [] if a.kind == "COMMENT" else [*map(taken_back, gone)]
                more = [each for each in news if each not in olds]
                rank = _FIRST if a.kind == "DEFAULT ACL" else _LAST - 1
                yield self._unit(rank, b.place, self._executed(less))
                yield self._unit(_LAST - 1, b.place, self._executed(more))

    def _column_of(self, comment: Entry) -> Item | None:
        """Return the column that a comment is of, if the new state has it."""
        for item in self._after.items.values():
            if item.kind == "column" and item.name == f"{comment.schema}.{comment.name[7:]}":
                return item
        return None

    # ------------------------------------------------------------------ tables

    def _columns(self, table: str) -> Iterator[tuple[Item | None, Item | None]]:
        """Yield the columns of a table in both states, the old one first."""
        olds = {each.key: each for each in self._before.parts(table, "column")}
        news = {each.key: each for each in self._after.parts(table, "column")}
        for key in [*olds, *(each for each in news if each not in olds)]:
            yield olds.get(key), news.get(key)

    def _cuts(self, old: Item | None, new: Item | None) -> bool:
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

    def _altered(self, old: Entry, new: Entry) -> Unit:
        """Return what changes a table that both have; empty where nothing does."""
        unit, filled = self._unit(_ALTERED, new.place, ()), list[str]()
        if old.statements == new.statements:
            return unit
        unit.needs = set(new.needs)
        columns = self._rendered_columns(new)
        for before, after in self._columns(new.key):
            if after is None and before is not None:
                words = f"{self._name_first(new)}, {layout.string(_bare(before))}"
                unit.up.append(f"{self._op}.drop_column({words}{self._schema_of(new)})")
            elif before is None and after is not None:
                unit.up.append(self._added(new, after, columns.get(_bare(after)), filled))
            elif before is not None and after is not None:
                unit.up += self._altered_column(new, before, after, filled)
        filled += self._checks(new)
        unit.up += self._executed([*self._settings(old, new)])
        if filled:
            needs = [unit.number, *new.needs]
            self._later.append(self._unit(_FILLED, new.place, filled, needs))
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
                self._unsaid += [] if undone else [new.key]
        yield from (each for each in new.statements[1:] if each not in old.statements)
        for aspect in ("access method", "partition key", "parents"):
            if before.get(aspect) != after.get(aspect):
                self._unsaid.append(new.key)

    def _rendered_columns(self, table: Entry) -> dict[str, ast.Call]:
        """Return the columns as Alembic renders them, by their names."""
        rendered = self._new.rendered.tables.get(table.key)
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
        waits = column.aspects["null"] == "forbidden" and not has_values
        name = quoted_if_needed(table.schema, table.name)
        own = parts(column.name)[-1]
        if waits:
            filled += self._executed([f"ALTER TABLE {name} ALTER COLUMN {own} SET NOT NULL"])
        defaults = self._entries_of(column)
        if call is None or defaults or "identity" in column.aspects:
            text = _in_sql(column, waits=waits, has_entry=bool(defaults))
            return layout.execute(f"ALTER TABLE {name} ADD COLUMN {own} {text}", self._op)
        call = tidied(ast.unparse(call), self._names)
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
            self._unsaid.append(new.key)
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
        if "null" in differ and after["null"] == "allowed":
            found.append(f"{head} DROP NOT NULL")
        elif "null" in differ:
            filled += self._executed([f"{head} SET NOT NULL"])
        if "identity" in differ and "identity" not in after:
            found.append(f"{head} DROP IDENTITY")
        elif "identity" in differ and "identity" in before:
            found.append(f"{head} SET GENERATED {after['identity'].upper()}")
        return self._executed(found)

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
                drop = self._executed([f"ALTER TABLE {name} DROP CONSTRAINT {own}"])
                self._later.append(self._unit(_FIRST, -table.place, drop))
        found = [
            f"ALTER TABLE {name} ADD CONSTRAINT "
            f"{quoted_if_needed(constraint_name(self._after.items[key]))} {news[key]}"
            for key in sorted(news)
            if news[key] != olds.get(key)
        ]
        return self._executed(found)

    # ------------------------------------------------------------------ types and sequences

    def _retyped(self, old: Entry, new: Entry) -> Iterator[str]:
        """Yield what changes a type or a sequence that both have."""
        name = quoted_if_needed(new.schema, new.name)
        if old.kind == "SEQUENCE":
            yield from self._executed(self._sequence(new, name))
        elif old.kind == "DOMAIN":
            yield from self._executed([*self._domain(new, name)])
        elif _ENUM.match(old.statements[0]) and _ENUM.match(new.statements[0]):
            before, after = (_LABEL.findall(each.statements[0]) for each in (old, new))
            if self._gets_labels(name, *(each.statements[0] for each in (old, new))):
                yield from self._executed([*_new_labels(name, before, after)])
            else:
                yield from self._executed([*self._relabelled(new, name)])
        else:
            self._unsaid.append(new.key)

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
            self._unsaid.append(new.key)
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

    # ------------------------------------------------------------------ rows

    def _row_units(self) -> Iterator[Unit]:
        """Yield what changes the rows of the tables that both have."""
        names = {(b.schema, b.name): b for a, b in self._both if a.kind == "TABLE"}
        olds = inserted.read(self._old.session, list(names), {})
        news = inserted.read(self._new.session, list(names), {})
        places = {key: place for place, key in enumerate(self._parents_first())}
        for name, entry in names.items():
            less, more = inserted.changed(olds.get(name), news.get(name))
            place = places.get(entry.key, 0)
            fired = self._fired(entry)
            if more:
                quiet = self._executed(_without(fired, more))
                yield self._unit(_ROWS, place, quiet, [entry.number])
            if less:
                yield self._unit(_FIRST, -place, self._executed(_without(fired, less)))
        sequences = {
            (b.schema, b.name): b.place
            for a, b in self._both
            if a.kind == "SEQUENCE" and a.number not in self._again
        }
        before = inserted.sequences(self._old.session, list(sequences))
        after = inserted.sequences(self._new.session, list(sequences))
        for name, statement in after.items():
            if before.get(name) != statement:
                yield self._unit(_FILLED, sequences[name], self._executed([statement]))

    def _fired(self, table: Entry) -> list[tuple[str, str]]:
        """Return the triggers of a table that rows would fire: its name, that of each."""
        name = quoted_if_needed(table.schema, table.name)
        return [
            (name, quoted_if_needed(a.name.removeprefix(f"{table.name} ")))
            for a, _ in self._both
            if a.kind == "TRIGGER"
            and a.number not in self._again
            and self._before.table_of(a) == table.key
            and "enabled" not in self._before.items[a.key].aspects
        ]

    def _parents_first(self) -> list[str]:
        """Return the keys of tables, those that others refer to first, where that can be."""
        graph: dict[str, set[str]] = {each.key: set() for each in self._after.tables()}
        for key, needs in graph.items():
            for item in self._after.parts(key, "constraint"):
                match = _REFERENCE.match(item.aspects.get("definition", ""))
                if match and f"table {match['table']}" != key:
                    needs.add(f"table {match['table']}")
        try:
            return [*TopologicalSorter(graph).static_order()]
        except CycleError:
            return [*graph]

    # ------------------------------------------------------------------ words

    def _name_first(self, table: Entry) -> str:
        return layout.string(table.name)

    def _schema_of(self, table: Entry) -> str:
        if table.schema == self._new.rendered.schema:
            return ""
        return f", schema={layout.string(table.schema)}"

    def _name_of(self, table: Entry) -> str:
        return self._name_first(table) + self._schema_of(table)


_ROUTINES = {"FUNCTION", "PROCEDURE"}


def _identity(entry: Entry) -> tuple[str, str, str]:
    """Return what makes an entry the same in two databases."""
    return entry.kind, entry.schema, entry.name


def _is_own(sequence: Entry) -> bool:
    """Tell whether it is not that of an identity, which only its column has."""
    return sequence.statements[0].startswith("CREATE")


def _head(entry: Entry) -> str:
    """Return what CREATE OR REPLACE does not change: the arguments, and what is returned."""
    return entry.statements[0].partition("\n")[0]


def _parts_of(code: str) -> list[ast.expr]:
    """Return what a table is made of in the code that makes it."""
    call = ast.parse(code, mode="eval").body
    return call.args[1:] if isinstance(call, ast.Call) else []


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


def _without(triggers: Sequence[tuple[str, str]], statements: Sequence[str]) -> list[str]:
    """Return statements that change rows without firing triggers."""
    off = [f"ALTER TABLE {table} DISABLE TRIGGER {name}" for table, name in triggers]
    on = [f"ALTER TABLE {table} ENABLE TRIGGER {name}" for table, name in triggers]
    return [*off, *statements, *on]


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
