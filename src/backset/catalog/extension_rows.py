"""Rows of a user's in the tables of extensions: those that the extension has pg_dump dump.

An extension says so of a table with pg_extension_config_dump(), such as PostGIS of its spatial
reference systems; pg_extension keeps that in extconfig and extcondition.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.catalog import catalog
from backset.catalog.catalog import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backset.connections.session import Session


@dataclass(frozen=True, slots=True)
class ExtensionTable:
    """A table of an extension that has rows of a user's: those that `condition` is true of.

    condition: WHERE …, in SQL of the extension's own script, which a superuser has let in.
    columns: those that are not generated. may_write: whether the role may replace its rows.
    """

    schema: str
    name: str
    condition: str
    columns: tuple[str, ...]
    may_write: bool

    @property
    def identifier(self) -> sql.Identifier:
        """Its name in SQL."""
        return sql.Identifier(self.schema, self.name)

    @property
    def listed(self) -> sql.Composed:
        """Its columns in SQL."""
        return sql.SQL(", ").join(map(sql.Identifier, self.columns))


@dataclass(frozen=True, slots=True)
class ExtensionRows:
    """The rows of a user's in such a table, as COPY writes them."""

    table: ExtensionTable
    data: bytes


def tables(session: Session) -> list[ExtensionTable]:
    """Return the tables of extensions that may have rows of a user's, as far as they are read."""
    return [
        ExtensionTable(schema, name, condition, tuple(columns), may_write)
        for schema, name, condition, columns, may_write in session.execute(_TABLES)
    ]


def counts(session: Session) -> dict[str, int]:
    """Return how many such rows each table has that has any, by its shown name."""
    found = tables(session)
    queries = [
        sql.SQL("SELECT {}, count(*) FROM {} {}").format(
            number, each.identifier, sql.SQL(each.condition)
        )
        for number, each in enumerate(found)
    ]
    rows = dict(catalog.rows(session, queries))
    return {shown(each.schema, each.name): rows[n] for n, each in enumerate(found) if rows[n]}


def read(session: Session) -> list[ExtensionRows]:
    """Return the rows themselves; people write few."""
    return [each for each in (_read(session, table) for table in tables(session)) if each.data]


def _read(session: Session, table: ExtensionTable) -> ExtensionRows:
    what = (table.listed, table.identifier, sql.SQL(table.condition))
    query = sql.SQL("COPY (SELECT {} FROM {} {}) TO STDOUT").format(*what)
    with session.cursor().copy(query) as copy:
        return ExtensionRows(table, b"".join(bytes(each) for each in copy))


def lock(session: Session) -> None:
    """Let nobody write to these tables while the caller's transaction lasts, where we may."""
    for table in _writable(session):
        session.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(table.identifier))


def clear(session: Session) -> None:
    """Delete the rows of a user's, where the role may: the migrations make theirs again."""

    def delete(table: ExtensionTable) -> None:
        condition = sql.SQL(table.condition)
        session.execute(sql.SQL("DELETE FROM {} {}").format(table.identifier, condition))

    _each(session, _writable(session), delete)


def give(session: Session, rows: Sequence[ExtensionRows]) -> dict[str, int]:
    """Let these rows be there; return the tables that lack some, and how many.

    What the migrations have written there stays, but for what has the key of one of these rows.
    """
    if not rows:
        return {}
    wanted = {_name(each.table): each for each in rows}
    lacking = {name: each.data.count(b"\n") for name, each in wanted.items()}
    with session.transaction():
        made = {_name(each.table): each for each in read(session)}
        clear(session)
        there = tables(session)
        for some in (wanted, made):
            _each(session, there, partial(_insert_of, session, some))
        for table in there:
            if each := wanted.get(_name(table)):
                lacking[_name(table)] = _missing(session, table, each)
    return {shown(*name): number for name, number in sorted(lacking.items()) if number}


def _each(
    session: Session, todo: Sequence[ExtensionTable], work: Callable[[ExtensionTable], None]
) -> None:
    """Do something to each table, those that a foreign key makes wait after the others."""
    waiting = list(todo)
    while waiting:
        left = []
        for table in waiting:
            try:
                with session.transaction():
                    work(table)
            except psycopg.errors.ForeignKeyViolation as error:
                left.append(table)
                problem = error
        if len(left) == len(waiting):
            raise problem
        waiting = left


def _insert_of(
    session: Session, some: Mapping[tuple[str, str], ExtensionRows], table: ExtensionTable
) -> None:
    if rows := some.get(_name(table)):
        _insert(session, table, rows)


def _name(table: ExtensionTable) -> tuple[str, str]:
    return table.schema, table.name


def _insert(session: Session, table: ExtensionTable, rows: ExtensionRows) -> None:
    """Insert what is not there, and what no row has the key of."""
    if table.may_write:
        with _waiting(session, table, rows) as names:
            session.execute(sql.SQL(_GIVE).format(**names))
        _advance(session, table)


def _missing(session: Session, table: ExtensionTable, rows: ExtensionRows) -> int:
    """Return how many of the rows are not there."""
    with _waiting(session, table, rows) as names:
        return int((session.execute(sql.SQL(_MISSING).format(**names)).fetchone() or (0,))[0])


@contextmanager
def _waiting(
    session: Session, table: ExtensionTable, rows: ExtensionRows
) -> Iterator[dict[str, sql.Composable]]:
    """Have the rows in a temporary table for the block."""
    names = {"table": table.identifier, "columns": table.listed, "rows": _WAITING}
    session.execute(sql.SQL(_MAKE).format(**names))
    copy = sql.SQL("COPY {} ({}) FROM STDIN").format(_WAITING, rows.table.listed)
    with session.cursor().copy(copy) as into:
        into.write(rows.data)
    yield names
    session.execute(sql.SQL("DROP TABLE {}").format(_WAITING))


def _advance(session: Session, table: ExtensionTable) -> None:
    """Let the numbers of the columns go on after those that are there."""
    for column, sequence in session.execute(_SEQUENCES, [table.schema, table.name]).fetchall():
        advance = sql.SQL(_ADVANCE).format(column=sql.Identifier(column), table=table.identifier)
        session.execute(advance, {"sequence": sequence})


def _writable(session: Session) -> list[ExtensionTable]:
    return [each for each in tables(session) if each.may_write]


_WAITING = sql.Identifier("pg_temp", "backset_waiting")
_MAKE = "CREATE TEMPORARY TABLE {rows} AS SELECT {columns} FROM {table} LIMIT 0"
_IS_THERE = """
SELECT FROM (SELECT {columns} FROM {table}) there WHERE to_jsonb(there) = to_jsonb(waiting)
"""
_GIVE = f"""
INSERT INTO {{table}} ({{columns}}) OVERRIDING SYSTEM VALUE
SELECT {{columns}} FROM {{rows}} waiting WHERE NOT EXISTS ({_IS_THERE}) ON CONFLICT DO NOTHING
"""
_MISSING = f"SELECT count(*) FROM {{rows}} waiting WHERE NOT EXISTS ({_IS_THERE})"
_SEQUENCES = """
SELECT DISTINCT a.attname, s.refobjid::regclass::text
FROM pg_attrdef d JOIN pg_depend s ON s.classid = 'pg_attrdef'::regclass AND s.objid = d.oid
     JOIN pg_class c ON c.oid = s.refobjid
     JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
WHERE s.refclassid = 'pg_class'::regclass
  AND d.adrelid = format('%%I.%%I', %s::text, %s::text)::regclass
  AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'UPDATE') END
"""
_ADVANCE = """
SELECT setval(%(sequence)s::regclass, most) FROM (SELECT max({column}) AS most FROM {table}) t,
       pg_sequence_last_value(%(sequence)s::regclass) last
WHERE most IS NOT NULL AND most > coalesce(last, 0)
"""
# pg_cron's table has the jobs of all roles and databases of a server: they are not ours to replace.
_TABLES = """
SELECT n.nspname, c.relname, coalesce(nullif(condition, ''), ''),
       ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0
             AND NOT attisdropped AND attgenerated = '' ORDER BY attnum),
       has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'DELETE')
       AND e.extname <> 'pg_cron'
FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS config (relation, condition)
     JOIN pg_class c ON c.oid = config.relation JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND has_schema_privilege(n.oid, 'USAGE')
  AND has_table_privilege(c.oid, 'SELECT')
ORDER BY 1, 2
"""
