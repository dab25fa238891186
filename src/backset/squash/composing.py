"""Code of Alembic and SQL put together, in the order in which it can run."""

from __future__ import annotations

import ast
import keyword
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from backset.squash import inserted, layout, ordering
from backset.squash.built import BuiltObjects, constraint_name
from backset.squash.ordering import Unit
from backset.text.pasted import bare, quoted_if_needed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from backset.connections.session import Session
    from backset.migrate.answers import Rendered
    from backset.squash.statements import Entry

# In which order, where nothing else decides; what is not named is like a type.
_RANKS = {"SCHEMA": 0, "EXTENSION": 1, "SEQUENCE": 3}
_TYPE, _TABLE, _ROWS, _STANDS, _LATE, _INDEX, _VIEW, _RIGHTS = 2, 4, 5, 6, 7, 8, 9, 14
_RANKS |= dict.fromkeys(("TABLE", "FOREIGN TABLE", "TABLE ATTACH", "SEQUENCE OWNED BY"), _TABLE)
_RANKS |= dict.fromkeys(("DEFAULT", "CONSTRAINT", "CHECK CONSTRAINT"), _TABLE)
_RANKS |= {"FK CONSTRAINT": _LATE, "INDEX": _INDEX, "INDEX ATTACH": _INDEX}
_RANKS |= {"VIEW": _VIEW, "MATERIALIZED VIEW": _VIEW}
_RANKS |= dict.fromkeys(("FUNCTION", "PROCEDURE", "AGGREGATE", "OPERATOR", "CAST"), 10)
_RANKS |= dict.fromkeys(("OPERATOR CLASS", "OPERATOR FAMILY", "TRANSFORM"), 10)
_RANKS |= dict.fromkeys(("TRIGGER", "RULE", "ROW SECURITY", "POLICY"), 11)
_RANKS |= {"STATISTICS": 12, "PUBLICATION": 13, "PUBLICATION TABLE": 13, "ACL": _RIGHTS}
_RANKS |= {"DEFAULT ACL": 15, "EVENT TRIGGER": 16}
_PARTS = {  # they go with their table
    *("CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "INDEX", "DEFAULT", "TRIGGER", "POLICY"),
    *("RULE", "ROW SECURITY", "SEQUENCE OWNED BY", "TABLE ATTACH", "INDEX ATTACH", "STATISTICS"),
    *("COMMENT", "ACL", "PUBLICATION TABLE"),
}
_OF_A_TABLE = ("TABLE ", "COLUMN ")
_NO_DATA = "\n  WITH NO DATA"
_NOISE = {  # what is reflected, and says nothing
    "postgresql_include": "[]",
    "postgresql_with": "{}",
    "postgresql_ops": "{}",
    "postgresql_nulls_not_distinct": "False",
    "postgresql_using": "'btree'",
}


class Composer:
    """Puts together what stands in a database, with the code that Alembic renders of it.

    plain: the keys of what is SQL. left: keys of tables that are not to be what Alembic renders.
    altered: what is not made, but changed, by the numbers of the entries that it stands for. enums:
    the names of those that are used elsewhere, by their code.
    """

    def __init__(
        self,
        built: BuiltObjects,
        rendered: Rendered,
        left: Collection[str] = (),
        altered: Mapping[int, Unit] | None = None,
        enums: dict[str, str] | None = None,
    ) -> None:
        self._built = built
        self._rendered = rendered
        self._sa, self._op = rendered.sa, rendered.op
        self._tables = {key: each for key, each in rendered.tables.items() if key not in left}
        self._enums = {} if enums is None else enums
        self.plain: list[str] = []
        self._owner: dict[int, int] = {}  # which entry is part of the operation of which table
        self._units: dict[int, Unit] = {}
        self._next = 1 + max([*built.entries, *(altered or {})], default=0)
        self._attached = self._attachments()
        self._cover()
        self._covered: dict[int, list[Entry]] = defaultdict(list)
        for number, owner in self._owner.items():
            self._covered[owner].append(built.entries[number])
        for number, unit in (altered or {}).items():
            self._owner[number] = unit.number
            self._units[unit.number] = unit
        for each in built.entries.values():
            if each.number not in self._owner:
                self._units[each.number] = self._of_sql(each)
            elif self._owner[each.number] == each.number:
                self._units[each.number] = self._of_table(each)
        for unit in self._units.values():
            unit.needs = {self._owner.get(each, each) for each in unit.needs} & self._units.keys()
            unit.needs -= {unit.number}

    def tied(self) -> set[str]:
        """Return the keys of tables that can be made in parts only, since a circle goes through."""
        numbers = ordering.tied(self._units)
        keys = {self._built.entries[each].key for each in numbers}
        return keys & self._tables.keys()

    def texts(self, session: Session | None) -> tuple[str, str]:
        """Return the code of upgrade() and of downgrade(), with the rows that a session sees."""
        late = ordering.ends(self._units)
        for number, unit in list(self._units.items()):
            entry = self._built.entries.get(number)
            if entry is not None and entry.key in self._tables:
                names = [name for other, name in late if other == number]
                unit.up.insert(0, self._created(entry, names))
                for name in names:
                    self._add_foreign_key(entry, unit, name)
        if session is not None:
            self._add_rows(session)
        order = ordering.ordered(self._units)
        self._take_down(order)
        upgrade = [piece for unit in self._unchecked(order) for piece in unit.up]
        enums = [layout.call(code, f"{name} = ") for code, name in self._enums.items()]
        downgrade = [piece for unit in reversed(order) for piece in unit.down]
        return layout.joined([*enums, *upgrade]) or "pass", layout.joined(downgrade) or "pass"

    def _attachments(self) -> dict[int, set[int]]:
        """Return the numbers of the entries that attach a partition, by those of the tables."""
        found = defaultdict(set)
        for each in self._built.entries.values():
            if each.kind == "TABLE ATTACH":
                for need in each.needs:
                    found[need].add(each.number)
        return found

    def _cover(self) -> None:
        """Note which entries the operation of a table makes as well."""
        built = self._built
        tables = {each.key: each.number for each in built.tables() if each.key in self._tables}
        sequences = {
            key: number for table, number in tables.items() for key in built.covered(table)
        }
        for each in built.entries.values():
            first = each.needs[0] if each.needs else 0
            number = tables.get(each.key) or sequences.get(each.key)
            if each.kind == "COMMENT" and each.name.startswith(_OF_A_TABLE):
                number = first if first in tables.values() else None
            elif each.kind == "SEQUENCE OWNED BY":
                owned = built.entries.get(first)
                number = sequences.get(owned.key) if owned else None
            elif each.kind == "DEFAULT":
                number = tables.get(built.table_of(each))
            elif each.kind.endswith("CONSTRAINT"):
                table, item = built.table_of(each), built.items.get(each.key)
                if item and table in tables:
                    is_in_it = constraint_name(item) in self._tables[table].constraints
                    number = tables[table] if is_in_it else None
            if number is not None:
                self._owner[each.number] = number

    def _needs(self, entry: Entry) -> set[int]:
        """Return the numbers of the units that an entry needs."""
        return {self._owner.get(each, each) for each in entry.needs}

    def _of_table(self, entry: Entry) -> Unit:
        """Return the unit of a table that is an operation, without that itself."""
        built = self._built
        unit = Unit(number=entry.number, rank=_TABLE, place=(entry.place, 0))
        for part in self._covered[entry.number]:
            unit.up += self._executed(part.statements[1:] if part.kind != "COMMENT" else ())
            if part.kind == "FK CONSTRAINT":
                name = constraint_name(built.items[part.key])
                unit.loose[name] = self._needs(part) & built.entries.keys()
            else:
                unit.needs |= self._needs(part)
        for item in built.beside(entry.key):
            if item.key not in built.by_key:
                table = quoted_if_needed(entry.schema, entry.name)
                added = f"ADD CONSTRAINT {quoted_if_needed(constraint_name(item))}"
                definition = item.aspects["definition"]
                unit.up += self._executed([f"ALTER TABLE {table} {added} {definition}"])
        return unit

    def _of_sql(self, entry: Entry) -> Unit:
        """Return the unit of an entry that is SQL, or an index that Alembic renders."""
        needs, whole = self._needs(entry), self._whole(entry)
        if whole is not None and entry.kind in {"CONSTRAINT", "INDEX"}:
            needs |= self._attached[whole.number]
        if whole is not None and entry.kind == "SEQUENCE OWNED BY":
            needs.add(self._owner.get(whole.number, whole.number))
        if entry.kind == "SEQUENCE" and entry.statements[0].startswith("CREATE"):
            # pg_dump has the sequence of a column behind its table; its default needs it before.
            needs -= {each.number for each in self._built.tables()}
        up = self._executed(said(self._built, entry))
        index = self._rendered.indexes.get(entry.key)
        if index is not None:
            up[0] = layout.call(tidied(index, self._enums))
        elif entry.key and entry.kind != "DEFAULT":
            self.plain.append(entry.key)
        place = (entry.place if whole is None else whole.place, entry.place)
        rank = _rank(entry, whole)
        return Unit(number=entry.number, rank=rank, place=place, needs=needs, up=up)

    def _whole(self, entry: Entry) -> Entry | None:
        """Return what an entry is a part of, or says something of."""
        built = self._built
        first = built.entries.get(entry.needs[0]) if entry.needs else None
        if first is not None and entry.kind == "SEQUENCE OWNED BY":
            return built.by_key.get(built.table_of(first))
        if first is not None and (entry.kind == "COMMENT" or first.kind == "DOMAIN"):
            return first
        return built.by_key.get(built.table_of(entry))

    def _executed(self, found: Iterable[str]) -> list[str]:
        return [layout.execute(each, self._op) for each in found]

    def _created(self, entry: Entry, late: Collection[str]) -> str:
        """Return the operation that makes a table, less the foreign keys that come later."""
        call = tidied(self._tables[entry.key].code, self._enums)
        call.args = [each for each in call.args if _foreign_key(each) not in late]
        return layout.call(call)

    def _add_foreign_key(self, entry: Entry, table: Unit, name: str) -> None:
        """Let a foreign key of a table be made on its own."""
        number = self._new()
        up = [layout.call(self._tables[entry.key].foreign[name])]
        needs = {table.number, *table.loose[name]}
        place = (entry.place, number)
        unit = Unit(number=number, rank=_LATE, place=place, needs=needs, up=up)
        words = [layout.string(name), layout.string(entry.name)]
        if entry.schema != self._rendered.schema:
            words.append(f"schema={layout.string(entry.schema)}")
        words.append('type_="foreignkey"')
        unit.down.append(layout.call(f"{self._op}.drop_constraint({', '.join(words)})"))
        self._units[number] = unit

    def add(self, units: Iterable[Unit]) -> None:
        """Put more units among them; a number below zero becomes one of its own."""
        for unit in units:
            unit.needs = {self._owner.get(each, each) for each in unit.needs} & self._units.keys()
            self._units[unit.number] = unit

    def _new(self) -> int:
        self._next += 1
        return self._next - 1

    def _add_rows(self, session: Session) -> None:
        """Insert the rows, each table's behind those that it refers to, and set the sequences."""
        built = self._built
        # A partitioned table has none of its own.
        tables = {(each.schema, each.name): each for each in built.tables()}
        found = inserted.read(session, list(tables), self._parents())
        numbers = {tables[name].number: self._new() for name in found}
        for name, rows in found.items():
            entry = tables[name]
            own = self._units[entry.number]
            foreign = {each for others in own.loose.values() for each in others & own.needs}
            needs = {entry.number} | {numbers[each] for each in foreign if each in numbers}
            number = numbers[entry.number]
            place = (entry.place, number)
            up = rows.code(self._rendered.schema, self._sa, self._op)
            self._units[number] = Unit(
                number=number, rank=_ROWS, place=place, needs=needs | self._columns_of(entry), up=up
            )
        self._set_sequences(session, set(numbers.values()))
        self._check_now(set(numbers), set(numbers.values()))

    def _check_now(self, tables: set[int], rows: set[int]) -> None:
        """Let constraints that wait for COMMIT look at the rows.

        PostgreSQL alters no table as long as such a check is pending.
        """
        items = self._built.items.values()
        keys = {self._built.entries[each].key for each in tables}
        waiting = [
            quoted_if_needed(self._built.by_key[each.parent].schema, constraint_name(each))
            for each in items
            if each.parent in keys
            and each.aspects.get("definition", "").endswith("INITIALLY DEFERRED")
            and self._is_there(each.key)
        ]
        if waiting:
            names = ", ".join(waiting)
            both = [f"SET CONSTRAINTS {names} {each}" for each in ("IMMEDIATE", "DEFERRED")]
            number = self._new()
            self._units[number] = Unit(
                number=number,
                rank=_STANDS,
                place=(number, number),
                needs=rows,
                up=self._executed(both),
            )

    def _is_there(self, constraint: str) -> bool:
        """Tell whether a constraint is made with its table, before there are rows."""
        entry = self._built.by_key.get(constraint)
        if entry is None:
            return True
        unit = self._units.get(self._owner.get(entry.number, entry.number))
        if unit is None or unit.rank > _ROWS:
            return False
        name = constraint_name(self._built.items[constraint])
        return unit.loose.get(name, set()) - {unit.number} <= unit.needs

    def _columns_of(self, entry: Entry) -> set[int]:
        """Return the units that make a table whole: columns, partitions."""
        return {
            each.number
            for each in self._built.entries.values()
            if each.number in self._units
            and each.kind in {"SEQUENCE", "TABLE ATTACH", "DEFAULT"}
            and (self._built.table_of(each) == entry.key or entry.number in each.needs)
        }

    def _parents(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """Return the columns of tables that refer to another one of the same table, in pairs."""
        found = defaultdict(list)
        for table in self._built.tables():
            for item in self._built.parts(table.key, "constraint"):
                match = _TO_ONE.match(item.aspects.get("definition", ""))
                if match and f"table {match['table']}" == table.key:
                    pair = bare(match["own"]), bare(match["other"])
                    found[table.schema, table.name].append(pair)
        return found

    def _set_sequences(self, session: Session, rows: set[int]) -> None:
        built = self._built
        entries = {
            (each.schema, each.name): each
            for each in built.entries.values()
            if each.kind == "SEQUENCE"
        }
        for name, statement in inserted.sequences(session, list(entries)).items():
            entry, number = entries[name], self._new()
            needs = rows | {self._owner.get(entry.number, entry.number)}
            self._units[number] = Unit(
                number=number,
                rank=_STANDS,
                place=(entry.place, number),
                needs=needs,
                up=self._executed([statement]),
            )

    def _unchecked(self, order: Sequence[Unit]) -> Sequence[Unit]:
        """Let functions be made before what their bodies name, where that comes later.

        Of a body that is a text PostgreSQL notes no dependency; it only looks whether all is there.
        """
        later: set[str] = set()
        for unit in reversed(order):
            entry = self._built.entries.get(unit.number)
            if entry is None or not entry.key:
                continue
            if entry.kind in _ROUTINES and _AS_TEXT.search(entry.statements[0]):
                words = re.findall(r"\w+", entry.statements[0])
                own = entry.name.partition("(")[0]
                if later.intersection(words) - {own}:
                    unit.up[:0] = self._executed([_CHECKS.format("off")])
                    unit.up += self._executed([_CHECKS.format("on")])
            if entry.kind not in _PARTS:
                later.add(entry.name.partition("(")[0])
        return order

    def _take_down(self, order: Sequence[Unit]) -> None:
        """Give each unit what drops it, unless it goes with another one."""
        built = self._built
        places = {unit.number: place for place, unit in enumerate(order)}
        owned = {
            each.needs[0] for each in built.entries.values() if each.kind == "SEQUENCE OWNED BY"
        }
        for unit in order:
            entry = built.entries.get(unit.number)
            if entry is None or entry.number in owned:
                continue
            if entry.kind == "TABLE":
                words = [layout.string(entry.name)]
                if entry.schema != self._rendered.schema:
                    words.append(f"schema={layout.string(entry.schema)}")
                unit.down.append(layout.call(f"{self._op}.drop_table({', '.join(words)})"))
            elif entry.kind == "DEFAULT ACL":
                unit.down += self._executed(map(taken_back, said(self._built, entry)))
            elif entry.kind not in _PARTS or self._holds_up(entry, unit, places):
                unit.down += self._executed(entry.drop)

    def _holds_up(self, entry: Entry, unit: Unit, places: dict[int, int]) -> bool:
        """Tell whether a part of a table keeps something from being dropped before that table."""
        if entry.kind in {"COMMENT", "ACL"}:
            return False
        built = self._built
        needed = (built.entries[each] for each in entry.needs if each in built.entries)
        tables = [each for each in needed if each.kind == "TABLE"]  # of a partition's parts
        whole = built.by_key.get(built.table_of(entry)) or next(iter(tables), None)
        if whole is None or whole.number not in places:
            return True
        place = places[whole.number]
        return any(places.get(each, 0) > place for each in unit.needs) and entry.kind not in {
            *("CONSTRAINT", "INDEX ATTACH", "TABLE ATTACH", "INDEX")
        }


def said(built: BuiltObjects, entry: Entry) -> Sequence[str]:
    """Return the statements of an entry; whoever runs the migration is the owner of all."""
    user = built.user
    if entry.kind == "MATERIALIZED VIEW":
        item = built.items.get(entry.key)
        if item is not None and "populated" not in item.aspects:
            first, *others = entry.statements
            return [first.removesuffix(_NO_DATA), *others]
    if entry.kind == "DEFAULT ACL":
        own = f"ALTER DEFAULT PRIVILEGES FOR ROLE {user} "
        usual = "ALTER DEFAULT PRIVILEGES "
        return [
            usual + each.removeprefix(own) if each.startswith(own) else each
            for each in entry.statements
        ]
    if entry.kind == "ACL":
        whom = re.compile(rf" (TO|FROM) {re.escape(user)}(?= WITH GRANT OPTION$|$)")
        return [whom.sub(r" \1 CURRENT_USER", each) for each in entry.statements]
    if entry.method:
        before = f"SET LOCAL default_table_access_method = {quoted_if_needed(entry.method)}"
        return [before, *entry.statements, "SET LOCAL default_table_access_method TO DEFAULT"]
    return entry.statements


def _rank(entry: Entry, whole: Entry | None) -> int:
    """Return when an entry comes, where nothing else decides."""
    if entry.statements[0].endswith("NOT VALID"):
        return _LATE  # the rows need not obey it
    if entry.kind == "SEQUENCE" and not entry.statements[0].startswith("CREATE"):
        return _TABLE  # it is that of an identity
    if entry.kind in {"COMMENT", "INDEX", "CHECK CONSTRAINT"} and whole and whole.kind != "TABLE":
        return _RANKS.get(whole.kind, _TYPE)
    return _RANKS.get(entry.kind, _TYPE)


_ROUTINES = {"FUNCTION", "PROCEDURE"}
_CHECKS = "SET LOCAL check_function_bodies = {}"
_AS_TEXT = re.compile(r"\n    AS ")
_TO_ONE = re.compile(
    r"FOREIGN KEY \((?P<own>[^(),]*)\) REFERENCES (?P<table>[^()]*)\((?P<other>[^(),]*)\)"
)


def taken_back(statement: str) -> str:
    """Return what takes back a privilege, or a default one."""
    head, verb, rest = re.split(r"\b(GRANT|REVOKE)\b", statement, maxsplit=1)
    rest = rest.removesuffix(" WITH GRANT OPTION")
    other, words = (
        ("REVOKE", (" TO ", " FROM ")) if verb == "GRANT" else ("GRANT", (" FROM ", " TO "))
    )
    return f"{head}{other}{words[1].join(rest.rsplit(words[0], 1))}"


def _foreign_key(node: ast.expr) -> str:
    """Return the name of the foreign key that a part of a table is; nothing if it is none."""
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ForeignKeyConstraint"):
        return next((_text(each.value) for each in node.keywords if each.arg == "name"), "")
    return ""


def _text(node: ast.expr) -> str:
    """Return the text that a string is, or that op.f() gets."""
    if isinstance(node, ast.Call) and node.args:
        node = node.args[0]
    return str(node.value) if isinstance(node, ast.Constant) else ""


def tidied(code: str, names: dict[str, str]) -> ast.Call:
    """Return a call that Alembic has rendered, less what it says without need."""
    call = _Tidying(names).visit(ast.parse(code, mode="eval").body)
    assert isinstance(call, ast.Call)  # noqa: S101  (an operation is one)
    return call


class _Tidying(ast.NodeTransformer):
    """Puts a name in the place of each enum; names: those, by the code."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Replace an enum, and leave out what says nothing."""
        self.generic_visit(node)
        node.keywords = [
            each for each in node.keywords if _NOISE.get(each.arg or "") != ast.unparse(each.value)
        ]
        if ast.unparse(node.func) != "postgresql.ENUM":
            return node
        code = ast.unparse(node)
        if code not in self._names:
            name = next(_text(each.value) for each in node.keywords if each.arg == "name")
            self._names[code] = self._free(name)
        return ast.Name(self._names[code])

    def _free(self, name: str) -> str:
        """Return a name of Python that is not taken."""
        name = re.sub(r"\W", "_", name)
        if keyword.iskeyword(name) or not name.isidentifier() or name in {"op", "sa", "postgresql"}:
            name = f"{name}_" if name.isidentifier() else f"enum_{name}"
        while name in self._names.values():
            name += "_"
        return name
