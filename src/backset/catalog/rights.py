"""Rights of other roles to write to tables of ours, which are taken away and given back later.

Alembic's process asks the same with drivers that read a percent sign in other ways: there is none.
Everything is known by its oid: a migration may give it another name meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.connections.session import Session

Right: TypeAlias = "tuple[int, int, str, int]"  # table, column or 0, right, role or 0 for PUBLIC


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


def grant(session: Session, rights: Sequence[Right]) -> None:
    """Give such rights back, those on what is there."""
    if rights:
        values = ", ".join(
            f"({int(table)}::oid, {int(column)}, '{_KNOWN[right]}', {int(role)}::oid)"
            for table, column, right, role in rights
        )
        for (statement,) in session.execute(BACK.format(rights=values).encode()).fetchall():
            session.execute(statement.encode())


_KNOWN = {each: each for each in ("INSERT", "UPDATE", "DELETE", "TRUNCATE")}
TABLES = """
SELECT c.oid::bigint FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'v')
"""
_WHAT = """
    {right} || coalesce(' (' || pg_catalog.quote_ident({column}) || ')', '')
    || ' ON ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident({table})
"""
_WHO = "coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC')"
# A grantee who may grant that himself keeps it: what he has granted would go, too.
RIGHTS = f"""
SELECT t.oid::bigint, t.attnum::int, a.privilege_type::text, a.grantee::bigint,
       'REVOKE ' || {_WHAT.format(right="a.privilege_type", column="t.attname", table="t.relname")}
       || ' FROM ' || {_WHO}
FROM (SELECT oid, relnamespace, relname, relowner, relkind, 0 AS attnum, NULL::name AS attname,
             relacl AS acl
      FROM pg_catalog.pg_class
      UNION ALL
      SELECT c.oid, relnamespace, relname, relowner, relkind, attnum, attname, attacl
      FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_class c ON c.oid = attrelid
      WHERE attacl IS NOT NULL AND NOT attisdropped) t
     JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace,
     pg_catalog.aclexplode(t.acl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
WHERE t.relkind IN ('r', 'p', 'v') AND t.oid NOT IN ({{stays}}) AND n.nspname <> 'pg_catalog'
  AND t.relowner = (SELECT me.oid FROM pg_catalog.pg_roles me WHERE me.rolname = current_user)
  AND a.grantee <> t.relowner AND a.grantor = t.relowner AND NOT a.is_grantable
  AND (a.grantee = 0 OR r.rolname IS NOT NULL)
  AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
"""
BACK = f"""
SELECT 'GRANT ' || {_WHAT.format(right="v.privilege", column="a.attname", table="c.relname")}
       || ' TO ' || {_WHO}
FROM (VALUES {{rights}}) v (relation, part, privilege, grantee)
     JOIN pg_catalog.pg_class c ON c.oid = v.relation
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_catalog.pg_attribute a
          ON a.attrelid = c.oid AND a.attnum = v.part AND a.attnum > 0 AND NOT a.attisdropped
     LEFT JOIN pg_catalog.pg_roles r ON r.oid = v.grantee
WHERE (v.part = 0 OR a.attname IS NOT NULL) AND (v.grantee = 0 OR r.rolname IS NOT NULL)
"""
