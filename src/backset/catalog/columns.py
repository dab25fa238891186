"""Reads the tables of one database with what matters to a row that is to be written into them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import groupby
from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.catalog import catalog
from backset.catalog.catalog import READABLE, TABLES, spelled

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from backset.connections.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    type: as SQL names it from an empty search path, with its modifier, such as `numeric(12,6)`.
    base: the same, where the type is a domain that of the domain.
    builtin: whether every PostgreSQL has the base, or the elements of which it is an array.
    labels: those of an enum, or of an array of one. members: those of a composite type.
    default: its expression. generated: `s` stored, `v` virtual. identity: `a` always, `d` default.
    """

    name: str
    type: str
    base: str
    builtin: bool
    labels: tuple[str, ...]
    members: str
    not_null: bool
    default: str
    generated: str
    identity: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key: its own columns, and schema and name of the table that they refer to."""

    columns: tuple[str, ...]
    table: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; a partitioned one stands for its partitions, and `partitioned` says so.

    size_bytes: without indexes. readable: whether the role may read every row of it.
    guarded: whether row security hides rows from it.
    place: schema and name of where its rows are, if that is not under its own name.
    """

    schema: str
    name: str
    partitioned: bool
    size_bytes: int
    readable: bool
    references: tuple[Reference, ...]
    columns: tuple[Column, ...]
    place: tuple[str, str] | None = None
    guarded: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Schema and name."""
        return self.schema, self.name

    @property
    def shown(self) -> str:
        """Its name as people write it."""
        return catalog.shown(self.schema, self.name)

    def column(self, name: str) -> Column | None:
        """Return the column of that name."""
        return next((each for each in self.columns if each.name == name), None)


def read(session: Session) -> dict[tuple[str, str], Table]:
    """Return the tables of the users by schema and name; Alembic's version tables are left out.

    The settings of the session stay as they were, in a transaction of its own too.
    """
    versions = set(catalog.version_tables(session))
    with session.transaction(force_rollback=True):
        rows = spelled(session, sql.SQL(_TABLES))
    # By name alone: while others write, the size is another one in each row of a table.
    tables = [_table(list(group)) for _, group in groupby(rows, key=lambda row: row[:2])]
    return {each.key: each for each in tables if each.key not in versions}


def _table(rows: Sequence[tuple[Any, ...]]) -> Table:
    about = schema, name, partitioned, size, readable, guarded, references = rows[0][:7]
    return Table(
        schema=schema,
        name=name,
        partitioned=partitioned,
        size_bytes=size,
        readable=readable,
        guarded=guarded,
        references=tuple(
            Reference(tuple(columns), (to_schema, to_name))
            for columns, to_schema, to_name in references
        ),
        columns=tuple(_column(row[len(about) :]) for row in rows if row[len(about)] is not None),
    )


def _column(row: tuple[Any, ...]) -> Column:
    values = dict(zip((each.name for each in fields(Column)), row, strict=True))
    return Column(**{**values, "labels": tuple(values["labels"] or ())})


# A domain over a domain has a base too. An array's elements decide what is built in, its labels
# and its members.
# The tables come by name: a condition on `c` would be worked out for every column of them.
_TABLES = f"""
WITH RECURSIVE base (oid, type, modifier) AS (
    SELECT oid, CASE typtype WHEN 'd' THEN typbasetype ELSE oid END, typtypmod FROM pg_type
    UNION SELECT b.oid, t.typbasetype, CASE b.modifier WHEN -1 THEN t.typtypmod ELSE b.modifier END
    FROM base b JOIN pg_type t ON t.oid = b.type AND t.typtype = 'd'
), root AS (
    SELECT base.* FROM base JOIN pg_type t ON t.oid = base.type WHERE t.typtype <> 'd'
)
SELECT n.nspname::text, c.relname::text, c.relkind = 'p',
       (SELECT coalesce(sum(pg_table_size(p)), 0)::int8 FROM (
            SELECT relid AS p FROM pg_partition_tree(c.oid) UNION SELECT c.oid) AS parts),
       {READABLE},
       has_table_privilege(c.oid, 'SELECT') AND row_security_active(c.oid),
       (SELECT coalesce(jsonb_agg(jsonb_build_array(
                   (SELECT jsonb_agg(x.attname ORDER BY x.attnum) FROM pg_attribute x
                    WHERE x.attrelid = k.conrelid AND x.attnum = ANY(k.conkey)),
                   fn.nspname, f.relname) ORDER BY k.oid), '[]')
        FROM pg_constraint k JOIN pg_class f ON f.oid = k.confrelid
             JOIN pg_namespace fn ON fn.oid = f.relnamespace
        WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.conparentid = 0),
       a.attname::text, format_type(a.atttypid, a.atttypmod),
       format_type(root.type, CASE t.typtype WHEN 'd' THEN root.modifier ELSE a.atttypmod END),
       e.typnamespace = 'pg_catalog'::regnamespace AND e.typtype IN ('b', 'r', 'm'),
       (SELECT array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum
        WHERE enumtypid = e.oid),
       coalesce((SELECT string_agg(concat_ws(' ', quote_ident(m.attname),
                            format_type(m.atttypid, m.atttypmod)), ', ' ORDER BY m.attnum)
        FROM pg_attribute m
        WHERE m.attrelid = e.typrelid AND m.attnum > 0 AND NOT m.attisdropped), ''),
       a.attnotnull OR t.typnotnull, coalesce(pg_get_expr(d.adbin, d.adrelid), t.typdefault, ''),
       a.attgenerated::text, a.attidentity::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     LEFT JOIN pg_type t ON t.oid = a.atttypid
     LEFT JOIN root ON root.oid = t.oid
     LEFT JOIN pg_type r ON r.oid = root.type
     LEFT JOIN pg_type e ON e.oid = CASE WHEN r.typcategory = 'A' THEN r.typelem ELSE r.oid END
     LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE (n.nspname, c.relname) IN (SELECT * FROM ({TABLES}) AS tables)
ORDER BY 1, 2, a.attnum
"""


def hash_of_row(
    columns: Sequence[str], aside: Collection[str] = (), *, recoded: bool = False
) -> sql.Composable:
    """Return the expression of the number that stands for a row, in SQL.

    Each value is hashed with a seed of its own, NULL is a number of its own, and the whole once
    more: so that exchanging values between columns or rows changes the sum. The collation is that
    of bytes, since under one that ignores case the server would give `a` the number of `A`.
    Measured: a third of the time of hashing row(…)::text, which doubles every quote.
    aside: columns that do not count. recoded: whether the numbers are held against those of a
    database of another encoding; that takes longer.
    """
    hashed = sql.SQL("coalesce(hashtextextended({}, {}), {})")
    text = sql.SQL(_RECODED if recoded else _TEXT)
    numbers: list[sql.Composable] = [
        hashed.format(text.format(sql.Identifier(column)), place, ~place)
        for place, column in enumerate(columns, 1)
        if column not in aside
    ]
    return sql.SQL("hashint8extended({}, 0)").format(sql.SQL(" # ").join(numbers or [_NONE]))


def hashes_of_columns(columns: Iterable[str], *, recoded: bool = False) -> list[sql.Composable]:
    """Return for each column the sum over its values, as text: it tells which columns differ."""
    each_sum = sql.SQL("sum({})::text")
    return [each_sum.format(hash_of_row([each], recoded=recoded)) for each in columns]


_NONE = sql.SQL("0")
_TEXT = '{}::text COLLATE "C"'
_RECODED = "encode(convert_to({}::text, 'UTF8'), 'escape') COLLATE \"C\""
