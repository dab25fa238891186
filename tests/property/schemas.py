"""Random schemas with rows, and what their next version may look like."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar, cast

from hypothesis import strategies as st
from psycopg import sql

from tests.property import values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import LiteralString

    Name = tuple[str, str]

T = TypeVar("T")
SCHEMAS = ("public", "other", "Sch ema")
NAMES = ("users", "Order", 'quo"te', "tasks_2", "größe", "select")
COLUMNS = ("a", "Name", 'c"q', "user", "ä b", "%s", "total", "kind")
OLD_LABELS = ("sad", "it's", "Ok, fine")
_TYPES = """
CREATE DOMAIN positive AS integer CHECK (VALUE > 0); CREATE TYPE pair AS (x integer, y text);
CREATE SCHEMA other; CREATE SCHEMA "Sch ema";
"""


@dataclass(frozen=True)
class Column:
    """A column: its type, and whatever else is said of it after that, as SQL."""

    name: str
    type: str
    not_null: bool = False
    rest: str = ""

    @property
    def is_generated(self) -> bool:
        """Whether the server computes it."""
        return "STORED" in self.rest


@dataclass(frozen=True)
class Table:
    """A table with the columns of its key first, if it has one.

    refers: a column of type integer and the table whose `id` it has. parts: how many partitions.
    """

    name: Name
    columns: tuple[Column, ...]
    is_keyed: bool = True
    refers: tuple[tuple[str, Name], ...] = ()
    unique: tuple[str, ...] = ()
    parts: int = 0

    def column(self, name: str) -> Column:
        """Return the column of that name."""
        return next(each for each in self.columns if each.name == name)

    @property
    def free(self) -> list[Column]:
        """The columns that neither a key nor a reference needs."""
        taken = {"id", *(each for each, _ in self.refers)}
        return [each for each in self.columns if each.name not in taken]


@dataclass(frozen=True)
class Schema:
    """The tables of a database, and the labels of its enum `mood`."""

    tables: tuple[Table, ...]
    labels: tuple[str, ...] = OLD_LABELS

    def with_(self, table: Table, *others: Table) -> Schema:
        """Return it with a table in place of the one of the same name."""
        kept = [table if each.name == table.name else each for each in self.tables]
        return replace(self, tables=(*kept, *others))


@dataclass(frozen=True)
class Case:
    """An old schema with rows, a new one, and what the user says of the difference.

    rows: for each old table, the values of its columns as text, or None; generated ones left out.
    is_benign: whether nothing could keep the rows from coming, if data may be left behind.
    """

    old: Schema
    rows: dict[Name, list[tuple[str | None, ...]]]
    new: Schema
    rename: dict[str, str] = field(default_factory=dict)
    fill: dict[str, str] = field(default_factory=dict)
    drops: bool = True
    is_benign: bool = True
    done: tuple[str, ...] = ()


def shown(name: Name) -> str:
    """Return a table's name as people write it."""
    return name[1] if name[0] == "public" else ".".join(name)


# ------------------------------------------------------------------------------ SQL


def made(schema: Schema) -> list[sql.Composed]:
    """Return the statements that make the tables, without foreign keys."""
    labels = sql.SQL(", ").join(map(sql.Literal, schema.labels))
    mood = sql.SQL("CREATE TYPE mood AS ENUM ({})").format(labels)
    return [
        sql.SQL(_TYPES).format(),
        mood,
        *(part for each in schema.tables for part in _made(each)),
    ]


def _made(table: Table) -> list[sql.Composed]:
    parts: list[sql.Composed] = [
        sql.SQL("{} {} {} {}").format(
            sql.Identifier(each.name),
            _raw(each.type),
            sql.SQL("NOT NULL" if each.not_null else ""),
            _raw(each.rest),
        )
        for each in table.columns
    ]
    if table.is_keyed:
        parts.append(sql.SQL("PRIMARY KEY (id)").format())
    parts += [sql.SQL("UNIQUE ({})").format(sql.Identifier(each)) for each in table.unique]
    name = sql.Identifier(*table.name)
    create = sql.SQL("CREATE TABLE {} ({})").format(name, sql.SQL(", ").join(parts))
    if not table.parts:
        return [create]
    pieces = [
        sql.SQL(
            "CREATE TABLE {} PARTITION OF {} FOR VALUES WITH (MODULUS {}, REMAINDER {})"
        ).format(
            sql.Identifier(table.name[0], f"{table.name[1]}_{number}"), name, table.parts, number
        )
        for number in range(table.parts)
    ]
    return [sql.SQL("{} PARTITION BY HASH (id)").format(create), *pieces]


def _raw(text: str) -> sql.SQL:
    return sql.SQL(cast("LiteralString", text))  # type: ignore[redundant-cast]


def bound(schema: Schema) -> list[sql.Composed]:
    """Return the statements that make the foreign keys."""
    statement = sql.SQL("ALTER TABLE {} ADD FOREIGN KEY ({}) REFERENCES {} (id)")
    return [
        statement.format(sql.Identifier(*each.name), sql.Identifier(column), sql.Identifier(*to))
        for each in schema.tables
        for column, to in each.refers
    ]


def filled(table: Table, rows: Sequence[tuple[str | None, ...]]) -> list[sql.Composed]:
    """Return the statement that writes the rows."""
    if not rows:
        return []
    columns = [each for each in table.columns if not each.is_generated]
    if not columns:
        empty = sql.SQL("INSERT INTO {} DEFAULT VALUES").format(sql.Identifier(*table.name))
        return [empty for _ in rows]
    lines = [
        sql.SQL("({})").format(
            sql.SQL(", ").join(
                sql.SQL("{}::{}").format(value, _raw(each.type))
                for each, value in zip(columns, row, strict=True)
            )
        )
        for row in rows
    ]
    return [
        sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES {}").format(
            sql.Identifier(*table.name),
            sql.SQL(", ").join(sql.Identifier(each.name) for each in columns),
            sql.SQL(", ").join(lines),
        )
    ]


# ------------------------------------------------------------------------------ the old side

_IDS = ("", "GENERATED ALWAYS AS IDENTITY", "GENERATED BY DEFAULT AS IDENTITY", "DEFAULT 7")


@st.composite
def _tables(draw: st.DrawFn) -> tuple[Table, ...]:
    names = _drawn(draw, st.tuples(st.sampled_from(SCHEMAS), st.sampled_from(NAMES)), (1, 2, 3, 4))
    tables = [_table(draw, name) for name in names]
    keyed = [each.name for each in tables if each.is_keyed]
    return tuple(_referring(draw, each, keyed) for each in tables)


def _drawn(draw: st.DrawFn, each: st.SearchStrategy[T], sizes: Sequence[int]) -> list[T]:
    """Return different values; how many is as often one of the sizes as another."""
    size = draw(st.sampled_from(sizes))
    return draw(st.lists(each, min_size=size, max_size=size, unique=True))


def _table(draw: st.DrawFn, name: Name) -> Table:
    columns = [
        Column(each, draw(st.sampled_from([*values.BY_TYPE])), not_null=draw(st.booleans()))
        for each in _drawn(draw, st.sampled_from(COLUMNS), (0, 1, 3, 5))
    ]
    is_keyed = draw(st.integers(0, 4)) > 0
    if is_keyed:
        columns.insert(0, Column("id", "integer", not_null=True, rest=draw(st.sampled_from(_IDS))))
        if draw(st.integers(0, 4)) == 0:
            rest = "GENERATED ALWAYS AS (id % 1000 + 1) STORED"
            columns.append(Column("generated", "integer", rest=rest))
    return Table(
        name, tuple(columns), is_keyed, parts=2 if is_keyed and draw(st.integers(0, 6)) == 0 else 0
    )


def _referring(draw: st.DrawFn, table: Table, keyed: list[Name]) -> Table:
    """Let it refer to some tables: to itself, to each other, in a circle."""
    if not keyed:
        return table
    to = draw(st.lists(st.sampled_from(keyed), max_size=2))
    refers = tuple((f"ref {number}", each) for number, each in enumerate(to))
    columns = (Column(name, "integer") for name, _ in refers)
    return replace(table, columns=(*table.columns, *columns), refers=refers)


@st.composite
def _rows(draw: st.DrawFn, tables: Sequence[Table]) -> dict[Name, list[tuple[str | None, ...]]]:
    sizes = {each.name: draw(st.sampled_from((0, 1, 2, 4, 6))) for each in tables}
    ids = {name: _drawn(draw, st.integers(-3, 10**6), (size,)) for name, size in sizes.items()}
    return {
        each.name: [_row(draw, each, ids, number) for number in range(sizes[each.name])]
        for each in tables
    }


def _row(
    draw: st.DrawFn, table: Table, ids: dict[Name, list[int]], number: int
) -> tuple[str | None, ...]:
    refers = dict(table.refers)
    row: list[str | None] = []
    for each in table.columns:
        if each.is_generated:
            continue
        if each.name == "id":
            row.append(str(ids[table.name][number]))
        elif each.name in refers:
            there = ids[refers[each.name]]
            row.append(draw(st.none() | st.sampled_from(there).map(str)) if there else None)
        elif each.not_null:
            row.append(draw(values.BY_TYPE[each.type]))
        else:
            row.append(draw(st.none() | values.BY_TYPE[each.type]))
    return tuple(row)


# ------------------------------------------------------------------------------ the new side


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Return a case: an old schema, its rows, and up to five changes."""
    tables = draw(_tables())
    old = Schema(tables)
    case = Case(old=old, rows=draw(_rows(tables)), new=old, drops=draw(st.integers(0, 3)) > 0)
    for _ in range(draw(st.sampled_from(range(7)))):
        change = draw(st.sampled_from(CHANGES))
        changed = change(draw, case)
        if changed is not None:
            case = replace(changed, done=(*case.done, change.__name__))
    return case


def _some(draw: st.DrawFn, case: Case) -> Table | None:
    tables = case.new.tables
    return draw(st.sampled_from(tables)) if tables else None


def _column(draw: st.DrawFn, case: Case) -> tuple[Table, Column] | None:
    found = [(table, column) for table in case.new.tables for column in table.free]
    found = [each for each in found if not each[1].is_generated]
    return draw(st.sampled_from(found)) if found else None


def _with_column(
    case: Case, table: Table, column: Column, new: Column | None, *, is_benign: bool = True
) -> Case:
    """Return the case with another column, or none, in place of one."""
    columns = tuple(new if each == column else each for each in table.columns)
    unique = tuple(each for each in table.unique if each != column.name)
    changed = replace(table, columns=tuple(filter(None, columns)), unique=unique)
    benign = case.is_benign and is_benign
    return replace(case, new=case.new.with_(changed), is_benign=benign)


def drop_column(draw: st.DrawFn, case: Case) -> Case | None:
    """Drop a column."""
    found = _column(draw, case)
    if found is None or f"{shown(found[0].name)}.{found[1].name}" in {*case.rename, *case.fill}:
        return None
    return _with_column(case, *found, None)


def add_column(draw: st.DrawFn, case: Case) -> Case | None:
    """Add a column: NULL, with a default, or one that nothing fills but a rule."""
    table = _some(draw, case)
    if table is None or any(each.name == "fresh" for each in table.columns):
        return None
    rest = draw(st.sampled_from(["", "DEFAULT 5", "GENERATED BY DEFAULT AS IDENTITY"]))
    column = Column(
        "fresh", "integer", not_null=draw(st.booleans()) or "IDENTITY" in rest, rest=rest
    )
    changed = replace(table, columns=(*table.columns, column))
    is_hard = column.not_null and not rest
    fill = dict(case.fill)
    if is_hard and draw(st.booleans()):
        fill[f"{shown(table.name)}.fresh"] = "1 + 1"
        is_hard = False
    benign = case.is_benign and not is_hard
    return replace(case, new=case.new.with_(changed), fill=fill, is_benign=benign)


def rename_column(draw: st.DrawFn, case: Case) -> Case | None:
    """Rename a column, with a rule or without."""
    found = _column(draw, case)
    if found is None:
        return None
    table, column = found
    name = f"{shown(table.name)}.{column.name}"
    if column.name in {"renamed", "fresh"} or any(e.name == "renamed" for e in table.columns):
        return None
    if name in case.rename or name in case.fill or shown(table.name) in case.rename:
        return None
    if not any(table.name == each.name for each in case.old.tables):
        return None
    changed = _with_column(case, table, column, replace(column, name="renamed"))
    if draw(st.integers(0, 3)):
        rename = {**case.rename, f"{shown(table.name)}.renamed": name}
        return replace(changed, rename=rename)
    return replace(changed, is_benign=case.is_benign and not column.not_null)


def widen_column(draw: st.DrawFn, case: Case) -> Case | None:
    """Give a column a type that has all its values."""
    found = _column(draw, case)
    if found is None or found[1].type not in values.WIDER or found[1].rest:
        return None
    table, column = found
    if column.name == "fresh" or not any(table.name == each.name for each in case.old.tables):
        return None
    wider = draw(st.sampled_from(values.WIDER[column.type]))
    is_lossy = column.type == "text"  # a value may be long
    benign = case.is_benign and (not is_lossy or wider == "character varying")
    return _with_column(case, table, column, replace(column, type=wider), is_benign=benign)


def change_type(draw: st.DrawFn, case: Case) -> Case | None:
    """Give a column a type that some of its values may not fit."""
    found = _column(draw, case)
    if found is None or found[1].type not in values.OTHER or found[1].rest:
        return None
    table, column = found
    other = draw(st.sampled_from(values.OTHER[column.type]))
    return _with_column(case, table, column, replace(column, type=other), is_benign=False)


def forbid_null(draw: st.DrawFn, case: Case) -> Case | None:
    """Forbid NULL in a column, with a default or without."""
    found = _column(draw, case)
    if found is None or found[1].not_null or found[1].rest:
        return None
    return _with_column(case, *found, replace(found[1], not_null=True), is_benign=False)


def make_generated(draw: st.DrawFn, case: Case) -> Case | None:
    """Let the server compute a column that had values."""
    found = _column(draw, case)
    if found is None or not found[0].is_keyed or found[1].rest:
        return None
    table, column = found
    name = f"{shown(table.name)}.{column.name}"
    if name in case.rename or name in case.fill:
        return None
    new = Column(column.name, "integer", rest="GENERATED ALWAYS AS (id % 10) STORED")
    return _with_column(case, table, column, new)


def make_unique(draw: st.DrawFn, case: Case) -> Case | None:
    """Make a column unique, which its values may not be."""
    found = _column(draw, case)
    hashable = {"json", "pair"}
    if (
        found is None
        or found[0].parts
        or found[1].type in hashable
        or found[1].name in found[0].unique
    ):
        return None
    table, column = found
    changed = replace(table, unique=(*table.unique, column.name))
    return replace(case, new=case.new.with_(changed), is_benign=False)


def drop_table(draw: st.DrawFn, case: Case) -> Case | None:
    """Drop a table, and the references to it."""
    table = _some(draw, case)
    if table is None or _about(case, table):
        return None
    kept = tuple(
        replace(each, refers=tuple(ref for ref in each.refers if ref[1] != table.name))
        for each in case.new.tables
        if each.name != table.name
    )
    return replace(case, new=replace(case.new, tables=kept))


def _about(case: Case, table: Table) -> list[str]:
    """Return the rules that name a table or its columns."""
    name = shown(table.name)
    named = [*case.rename, *case.rename.values(), *case.fill]
    return [each for each in named if each == name or each.startswith(f"{name}.")]


def add_table(_draw: st.DrawFn, case: Case) -> Case | None:
    """Add a table that refers to another one."""
    name = ("public", "brand new")
    if any(each.name == name for each in case.new.tables):
        return None
    keyed = [each.name for each in case.new.tables if each.is_keyed]
    refers = tuple(("ref 0", each) for each in keyed[:1])
    columns = (
        Column("id", "integer", not_null=True),
        *(Column(each, "integer") for each, _ in refers),
    )
    return replace(
        case, new=replace(case.new, tables=(*case.new.tables, Table(name, columns, refers=refers)))
    )


def rename_table(draw: st.DrawFn, case: Case) -> Case | None:
    """Rename a table, with a rule."""
    table, name = _some(draw, case), ("other", "moved here")
    if table is None or any(each.name == name for each in case.new.tables) or _about(case, table):
        return None
    if not any(each.name == table.name for each in case.old.tables):
        return None
    moved = replace(table, name=name)
    tables = tuple(
        replace(
            moved if each.name == table.name else each,
            refers=tuple((ref, name if to == table.name else to) for ref, to in each.refers),
        )
        for each in case.new.tables
    )
    rename = {**case.rename, shown(name): shown(table.name)}
    return replace(case, new=replace(case.new, tables=tables), rename=rename)


def change_identity(draw: st.DrawFn, case: Case) -> Case | None:
    """Let the key be numbered otherwise."""
    table = _some(draw, case)
    if table is None or not table.is_keyed:
        return None
    column = table.column("id")
    return _with_column(case, table, column, replace(column, rest=draw(st.sampled_from(_IDS))))


def change_partitions(draw: st.DrawFn, case: Case) -> Case | None:
    """Part a table, or put it together."""
    table = _some(draw, case)
    if table is None or not table.is_keyed or table.unique:
        return None
    return replace(case, new=case.new.with_(replace(table, parts=0 if table.parts else 3)))


def add_label(_draw: st.DrawFn, case: Case) -> Case | None:
    """Let the enum have more values."""
    return replace(
        case, new=replace(case.new, labels=(*case.new.labels, f"more {len(case.new.labels)}"))
    )


def drop_label(_draw: st.DrawFn, case: Case) -> Case | None:
    """Take a value from the enum, which some rows may have."""
    return replace(
        case, new=replace(case.new, labels=case.new.labels[1:] or ("none",)), is_benign=False
    )


CHANGES: tuple[Callable[[st.DrawFn, Case], Case | None], ...] = (
    *(drop_column, add_column, rename_column, widen_column, change_type, forbid_null),
    *(make_generated, make_unique, drop_table, add_table, rename_table, change_identity),
    *(change_partitions, add_label, drop_label),
)
