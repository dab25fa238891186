"""Folders of databases that the server does not know: a crash in CREATE DATABASE leaves them.

They are on the standbys as well, and on the new primary after a failover. No run removes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from backset.connections.session import Session

_REMEDY = "as an administrator: stop the server, remove that folder, and do so on each standby"


def orphaned(session: Session) -> list[str]:
    """Return in words the folders that belong to no database, each with what to do.

    None while somebody creates or drops a database: its folder is there without its row, or goes
    while the server looks into it, which is an error of the look alone.
    """
    try:
        seen = {*session.execute(_FOLDERS).fetchall()}
        if not seen or session.execute(_IS_AT_WORK).fetchone() == (True,):
            return []
        still = seen & {*session.execute(_FOLDERS).fetchall()}
    except psycopg.errors.UndefinedFile:
        return []
    return [
        f"{place}/{oid} of the server belongs to no database → {_REMEDY}"
        for place, oid in sorted(still)
    ]


# pg_tablespace_databases lists the folders that are not empty, and anybody may ask it.
_FOLDERS = """
SELECT CASE WHEN t.spcname = 'pg_default' THEN 'base' ELSE pg_tablespace_location(t.oid) END,
       d.oid::bigint
FROM pg_tablespace t, pg_tablespace_databases(t.oid) AS d (oid)
WHERE t.spcname <> 'pg_global' AND NOT EXISTS (SELECT FROM pg_database p WHERE p.oid = d.oid)
"""
# CREATE DATABASE and DROP DATABASE hold that lock until they commit.
_IS_AT_WORK = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'relation' AND pid <> pg_backend_pid()
               AND relation = 'pg_database'::regclass AND mode = 'RowExclusiveLock')
"""
