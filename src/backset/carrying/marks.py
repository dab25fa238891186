"""Marks: what the server counts for each table, by which a later write to it is noticed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backset.catalogs import catalog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from backset.connections.session import Session

    Name = tuple[str, str]

LARGE_OBJECTS = ("pg_catalog", "pg_largeobject_metadata")
_SHARED = 150000  # from here on a session's counts are there for all before it has left


@dataclass(frozen=True, slots=True)
class Marks:
    """How often the rows of each table have been written to, and which files they are in.

    tables: by schema and name, for each part of a partitioned table: the oid, the file, the
    transactions that wrote its entries in the catalog last (TRUNCATE, ALTER TABLE), and how many
    rows were inserted, updated and deleted, whatever became of that.
    reset: when somebody set those numbers to zero. are_kept: whether the server keeps them for
    every session; a superuser who stops that for a session of his own cannot be seen.
    """

    tables: Mapping[Name, tuple[Any, ...]]
    reset: datetime | None
    are_kept: bool

    def moved(self, later: Marks) -> set[Name]:
        """Return the tables that may have been written to, made or dropped until `later`."""
        names = self.tables.keys() | later.tables.keys()
        if self.are_kept and later.are_kept and self.reset == later.reset:
            return {name for name in names if self.tables.get(name) != later.tables.get(name)}
        return names - {LARGE_OBJECTS}  # nobody can keep others from making one, while we look


def read(session: Session) -> Marks:
    """Return the marks of every table of the users, and of the list of large objects.

    A session adds what it has done to the server's numbers after its commit: at once when it ends,
    within seconds when it is idle. So what is read before a snapshot is taken never has a write in
    it that the snapshot has not; and what is read when no other session is left has every write
    (pgstat_relation.c: AtEOXact_PgStat_Relations; pgstat.c: pgstat_shutdown_hook).
    """
    session.execute("SELECT pg_stat_clear_snapshot()")
    kept, reset = session.execute(_DATABASE).fetchone() or (False, None)
    is_shared = session.info.server_version >= _SHARED
    rows = session.execute(_TABLES).fetchall()
    tables: dict[Name, tuple[Any, ...]] = {}
    for schema, name, *mark in rows:
        tables[schema, name] = (*tables.get((schema, name), ()), tuple(mark))
    return Marks(tables, reset, kept and is_shared)


_DATABASE = """
SELECT current_setting('track_counts')::bool AND NOT EXISTS (
           SELECT FROM pg_db_role_setting s, unnest(s.setconfig) AS each
           WHERE s.setdatabase IN (0, d.oid) AND each ~* '^track_counts=(?!(on|true|yes|1)$)'),
       pg_stat_get_db_stat_reset_time(d.oid)
FROM pg_database d WHERE d.datname = current_database()
"""
_TABLES = f"""
SELECT n.nspname::text, root.relname::text, c.oid, pg_relation_filenode(c.oid), c.xmin::text,
       (SELECT string_agg(a.xmin::text, ' ' ORDER BY attnum) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND attnum > 0),
       pg_stat_get_tuples_inserted(c.oid), pg_stat_get_tuples_updated(c.oid),
       pg_stat_get_tuples_deleted(c.oid)
FROM pg_class c JOIN pg_class root
     ON root.oid = CASE WHEN c.relispartition THEN pg_partition_root(c.oid) ELSE c.oid END
     JOIN pg_namespace n ON n.oid = root.relnamespace
WHERE (n.nspname, root.relname) IN (SELECT * FROM ({catalog.TABLES}) AS tables)
   OR (n.nspname, root.relname) = {LARGE_OBJECTS}
ORDER BY c.oid
"""
