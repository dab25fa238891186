"""Alembic's version tables as the catalogs have them: for chains whose env.py cannot be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.catalogs.system import is_users

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from backset.configuration.lineage import Lineage

_NAME = "alembic_version"  # where neither env.py nor the settings say another one


@dataclass(frozen=True, slots=True)
class VersionTable:
    """A version table with its rows."""

    schema: str
    name: str
    revisions: tuple[str, ...]

    @property
    def shown(self) -> str:
        """Its name as people write it: without `public`."""
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"


def tables(session: psycopg.Connection[Any]) -> list[VersionTable]:
    """Return every table that has a column `version_num`, whatever its name, with its rows."""
    names = session.execute(_TABLES).fetchall()
    if not names:
        return []
    rows = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}, version_num::text FROM {}").format(number, sql.Identifier(*name))
        for number, name in enumerate(names)
    )
    found = session.execute(rows).fetchall()
    return [
        VersionTable(schema, name, tuple(sorted(row for each, row in found if each == number)))
        for number, (schema, name) in enumerate(names)
    ]


def of(
    lineage: Lineage, found: Iterable[VersionTable], others: Iterable[Lineage] = ()
) -> list[VersionTable]:
    """Return the version tables of one chain: one, or one in each schema of its tenants.

    others: the chains beside it; a table that the settings give to one of them is not meant.
    """
    told = [each for each in others if each.version_table or each.schema]
    return [
        table
        for table in found
        if _is_of(lineage, table) and not any(_is_of(each, table) for each in told)
    ]


def _is_of(lineage: Lineage, table: VersionTable) -> bool:
    is_named = table.name == (lineage.version_table or _NAME)
    return is_named and lineage.schema in {"", table.schema}


_TABLES = f"""
SELECT n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind IN ('r', 'p') AND a.attname = 'version_num' AND NOT a.attisdropped
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  AND {is_users("n.nspname")}
ORDER BY n.nspname, c.relname
"""
