"""Alembic's version tables as the catalogs have them: for chains whose env.py cannot be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.catalog.catalog import is_users
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import psycopg

    from backset.settings.values import Lineage

_NAME = "alembic_version"  # where neither env.py nor the settings say another one


@dataclass(frozen=True, slots=True)
class VersionTable:
    """A version table with its rows.

    has_nothing_else: whether it has Alembic's one column, and no other.
    """

    schema: str
    name: str
    revisions: tuple[str, ...]
    has_nothing_else: bool = True

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
        for number, (*name, _) in enumerate(names)
    )
    found = session.execute(rows).fetchall()
    return [
        VersionTable(
            schema, name, tuple(sorted(row for each, row in found if each == number)), is_alone
        )
        for number, (schema, name, is_alone) in enumerate(names)
    ]


def write(session: psycopg.Connection[Any], table: VersionTable, revisions: Iterable[str]) -> None:
    """Let a version table have these rows and no other, all at once."""
    name = sql.Identifier(table.schema, table.name)
    with session.transaction():
        session.execute(sql.SQL("DELETE FROM {}").format(name))
        for each in revisions:
            insert = sql.SQL("INSERT INTO {} (version_num) VALUES (%s)").format(name)
            session.execute(insert, [each])


def follow(
    session: psycopg.Connection[Any], table: VersionTable, old: Sequence[str], new: str
) -> None:
    """Let one row stand where these stood, all at once; the others stay.

    Raises StepFailedError where one of these is not there any more, or one is twice.
    """
    name = sql.Identifier(table.schema, table.name)
    first, *others = old
    with session.transaction():
        update = sql.SQL("UPDATE {} SET version_num = %s WHERE version_num = %s").format(name)
        delete = sql.SQL("DELETE FROM {} WHERE version_num = ANY(%s)").format(name)
        changed = session.execute(update, [new, first]).rowcount
        gone = session.execute(delete, [others]).rowcount if others else 0
        if (changed, gone) != (1, len(others)):
            what = f"{table.shown} does not name {', '.join(old)} any more"
            raise StepFailedError(what, "somebody has migrated meanwhile: run this again")


def go_back(
    session: psycopg.Connection[Any], table: VersionTable, new: str, old: Sequence[str]
) -> None:
    """Let these rows stand where follow() has left one."""
    write(session, table, [*(each for each in table.revisions if each != new), *old])


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


def likely(
    lineage: Lineage,
    found: Sequence[VersionTable],
    known: Collection[str],
    others: Sequence[Lineage] = (),
    *,
    is_behind: bool,
) -> list[VersionTable]:
    """Return those of one chain whose table the settings do not name, as the rows tell it.

    A command of the project gives it the name that it likes. Where no table has Alembic's, one with
    a row that is a revision of the chain is it. Behind a command, whose env.py cannot be asked, it
    is else the only one that there is: its row may be an orphaned one.
    known: the revisions of the chain. others: as above. is_behind: whether it is such a command's.
    """
    named = of(lineage, found, others)
    if lineage.version_table or any(each.revisions for each in named):
        return named
    told = [each for each in others if each.version_table or each.schema]
    free = [
        table
        for table in found
        if table.revisions
        and lineage.schema in {"", table.schema}
        and not any(_is_of(each, table) for each in told)
    ]
    written = [each for each in free if not set(known).isdisjoint(each.revisions)]
    is_only = is_behind and len(free) == 1 and not others
    alone = [each for each in free if is_only and each.has_nothing_else]
    return written or named or alone


def _is_of(lineage: Lineage, table: VersionTable) -> bool:
    is_named = table.name == (lineage.version_table or _NAME)
    return is_named and lineage.schema in {"", table.schema}


_TABLES = f"""
SELECT n.nspname, c.relname, NOT EXISTS (
    SELECT FROM pg_attribute other WHERE other.attrelid = c.oid AND other.attnum > 0
        AND NOT other.attisdropped AND other.attnum <> a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind IN ('r', 'p') AND a.attname = 'version_num' AND NOT a.attisdropped
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  AND {is_users("n.nspname")}
ORDER BY n.nspname, c.relname
"""
