"""PostgreSQL's binary form of COPY, for rows with large bytes: as text, each byte would be two.

It is no other way for what can go as text: types must be the same on both sides, and a server does
not quote the row that it does not take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.carrying import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.carrying.sessions import Pair
    from backset.carrying.tables import Transfer
    from backset.connections.session import Session

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no extension: PostgreSQL has none yet
TRAILER = b"\xff\xff"
_LARGE_BYTES = 8 * 1024 * 1024
_BYTES = psycopg.adapters.types["bytea"].oid
# Their binary form is the same in every version, and has no number of the catalog in it.
_PLAIN = frozenset(
    psycopg.adapters.types[name].oid
    for name in (
        *("bool", "bytea", "int2", "int4", "int8", "float4", "float8", "numeric", "uuid"),
        *("text", "varchar", "bpchar", "json", "jsonb"),
        *("date", "time", "timetz", "timestamp", "timestamptz", "interval"),
    )
)


def suits(pair: Pair, transfer: Transfer) -> bool:
    """Tell whether a row has such bytes, and all columns are of the same plain types."""
    types = _types(pair.old, transfer.query)
    large = [c for c, each in zip(transfer.columns, types, strict=True) if each == _BYTES]
    if not large or not _PLAIN.issuperset(types):
        return False
    names = tables.listed(transfer.columns)
    there = sql.SQL("SELECT {} FROM {}").format(names, sql.Identifier(*transfer.table))
    return types == _types(pair.new, there) and _has_large(pair.old, transfer, large)


def _types(session: Session, query: sql.Composable) -> list[int]:
    cursor = session.execute(sql.SQL("SELECT * FROM ({}) AS carried LIMIT 0").format(query))
    return [each.type_code for each in cursor.description or ()]


def _has_large(session: Session, transfer: Transfer, columns: Sequence[str]) -> bool:
    """Look for such bytes; their length is beside the row, so that they themselves are not read."""
    is_large = sql.SQL(" OR ").join(
        sql.SQL("octet_length({}) > {}").format(sql.Identifier(each), _LARGE_BYTES)
        for each in columns
    )
    query = sql.SQL("SELECT EXISTS (SELECT FROM ({}) AS carried ({}) WHERE {})")
    names = tables.listed(transfer.columns)
    return session.execute(query.format(transfer.query, names, is_large)).fetchone() == (True,)
