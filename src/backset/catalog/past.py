"""What a database was: its sequences, its partitions, its tables and types, enough to remake them.

A carry asks for that before it clears the target, or of the database that the rows are from.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from backset.catalog import catalog, columns, extension_rows
from backset.catalog.catalog import SETTINGS, is_users

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from backset.catalog.columns import Table
    from backset.catalog.extension_rows import ExtensionRows
    from backset.connections.session import Session

    Name = tuple[str, str]  # schema and name


@dataclass(frozen=True, slots=True)
class Position:
    """How a sequence stands. step: what it adds, which may be negative; low, high: its limits."""

    last_value: int
    is_called: bool
    step: int
    low: int
    high: int
    cycles: bool

    @property
    def next_value(self) -> int:
        """What it would give, if its limits allow that."""
        return self.last_value + self.step if self.is_called else self.last_value

    def moved(self, next_value: int) -> tuple[int, bool] | None:
        """Return what setval() needs to let this one give that value; None if it does anyway.

        Beyond its limit it will give none: it is used up, as the old one was.
        """
        if next_value == self.next_value:
            return None
        if not self.low <= next_value <= self.high:
            return (self.high if self.step > 0 else self.low), True
        before = next_value - self.step
        return (before, True) if self.low <= before <= self.high else (next_value, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """A sequence, and how it stands.

    columns: schema, table and name of those that own it or take values from it. numbers: those of
    them whose greatest value means something.
    """

    schema: str
    name: str
    columns: list[list[str]]
    numbers: list[list[str]]
    position: Position


def read_counters(session: Session) -> list[Counter]:
    """Return all sequences but those that may not be read."""
    found = session.execute(_SEQUENCES).fetchall()
    if not found:
        return []
    query = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}, last_value, is_called FROM {}").format(
            number, sql.Identifier(*each[:2])
        )
        for number, each in enumerate(found)
    )
    stands = {number: stand for number, *stand in session.execute(query)}
    return [
        Counter(
            schema=schema,
            name=name,
            columns=columns,
            numbers=numbers,
            position=Position(*stands[number], *limits),
        )
        for number, (schema, name, columns, numbers, *limits) in enumerate(found)
    ]


_SEQUENCES = f"""
WITH uses AS (
    SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
    UNION SELECT d.refobjid, v.adrelid, v.adnum
    FROM pg_depend d JOIN pg_attrdef v ON v.oid = d.objid
    WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
), columns AS (
    SELECT uses.sequence, ARRAY[n.nspname, c.relname, a.attname]::text[] AS name,
           coalesce(nullif(t.typbasetype, 0), t.oid)
               IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
           AND has_table_privilege(c.oid, 'SELECT') AS is_number
    FROM uses JOIN pg_class c ON c.oid = uses.relation JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = uses.number
         JOIN pg_type t ON t.oid = a.atttypid
    WHERE c.relkind IN ('r', 'p'))
SELECT n.nspname, s.relname, ARRAY(SELECT columns.name FROM columns WHERE sequence = s.oid),
       ARRAY(SELECT columns.name FROM columns WHERE sequence = s.oid AND is_number),
       q.seqincrement, q.seqmin, q.seqmax, q.seqcycle
FROM pg_class s JOIN pg_sequence q ON q.seqrelid = s.oid JOIN pg_namespace n ON n.oid = relnamespace
WHERE {is_users("n.nspname")}
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(s.oid, 'SELECT')
  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass
                  AND x.objid = s.oid AND x.deptype = 'e')
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as PostgreSQL describes it: FOR VALUES …, or DEFAULT.

    split_by: how its parent is split, such as RANGE (at). splits: how it is split itself; empty
    where it holds rows. has_own: whether it has rights or row security of its own. has_rows:
    whether it, or one below it, has any.
    """

    parent: Name
    name: Name
    bound: str
    split_by: str
    splits: str
    has_own: bool
    has_rows: bool


def keys(session: Session) -> frozenset[str]:
    """Return all partitions by their keys among the objects of a schema."""
    found = session.execute(
        "SELECT format('table %I.%I', nspname, relname) FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = relnamespace WHERE relispartition AND relkind IN ('r', 'p')"
    )
    return frozenset(key for (key,) in found)


def read_partitions(session: Session) -> list[Partition]:
    """Return all partitions, each after its parent."""
    found = session.execute(_PARTITIONS).fetchall()
    parents = {(schema, name): (above, parent) for above, parent, schema, name, *_ in found}
    leaves = [(schema, name) for _, _, schema, name, _, _, splits, _ in found if not splits]
    ask = sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})")
    queries = [ask.format(n, sql.Identifier(*each)) for n, each in enumerate(leaves)]
    filled: set[Name] = set()
    for (number,) in catalog.rows(session, queries):
        each: Name | None = leaves[number]
        while each is not None:
            filled.add(each)
            each = parents.get(each)
    return [_partition(row, filled) for row in found]


def _partition(row: Sequence[Any], filled: Container[Name]) -> Partition:
    above, parent, schema, name, bound, split_by, splits, has_own = row
    name = schema, name
    return Partition((above, parent), name, bound, split_by, splits, has_own, name in filled)


def make(
    session: Session, wanted: Sequence[Partition], renamed: Mapping[Name, Name]
) -> list[Partition]:
    """Make those with rows that are not there; return them.

    They are made under tables that are split in the same way, and have no default partition. Of
    those by hash all are made: without one, rows to come would have no place.
    renamed: the tables of today, by the names that they had.
    """
    used = {each.parent for each in wanted if each.has_rows}
    filled = [
        each
        for each in wanted
        if each.has_rows or (each.split_by.startswith("HASH ") and each.parent in used)
    ]
    bounds = {(each.parent, each.bound) for each in read_partitions(session)} if filled else set()
    made = []
    for each in filled:
        parent = renamed.get(each.parent, each.parent)
        has_place = bool({(parent, each.bound), (parent, "DEFAULT")} & bounds)
        about = dict(zip(("schema", "name"), each.name, strict=True))
        about |= {"above": parent[0], "parent": parent[1], "split_by": each.split_by}
        if not has_place and session.execute(_CAN_BE_MADE, about).fetchone() == (True,):
            splits = f" PARTITION BY {each.splits}" if each.splits else ""
            names = sql.Identifier(*each.name), sql.Identifier(*parent)
            create = sql.SQL("CREATE TABLE {} PARTITION OF {} ").format(*names)
            # Where another one has a part of it already, so may its rows.
            with suppress(psycopg.errors.InvalidObjectDefinition), session.transaction():
                session.execute(create + sql.SQL(each.bound + splits))
                made.append(each)
    return made


_PARTITIONS = """
SELECT pn.nspname, p.relname, n.nspname, c.relname, pg_get_expr(c.relpartbound, c.oid),
       pg_get_partkeydef(p.oid), coalesce(pg_get_partkeydef(c.oid), ''),
       c.relrowsecurity OR c.relacl IS NOT NULL AND c.relacl IS DISTINCT FROM p.relacl
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_inherits i ON i.inhrelid = c.oid
     JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE c.relispartition AND c.relkind IN ('r', 'p') AND has_schema_privilege(n.oid, 'USAGE')
  AND has_table_privilege(c.oid, 'SELECT')
ORDER BY (SELECT count(*) FROM pg_partition_ancestors(c.oid)), 1, 2, 3, 4
"""
_CAN_BE_MADE = """
SELECT to_regnamespace(quote_ident(%(schema)s)) IS NOT NULL
       AND to_regclass(format('%%I.%%I', %(schema)s::text, %(name)s::text)) IS NULL
       AND EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE c.relkind = 'p' AND n.nspname = %(above)s AND c.relname = %(parent)s
                     AND pg_get_partkeydef(c.oid) = %(split_by)s)
"""


LARGE_OBJECTS = "the large objects"  # what they are called where tables have their names


@dataclass(frozen=True, slots=True)
class Kind:
    """The type of a column: as SQL names it from an empty search path, with its modifier.

    oid: of the type, or of the elements where it is an array.
    """

    text: str
    oid: int
    is_array: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UserType:
    """A type that is not PostgreSQL's own, with what its values consist of.

    letter: `e` enum, `c` composite, `d` domain, `r` range, `m` multirange, as in pg_type.
    parts: what it is made of, by name; that of a domain, range or multirange has none.
    options: the rest of CREATE TYPE for a range. multirange: the name of its multirange.
    """

    oid: int
    name: Name
    letter: str
    labels: Sequence[str]
    parts: Sequence[tuple[str, Kind]]
    options: str
    multirange: Name | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a database was: enough to make its tables again elsewhere, without what guards them.

    tables: by schema and name; oids: theirs. kinds: the types of their columns, in their order.
    parts: the oids of all that have rows of their own, partitions included, and whose rows they
    are. types: those of the columns, and what these consist of, by oid.
    parents: tables that others inherit from. counters: the sequences.
    large_objects: how many there were. extension_rows: those of a user's in tables of extensions.
    partitions: of the tables. populated: the materialized views that could be read.
    """

    tables: Mapping[Name, Table]
    oids: Mapping[Name, int]
    kinds: Mapping[Name, Sequence[Kind]]
    parts: Mapping[int, Name]
    types: Mapping[int, UserType]
    parents: frozenset[Name]
    counters: Sequence[Counter]
    large_objects: int
    extension_rows: Sequence[ExtensionRows]
    partitions: Sequence[Partition]
    populated: frozenset[Name]

    @property
    def type_schemas(self) -> set[str]:
        """The schemas of the types."""
        names = {each.name for each in self.types.values()}
        names |= {each.multirange for each in self.types.values() if each.multirange}
        return {schema for schema, _ in names}


def large_objects(session: Session) -> int:
    """Return how many large objects there are."""
    found = session.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone() or (0,)
    return int(found[0])


def populated(session: Session) -> frozenset[Name]:
    """Return the materialized views that can be read, since they were filled."""
    found = session.execute("SELECT schemaname, matviewname FROM pg_matviews WHERE ispopulated")
    return frozenset((schema, name) for schema, name in found)


def read(session: Session) -> Past:
    """Remember the tables of the users, but for Alembic's version tables."""
    tables = columns.read(session)
    wanted = [[name[place] for name in tables] for place in (0, 1)]
    with session.transaction(force_rollback=True):
        session.execute(SETTINGS.encode())
        about = session.execute(_TABLES, wanted).fetchall()
        oids = {(schema, name): oid for schema, name, oid, *_ in about}
        types = session.execute(_TYPES, [list(oids.values())]).fetchall()
    return Past(
        tables=tables,
        oids=oids,
        kinds={(schema, name): _kinds(found) for schema, name, _, found, *_ in about},
        parts={part: (row[0], row[1]) for row in about for part in row[4]},
        types={row[0]: _type(row) for row in types},
        parents=frozenset((row[0], row[1]) for row in about if row[5]),
        counters=read_counters(session),
        large_objects=large_objects(session),
        extension_rows=extension_rows.read(session),
        partitions=read_partitions(session),
        populated=populated(session),
    )


def _kinds(found: Sequence[Sequence[Any]]) -> list[Kind]:
    return [Kind(*each) for each in found]


def _type(row: Sequence[Any]) -> UserType:
    oid, schema, name, letter, labels, parts, options, multirange = row
    return UserType(
        oid=oid,
        name=(schema, name),
        letter=letter,
        labels=labels,
        parts=[(part, Kind(*kind)) for part, kind in parts],
        options=options,
        multirange=(multirange[0], multirange[1]) if multirange else None,
    )


_IS_ARRAY = "(t.typtype = 'b' AND t.typcategory = 'A' AND t.typelem <> 0)"
_TABLES = f"""
SELECT n.nspname, c.relname, c.oid,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(
                   format_type(t.oid, a.atttypmod),
                   (CASE WHEN {_IS_ARRAY} THEN t.typelem ELSE t.oid END)::int8,
                   {_IS_ARRAY}) ORDER BY a.attnum), '[]')
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       ARRAY(SELECT p.oid FROM pg_class p WHERE p.relkind = 'r' AND p.oid IN (
                 SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid))),
       c.relkind = 'r' AND c.relhassubclass
FROM unnest(%s::text[], %s::text[]) AS wanted (schema, name)
     JOIN pg_namespace n ON n.nspname = wanted.schema
     JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
"""
# Multiranges came with 14; before that there is no such column.
_RANGES = "(SELECT *, (to_jsonb(r) ->> 'rngmultitypid')::oid AS multi FROM pg_range r) AS ranges"
# A row of `uses`: a type is made of another one. What a column has, may be made of more.
_TYPES = f"""
WITH RECURSIVE uses (owner, place, name, type, modifier) AS (
    SELECT t.oid, a.attnum, a.attname::text, a.atttypid, a.atttypmod
    FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid
    WHERE t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT oid, 0, '', typbasetype, typtypmod FROM pg_type WHERE typtype = 'd'
    UNION ALL SELECT rngtypid, 0, '', rngsubtype, -1 FROM pg_range
    UNION ALL SELECT multi, 0, '', rngtypid, -1 FROM {_RANGES} WHERE multi IS NOT NULL
    UNION ALL SELECT t.oid, 0, '', t.typelem, -1 FROM pg_type t WHERE {_IS_ARRAY}
), wanted (oid) AS (
    SELECT atttypid FROM pg_attribute
    WHERE attrelid = ANY(%s) AND attnum > 0 AND NOT attisdropped
    UNION SELECT uses.type FROM wanted JOIN uses ON uses.owner = wanted.oid
)
SELECT own.oid, n.nspname, own.typname, own.typtype::text,
       ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = own.oid ORDER BY enumsortorder),
       (SELECT coalesce(jsonb_agg(jsonb_build_array(u.name, jsonb_build_array(
                   format_type(t.oid, u.modifier),
                   (CASE WHEN {_IS_ARRAY} THEN t.typelem ELSE t.oid END)::int8,
                   {_IS_ARRAY})) ORDER BY u.place), '[]')
        FROM uses u JOIN pg_type t ON t.oid = u.type WHERE u.owner = own.oid),
       coalesce((SELECT format(', SUBTYPE_OPCLASS = %%I.%%I', o.nspname, opcname)
                        || coalesce(', COLLATION = ' || nullif(rngcollation, 0)::regcollation, '')
        FROM pg_range JOIN pg_opclass ON pg_opclass.oid = rngsubopc
             JOIN pg_namespace o ON o.oid = opcnamespace WHERE rngtypid = own.oid), ''),
       ARRAY(SELECT unnest(ARRAY[m.nspname, mt.typname]) FROM {_RANGES}
             JOIN pg_type mt ON mt.oid = multi
             JOIN pg_namespace m ON m.oid = mt.typnamespace WHERE rngtypid = own.oid)
FROM wanted JOIN pg_type own ON own.oid = wanted.oid
     JOIN pg_namespace n ON n.oid = own.typnamespace
WHERE n.nspname <> 'pg_catalog' AND own.typtype IN ('e', 'c', 'd', 'r', 'm')
"""
