"""Rights of other roles to write to tables of ours, which are taken away and given back later.

Alembic's process asks the same with drivers that read a percent sign in other ways: there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backset.connections.session import Session

# schema, table, column or None, right, role or None for everybody
Right: TypeAlias = "tuple[str, str, str | None, str, str | None]"


def tables(session: Session) -> list[int]:
    """Return the oids of all tables and views."""
    return [oid for (oid,) in session.execute(TABLES)]


def revoke(session: Session, stays: Sequence[int]) -> list[Right]:
    """Take away the rights of others to write to our tables, but for those with these oids."""
    query = RIGHTS.format(stays=", ".join(map(str, stays or [0])))
    revoked: list[Right] = []
    for *right, statement in session.execute(query.encode()).fetchall():
        session.execute(statement.encode())
        revoked.append(tuple(right))
    return revoked


def grant(session: Session, rights: Iterable[Right]) -> None:
    """Give such rights back."""
    with session.transaction():
        for schema, table, column, right, role in rights:
            what: sql.Composable = sql.SQL(right)
            if column is not None:
                what = sql.SQL("{} ({})").format(what, sql.Identifier(column))
            who = sql.SQL("PUBLIC") if role is None else sql.Identifier(role)
            on = sql.Identifier(schema, table)
            session.execute(sql.SQL("GRANT {} ON {} TO {}").format(what, on, who))


TABLES = """
SELECT c.oid::bigint FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'v')
"""
# A grantee who may grant that himself keeps it: what he has granted would go, too.
RIGHTS = """
SELECT n.nspname::text, t.relname::text, t.attname::text, a.privilege_type, r.rolname::text,
       'REVOKE ' || a.privilege_type
       || coalesce(' (' || pg_catalog.quote_ident(t.attname) || ')', '')
       || ' ON ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.relname)
       || ' FROM ' || coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC')
FROM (SELECT oid, relnamespace, relname, relowner, relkind, NULL::name AS attname, relacl AS acl
      FROM pg_catalog.pg_class
      UNION ALL
      SELECT c.oid, relnamespace, relname, relowner, relkind, attname, attacl
      FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_class c ON c.oid = attrelid
      WHERE attacl IS NOT NULL AND NOT attisdropped) t
     JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace,
     pg_catalog.aclexplode(t.acl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
WHERE t.relkind IN ('r', 'p', 'v') AND t.oid NOT IN ({stays}) AND n.nspname <> 'pg_catalog'
  AND t.relowner = (SELECT me.oid FROM pg_catalog.pg_roles me WHERE me.rolname = current_user)
  AND a.grantee <> t.relowner AND a.grantor = t.relowner AND NOT a.is_grantable
  AND (a.grantee = 0 OR r.rolname IS NOT NULL)
  AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
"""
