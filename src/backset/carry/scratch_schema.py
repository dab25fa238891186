"""The old tables once more, in the database that was cleared: rebuilt, and filled from the backup.

They stand in schemas of our own, which no migration and no comparison of models ever sees, and
whatever drops the objects of a half built database drops them, too.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import psycopg
from psycopg import sql

from backset.backups import dumps, restoration, toc
from backset.carry import mapping
from backset.carry.mapping import raw
from backset.carry.plan import Schemas
from backset.catalog import columns
from backset.catalog.catalog import shown
from backset.catalog.past import large_objects
from backset.connections.session import connect
from backset.errors import StepFailedError
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backset.backups.manifest import Backup, Dump
    from backset.carry.mapping import Tables
    from backset.carry.tables import CarrySides, Name
    from backset.catalog.columns import Column, Table
    from backset.catalog.past import Kind, Past, UserType
    from backset.connections.session import Session
    from backset.servers.programs import Programs
    from backset.settings.rules import Rules

    Parts = Mapping[int, Name]
    Counts = Mapping[Name, int]

_NAME = "backset__old"
_WORD = rb'(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_]*)'
_HEADER = re.compile(rb"COPY %b\.%b (?P<columns>.*) FROM stdin;\n" % (_WORD, _WORD), re.DOTALL)
_END = b"\\.\n"
_BATCH_BYTES = 64 * 1024
_AGAIN = "see that the backup is whole, then run this again"


@contextmanager
def filled(sides: CarrySides, past: Past, progress: Callable[[str], None]) -> Iterator[Schemas]:
    """Make the tables of `past` that are gone, with the rows that they have in the backup.

    Gives what both sides are, where the rows stand under other names in the new database itself.
    They are dropped after the block, unless it fails: then the backup replaces everything.
    Raises StepFailedError where the backup has other rows than its manifest says.
    """
    taken, rules = sides.backups.taken, sides.rules
    assert taken is not None  # noqa: S101  (else there is no past)
    session, after = sides.old.session(), columns.read(sides.new.session())
    made = _make(session, past)
    _fill(sides, past, taken, made, progress)
    _compute(session, past, made, _wanted(past, made, after, rules))
    objects = past.large_objects - large_objects(session)
    yield Schemas(_tables(session, past, made), after, objects)
    names = sql.SQL(", ").join(map(sql.Identifier, made.schemas))
    session.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(names))


class _Made(NamedTuple):
    """The schemas, the types in them, and where each old table is.

    The tables are called by numbers: those of several schemas may have the same name.
    """

    schemas: Sequence[str]
    types: _Types
    places: Mapping[Name, Name]


def _make(session: Session, past: Past) -> _Made:
    homes = {schema: f"{_NAME}_{n}" for n, schema in enumerate(sorted(past.type_schemas))}
    made = _Made(
        schemas=[_NAME, *homes.values()],
        types=_Types(session, past, homes),
        places={name: (_NAME, f"t{n}") for n, name in enumerate(_gone(session, past))},
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


def _table(past: Past, types: _Types, name: Name, place: Name) -> sql.Composed:
    """Return what makes a table without what guards its rows, and what the server computes."""
    listed = [
        sql.SQL("{} {}").format(sql.Identifier(column.name), types.spelled(kind))
        for column, kind in zip(past.tables[name].columns, past.kinds[name], strict=True)
        if not column.generated
    ]
    statement = sql.SQL("CREATE UNLOGGED TABLE {} ({})")
    return statement.format(sql.Identifier(*place), sql.SQL(", ").join(listed))


def _fill(
    sides: CarrySides, past: Past, taken: Backup, made: _Made, progress: Callable[[str], None]
) -> None:
    """Copy the rows of the backup; raise StepFailedError if they are not those of its manifest.

    That counts the rows of a table together with those of the tables that inherit from it.
    """
    parts = {part: made.places[n] for part, n in past.parts.items() if n in made.places}
    counts = _copied(sides, taken, parts, progress)
    for name in made.places.keys() - past.parents:
        came, wanted = counts.get(made.places[name], 0), taken.manifest.rows[shown(*name)]
        if came != wanted:
            what = f"{shown(*name)}: {came} of {count(wanted, 'row')} came from {taken.name}"
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


class _Types:
    """The types of a past: those that still stand by their names, the others made again.

    schemas: where those of a schema are made again; each keeps its own name there.
    The checks of a domain and the functions of a range are left out: the values have passed them.
    """

    def __init__(self, session: Session, past: Past, schemas: Mapping[str, str]) -> None:
        self._session = session
        self._past = past
        self._schemas = schemas
        self._made: set[int] = set()
        every = [each.oid for kinds in past.kinds.values() for each in kinds]
        every += [kind.oid for each in past.types.values() for _, kind in each.parts]
        rows = session.execute("SELECT oid FROM pg_type WHERE oid = ANY(%s)", [every])
        self._alive = {oid for (oid,) in rows}

    def spelled(self, kind: Kind) -> sql.Composable:
        """Return the type as SQL names it now; it is made first, if it is gone."""
        if kind.oid in self._alive:
            return raw(kind.text)
        lost = self._past.types.get(kind.oid)
        if lost is None:  # a base type, whose functions are gone: its values are texts
            return sql.SQL("text")
        self._make(lost)
        return sql.SQL("{}{}").format(self._place(lost.name), raw("[]" * kind.is_array))

    def _make(self, lost: UserType) -> None:
        if lost.oid not in self._made:
            self._made.add(lost.oid)
            parts = [(name, self.spelled(kind)) for name, kind in lost.parts]
            if lost.letter != "m":  # it came with its range
                self._session.execute(self._statement(lost, parts))

    def _statement(
        self, lost: UserType, parts: Sequence[tuple[str, sql.Composable]]
    ) -> sql.Composed:
        place = self._place(lost.name)
        if lost.letter == "e":
            labels = sql.SQL(", ").join(map(sql.Literal, lost.labels))
            return sql.SQL("CREATE TYPE {} AS ENUM ({})").format(place, labels)
        if lost.letter == "c":
            listed = [sql.SQL("{} {}").format(sql.Identifier(name), kind) for name, kind in parts]
            return sql.SQL("CREATE TYPE {} AS ({})").format(place, sql.SQL(", ").join(listed))
        ((_, base),) = parts
        if lost.letter == "d":
            return sql.SQL("CREATE DOMAIN {} AS {}").format(place, base)
        statement = "CREATE TYPE {} AS RANGE (SUBTYPE = {}{}, MULTIRANGE_TYPE_NAME = {})"
        assert lost.multirange  # noqa: S101  (each range has one)
        other = self._place(lost.multirange)
        return sql.SQL(statement).format(place, base, raw(lost.options), other)

    def _place(self, name: Name) -> sql.Identifier:
        return sql.Identifier(self._schemas[name[0]], name[1])


def _copied(
    sides: CarrySides, taken: Backup, parts: Parts, progress: Callable[[str], None]
) -> Counts:
    """Copy rows of a backup into tables of the target; return how many each of these got.

    parts: the oid that a table had in the dump → where its rows go.
    """
    pg_restore = restoration.program(taken, sides.backups.programs)
    counts = dict.fromkeys(parts.values(), 0)
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "toc"
        lines = toc.read(taken.dump, pg_restore, sides.backups.programs, listing)
        entries = toc.rows(lines, parts)
        text = "".join(f"{line}\n" for line, _ in entries)
        listing.write_text(text, encoding="utf-8", errors="surrogateescape")
        with (
            closing(connect(sides.old.target, sides.server.purpose)) as session,
            _script(taken.dump, listing, pg_restore, sides.backups.programs) as script,
        ):
            for done, (_, oid) in enumerate(entries):
                progress(f"reading the backup: {done} of {count(len(entries), 'table')}")
                counts[parts[oid]] += _load(script, session, sql.Identifier(*parts[oid]))
    return counts


@contextmanager
def _script(dump: Dump, listing: Path, pg_restore: Path, programs: Programs) -> Iterator[IO[bytes]]:
    """Give what pg_restore writes of the rows that `listing` names, which it does in its order.

    Raises StepFailedError if it does not come to its end.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as script:
        arguments = ["--data-only", "--use-list", os.fspath(listing), "--file=-"]
        with (
            os.fdopen(writing, "wb") as sink,
            dumps.reading(dump, pg_restore, *arguments, programs=programs, output=sink) as child,
        ):
            sink.close()  # so that the script ends when pg_restore does
            yield script
            programs.check(child, pg_restore, None)


def _load(script: IO[bytes], session: Session, table: sql.Identifier) -> int:
    """Copy the next table of a script into this one, and return how many rows it had.

    The settings before it, such as the encoding, become those of the session.
    """
    for line in script:
        if line.startswith(b"SET ") and b"timeout" not in line:
            session.execute(line)
        if line.startswith(b"COPY "):
            return _copy(script, session, table, _columns(line, script))
    raise StepFailedError("pg_restore has left out a table of the backup", _AGAIN)


def _columns(header: bytes, script: IO[bytes]) -> bytes:
    """Return the list of columns in the line before the rows; a name may break that line."""
    while not (found := _HEADER.fullmatch(header)):
        more = script.readline()
        if not more:
            raise StepFailedError("what pg_restore writes ends in the name of a table", _AGAIN)
        header += more
    return found["columns"]


def _copy(script: IO[bytes], session: Session, table: sql.Identifier, columns: bytes) -> int:
    statement = b"COPY %b %b FROM STDIN" % (table.as_bytes(session), columns)
    with session.cursor() as cursor:
        with cursor.copy(statement) as copy:
            for batch in _batches(script):
                copy.write(batch)
        return cursor.rowcount


def _batches(script: IO[bytes]) -> Iterator[bytearray]:
    """Yield the rows up to the end of the table, of a large one a piece at a time."""
    batch, begins = bytearray(), True
    while (piece := script.readline(_BATCH_BYTES)) and not (begins and piece == _END):
        batch += piece
        begins = piece.endswith(b"\n")
        if len(batch) >= _BATCH_BYTES:
            yield batch
            batch = bytearray()
    yield batch
