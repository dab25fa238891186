"""What PostgreSQL says against a row, in one line that names table, rule and key, and no secret."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from backset.catalogs.catalog import shown
from backset.errors import StepFailedError
from backset.wording import redaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The words around differ with the server's language, not so the marks.
_KEY = re.compile(r"\((?P<columns>.+?)\)=\((?P<values>.*?)\)(?= |$)", re.DOTALL)
_LINE = re.compile(r'\d+\s*: ?["»„«]\s?(?P<row>.*?)\s?["«“»]$', re.DOTALL | re.MULTILINE)
_COLUMN = re.compile(r'\d+, \w+ (?P<column>.+?)\s*: ?["»„«]')
_QUOTED = re.compile(r'["»„«].*["«“»]', re.DOTALL)
_SHOWN_CHARS = 60
MEND = "mend that in the old database, or give the column a rule in [tool.backset.fill]"


@contextmanager
def told(name: str, columns: Sequence[str] = ()) -> Iterator[None]:
    """Turn what the server says in the block into StepFailedError.

    name: of the table that gets rows, as it is shown. columns: the key, which COPY is sent first.
    """
    try:
        yield
    except psycopg.Error as error:
        raise StepFailedError(_what(error, name, columns), _remedy(error)) from None


@contextmanager
def told_of_the_old(name: str) -> Iterator[None]:
    """Turn what the old server says while it reads a table into StepFailedError."""
    try:
        yield
    except psycopg.Error as error:
        what = f"{name}: reading the old rows: {_first_line(error)}"
        raise StepFailedError(what, "mend that in the old database, then run this again") from None


def _what(error: psycopg.Error, name: str, columns: Sequence[str]) -> str:
    said = error.diag
    table = shown(said.schema_name or "", said.table_name) if said.table_name else name
    if isinstance(error, psycopg.errors.ForeignKeyViolation):
        return f"{table}: {said.constraint_name}: {_key(error)} refers to a row that is not there"
    if isinstance(error, psycopg.errors.UniqueViolation):
        return f"{table}: {said.constraint_name}: {_key(error)} is there more than once"
    if isinstance(error, psycopg.errors.ExclusionViolation):
        return f"{table}: {said.constraint_name}: {_key(error)} conflicts with another row"
    row = _row(error, columns)
    if isinstance(error, psycopg.errors.CheckViolation) and said.constraint_name:
        return f"{table}: {row} violates {said.constraint_name}"
    if isinstance(error, psycopg.errors.NotNullViolation):
        return f"{table}: {row} has no {said.column_name}, which must not be null"
    return f"{table}: {row}: {_first_line(error)}"


def _remedy(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "let an administrator GRANT that to your role, then run this again"
    if isinstance(error, (psycopg.errors.IntegrityError, psycopg.errors.DataError)):
        return MEND
    return "see the server's log, then run this again"


def key(columns: Sequence[str], values: Sequence[str | None]) -> str:
    """Return the key of a row as people read it, without the values of secret columns."""
    pairs = zip(columns, values, strict=False)
    return ", ".join(f"{name}={_value(name, value)}" for name, value in pairs)


def _value(column: str, value: str | None) -> str:
    return "null" if value is None else redaction.value(column, _cut(value))


def _key(error: psycopg.Error) -> str:
    """Return the key that the server names."""
    found = _KEY.search(error.diag.message_detail or "")
    return key([found["columns"]], [found["values"]]) if found else "a key"


def _row(error: psycopg.Error, columns: Sequence[str]) -> str:
    """Return how a row that came by COPY is called: by its key, which is what the line begins with.

    The server quotes the first hundred bytes of a line.
    """
    found = _LINE.search(error.diag.context or "")
    if not found or not columns:
        return "a row"
    return f"the row {key(columns, found['row'].split(chr(9)))}"


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN_CHARS else flat[:_SHOWN_CHARS] + "…"


def _first_line(error: psycopg.Error) -> str:
    """Return what the server said, and of which column; its details quote whole rows."""
    said = error.diag.message_primary or str(error).partition("\n")[0]
    found = _COLUMN.search(error.diag.context or "")
    if not found:
        return said
    column = found["column"]
    return f"{column}: {_QUOTED.sub(lambda each: redaction.value(column, each[0]), said)}"
