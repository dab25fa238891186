"""The old tables once more, in the database that was cleared: rebuilt, and filled from the backup.

They stand in schemas of our own, which no migration and no comparison of models ever sees, and
whatever drops the objects of a half built database drops them, too.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from psycopg import sql

from backset.carrying import dumped_rows, mapping
from backset.carrying.expressions import raw
from backset.carrying.plan import Schemas
from backset.carrying.source import Source
from backset.carrying.user_types import Types
from backset.catalogs import columns
from backset.catalogs.catalog import shown
from backset.catalogs.past import large_objects
from backset.connections.session import connect
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backset.backups.manifest import Backup
    from backset.carrying.mapping import Tables
    from backset.catalogs.columns import Column, Table
    from backset.catalogs.past import Past
    from backset.configuration.rules import Rules
    from backset.connections.session import Session
    from backset.runs.build import Build

    Name = tuple[str, str]  # schema and name

NAME = "backset__old"


@contextmanager
def filled(build: Build, past: Past, progress: Callable[[str], None]) -> Iterator[Source]:
    """Make the tables of `past` that are gone, with the rows that they have in the backup.

    They are dropped after the block, unless it fails: then the backup replaces everything.
    Raises StepFailedError where the backup has other rows than its manifest says.
    """
    taken, rules = build.taken, build.options.carries
    assert taken is not None  # noqa: S101  (else there is no past)
    assert rules is not None  # noqa: S101
    session, after = build.live, columns.read(build.session)
    made = _make(session, past)
    _fill(build, past, taken, made, progress)
    _compute(session, past, made, _wanted(past, made, after, rules))
    objects = past.large_objects - large_objects(session)
    schemas = Schemas(_tables(session, past, made), after, objects)
    connected = partial(connect, build.target, build.purpose)
    yield Source(build.target, session, connected, schemas, past.counters, past.populated)
    names = sql.SQL(", ").join(map(sql.Identifier, made.schemas))
    session.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(names))


class _Made(NamedTuple):
    """The schemas, the types in them, and where each old table is.

    The tables are called by numbers: those of several schemas may have the same name.
    """

    schemas: Sequence[str]
    types: Types
    places: Mapping[Name, Name]


def _make(session: Session, past: Past) -> _Made:
    homes = {schema: f"{NAME}_{n}" for n, schema in enumerate(sorted(past.type_schemas))}
    made = _Made(
        schemas=[NAME, *homes.values()],
        types=Types(session, past, homes),
        places={name: (NAME, f"t{n}") for n, name in enumerate(_gone(session, past))},
    )
    with session.transaction():
        for each in made.schemas:
            session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(each)))
        for name, place in made.places.items():
            session.execute(_table(past, made.types, name, place))
    return made


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


def _fill(
    build: Build, past: Past, taken: Backup, made: _Made, progress: Callable[[str], None]
) -> None:
    """Copy the rows of the backup; raise StepFailedError if they are not those of its manifest.

    That counts the rows of a table together with those of the tables that inherit from it.
    """
    parts = {part: made.places[n] for part, n in past.parts.items() if n in made.places}
    counts = dumped_rows.fill(build, taken, parts, progress)
    for name in made.places.keys() - past.parents:
        came, wanted = counts.get(made.places[name], 0), taken.manifest.rows[shown(*name)]
        if came != wanted:
            what = f"{shown(*name)}: {came} of {wanted} rows came from {taken.name}"
            raise StepFailedError(what, "see the server's log, then run this again")


def _wanted(past: Past, made: _Made, after: Tables, rules: Rules) -> set[tuple[Name, str]]:
    """Return the generated columns whose values are to be carried, each with its table's name."""
    before = {name: past.tables[name] for name in made.places}
    return {
        (pair.old.key, way.old.name)
        for pair in mapping.pairs(before, after, rules)
        for way in pair.ways
        if way.old and way.old.generated
    }


def _compute(session: Session, past: Past, made: _Made, wanted: set[tuple[Name, str]]) -> None:
    """Let the server compute generated columns, which no dump has, as it did before."""
    for name in made.places:
        for column, kind in zip(past.tables[name].columns, past.kinds[name], strict=True):
            if (name, column.name) not in wanted:
                continue
            statement = "ALTER TABLE {} ADD {} {} GENERATED ALWAYS AS ({}) STORED"
            parts = (sql.Identifier(*made.places[name]), sql.Identifier(column.name))
            try:
                session.execute(
                    sql.SQL(statement).format(*parts, made.types.spelled(kind), raw(column.default))
                )
            except psycopg.Error as error:
                words = error.diag.message_primary
                what = f"{shown(*name)}.{column.name} cannot be computed again: {words}"
                remedy = f"[tool.backset.fill] with what it is made of: {column.default}"
                raise StepFailedError(what, remedy) from None


def _tables(session: Session, past: Past, made: _Made) -> Tables:
    """Return the tables as they were, with where their rows are now, and of which types."""
    standing = columns.read(session)
    return {name: _placed(past.tables[name], standing[at]) for name, at in made.places.items()}


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
