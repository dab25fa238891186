"""What a chain has built: the entries of pg_dump, together with the objects in words."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from backset.catalog import schema
from backset.text.pasted import bare, parts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from backset.catalog.schema import Item
    from backset.connections.session import Session
    from backset.squash.statements import Entry

# What can be said of a constraint in an operation, and is reflected.
_SIMPLE = re.compile(
    r"""
      PRIMARY\ KEY\ \([^()]*\)
    | UNIQUE\ \([^()]*\)
    | FOREIGN\ KEY\ \([^()]*\)\ REFERENCES\ [^()]*\([^()]*\)
      (\ ON\ (UPDATE|DELETE)\ (CASCADE|RESTRICT|SET\ NULL|SET\ DEFAULT))*
      (\ DEFERRABLE(\ INITIALLY\ DEFERRED)?)?
    | CHECK\ \(.*\)
    """,
    re.VERBOSE | re.DOTALL,
)
_KEY = re.compile(r"PRIMARY KEY|UNIQUE")
_NAMED = re.compile(r'(?P<name>"(?:[^"]|"")*"|[^ "]+) on ')
# What of a table an operation can say, or is said beside it.
_SAYABLE = {"owner", "rights", "comment", "row security", "replica identity"}
_MAXIMA = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}
_SILENT = {"ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES"}
_OF_OTHERS = {"ACL": "rights", "COMMENT": "comment"}
# Behind an expression; what stands in one that looks so only makes it SQL, too.
_ORDERED = re.compile(r" COLLATE |\) (?!INCLUDE |WHERE |WITH |NULLS NOT )[A-Za-z_\"]")
_AGAIN = "CREATE OR REPLACE VIEW "
_DEFAULT = "default value for "


class BuiltObjects:
    """The entries but for those of version tables, and of what was there before the migrations.

    items: the objects as `catalog.schema` has them; by_key: the entries of these. user: the role
    that has made them, as SQL has it.
    """

    def __init__(
        self,
        session: Session,
        entries: Sequence[Entry],
        items: Mapping[str, Item],
        before: Mapping[str, Item],
        spare: Collection[tuple[str, str]],
    ) -> None:
        self.items = items
        self._parts: dict[tuple[str, str], list[Item]] = {}
        for item in items.values():
            self._parts.setdefault((item.parent, item.kind), []).append(item)
        self._before = before
        (user,) = session.execute("SELECT quote_ident(current_user)").fetchone() or ("",)
        self.user = str(user)
        left = schema.keys(session, spare)
        self._there = {*left, *(f"schema {_quoted(name)}" for name, _ in spare), *before}
        self.entries: dict[int, Entry] = {}
        gone: dict[int, str] = {}
        for each in entries:
            if self._is_left_out(each, gone, left):
                gone[each.number] = each.key
            else:
                self.entries[each.number] = each
        self._join_views()
        self.by_key = {each.key: each for each in self.entries.values() if each.key}

    def _is_left_out(self, entry: Entry, gone: Mapping[int, str], left: set[str]) -> bool:
        if entry.kind in _SILENT or entry.key in self._there:
            return True
        if left.intersection(gone.get(each, "") for each in entry.needs):
            return True  # it is a part of a version table
        if entry.kind == "COMMENT" and entry.name.startswith("EXTENSION "):
            return True  # it brings that along
        if entry.kind not in _OF_OTHERS:
            return entry.kind == "SEQUENCE OWNED BY" and entry.needs[0] in gone
        if entry.needs and entry.needs[0] not in gone:
            return False
        key = gone.get(entry.needs[0], "") if entry.needs else _schema_in(entry.name)
        old, new = self._before.get(key), self.items.get(key)
        aspect = _OF_OTHERS[entry.kind]
        return not (old and new) or old.aspects.get(aspect) == new.aspects.get(aspect)

    def _join_views(self) -> None:
        """Take a view whole: where it needs a primary key, pg_dump makes an empty one before."""
        for rule in [each for each in self.entries.values() if each.kind == "RULE"]:
            if not rule.statements[0].startswith(_AGAIN):
                continue
            number = next(each for each in rule.needs if self.entries[each].kind == "VIEW")
            view = self.entries[number]
            made = "CREATE " + rule.statements[0].removeprefix("CREATE OR REPLACE ")
            statements = (made, *rule.statements[1:], *view.statements[1:])
            needs = tuple({*view.needs, *rule.needs} - {number})
            self.entries[number] = replace(view, statements=statements, needs=needs)
            del self.entries[rule.number]
            for each in list(self.entries.values()):
                if rule.number in each.needs:
                    others = tuple(number if n == rule.number else n for n in each.needs)
                    self.entries[each.number] = replace(each, needs=others)

    def table_of(self, entry: Entry) -> str:
        """Return the key of what an entry is a part of, if it is."""
        if entry.key.startswith(_DEFAULT):
            entry_key = f"column {entry.key.removeprefix(_DEFAULT)}"
        else:
            entry_key = entry.key
        item = self.items.get(entry_key)
        return item.parent if item else ""

    def parts(self, table: str, kind: str) -> list[Item]:
        """Return the parts of one kind that a table has."""
        return self._parts.get((table, kind), [])

    def tables(self) -> Iterator[Entry]:
        """Yield the entries of tables."""
        yield from (each for each in self.entries.values() if each.kind == "TABLE")

    def wanted(self, plain: Collection[str]) -> dict[str, object]:
        """Return what Alembic is asked for, as alembic_worker.rendering has it.

        plain: keys of what is not.
        """
        tables = [
            each for each in self.tables() if each.key not in plain and self.can_be_said(each)
        ]
        indexes = [
            each
            for each in self.entries.values()
            if each.kind == "INDEX" and each.key not in plain and self._is_of_a_table(each)
        ]
        return {
            "tables": [
                {
                    "key": each.key,
                    "schema": each.schema,
                    "name": each.name,
                    "without": [constraint_name(item) for item in self.beside(each.key)],
                    "columns": {
                        bare(parts(item.name)[-1]): self._column(each, item)
                        for item in self.parts(each.key, "column")
                    },
                }
                for each in tables
            ],
            "indexes": [
                {
                    "key": each.key,
                    "schema": each.schema,
                    "table": self.by_key[self.table_of(each)].name,
                    "name": each.name,
                }
                for each in indexes
            ],
        }

    def _is_of_a_table(self, index: Entry) -> bool:
        """Tell whether SQLAlchemy sees all of the index: of a table without partitions.

        Of an expression it sees neither the order nor the operator class.
        """
        if _ORDERED.search(index.statements[0].partition(" USING ")[2]):
            return False
        entry, item = self.by_key.get(self.table_of(index)), self.items.get(self.table_of(index))
        if entry is None or item is None or entry.kind != "TABLE":
            return False
        return not {"bounds", "partition key"} & item.aspects.keys()

    def can_be_said(self, entry: Entry) -> bool:
        """Tell whether a table can be one operation of Alembic."""
        item = self.items.get(entry.key)
        if item is None or entry.method or set(item.aspects) - _SAYABLE:
            return False
        beside = self.beside(entry.key)
        return not any(is_primary(each) or _is_of_not_null(each) for each in beside) and all(
            self._is_usual(each) for each in self.parts(entry.key, "sequence")
        )

    def beside(self, table: str) -> list[Item]:
        """Return the constraints of a table that cannot be said within op.create_table().

        Of two keys of the same columns in one CREATE TABLE, PostgreSQL makes the first one alone.
        """
        found, seen = [], set()
        for each in sorted(self.parts(table, "constraint"), key=is_primary, reverse=True):
            definition = each.aspects.get("definition", "")
            columns = definition.partition(" (")[2] if _KEY.match(definition) else None
            if columns in seen or not _SIMPLE.fullmatch(definition):
                found.append(each)
            elif columns:
                seen.add(columns)
        return found

    def _is_usual(self, sequence: Item) -> bool:
        """Tell whether a sequence of an identity has the name that PostgreSQL gives it."""
        column = self._column_of(sequence)
        if column is None or "identity" not in column.aspects:
            return True
        return sequence.name == _usual_name(column) and "comment" not in sequence.aspects

    def _column_of(self, sequence: Item) -> Item | None:
        return self.items.get(f"column {sequence.aspects.get('column', '')}")

    def _column(self, entry: Entry, column: Item) -> dict[str, bool]:
        type_ = self.items.get(f"type {column.aspects['type']}")
        return {
            "serial": column.key in self.serials(entry.key),
            "default": "default" in column.aspects,
            "null": column.aspects["null"] == "allowed",
            "domain": "type" in (type_.aspects if type_ else {}),
            "collation": "collation" in column.aspects,
        }

    def covered(self, table: str) -> set[str]:
        """Return the keys of the sequences that the columns of a table bring along."""
        identities = {
            each.key
            for each in self.parts(table, "sequence")
            if (column := self._column_of(each)) and "identity" in column.aspects
        }
        return identities | set(self.serials(table).values())

    def serials(self, table: str) -> dict[str, str]:
        """Return the keys of columns of the primary key that SERIAL would make alike.

        Each with that of its sequence.
        """
        found = {}
        keys = [each for each in self.parts(table, "constraint") if is_primary(each)]
        for sequence in self.parts(table, "sequence"):
            column = self._column_of(sequence)
            if column is None or "identity" in column.aspects:
                continue
            type_ = column.aspects["type"]
            usual = {"type": type_, "start": "1", "increment": "1", "minimum": "1", "cache": "1"}
            usual["maximum"] = str(_MAXIMA.get(type_, ""))
            text = sequence.name.replace("'", "''")
            is_alike = (
                column.aspects.get("default") == f"nextval('{text}'::regclass)"
                and all(sequence.aspects.get(each) == value for each, value in usual.items())
                and not {"cycle", "comment"} & sequence.aspects.keys()
            )
            is_key = any(parts(column.name)[-1] in _columns_of(each) for each in keys)
            if is_key and is_alike and sequence.name == _usual_name(column):
                found[column.key] = sequence.key
        return found


def is_primary(constraint: Item) -> bool:
    """Tell whether it is a primary key."""
    return constraint.aspects.get("definition", "").startswith("PRIMARY KEY")


def _is_of_not_null(constraint: Item) -> bool:
    """Tell whether it says more of a NOT NULL than a column can: it is one of these alone."""
    return constraint.aspects.get("definition", "").startswith("NOT NULL")


def constraint_name(item: Item) -> str:
    """Return the name of a constraint, of `name on schema.table`."""
    match = _NAMED.match(item.name)
    return bare(match["name"]) if match else item.name


def _columns_of(constraint: Item) -> list[str]:
    return constraint.aspects["definition"].partition("(")[2].partition(")")[0].split(", ")


def _usual_name(column: Item) -> str:
    """Return the name that PostgreSQL gives to the sequence of a column."""
    place, table, name = map(bare, parts(column.name))
    return f"{_quoted(place)}.{_quoted(f'{table}_{name}_seq')}"


def _quoted(name: str) -> str:
    """Return a name as the server quotes it, but for words of SQL."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def _schema_in(name: str) -> str:
    kind, _, rest = name.partition(" ")
    return f"schema {_quoted(rest)}" if kind == "SCHEMA" else ""
