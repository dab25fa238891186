"""Reads the rows that migrations have inserted into one database, and where its sequences stand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from psycopg import sql

from backset.catalogs import catalog
from backset.catalogs.inventory import SETTINGS
from backset.catalogs.system import is_users
from backset.proofs.rows import Rows

if TYPE_CHECKING:
    from backset.connections.session import Session

_WHOLE_ROWS = 20_000  # of a larger table, only digests are fetched


def read(session: Session) -> dict[str, Rows]:
    """Return the rows of every table by its shown name, but for version tables."""
    spare = catalog.version_tables(session)
    with session.transaction():
        session.execute(SETTINGS.encode())
        return {
            catalog.shown(*table): _read(session, table)
            for table in catalog.tables(session)
            if table not in spare
        }


def sequences(session: Session) -> dict[str, str]:
    """Return the last value of every sequence that has given one, by its shown name."""
    found = session.execute(_SEQUENCES).fetchall()
    return {catalog.shown(schema, name): str(value) for schema, name, value in found}


def _read(session: Session, table: tuple[str, str]) -> Rows:
    found = session.execute(_COLUMNS, table).fetchall()
    columns = tuple(name for name, _ in found)
    key = tuple(name for name, is_key in found if is_key)
    name = sql.Identifier(*table)
    (total,) = session.execute(sql.SQL("SELECT count(*) FROM {}").format(name)).fetchone() or (0,)
    is_digest = total > _WHOLE_ROWS
    form = sql.SQL(_DIGEST if is_digest else "{}::text")
    values = sql.SQL(", ").join(form.format(sql.Identifier(each)) for each in columns)
    query = sql.SQL("SELECT {} FROM {}").format(values, name)
    rows = Counter(session.execute(query).fetchall()) if columns and total else Counter()
    return Rows(columns=columns, key=key, rows=rows, total=total, is_digest=is_digest)


# A sum, since it needs no order, and a text of all values could be larger than a text may be.
_DIGEST = "sum(('x' || left(md5(coalesce({}::text, '')), 15))::bit(60)::bigint)::text"
_COLUMNS = """
SELECT a.attname, coalesce(a.attnum = ANY(i.indkey), false)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE (n.nspname, c.relname) = (%s, %s) ORDER BY a.attname
"""
_SEQUENCES = f"""
SELECT schemaname, sequencename, last_value FROM pg_sequences
WHERE last_value IS NOT NULL AND {is_users("schemaname")}
"""
