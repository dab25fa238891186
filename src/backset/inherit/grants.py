"""Who may do what: the rights on a database and its schemas, and the default privileges."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.catalog.catalog import is_users
from backset.inherit.property import Property, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backset.connections.session import Session

    Grant = Sequence[Any]  # grantee (None: PUBLIC), privilege (None: he has none), grantable

_OBJECTS = {  # the letters of pg_default_acl.defaclobjtype
    "r": "TABLES",
    "S": "SEQUENCES",
    "f": "FUNCTIONS",
    "T": "TYPES",
    "n": "SCHEMAS",
    "L": "LARGE OBJECTS",
}
_PUBLIC_HAS = {"f": "EXECUTE", "T": "USAGE"}  # acldefault()


def _of_database(row: Mapping[str, Any]) -> Property:
    return Property(
        kind="rights on the database",
        name="",
        value=_lines(row["grants"]),
        statements=lambda database: [
            *_statements(sql.SQL("DATABASE {}").format(sql.Identifier(database)), row["grants"])
        ],
    )


def _of_schema(row: Mapping[str, Any]) -> Property:
    """Return owner and rights as one: a new owner would take over those of the old one."""
    name, owner = sql.Identifier(row["nspname"]), row["owner"]
    alter = sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(name, sql.Identifier(owner))
    on = sql.SQL("SCHEMA {}").format(name)
    return Property(
        kind="rights on schema",
        name=row["nspname"],
        value=(f"owner {owner!r}", *_lines(row["grants"])),
        statements=lambda _database: [alter, *_statements(on, row["grants"])],
        plain=row["plain"],
    )


def _default(row: Mapping[str, Any]) -> Property:
    role, schema, objects = row["role"], row["nspname"], _OBJECTS[row["defaclobjtype"]]
    alter = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} ").format(sql.Identifier(role))
    if schema is not None:
        alter += sql.SQL("IN SCHEMA {} ").format(sql.Identifier(schema))
    where = "" if schema is None else f" in {schema}"
    return Property(
        kind="default privileges",
        name=f"on {objects.lower()} of {role}{where}",
        value=_lines(row["grants"]),
        statements=lambda _database: [
            alter + each for each in _statements(sql.SQL(objects), row["grants"])
        ],
    )


def _lines(grants: Sequence[Grant]) -> tuple[str, ...]:
    """Return a line for each grantee; PUBLIC and the owner always have one."""
    return tuple(
        f"{'PUBLIC' if grantee is None else repr(grantee)} {_words(plain, grantable)}"
        for grantee, plain, grantable in _by_grantee(grants)
    )


def _words(plain: Sequence[str], grantable: Sequence[str]) -> str:
    return " ".join([*plain, *(f"{each}*" for each in grantable)]) or "nothing"


def _statements(on: sql.Composable, grants: Sequence[Grant]) -> Iterator[sql.Composed]:
    """Make the rights of each grantee exactly these; those of anybody else stay as they are."""
    for grantee, plain, grantable in _by_grantee(grants):
        who = sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee)
        yield sql.SQL("REVOKE ALL ON {} FROM {}").format(on, who)
        for privileges, option in ((plain, ""), (grantable, " WITH GRANT OPTION")):
            if privileges:
                words = sql.SQL(", ").join([sql.SQL(each) for each in privileges])
                grant = sql.SQL("GRANT {} ON {} TO {}" + option)
                yield grant.format(words, on, who)


def _by_grantee(grants: Sequence[Grant]) -> Iterator[tuple[str | None, list[str], list[str]]]:
    for grantee, group in groupby(grants, key=lambda grant: grant[0]):
        theirs = [(privilege, grantable) for _, privilege, grantable in group if privilege]
        plain = [privilege for privilege, grantable in theirs if not grantable]
        yield grantee, plain, [privilege for privilege, grantable in theirs if grantable]


def _grants(acl: str, owner: str) -> str:
    """Return the SQL of all grants in an ACL, whoever granted them."""
    return f"""(
    SELECT jsonb_agg(jsonb_build_array(rolname, privilege_type, is_grantable)
                     ORDER BY rolname NULLS FIRST, privilege_type)
    FROM (SELECT 0::oid AS oid UNION SELECT {owner} UNION SELECT grantee FROM aclexplode({acl})) who
         LEFT JOIN pg_roles USING (oid)
         LEFT JOIN (SELECT grantee, privilege_type, bool_or(is_grantable) AS is_grantable
                    FROM aclexplode({acl}) GROUP BY 1, 2) has ON grantee = oid) AS grants"""


def _acl(acl: str, kind: str, owner: str) -> str:
    return _grants(f"coalesce({acl}, acldefault('{kind}', {owner}))", owner)


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
    word = sql.SQL(_OBJECTS[kind])
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
_SCHEMAS = f"""FROM pg_namespace n WHERE {is_users("nspname")}
AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_namespace'::regclass
                AND x.objid = n.oid AND x.deptype = 'e') ORDER BY nspname"""
OF_DATABASE = (
    Source(
        f"SELECT {_acl('datacl', 'd', 'datdba')} FROM pg_database WHERE datname = %(database)s",
        _of_database,
    ),
)
SOURCES = (
    Source(
        f"""
SELECT nspname, nspacl IS NULL AS plain, pg_get_userbyid(nspowner) AS owner,
       {_acl("nspacl", "n", "nspowner")} {_SCHEMAS}""",
        _of_schema,
    ),
    Source(
        f"""
SELECT pg_get_userbyid(defaclrole) AS role, nspname, defaclobjtype,
       {_grants("defaclacl", "defaclrole")}
FROM pg_default_acl LEFT JOIN pg_namespace n ON n.oid = defaclnamespace ORDER BY 1, 2, 3""",
        _default,
    ),
)
