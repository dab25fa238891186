"""What a part of a chain has changed: the difference of two databases, as code that makes it.

Of each entry of pg_dump that both have, with the same SQL, nothing is said. Tables that both have
are altered, and enums get labels: `altering`; functions are replaced; all else is dropped and made
again.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from backset.squash import inserted
from backset.squash.altering import ALTERED, FILLED, FIRST, LAST, ROWS, Altering
from backset.squash.composing import Composer, said, taken_back
from backset.text.pasted import quoted_if_needed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from backset.catalog.schema import Item
    from backset.squash.altering import ChainState
    from backset.squash.ordering import Unit
    from backset.squash.statements import Entry

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
_REFERENCE = re.compile(r"FOREIGN KEY \([^()]*\) REFERENCES (?P<table>[^()]*)\(")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alteration:
    """The code that makes one state of another. unsaid: keys of what it cannot change."""

    code: str
    plain: tuple[str, ...]
    unsaid: tuple[str, ...]


def between(old: ChainState, new: ChainState, *, rows: bool) -> Alteration:
    """Return what makes the new state of the old one."""
    found = _Difference(old, new, ()).change(rows=rows)
    # Within a transaction nothing can use a label that it has added itself.
    used = [each for each in _ADDED.finditer(found.code) if _is_used(each["label"], found.code)]
    if not used:
        return found
    return _Difference(old, new, {each["type"] for each in used}).change(rows=rows)


_ADDED = re.compile(r"ALTER TYPE (?P<type>\S+) ADD VALUE '(?P<label>(?:[^']|'')*)'")


def _is_used(label: str, code: str) -> bool:
    others = "\n".join(line for line in code.splitlines() if not _ADDED.search(line))
    return re.search(rf"(?<!\w){re.escape(label)}(?!\w)", others) is not None


class _Difference:
    """Finds what has changed. exchanged: names of enums that are not to get labels, but anew."""

    def __init__(self, old: ChainState, new: ChainState, exchanged: Collection[str]) -> None:
        self._old, self._new = old, new
        self._before, self._after = old.built, new.built
        self._op = new.rendered.op
        self._altering = Altering(old, new, exchanged)
        olds = {_identity(each): each for each in self._before.entries.values()}
        news = {_identity(each): each for each in self._after.entries.values()}
        self._come = {each.number for name, each in news.items() if name not in olds}
        self._gone = {each.number for name, each in olds.items() if name not in news}
        self._both = [(olds[name], each) for name, each in news.items() if name in olds]
        self._changed = [(a, b) for a, b in self._both if a.statements != b.statements]
        # A part of what is altered in its columns may be in the way.
        self._cut = {
            a.number
            for a, b in self._both
            if a.kind == "TABLE"
            and any(self._altering.cuts(*each) for each in self._altering.columns(a.key))
        }
        self._held = set[int]()
        self._again = self._made_again()

    def change(self, *, rows: bool) -> Alteration:
        """Return the code."""
        replaced = dict(self._replaced())
        altered = {
            b.number: self._altering.altered(a, b) for a, b in self._both if a.kind == "TABLE"
        }
        for a, b in self._changed:
            if a.kind in {"TYPE", "DOMAIN", "SEQUENCE"} and a.number not in self._again:
                altered[b.number] = self._altering.unit(
                    ALTERED - 2, b.place, [*self._altering.retyped(a, b)]
                )
        altered = {number: unit for number, unit in altered.items() if unit.up}
        again = {b.number for a, b in self._both if a.number in self._again}
        numbers = (self._come | again | replaced.keys()) - altered.keys()
        made = copy.copy(self._after)
        made.entries = {
            number: replaced.get(number, each)
            for number, each in self._after.entries.items()
            if number in numbers
        }
        composer = Composer(made, self._new.rendered, (), altered, self._altering.names)
        composer.add([*self._dropped(), *self._told(), *self._altering.later])
        if rows:
            composer.add(self._row_units())
        code, _ = composer.texts(self._new.session if rows else None)
        return Alteration(
            code=code, plain=tuple(composer.plain), unsaid=tuple(self._altering.unsaid)
        )

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
        self._held = {number for number in found if self._is_held(number, found)}
        held = [self._before.entries[each] for each in sorted(self._held)]
        self._altering.unsaid += [each.key for each in held]
        return found - self._held

    def _is_held(self, number: int, again: set[int]) -> bool:
        """Tell whether it cannot be dropped to be made anew, since something that stays needs it.

        What goes last would still be there when it is made.
        """
        if self._before.entries[number].kind in _GOES_FIRST:
            return False
        return any(
            number in each.needs
            for each in self._before.entries.values()
            if each.kind not in _SAID_OF and each.number not in self._gone | again
        )

    def _replaced(self) -> Iterator[tuple[int, Entry]]:
        """Yield functions that have changed, with what replaces them."""
        for a, b in self._changed:
            if a.kind in _ROUTINES and a.number not in self._again | self._held:
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
                up = [f"{self._op}.drop_table({self._altering.name_of(each)})"]
            elif each.kind == "ROW SECURITY":
                name = quoted_if_needed(each.schema, each.name)
                up = self._altering.executed([f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY"])
            else:
                up = self._altering.executed(each.drop)
            goes_first = each.kind in _GOES_FIRST or each.number in self._again
            rank = FIRST if goes_first else LAST
            yield self._altering.unit(rank, -each.place, up)
        for a, _ in self._both:
            if a.kind == "SEQUENCE" and a.number not in self._again and self._goes(a):
                # Of a table that was renamed the sequence stays.
                name = quoted_if_needed(a.schema, a.name)
                up = self._altering.executed([f"ALTER SEQUENCE {name} OWNED BY NONE"])
                yield self._altering.unit(FIRST - 1, a.place, up)

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
            rank = FIRST if each.kind == "DEFAULT ACL" else LAST - 1
            yield self._altering.unit(rank, each.place, self._altering.executed(up))
        for a, b in self._changed:
            if a.kind in _SAID_OF | {"DEFAULT ACL"} and a.number not in self._again:
                olds, news = said(self._before, a), said(self._after, b)
                gone = [each for each in olds if each not in news]
                less = [] if a.kind == "COMMENT" else [*map(taken_back, gone)]
                more = [each for each in news if each not in olds]
                rank = FIRST if a.kind == "DEFAULT ACL" else LAST - 1
                yield self._altering.unit(rank, b.place, self._altering.executed(less))
                yield self._altering.unit(LAST - 1, b.place, self._altering.executed(more))

    def _column_of(self, comment: Entry) -> Item | None:
        """Return the column that a comment is of, if the new state has it."""
        for item in self._after.items.values():
            if item.kind == "column" and item.name == f"{comment.schema}.{comment.name[7:]}":
                return item
        return None

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
                quiet = self._altering.executed(_without(fired, more))
                yield self._altering.unit(ROWS, place, quiet, [entry.number])
            if less:
                yield self._altering.unit(
                    FIRST, -place, self._altering.executed(_without(fired, less))
                )
        sequences = {
            (b.schema, b.name): b.place
            for a, b in self._both
            if a.kind == "SEQUENCE" and a.number not in self._again
        }
        before = inserted.sequences(self._old.session, list(sequences))
        after = inserted.sequences(self._new.session, list(sequences))
        for name, statement in after.items():
            if before.get(name) != statement:
                yield self._altering.unit(
                    FILLED, sequences[name], self._altering.executed([statement])
                )

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


def _without(triggers: Sequence[tuple[str, str]], statements: Sequence[str]) -> list[str]:
    """Return statements that change rows without firing triggers."""
    off = [f"ALTER TABLE {table} DISABLE TRIGGER {name}" for table, name in triggers]
    on = [f"ALTER TABLE {table} ENABLE TRIGGER {name}" for table, name in triggers]
    return [*off, *statements, *on]
