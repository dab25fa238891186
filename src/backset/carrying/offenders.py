"""The keys that break a rule: how many, and the first few. The server names one of them."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from backset.carrying import digest, violations
from backset.catalogs.catalog import shown
from backset.errors import StepFailedError
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backset.carrying.constraints import Constraint
    from backset.carrying.indexes import Index
    from backset.carrying.tables import Transfer
    from backset.connections.session import Session

_SHOWN_KEYS = 5
_QUOTED_BYTES = 100  # of a value, by COPY; then come three dots (copyfromparse.c)


def holders(
    session: Session,
    transfer: Transfer,
    key: Sequence[str],
    columns: Sequence[str],
    text: str | None,
) -> Sequence[Sequence[str]]:
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
        columns=digest.listed(transfer.columns),
        has=_has(columns, text),
        key=digest.listed(key),
    )
    with suppress(psycopg.Error, UnicodeError):
        session.rollback()
        return session.execute(query).fetchall()
    return []


def _has(columns: Sequence[str], text: str | None) -> sql.Composed:
    names = digest.listed(columns)
    if text is None:
        return sql.SQL("ROW({}) IS NULL").format(names)
    start = text[:-3] if text.endswith("...") else None
    words = sql.SQL("concat_ws(', ', {})").format(names)  # spelled as COPY does
    literals = {"text": text, "most": _QUOTED_BYTES, "start": start}
    return sql.SQL(_HAS).format(words=words, **{k: sql.Literal(v) for k, v in literals.items()})


@contextmanager
def of_index(session: Session, index: Index) -> Iterator[None]:
    """Name what is there more than once, if the block cannot build this unique index."""
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        keys = session.execute(index.duplicates.encode()).fetchall()
        if not keys:
            raise
        number = int(keys[0][-1])
        what = f"{count(number, 'key')} {'is' if number == 1 else 'are'} there more than once"
        raise _error(error, what, index.columns, keys) from None


@contextmanager
def of_foreign_key(session: Session, constraint: Constraint) -> Iterator[None]:
    """Name what refers to nothing, if the block cannot validate this foreign key."""
    try:
        yield
    except psycopg.errors.ForeignKeyViolation as error:
        keys = session.execute(constraint.orphans.encode()).fetchall()
        if not keys:
            raise
        number = int(keys[0][-1])
        verb = "refers" if number == 1 else "refer"
        what = f"{count(number, 'row')} {verb} to what {shown(*constraint.other)} does not have"
        raise _error(error, what, constraint.columns, keys) from None


def _error(
    error: psycopg.Error, what: str, columns: Sequence[str], keys: Sequence[Sequence[Any]]
) -> StepFailedError:
    said = error.diag
    named = [violations.key(columns, key[:-1]) for key in keys[:_SHOWN_KEYS]]
    more = ["…"] * (len(keys) > _SHOWN_KEYS)
    table = shown(said.schema_name or "", said.table_name or "")
    text = f"{table}: {said.constraint_name}: {what}: {'; '.join([*named, *more])}"
    return StepFailedError(text, violations.MEND)


_HOLDERS = """
SELECT {keys} FROM ({rows}) AS carried ({columns}) WHERE {has} ORDER BY {key} LIMIT 2
"""
_HAS = "{words} = {text} OR octet_length({words}) > {most} AND starts_with({words}, {start})"
