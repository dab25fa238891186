"""What PostgreSQL says against a row, in one line that names table, rule and key, and no secret."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.carry import tables
from backset.catalog.catalog import shown
from backset.connections.session import denied
from backset.errors import StepFailedError
from backset.text import redaction
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeAlias

    from backset.carry.tables import TableCopy
    from backset.connections.session import Session

    Keys: TypeAlias = Sequence[Sequence[str]]
    Holders: TypeAlias = Callable[[Sequence[str], str | None], Keys]

# The words around differ with the server's language, not so the marks.
_KEY = re.compile(r"\((?P<columns>.+?)\) ?= ?\((?P<values>.*?)\)(?=[ «“]|\.?$)", re.DOTALL)
_LINE = re.compile(r'\d+\s*: ?["»„«]\s?(?P<row>.*?)\s?["«“»]$', re.DOTALL | re.MULTILINE)
_COLUMN = re.compile(
    r'\d+, \w+ (?P<column>.+?)\s*: ?(?:["»„«]\s?(?P<value>(?s:.*?))\s?["«“»]|[^"»„«\n]+)$',
    re.MULTILINE,
)
_QUOTED = re.compile(r'["»„«].*["«“»]', re.DOTALL)
_SHOWN_CHARS = 60
_MEND = "mend that in the old database, or give the column a rule in [tool.backset.fill]"
SHOWN_KEYS = 5
_QUOTED_BYTES = 100  # of a value, by COPY; then come three dots (copyfromparse.c)


def _nobody(_columns: Sequence[str], _text: str | None) -> Keys:
    return []


@contextmanager
def told(name: str, columns: Sequence[str] = (), holders: Holders = _nobody) -> Iterator[None]:
    """Turn what the server says in the block into StepFailedError.

    name: of the table that gets rows, as it is shown. columns: the key, which COPY is sent first.
    holders: returns the keys of the rows that have a text in columns, or null: of some errors the
    server quotes but that.
    """
    try:
        yield
    except psycopg.Error as error:
        raise StepFailedError(_what(error, name, columns, holders), _remedy(error)) from None


@contextmanager
def told_of_the_old(name: str) -> Iterator[None]:
    """Turn what the old server says while it reads a table into StepFailedError."""
    try:
        yield
    except psycopg.Error as error:
        what = f"{name}: reading the old rows: {_first_line(error)}"
        raise StepFailedError(what, "mend that in the old database, then run this again") from None


def _what(error: psycopg.Error, name: str, columns: Sequence[str], holders: Holders) -> str:
    said = error.diag
    table = shown(said.schema_name or "", said.table_name) if said.table_name else name
    if isinstance(error, psycopg.errors.ForeignKeyViolation):
        return f"{table}: {said.constraint_name}: {_named(error)} refers to a row that is not there"
    if isinstance(error, psycopg.errors.UniqueViolation):
        return f"{table}: {said.constraint_name}: {_named(error)} is there more than once"
    if isinstance(error, psycopg.errors.ExclusionViolation):
        return f"{table}: {said.constraint_name}: {_conflict(error, columns, holders)}"
    row = _row(error, columns, holders)
    if isinstance(error, psycopg.errors.CheckViolation):
        return f"{table}: {row}{_check(error)}"
    if isinstance(error, psycopg.errors.NotNullViolation) and said.column_name:
        return f"{table}: {row} has no {said.column_name}, which must not be null"
    return f"{table}: {row}: {_first_line(error)}"


def _remedy(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return denied(error)
    if isinstance(error, (psycopg.errors.IntegrityError, psycopg.errors.DataError)):
        return _MEND
    return "see the server's log, then run this again"


def _key(columns: Sequence[str], values: Sequence[str | None]) -> str:
    """Return the key of a row as people read it, without the values of secret columns."""
    pairs = zip(columns, values, strict=False)
    return ", ".join(f"{name}={_value(name, value)}" for name, value in pairs)


def first_keys(columns: Sequence[str], keys: Keys) -> str:
    """Return the first of these keys. keys: one more than is shown; each has the number of all."""
    named = [_key(columns, each[:-1]) for each in keys[:SHOWN_KEYS]]
    return "; ".join([*named, *["…"] * (len(keys) > SHOWN_KEYS)])


def _value(column: str, value: str | None) -> str:
    return "null" if value is None else redaction.value(column, _cut(value))


def _named(error: psycopg.Error) -> str:
    """Return the key that the server names."""
    found = _KEY.search(error.diag.message_detail or "")
    return _key([found["columns"]], [found["values"]]) if found else "a key"


def _check(error: psycopg.Error) -> str:
    """Return what a row does not hold; a domain's check has a column."""
    if not error.diag.constraint_name:
        return f": no partition for {_named(error)}"
    found = _place(error)
    column = f": {found['column']}" if found and found.re is _COLUMN else ""
    return f"{column} violates {error.diag.constraint_name}"


def _conflict(error: psycopg.Error, columns: Sequence[str], holders: Holders) -> str:
    """Return what stands against what, and the keys of the rows that have it."""
    found = list(_KEY.finditer(error.diag.message_detail or ""))
    named = [_key([each["columns"]], [each["values"]]) for each in found] or ["a key"]
    words = " conflicts with ".join(named if len(named) > 1 else [*named, "another row"])
    rows = (
        _key(columns, row)
        for each in found
        for row in holders(
            [name.strip('"') for name in each["columns"].split(", ")], each["values"]
        )
    )
    listed = "; ".join(dict.fromkeys(rows))
    return f"{words}: {listed}" if listed else words


def _row(error: psycopg.Error, columns: Sequence[str], holders: Holders) -> str:
    """Return how a row that came by COPY is called: by its key, which is what the line begins with.

    The server quotes the first hundred bytes of a line, or of the value that no type has read.
    """
    found, values = _place(error), None
    if columns and found and found.re is _LINE:
        values = found["row"].split(chr(9))
    elif columns and found:
        values = next(iter(holders([found["column"]], found["value"])), None)
    return f"the row {_key(columns, values)}" if values else "a row"


def _place(error: psycopg.Error) -> re.Match[str] | None:
    """Return where in the rows it was: at a column, or in a line."""
    context = error.diag.context or ""
    found = filter(None, (each.search(context) for each in (_COLUMN, _LINE)))
    return min(found, key=lambda each: each.start(), default=None)


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN_CHARS else flat[:_SHOWN_CHARS] + "…"


def _first_line(error: psycopg.Error) -> str:
    """Return what the server said, and of which column; its details quote whole rows."""
    said = error.diag.message_primary or str(error).partition("\n")[0]
    found = _place(error)
    if found is None or found.re is not _COLUMN:
        return said
    column = found["column"]
    return f"{column}: {_QUOTED.sub(lambda each: redaction.value(column, each[0]), said)}"


def holders(
    session: Session,
    transfer: TableCopy,
    key: Sequence[str],
    columns: Sequence[str],
    text: str | None,
) -> Keys:
    """Return the keys of the first two old rows that have this text in these columns, or null.

    session: on the old database, after its COPY was broken off. text: of a column as COPY has
    quoted it, or of several with a comma between. Nothing is returned where that cannot be told.
    """
    if not (key and {*columns, *key} <= {*transfer.columns}):
        return []
    keys = sql.SQL(", ").join(sql.Identifier(each) + sql.SQL("::text") for each in key)
    query = sql.SQL(_HOLDERS).format(
        keys=keys,
        rows=transfer.query,
        columns=tables.listed(transfer.columns),
        has=_has(columns, text),
        key=tables.listed(key),
    )
    with suppress(psycopg.Error, UnicodeError):
        session.rollback()
        return session.execute(query).fetchall()
    return []


def _has(columns: Sequence[str], text: str | None) -> sql.Composed:
    names = tables.listed(columns)
    if text is None:
        return sql.SQL("ROW({}) IS NULL").format(names)
    start = text[:-3] if text.endswith("...") else None
    words = sql.SQL("concat_ws(', ', {})").format(names)  # spelled as COPY does
    literals = {"text": text, "most": _QUOTED_BYTES, "start": start}
    return sql.SQL(_HAS).format(words=words, **{k: sql.Literal(v) for k, v in literals.items()})


@contextmanager
def of_index(session: Session, columns: Sequence[str], duplicates: str) -> Iterator[None]:
    """Name what is there more than once, if the block cannot build a unique index.

    duplicates: the query for these keys, each with the number of all.
    """
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        keys = session.execute(duplicates.encode()).fetchall()
        if not keys:
            raise
        number = int(keys[0][-1])
        what = f"{count(number, 'key')} {'is' if number == 1 else 'are'} there more than once"
        raise _error(error, what, columns, keys) from None


@contextmanager
def of_foreign_key(
    session: Session, columns: Sequence[str], other: Sequence[str], orphans: str
) -> Iterator[None]:
    """Name what refers to nothing, if the block cannot validate a foreign key.

    other: schema and name of the table that it refers to. orphans: the query for the keys of these
    rows, each with the number of all.
    """
    try:
        yield
    except psycopg.errors.ForeignKeyViolation as error:
        keys = session.execute(orphans.encode()).fetchall()
        if not keys:
            raise
        number = int(keys[0][-1])
        verb = "refers" if number == 1 else "refer"
        what = f"{count(number, 'row')} {verb} to what {shown(*other)} does not have"
        raise _error(error, what, columns, keys) from None


def _error(error: psycopg.Error, what: str, columns: Sequence[str], keys: Keys) -> StepFailedError:
    said = error.diag
    table = shown(said.schema_name or "", said.table_name or "")
    text = f"{table}: {said.constraint_name}: {what}: {first_keys(columns, keys)}"
    return StepFailedError(text, _MEND)


_HOLDERS = """
SELECT {keys} FROM ({rows}) AS carried ({columns}) WHERE {has} ORDER BY {key} LIMIT 2
"""
_HAS = "{words} = {text} OR octet_length({words}) > {most} AND starts_with({words}, {start})"
