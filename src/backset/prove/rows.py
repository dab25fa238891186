"""Do two chains insert the same rows? Read in one database, and those of two compared in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from psycopg import sql

from backset.catalog import catalog, columns, past
from backset.catalog.catalog import IS_TABLE, SETTINGS, is_users
from backset.catalog.schema import Difference
from backset.text import redaction
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from backset.catalog.schema import Sides
    from backset.connections.session import Session

Row: TypeAlias = tuple[str | None, ...]

_SHOWN_ROWS = 10  # of one table
_SHOWN_CHARS = 40  # of one value
_WHOLE_ROWS = 20_000  # of a larger table, only digests are fetched
_WHOLE_BYTES = 2**28  # of all large objects: of more, only how many bytes they have


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRows:
    """The rows of one table: what its values are in text, and how often each row is there.

    key: the columns of the primary key. is_digest: the table is large, and `rows` has one row: a
    digest of each column's values.
    """

    columns: tuple[str, ...]
    key: tuple[str, ...]
    rows: Counter[Row]
    total: int
    is_digest: bool = False

    def without(self, columns: Collection[str], kept: Collection[str]) -> Counter[Row]:
        """Return the rows of the columns in `kept` that are not in `columns`, in `kept`'s order."""
        places = [self.columns.index(each) for each in kept if each not in columns]
        found: Counter[Row] = Counter()
        for row, times in self.rows.items():
            found[tuple(row[place] for place in places)] += times
        return found

    def values(self, column: str) -> Counter[str | None]:
        """Return how often each value of a column is there."""
        found: Counter[str | None] = Counter()
        for row, times in self.rows.items():
            found[row[self.columns.index(column)]] += times
        return found


def unstable(
    first: Mapping[str, TableRows], second: Mapping[str, TableRows]
) -> dict[str, set[str]]:
    """Return the columns, by table, that two builds of the same chain fill otherwise.

    Those are the times of the build, random numbers and UUIDs; no two builds could agree on them.
    """
    found = {
        table: {
            column for column in rows.columns if rows.values(column) != second[table].values(column)
        }
        for table, rows in first.items()
        if table in second and rows.columns == second[table].columns
    }
    return {table: columns for table, columns in found.items() if columns}


def between(
    old: Mapping[str, TableRows],
    new: Mapping[str, TableRows],
    sides: Sides,
    volatile: Mapping[str, Collection[str]],
) -> list[Difference]:
    """Return how the rows of tables differ that both sides have.

    volatile: columns, by table, in which each build differs from the last one; what is otherwise
    alike is then a minor difference, which names them.
    """
    found: list[Difference] = []
    for table in sorted(old.keys() & new.keys()):
        found += _of_table(table, (old[table], new[table]), sides, volatile.get(table, ()))
    return found


def _of_table(
    table: str, both: tuple[TableRows, TableRows], sides: Sides, volatile: Collection[str]
) -> Iterator[Difference]:
    old, new = both
    common = [each for each in old.columns if each in new.columns]
    if old.is_digest != new.is_digest:
        yield _counted(table, both, sides)
        return
    lost = old.without(volatile, common)
    come = new.without(volatile, common)
    lost, come = lost - come, come - lost
    masked = [each for each in common if each in volatile]
    if not lost and not come:
        if masked and old.without((), common) != new.without((), common):
            what = f"{_rows(table, old)} are alike but for {', '.join(masked)}"
            text = f"{what}, which every build makes anew"
            yield Difference(subject=table, what="volatile", text=text, minor=True)
        return
    if old.is_digest:
        yield _digested(table, both, sides, [each for each in common if each not in volatile])
        return
    kept = [each for each in common if each not in volatile]
    yield from _limited(table, list(_rows_in_words(table, kept, old.key, (lost, come), sides)))


def _rows(table: str, rows: TableRows) -> str:
    return f"{_named(table)}: its {count(rows.total, 'row')}"


def _named(table: str) -> str:
    return "the list of large objects" if table == past.LARGE_OBJECTS else f"table {table}"


def _counted(table: str, both: tuple[TableRows, TableRows], sides: Sides) -> Difference:
    old, new = both
    much = f"{count(old.total, 'row')} in {sides.old}, {new.total} in {sides.new}"
    text = f"{_named(table)} has {much}"
    return Difference(subject=table, what="rows", text=text)


def _digested(
    table: str, both: tuple[TableRows, TableRows], sides: Sides, columns: Collection[str]
) -> Difference:
    old, new = both
    if old.total != new.total:
        return _counted(table, both, sides)
    differing = [each for each in columns if old.values(each) != new.values(each)]
    text = f"{_rows(table, old)} have other values in {', '.join(differing)}"
    return Difference(subject=table, what="rows", text=text)


def _limited(table: str, found: list[Difference]) -> Iterator[Difference]:
    yield from found[:_SHOWN_ROWS]
    if rest := len(found[_SHOWN_ROWS:]):
        text = f"{_named(table)}: {count(rest, 'row')} more that differ"
        yield Difference(subject=table, what="rows", text=text)


def _rows_in_words(
    table: str,
    columns: list[str],
    key: tuple[str, ...],
    both: tuple[Counter[Row], Counter[Row]],
    sides: Sides,
) -> Iterator[Difference]:
    """Name each row: by its key with what differs, where both sides have that key once."""
    lost, come = both
    places = [columns.index(each) for each in key if each in columns]
    names = [_keyed(side, places) if key and len(places) == len(key) else {} for side in both]
    for name in [each for each in names[0] if each in names[1]]:
        before, after = names[0][name], names[1][name]
        words = [
            f"{column} is {_value(column, first)} in {sides.old}, {_value(column, second)} in "
            f"{sides.new}"
            for column, first, second in zip(columns, before, after, strict=True)
            if first != second
        ]
        shown = _shown([columns[place] for place in places], name)
        text = f"row {shown} of {table}: {'; '.join(words)}"
        yield Difference(subject=table, what="row", text=text)
        del lost[before], come[after]
    for side, rows in ((sides.old, lost), (sides.new, come)):
        for row, times in sorted(rows.items(), key=str):
            often = f" ({times} times)" if times > 1 else ""
            text = f"row {_shown(columns, row)} of {table} is only in {side}{often}"
            yield Difference(subject=table, what="row", text=text)


def _keyed(rows: Counter[Row], places: list[int]) -> dict[Row, Row]:
    return {tuple(row[place] for place in places): row for row in rows}


def _shown(columns: list[str], row: Row) -> str:
    pairs = zip(columns, row, strict=True)
    return ", ".join(f"{column}={_value(column, value)}" for column, value in pairs)


def _value(column: str, value: str | None) -> str:
    if value is None:
        return "null"
    text = " ".join(value.split())
    shown = text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
    return redaction.value(column, shown)


def read(session: Session) -> dict[str, TableRows]:
    """Return the rows of every table by its shown name, but for version tables.

    The large objects are rows of a table that is called so.
    """
    spare = catalog.version_tables(session)
    with session.transaction():
        session.execute(SETTINGS.encode())
        tables = [each for each in catalog.tables(session) if each not in spare]
        totals = catalog.counts(session, tables)
        columns: dict[tuple[str, str], list[tuple[str, bool]]] = {each: [] for each in tables}
        for schema, table, name, is_key in session.execute(_COLUMNS).fetchall():
            columns.setdefault((schema, table), []).append((name, is_key))
        found = {
            (shown := catalog.shown(*table)): _read(session, table, columns[table], totals[shown])
            for table in tables
        }
        return {**found, past.LARGE_OBJECTS: _large_objects(session)}


def sequences(session: Session) -> dict[str, str]:
    """Return the last value of every sequence that has given one, by its shown name."""
    found = session.execute(_SEQUENCES).fetchall()
    return {catalog.shown(schema, name): str(value) for schema, name, value in found}


def _read(
    session: Session, table: tuple[str, str], found: Sequence[tuple[str, bool]], total: int
) -> TableRows:
    """Return the rows of one table. found: its columns, and whether the primary key has each."""
    names = tuple(name for name, _ in found)
    key = tuple(name for name, is_key in found if is_key)
    is_digest = total > _WHOLE_ROWS
    texts = [sql.SQL("{}::text").format(sql.Identifier(each)) for each in names]
    values = sql.SQL(", ").join(columns.hashes_of_columns(names) if is_digest else texts)
    query = sql.SQL("SELECT {} FROM {}").format(values, sql.Identifier(*table))
    rows = Counter(session.execute(query).fetchall()) if names and total else Counter()
    return TableRows(columns=names, key=key, rows=rows, total=total, is_digest=is_digest)


def _large_objects(session: Session) -> TableRows:
    """Return them without their oids, which the server chooses; the content as a hash.

    Null stands for what the role may not read.
    """
    total, size = past.large_objects(session), 0
    if total <= _WHOLE_ROWS:
        (size,) = session.execute(_LARGE_BYTES).fetchone() or (0,)
        if size <= _WHOLE_BYTES:
            names = ("content", "owner", "rights", "comment")
            rows: Counter[Row] = Counter(session.execute(_LARGE_OBJECTS).fetchall())
            return TableRows(columns=names, key=(), rows=rows, total=total)
    rows = Counter([(str(total), str(size))])
    return TableRows(columns=("count", "bytes"), key=(), rows=rows, total=total, is_digest=True)


# Their pages are a superuser's alone; so each is opened, and its end is how long it is.
_SIZES = """
    SELECT oid, lomowner, lomacl, CASE WHEN pg_has_role(lomowner, 'USAGE')
           THEN lo_lseek64(lo_open(oid, x'40000'::int), 0, 2) END AS size
    FROM pg_largeobject_metadata
"""
_LARGE_BYTES = f"SELECT coalesce(sum(size), 0)::bigint FROM ({_SIZES}) AS large"
_LARGE_OBJECTS = f"""
SELECT CASE WHEN size IS NOT NULL THEN
           (SELECT md5(coalesce(string_agg(md5(lo_get(oid, at, 1048576)), '' ORDER BY at), ''))
            FROM generate_series(0, size - 1, 1048576) AS at) END,
       pg_get_userbyid(lomowner)::text, lomacl::text, obj_description(oid, 'pg_largeobject')
FROM ({_SIZES} OFFSET 0) AS large
"""
_COLUMNS = f"""
SELECT n.nspname, c.relname, a.attname, coalesce(a.attnum = ANY(i.indkey), false)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE {IS_TABLE} ORDER BY a.attname
"""
_SEQUENCES = f"""
SELECT schemaname, sequencename, last_value FROM pg_sequences
WHERE last_value IS NOT NULL AND {is_users("schemaname")}
"""
