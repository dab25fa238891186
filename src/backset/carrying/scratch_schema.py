"""The old tables once more, in the database that was cleared: rebuilt, and filled from the backup.

They stand in schemas of our own, which no migration and no comparison of models ever sees, and
whatever drops the objects of a half built database drops them, too.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.carrying import dumped, matching
from backset.carrying.expressions import raw
from backset.carrying.plan import Schemas
from backset.carrying.user_types import Types
from backset.catalogs import columns
from backset.catalogs.catalog import shown
from backset.catalogs.past import large_objects
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backset.backups.manifest import Backup
    from backset.carrying.matching import Tables
    from backset.catalogs.columns import Column, Table
    from backset.catalogs.past import Past
    from backset.configuration.rules import Rules
    from backset.connections.session import Session
    from backset.migrations.migrating import Progress
    from backset.runs.build import Build

    Name = tuple[str, str]  # schema and name

NAME = "backset__old"


@contextmanager
def filled(build: Build, rules: Rules, progress: Progress) -> Iterator[Schemas | None]:
    """Make the tables of the build's past that are gone, with the rows that the backup has.

    Nothing is made, and None given, where the old database still stands.
    They are dropped after the block, unless it fails: then the backup replaces everything.
    Raises StepFailedError where the backup has other rows than its manifest says.
    """
    past, taken = build.past, build.taken
    if past is None or taken is None:
        yield None
        return
    session, after = build.live, columns.read(build.session)
    # Called by numbers: tables of several schemas may have the same name.
    places = {name: (NAME, f"t{n}") for n, name in enumerate(_gone(session, past))}
    homes = {schema: f"{NAME}_{n}" for n, schema in enumerate(sorted(past.type_schemas))}
    schemas = list(map(sql.Identifier, [NAME, *homes.values()]))
    with session.transaction():
        for each in schemas:
            session.execute(sql.SQL("CREATE SCHEMA {}").format(each))
        types = Types(session, past, homes)
        for name, place in places.items():
            session.execute(_table(past, types, name, place))
    parts = {oid: places[name] for oid, name in past.parts.items() if name in places}
    counts = dumped.fill(build, taken, parts, progress)
    _compare(past, taken, {name: counts.get(place, 0) for name, place in places.items()})
    _compute(session, past, types, places, _wanted(past, places, after, rules))
    before = _tables(session, past, places)
    yield Schemas(before, after, past.large_objects - large_objects(session))
    session.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.SQL(", ").join(schemas)))


def _gone(session: Session, past: Past) -> list[Name]:
    """Return the tables that were dropped; those of others stay, with their rows."""
    oids = list(past.oids.values())
    rows = session.execute("SELECT oid FROM pg_class WHERE oid = ANY(%s)", [oids])
    alive = {oid for (oid,) in rows}
    return [name for name, oid in past.oids.items() if oid not in alive]


def _table(past: Past, types: Types, name: Name, place: Name) -> sql.Composed:
    """Return what makes a table without what guards its rows, and what the server computes."""
    listed = [
        sql.SQL("{} {}").format(sql.Identifier(column.name), types.spelled(kind))
        for column, kind in zip(past.tables[name].columns, past.kinds[name], strict=True)
        if not column.generated
    ]
    statement = sql.SQL("CREATE UNLOGGED TABLE {} ({})")
    return statement.format(sql.Identifier(*place), sql.SQL(", ").join(listed))


def _compare(past: Past, taken: Backup, counts: Mapping[Name, int]) -> None:
    """Raise StepFailedError if a table has other rows than the manifest says.

    That counts the rows of a table together with those of the tables that inherit from it.
    """
    for name in counts.keys() - past.parents:
        wanted = taken.manifest.rows[shown(*name)]
        if counts[name] != wanted:
            what = f"{shown(*name)}: {counts[name]} of {wanted} rows came from {taken.name}"
            raise StepFailedError(what, "see the server's log, then run this again")


def _wanted(
    past: Past, places: Mapping[Name, Name], after: Tables, rules: Rules
) -> set[tuple[Name, str]]:
    """Return the generated columns whose values are to be carried, each with its table's name."""
    before = {name: past.tables[name] for name in places}
    return {
        (pair.old.key, way.old.name)
        for pair in matching.pairs(before, after, rules)
        for way in pair.ways
        if way.old and way.old.generated
    }


def _compute(
    session: Session,
    past: Past,
    types: Types,
    places: Mapping[Name, Name],
    wanted: set[tuple[Name, str]],
) -> None:
    """Let the server compute generated columns, which no dump has, as it did before."""
    for name in places:
        for column, kind in zip(past.tables[name].columns, past.kinds[name], strict=True):
            if (name, column.name) not in wanted:
                continue
            statement = "ALTER TABLE {} ADD {} {} GENERATED ALWAYS AS ({}) STORED"
            parts = (sql.Identifier(*places[name]), sql.Identifier(column.name))
            try:
                session.execute(
                    sql.SQL(statement).format(*parts, types.spelled(kind), raw(column.default))
                )
            except psycopg.Error as error:
                words = error.diag.message_primary
                what = f"{shown(*name)}.{column.name} cannot be computed again: {words}"
                remedy = f"[tool.backset.fill] with what it is made of: {column.default}"
                raise StepFailedError(what, remedy) from None


def _tables(session: Session, past: Past, places: Mapping[Name, Name]) -> Tables:
    """Return the tables as they were, with where their rows are now, and of which types."""
    standing = columns.read(session)
    return {name: _placed(past.tables[name], standing[place]) for name, place in places.items()}


def _placed(was: Table, now: Table) -> Table:
    def typed(column: Column) -> Column:
        found = now.column(column.name)
        return replace(column, base=found.base, builtin=found.builtin) if found else column

    return replace(
        was,
        columns=tuple(map(typed, was.columns)),
        place=now.key,
        partitioned=False,
        readable=True,
        size_bytes=now.size_bytes,
    )
