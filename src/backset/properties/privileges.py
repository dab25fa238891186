"""Default privileges of our own roles in one database: taken away, so that a load is exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from backset.properties.grants import OBJECTS

if TYPE_CHECKING:
    from backset.connections.session import Session

_PUBLIC_HAS = {"f": "EXECUTE", "T": "USAGE"}  # acldefault()


def forget_defaults(session: Session) -> None:
    """Set the default privileges of our roles back to PostgreSQL's own.

    What a dump creates would get them, though it says itself what each object and each default
    privilege was; pg_dump puts the latter last for that reason.
    """
    with session.transaction():
        for role, schema, kind, grantees in session.execute(_ROWS).fetchall():
            head = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}").format(sql.Identifier(role))
            if schema is not None:
                head += sql.SQL(" IN SCHEMA {}").format(sql.Identifier(schema))
            for what in _changes(role, kind, grantees, is_global=schema is None):
                session.execute(head + what)


def _changes(
    role: str, kind: str, grantees: list[str | None], *, is_global: bool
) -> list[sql.Composed]:
    word = sql.SQL(OBJECTS[kind])
    changes = [
        sql.SQL(" REVOKE ALL ON {} FROM {}").format(word, _grantee(grantee)) for grantee in grantees
    ]
    if is_global:
        changes.append(sql.SQL(" GRANT ALL ON {} TO {}").format(word, sql.Identifier(role)))
    if is_global and kind in _PUBLIC_HAS:
        right = sql.SQL(_PUBLIC_HAS[kind])
        changes.append(sql.SQL(" GRANT {} ON {} TO PUBLIC").format(right, word))
    return changes


def _grantee(name: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if name is None else sql.Identifier(name)


_ROWS = """
SELECT pg_get_userbyid(d.defaclrole), n.nspname, d.defaclobjtype,
       ARRAY(SELECT DISTINCT r.rolname FROM aclexplode(d.defaclacl) a
             LEFT JOIN pg_roles r ON r.oid = a.grantee)
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
WHERE pg_has_role(d.defaclrole, 'USAGE')
"""
