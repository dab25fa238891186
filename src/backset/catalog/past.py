"""Remembers the tables and types of a database whose objects are about to be dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backset.catalog import columns, counters, extension_rows, partitions
from backset.catalog.object_hashes import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.catalog.columns import Table
    from backset.catalog.counters import Counter
    from backset.catalog.extension_rows import ExtensionRows
    from backset.catalog.partitions import Partition
    from backset.connections.session import Session

    Name = tuple[str, str]  # schema and name

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
    large_objects: how many there were. configured: the rows of a user's in tables of extensions.
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
        cursor = session.execute(SETTINGS.encode())
        while cursor.nextset():
            pass
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
        counters=counters.read(session),
        large_objects=large_objects(session),
        extension_rows=extension_rows.read(session),
        partitions=partitions.read(session),
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
