"""The rows that refer to what is not there: how many, and the first of their keys."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.carrying import violations
from backset.catalogs.catalog import shown
from backset.errors import StepFailedError
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backset.connections.session import Session

_SHOWN_KEYS = 5


@contextmanager
def named(session: Session) -> Iterator[None]:
    """Name all that breaks a foreign key which is NOT VALID yet: the server names one key alone.

    Raises StepFailedError, or what the server said where it has no such constraint any more.
    """
    try:
        yield
    except psycopg.errors.ForeignKeyViolation as error:
        if what := _described(session, error):
            raise StepFailedError(what, violations.MEND) from None
        raise


def _described(session: Session, error: psycopg.Error) -> str:
    said = error.diag
    place = [said.schema_name, said.table_name, said.constraint_name]
    found = session.execute(_COLUMNS, place).fetchone()
    if not found:
        return ""
    is_partitioned, columns, other, theirs = found
    table = (str(said.schema_name), str(said.table_name))
    query = _orphans(table, columns, (other, theirs), sql.SQL("" if is_partitioned else "ONLY "))
    keys = session.execute(query).fetchall()
    if not keys:
        return ""
    values = [violations.key(columns, key) for *key, _ in keys[:_SHOWN_KEYS]]
    more = ["…"] * (len(keys) > _SHOWN_KEYS)
    rows = count(int(keys[0][-1]), "row")
    what = f"{rows} refer to what {shown(*other)} does not have"
    return f"{shown(*table)}: {said.constraint_name}: {what}: {'; '.join([*values, *more])}"


def _orphans(
    table: Sequence[str],
    columns: Sequence[str],
    others: tuple[Sequence[str], Sequence[str]],
    only: sql.SQL,
) -> sql.Composed:
    """Return the query for the keys, each with the number of all rows that have one of them."""
    other, theirs = others
    ours = [sql.Identifier("ours", each) for each in columns]
    listed = sql.SQL(", ").join(ours)
    return sql.SQL(
        "SELECT {texts}, sum(count(*)) OVER () FROM {only}{table} AS ours WHERE {known}"
        " AND NOT EXISTS (SELECT FROM {other} AS theirs WHERE {same})"
        " GROUP BY {listed} ORDER BY {listed} LIMIT {limit}"
    ).format(
        texts=sql.SQL(", ").join(sql.SQL("{}::text").format(each) for each in ours),
        only=only,
        table=sql.Identifier(*table),
        known=sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(each) for each in ours),
        other=sql.Identifier(*other),
        same=sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier("theirs", their), our)
            for their, our in zip(theirs, ours, strict=True)
        ),
        listed=listed,
        limit=_SHOWN_KEYS + 1,
    )


_COLUMNS = """
SELECT c.relkind = 'p',
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u (n, place)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY place),
       ARRAY[rn.nspname, r.relname]::text[],
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u (n, place)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY place)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND k.conname = %s AND k.contype = 'f'
"""
