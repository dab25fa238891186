"""What of a catalog is the server's own, and what a user has made: in SQL, said here alone."""

from __future__ import annotations

_LONGEST_BYTES = 63  # NAMEDATALEN - 1: the server cuts a longer name, with a notice at most
FIRST_OF_A_USER = 16384  # FirstNormalObjectId: below it is what initdb made


def is_users(schema: str) -> str:
    """Return the condition that a schema, an expression of SQL, is none of the server's own.

    PostgreSQL keeps names that begin with `pg_` to itself. So it leaves a `pg_temp_N` and its
    `pg_toast_temp_N` behind for ever once a session has had a temporary table.
    """
    return f"({schema} !~ '^pg_' AND {schema} <> 'information_schema')"


def stored(name: str) -> str:
    """Return a name, which may have its schema or table before it, as the server stores it."""
    parts = (each.encode()[:_LONGEST_BYTES].decode("utf-8", "ignore") for each in name.split("."))
    return ".".join(parts)
