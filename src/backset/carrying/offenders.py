"""The keys that break a rule: how many, and the first few. The server names one of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from backset.carrying import violations
from backset.catalogs.catalog import shown
from backset.errors import StepFailedError
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backset.carrying.constraints import Constraint
    from backset.carrying.indexes import Index
    from backset.connections.session import Session

_SHOWN_KEYS = 5


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
