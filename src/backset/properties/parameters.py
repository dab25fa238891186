"""What a row of pg_database and the settings of a database have: limits, tablespace, settings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.properties.property import Property, Source, When

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Of these the server keeps a list of identifiers, quoted where they must be; of all others it keeps
# the text as it was given. pg_dump has the same list, since no catalog tells.
_LISTS = frozenset(
    {
        *("local_preload_libraries", "search_path", "session_preload_libraries"),
        *("shared_preload_libraries", "temp_tablespaces", "unix_socket_directories"),
    }
)
_ITEM = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",\s]+))\s*(?:,|$)')
_CLOSING = "default_transaction_read_only"  # it would stop the migrations
_SECRET = re.compile("passw|secret|token|credential|key", re.IGNORECASE)


def _setting(row: Mapping[str, Any]) -> Property:
    name, value, role = row["name"], row["value"], row["role"]
    items = _items(value) if name in _LISTS else [value]
    return Property(
        kind="setting" if role is None else "setting of a role",
        name=name if role is None else f"{name} of {role}",
        value=(repr(value),),
        statements=lambda database: [_alter(database, name, role, items)],
        discreet=(lambda database: [_alter(database, name, role, ["***"])])
        if _SECRET.search(name)
        else None,
        when=When.SWAPPED if name == _CLOSING else When.EMPTY,
    )


def _alter(database: str, name: str, role: str | None, items: Sequence[str]) -> sql.Composed:
    where = sql.SQL("DATABASE {}").format(sql.Identifier(database))
    if role is not None:
        where = sql.SQL("ROLE {} IN ").format(sql.Identifier(role)) + where
    words = sql.SQL(", ").join(map(sql.Literal, items))
    parameter = sql.Identifier(*name.split("."))
    return sql.SQL("ALTER {} SET {} TO {}").format(where, parameter, words)


def _items(value: str) -> list[str]:
    """Return the items of a list as the server keeps it."""
    found = _ITEM.findall(value)
    return [bare or quoted.replace('""', '"') for quoted, bare in found]


def _limit(row: Mapping[str, Any]) -> Property:
    limit = sql.Literal(row["datconnlimit"])
    return Property(
        kind="connection limit",
        name="",
        value=(str(row["datconnlimit"]),),
        statements=lambda database: [
            sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(sql.Identifier(database), limit)
        ],
        when=When.SWAPPED,
    )


def _template(_row: Mapping[str, Any]) -> Property:
    return Property(
        kind="template",
        name="",
        value=("yes",),
        statements=lambda database: [
            sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(database))
        ],
        when=When.SWAPPED,
    )


def _tablespace(row: Mapping[str, Any]) -> Property:
    name = row["spcname"]
    return Property(
        kind="tablespace",
        name="",
        value=(name,),
        statements=lambda database: [
            sql.SQL("ALTER DATABASE {} SET TABLESPACE {}").format(
                sql.Identifier(database), sql.Identifier(name)
            )
        ],
        when=When.CREATED,
    )


_THIS = "datname = %(database)s"
SOURCES = (
    Source(
        f"""
SELECT rolname AS role, split_part(entry, '=', 1) AS name,
       substr(entry, strpos(entry, '=') + 1) AS value
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
     LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) AS entry
WHERE {_THIS} ORDER BY 1 NULLS FIRST, 2""",
        _setting,
    ),
    Source(f"SELECT datconnlimit FROM pg_database WHERE {_THIS} AND datconnlimit >= 0", _limit),
    Source(f"SELECT FROM pg_database WHERE {_THIS} AND datistemplate", _template),
    Source(
        f"""
SELECT spcname FROM pg_database JOIN pg_tablespace t ON t.oid = dattablespace WHERE {_THIS}""",
        _tablespace,
    ),
)
