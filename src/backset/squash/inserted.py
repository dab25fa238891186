"""The rows that migrations have inserted, and where sequences stand, as code that does it again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from psycopg import sql

from backset.catalog.catalog import SETTINGS
from backset.squash import layout
from backset.text.pasted import literal, quoted_if_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backset.connections.session import Session

    Row = tuple[str | None, ...]
    Name = tuple[str, str]

DEFAULT = "DEFAULT"
_TOGETHER = 500  # rows of one INSERT


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumn:
    """A column that takes values: its name, its type without what is in parentheses.

    is_identity: whether that is given always. is_clock: whether the default is the time; is_random:
    whether it is made at random.
    """

    name: str
    type: str
    is_identity: bool
    is_clock: bool
    is_random: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertedRows:
    """The rows of one table: what each column has in text, as the server writes it.

    DEFAULT stands for the time at which the row was inserted. key: the columns of the primary key.
    """

    table: Name
    columns: Sequence[TableColumn]
    key: Sequence[str]
    rows: Sequence[Row]

    def code(self, schema: str = "", sa: str = "sa", op: str = "op") -> list[str]:
        """Return the code that inserts them: as a list of dictionaries where that is exact.

        schema: the one that need not be named. sa, op: what SQLAlchemy and Alembic are called.
        """
        told = self._without_clocks()
        if all(each.type in _SIMPLE and not each.is_identity for each in told.columns):
            return [told._operation(schema, sa, op)]  # noqa: SLF001  (it is one of these)
        return [layout.execute(each, op) for each in told.statements(told.rows)]

    def statements(self, rows: Sequence[Row]) -> list[str]:
        """Return the SQL that inserts some rows of it."""
        pieces = range(0, len(rows), _TOGETHER)
        return [self._insert(rows[at : at + _TOGETHER]) for at in pieces]

    def by_key(self) -> dict[Row, Row]:
        """Return the rows by the values of the primary key."""
        places = [number for number, each in enumerate(self.columns) if each.name in self.key]
        return {tuple(row[place] for place in places): row for row in self.rows}

    def where(self, key: Row) -> str:
        """Return the condition that a row has these values of the primary key."""
        columns = [each for each in self.columns if each.name in self.key]
        pairs = zip(columns, key, strict=True)
        return " AND ".join(f"{quoted_if_needed(c.name)} = {_in_sql(c, v or '')}" for c, v in pairs)

    def assigned(self, old: Mapping[str, str | None], row: Row) -> str:
        """Return the new values of a row, of those columns in which it was another; or nothing."""
        pairs = zip(self.columns, row, strict=True)
        return ", ".join(
            f"{quoted_if_needed(each.name)} = {'NULL' if value is None else _in_sql(each, value)}"
            for each, value in pairs
            if old.get(each.name) != value and not each.is_random
        )

    def is_row(self, row: Row) -> str:
        """Return the condition that a row has these values."""
        pairs = zip(self.columns, row, strict=True)
        return " AND ".join(
            f"{quoted_if_needed(each.name)} {'IS NULL' if value is None else '= '}"
            + ("" if value is None else _in_sql(each, value))
            for each, value in pairs
            if value != DEFAULT
        )

    def without_random(self) -> InsertedRows:
        """Leave out the columns that each build fills anew."""
        return self._only([n for n, each in enumerate(self.columns) if not each.is_random])

    def _without_clocks(self) -> InsertedRows:
        """Leave out the columns that every row has by default."""
        kept = [
            place
            for place, each in enumerate(self.columns)
            if not (each.is_clock and all(row[place] == DEFAULT for row in self.rows))
        ]
        return self._only(kept)

    def _only(self, kept: Sequence[int]) -> InsertedRows:
        columns = [self.columns[place] for place in kept]
        rows = [tuple(row[place] for place in kept) for row in self.rows]
        return replace(self, columns=columns, rows=rows)

    def _operation(self, default: str, sa: str, op: str) -> str:
        schema, name = self.table
        columns = [(layout.string(each.name), _SIMPLE[each.type][0]) for each in self.columns]
        words = [layout.string(name), *(f"{sa}.column({a}, {sa}.{b}())" for a, b in columns)]
        if schema != default:
            words.append(f"schema={layout.string(schema)}")
        table = f"{sa}.table({', '.join(words)})"
        rows = ", ".join(f"{{{', '.join(self._items(row))}}}" for row in self.rows)
        return layout.call(f"{op}.bulk_insert({table}, [{rows}])")

    def _items(self, row: Row) -> list[str]:
        pairs = zip(self.columns, row, strict=True)
        return [
            f"{each.name!r}: {None if value is None else _SIMPLE[each.type][1](value)}"
            for each, value in pairs
        ]

    def _insert(self, rows: Sequence[Row]) -> str:
        names = ", ".join(quoted_if_needed(each.name) for each in self.columns)
        is_given = any(each.is_identity for each in self.columns)
        given = " OVERRIDING SYSTEM VALUE" if is_given else ""
        name = quoted_if_needed(*self.table)
        lines = ",\n".join(f"    ({', '.join(self._literals(row))})" for row in rows)
        return f"INSERT INTO {name} ({names}){given} VALUES\n{lines}"

    def _literals(self, row: Row) -> list[str]:
        return [
            "NULL" if value is None else _in_sql(each, value)
            for each, value in zip(self.columns, row, strict=True)
        ]


def _in_sql(column: TableColumn, value: str) -> str:
    if value == DEFAULT and column.is_clock:
        return DEFAULT
    return _IN_SQL.get(column.type, literal)(value)


def _plain(value: str) -> str:
    return value


_SIMPLE: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "smallint": ("SmallInteger", _plain),
    "integer": ("Integer", _plain),
    "bigint": ("BigInteger", _plain),
    "text": ("Text", layout.string),
    "character varying": ("String", layout.string),
    "boolean": ("Boolean", lambda value: str(value == "true")),
}
_IN_SQL: Mapping[str, Callable[[str], str]] = {
    **dict.fromkeys(("smallint", "integer", "bigint", "boolean"), _plain)
}


def read(
    session: Session, tables: Sequence[Name], parents: Mapping[Name, Sequence[tuple[str, str]]]
) -> dict[Name, InsertedRows]:
    """Return the rows of those tables that have some.

    parents: columns of a table that refer to another column of it, in pairs: the rows come in an
    order in which the one that is referred to is there before.
    """
    found = {}
    with session.transaction():
        session.execute(SETTINGS.encode())
        for table in tables:
            columns, keys = _columns(session, table)
            rows = _rows(session, table, columns, keys)
            if rows:
                for pair in parents.get(table, ()):
                    rows = _ordered(rows, columns, pair)
                found[table] = InsertedRows(table=table, columns=columns, key=keys, rows=rows)
    return found


def changed(old: InsertedRows | None, new: InsertedRows | None) -> tuple[list[str], list[str]]:
    """Return the SQL that removes rows, and the SQL that inserts and changes others."""
    if old is None or new is None:
        return _removed(old, old.rows) if old else [], new.statements(new.rows) if new else []
    if any(each.is_random and each.name in new.key for each in new.columns):
        return _changed_at_random(old.without_random(), new.without_random())
    if not (old.key and list(old.key) == list(new.key)):
        is_same = old.columns == new.columns and sorted(old.rows, key=str) == sorted(
            new.rows, key=str
        )
        return ([], []) if is_same else (_removed(old, old.rows), new.statements(new.rows))
    before, after = old.by_key(), new.by_key()
    less = _removed(old, [row for key, row in before.items() if key not in after])
    more = new.statements([row for key, row in after.items() if key not in before])
    name = quoted_if_needed(*new.table)
    names = [each.name for each in old.columns]
    for key in after:
        if key in before:
            known = dict(zip(names, before[key], strict=True))
            if text := new.assigned(known, after[key]):
                more.append(f"UPDATE {name} SET {text} WHERE {new.where(key)}")
    return less, more


def _changed_at_random(old: InsertedRows, new: InsertedRows) -> tuple[list[str], list[str]]:
    """Return the same where each build gives the rows other keys."""
    before, after = Counter(old.rows), Counter(new.rows)
    name = quoted_if_needed(*old.table)
    less = [f"DELETE FROM {name} WHERE {old.is_row(each)}" for each in before - after]
    return less, new.statements([*(after - before).elements()])


def _removed(old: InsertedRows, rows: Sequence[Row]) -> list[str]:
    name = quoted_if_needed(*old.table)
    if not old.key:
        return [f"DELETE FROM {name}"] if rows else []
    by_key = {row: key for key, row in old.by_key().items()}
    return [f"DELETE FROM {name} WHERE {old.where(by_key[row])}" for row in rows]


def _columns(session: Session, table: Name) -> tuple[list[TableColumn], list[str]]:
    """Return the columns that take values, and the names of those that the primary key has."""
    rows = session.execute(_COLUMNS, table).fetchall()
    columns = [
        TableColumn(**dict(zip(_FIELDS, row, strict=False)))  # the place in the key is the last
        for row in rows
    ]
    keys = [(place, name) for name, *_, place in rows if place is not None]
    return columns, [name for _, name in sorted(keys)]


def _rows(
    session: Session, table: Name, columns: Sequence[TableColumn], keys: Sequence[str]
) -> list[Row]:
    """Return the rows in the order of the primary key, else in that in which they are stored."""
    texts = [_TEXT[each.is_clock].format(sql.Identifier(each.name)) for each in columns]
    # Without its table, a name would be that of the text which is selected.
    order = sql.SQL(", ").join(sql.Identifier("own", each) for each in keys or ["ctid"])
    query = sql.SQL("SELECT {} FROM ONLY {} AS own ORDER BY {}")
    name = sql.Identifier(*table)
    return session.execute(query.format(sql.SQL(", ").join(texts), name, order)).fetchall()


def _ordered(rows: list[Row], columns: Sequence[TableColumn], pair: tuple[str, str]) -> list[Row]:
    """Put each row behind the one that it refers to; leave rows that go in a circle."""
    names = [each.name for each in columns]
    own, other = (names.index(each) for each in pair)
    by_value = {row[other]: number for number, row in enumerate(rows)}
    graph = {
        number: [by_value[row[own]]] if row[own] in by_value else []
        for number, row in enumerate(rows)
    }
    if all(place <= number for number, places in graph.items() for place in places):
        return rows
    for number, places in graph.items():
        places[:] = [each for each in places if each != number]
    try:
        return [rows[number] for number in TopologicalSorter(graph).static_order()]
    except CycleError:
        return rows


def sequences(session: Session, names: Sequence[Name]) -> dict[Name, str]:
    """Return the SQL that puts sequences where they stand, unless that is their start."""
    found = {}
    for name in names:
        query = sql.SQL(_STANDS).format(sql.Identifier(*name))
        last, is_called, start = session.execute(query, name).fetchone() or (None, False, None)
        if is_called or last != start:
            text = literal(quoted_if_needed(*name)) + f", {last}" + ("" if is_called else ", false")
            found[name] = f"SELECT pg_catalog.setval({text})"
    return found


_STANDS = """
SELECT own.last_value, own.is_called, known.start_value FROM {} AS own, pg_sequences AS known
WHERE (schemaname, sequencename) = (%s, %s)
"""
# What was inserted since we look at the database, by default, was the time.
_TEXT = {
    False: sql.SQL("{}::text"),
    True: sql.SQL(
        """CASE WHEN {0} BETWEEN (SELECT backend_start FROM pg_stat_activity
                                  WHERE pid = pg_backend_pid()) AND clock_timestamp()
           THEN 'DEFAULT' ELSE {0}::text END"""
    ),
}
_FIELDS = ("name", "type", "is_identity", "is_clock", "is_random")
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, NULL), a.attidentity = 'a',
       coalesce(a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype)
                AND pg_get_expr(d.adbin, d.adrelid) ~ '^(now\\(\\)|CURRENT_TIMESTAMP|LOCALTIMESTAMP'
                    '|(clock|statement|transaction)_timestamp\\(\\))$', false),
       coalesce(pg_get_expr(d.adbin, d.adrelid)
                ~ 'gen_random_|uuid_generate|uuidv|random\\(', false),
       array_position(i.indkey::int2[], a.attnum)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
     LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attgenerated = ''
ORDER BY a.attnum
"""
