"""The objects of one database: which of them the role could drop and make again; drops them all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from psycopg import sql

from backset.catalog.catalog import FIRST_OF_A_USER, is_users, shown
from backset.errors import StepFailedError
from backset.text.pasted import bare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from backset.connections.session import Session

    Keeps = Callable[["Object"], bool]


@dataclass(frozen=True, slots=True)
class Object:
    """An object that somebody made, as PostgreSQL itself describes it.

    type, identity: of pg_identify_object(), quoted by the server. schema, name: as they are; a
    schema is in itself, and what is in none has an empty one.
    ours: whether the role may drop it, and may make another one for the same owner.
    """

    oid: int
    type: str
    identity: str
    schema: str
    name: str
    owner: str
    ours: bool

    @property
    def is_public(self) -> bool:
        """Whether it is the schema `public`, which every database has."""
        return (self.type, self.name) == ("schema", "public")

    def __str__(self) -> str:
        return f"{self.type} {self.identity} (owner {self.owner})"


def found(session: Session, keeps: Keeps | None = None) -> list[Object]:
    """Return all objects that have an owner, but for what extensions brought.

    keeps: which of them are others', whatever the role may do.
    """
    may = "SET" if session.info.server_version >= 160000 else "MEMBER"  # noqa: PLR2004  (the server's version that brought it)
    rows = session.execute(_OBJECTS, {"may": may}).fetchall()
    every = [
        Object(oid, kind, identity, bare(schema), bare(name), owner, ours)
        for oid, kind, identity, schema, name, owner, ours in rows
    ]
    if keeps is None:
        return every
    return [replace(each, ours=False) if keeps(each) else each for each in every]


def freeze(session: Session, keeps: Keeps) -> list[Object]:
    """Let nobody write to our tables while the caller's transaction lasts; return all objects."""
    everything = found(session, keeps)
    names = [each.identity for each in everything if each.ours and each.type == "table"]
    if names:
        session.execute(sql.SQL(f"LOCK TABLE {', '.join(names)} IN SHARE MODE"))
    return everything


def drop_ours(session: Session, keeps: Keeps, known: Iterable[Object] = ()) -> int:
    """Drop the objects that are ours, in one transaction; return how many there were.

    Schemas in which something stays, stay; so do extensions, what belongs to them, and `public`.
    keeps: which are others'. known: what freeze() saw. Raises StepFailedError, with nothing
    dropped, when something has been made since then, and when something that is not ours would go
    as well.
    """
    everything = found(session, keeps)
    ours = [each for each in everything if each.ours]
    oids = [each.oid for each in ours]
    if known and (new := [each for each in ours if each not in set(known)]):
        what = f"{new[0]} was made while the backup was taken"
        raise StepFailedError(what, "stop what makes it, then run this again")
    others = [each for each in everything if not each.ours]
    with session.transaction():
        before = _parts(session, others, oids)
        for each in sorted(ours, key=lambda each: each.type == "schema"):
            _drop(session, each)
        lost = [
            each for each, parts in before.items() if _parts(session, [each], oids)[each] != parts
        ]
        if lost:
            raise StepFailedError(f"{lost[0]} depends on what would be dropped", ASK_ITS_OWNER)
    return len(ours)


def dependants(session: Session, keeps: Keeps) -> list[Object]:
    """Return those of others' objects that drop_ours() would refuse to take along."""
    everything = found(session, keeps)
    ours = [each.oid for each in everything if each.ours]
    found_there = {oid for (oid,) in session.execute(_DEPENDANTS, [ours])}
    return [each for each in everything if not each.ours and each.oid in found_there]


ASK_ITS_OWNER = "ask its owner to drop it, or to give it to your role"


def surviving(session: Session, entries: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return those of (catalog oid, object oid) that are still there."""
    wanted: dict[int, list[int]] = {}
    for catalog, oid in entries:
        wanted.setdefault(catalog, []).append(oid)
    names: Sequence[Any] = session.execute(
        "SELECT oid, relname FROM pg_class WHERE oid = ANY(%s)", [list(wanted)]
    ).fetchall()
    alive = set()
    for catalog, name in names:
        table = sql.Identifier("pg_catalog", _KEPT_ELSEWHERE.get(name, name))
        query = sql.SQL("SELECT oid FROM {} WHERE oid = ANY(%s)").format(table)
        rows = session.execute(query, [wanted[catalog]])
        alive |= {(catalog, oid) for (oid,) in rows}
    return alive


def kept_names(session: Session) -> tuple[str, ...]:
    """Return extensions and schemas as a dump's table of contents begins their entries."""
    return tuple(f"{kind} - {name} " for kind, name in session.execute(_KEPT))


def names_of_others(session: Session, keeps: Keeps) -> frozenset[str]:
    """Return what a manifest calls the objects that are not ours, and their tables' rows."""
    others = [each for each in found(session, keeps) if not each.ours]
    tables = session.execute(_NAMES, [[each.oid for each in others]]).fetchall()
    names = {f"{each.type} {each.identity}" for each in others}
    return frozenset(names | {shown(schema, name) for schema, name in tables})


def are_open_to_others(session: Session) -> bool:
    """Tell whether another login may write to a table of ours.

    That is by a right, as a member of a role, or through a function that runs as its owner.
    """
    return session.execute(_OPEN).fetchone() == (True,)


def tables_of_extensions(session: Session) -> set[int]:
    """Return the oids of tables that extensions made; a dump may have rows of theirs."""
    return {oid for (oid,) in session.execute(_OF_EXTENSIONS)}


def roles(session: Session) -> list[str]:
    """Return the names of all roles of the server."""
    return [name for (name,) in session.execute("SELECT rolname FROM pg_roles")]


def strangers(session: Session) -> list[str]:
    """Return the names of all roles that we may not act as."""
    query = "SELECT rolname FROM pg_roles WHERE NOT pg_has_role(oid, 'USAGE')"
    return [name for (name,) in session.execute(query)]


def _drop(session: Session, each: Object) -> None:
    if each.type == "large object":
        session.execute("SELECT lo_unlink(%s)", [each.oid])
        return
    word = _WORDS.get(each.type, each.type)
    how = "RESTRICT" if each.type == "schema" else "CASCADE"
    statement = sql.SQL(f"DROP {word} IF EXISTS {each.identity} {how}")
    try:
        with session.transaction():
            session.execute(statement)
    except psycopg.errors.DependentObjectsStillExist:
        if each.type != "schema":
            raise


def _parts(session: Session, others: Iterable[Object], ours: Sequence[int]) -> dict[Object, Any]:
    """Return what each object consists of: CASCADE could take a column of it, or a constraint.

    A trigger that calls a function of ours, and those of a foreign key of ours, are ours: the
    migrations make them again. So is the place of a table of ours in a publication.
    """
    return {
        each: session.execute(_PARTS, {"oid": each.oid, "ours": list(ours)}).fetchone()
        for each in others
    }


_WORDS = {
    "function": "ROUTINE",
    "procedure": "ROUTINE",
    "aggregate": "ROUTINE",
    "statistics object": "STATISTICS",
    "foreign-data wrapper": "FOREIGN DATA WRAPPER",
}
_OPEN = f"""
SELECT EXISTS (
    SELECT FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner
           LEFT JOIN aclexplode(c.relacl) a ON a.grantee <> c.relowner
                     AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
    WHERE c.relkind IN ('r', 'p', 'v') AND pg_has_role(o.oid, 'USAGE')
      AND (o.rolname <> current_user OR a.grantee IS NOT NULL)
      AND c.oid >= {FIRST_OF_A_USER} AND NOT EXISTS (
          SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
          AND d.deptype = 'e'))
  OR EXISTS (
    SELECT FROM pg_roles r WHERE r.rolcanlogin AND NOT r.rolsuper AND r.rolname <> session_user
      AND (pg_has_role(r.oid, current_user, 'MEMBER') OR EXISTS (
          SELECT FROM pg_roles w WHERE w.rolname = 'pg_write_all_data'
          AND pg_has_role(r.oid, w.oid, 'MEMBER'))))
  OR EXISTS (
    SELECT FROM pg_proc f WHERE f.prosecdef AND f.oid >= {FIRST_OF_A_USER}
      AND pg_has_role(f.proowner, 'USAGE') AND NOT EXISTS (
          SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid
          AND d.deptype = 'e'))
"""
# A view depends by its rule, a table by a constraint, a default or a policy of its own. Triggers
# and places in publications are made again by the migrations.
_DEPENDANTS = """
SELECT DISTINCT coalesce(r.ev_class, k.conrelid, a.adrelid, p.polrelid, i.indrelid, d.objid)
FROM pg_depend d
     LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
     LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
     LEFT JOIN pg_attrdef a ON d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid
     LEFT JOIN pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
     LEFT JOIN pg_index i ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
WHERE d.refobjid = ANY(%s) AND d.deptype IN ('n', 'a')
  AND d.classid NOT IN ('pg_trigger'::regclass, 'pg_publication_rel'::regclass)
  AND d.refclassid <> 'pg_namespace'::regclass
"""
_KEPT_ELSEWHERE = {"pg_largeobject": "pg_largeobject_metadata"}  # its own rows are the pages
_OWNERS = {
    "pg_class": "relowner",
    "pg_collation": "collowner",
    "pg_conversion": "conowner",
    "pg_event_trigger": "evtowner",
    "pg_foreign_data_wrapper": "fdwowner",
    "pg_foreign_server": "srvowner",
    "pg_language": "lanowner",
    "pg_namespace": "nspowner",
    "pg_opclass": "opcowner",
    "pg_operator": "oprowner",
    "pg_opfamily": "opfowner",
    "pg_proc": "proowner",
    "pg_publication": "pubowner",
    "pg_statistic_ext": "stxowner",
    "pg_ts_config": "cfgowner",
    "pg_ts_dict": "dictowner",
    "pg_type": "typowner",
}
_OWNED = " UNION ALL ".join(
    f"SELECT '{catalog}'::regclass AS classid, oid, {owner} AS owner FROM {catalog}"
    for catalog, owner in _OWNERS.items()
)
# A partitioned table is internal to itself, by the columns of its key. What is internal to another
# object (a table's row type, an identity's sequence) goes with it.
_OBJECTS = f"""
SELECT o.oid, i.type, i.identity,
       coalesce(i.schema, CASE i.type WHEN 'schema' THEN i.name END, ''),
       coalesce(i.name, (SELECT proname FROM pg_proc p WHERE p.oid = o.oid
                         AND o.classid = 'pg_proc'::regclass), i.identity),
       pg_get_userbyid(o.owner),
       pg_has_role(o.owner, 'USAGE') AND pg_has_role(o.owner, %(may)s)
       AND (i.type NOT IN ('schema', 'publication', 'language')
            OR has_database_privilege(o.owner, current_database(), 'CREATE'))
FROM ({_OWNED} UNION ALL
      SELECT 'pg_largeobject'::regclass, oid, lomowner FROM pg_largeobject_metadata) o,
     pg_identify_object(o.classid, o.oid, 0) i
WHERE o.oid >= {FIRST_OF_A_USER}
  AND i.type NOT IN ('index', 'toast table', 'composite type') AND i.type !~ '^index'
  AND coalesce({is_users("coalesce(i.schema, CASE i.type WHEN 'schema' THEN i.name END)")}, true)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.classid AND d.objid = o.oid
                  AND d.deptype IN ('e', 'i') AND d.refobjid <> o.oid)
ORDER BY o.oid
"""
_KEPT = f"""
SELECT 'EXTENSION', extname FROM pg_extension
UNION ALL SELECT 'SCHEMA', nspname FROM pg_namespace WHERE {is_users("nspname")}
"""
_NAMES = """
SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE c.oid = ANY(%s)
"""
_OF_EXTENSIONS = """
SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e'
"""
_PARTS = """
SELECT (SELECT count(*) FROM pg_depend WHERE objid = %(oid)s),
       (SELECT count(*) FROM pg_attribute WHERE attrelid = %(oid)s AND NOT attisdropped),
       (SELECT count(*) FROM pg_constraint WHERE %(oid)s IN (conrelid, contypid)),
       (SELECT count(*) FROM pg_index WHERE indrelid = %(oid)s),
       (SELECT count(*) FROM pg_policy WHERE polrelid = %(oid)s),
       (SELECT count(*) FROM pg_rewrite WHERE ev_class = %(oid)s),
       (SELECT count(*) FROM pg_attrdef WHERE adrelid = %(oid)s),
       (SELECT count(*) FROM pg_trigger WHERE tgrelid = %(oid)s AND NOT tgisinternal
        AND tgfoid <> ALL(%(ours)s)),
       (SELECT count(*) FROM pg_publication_rel WHERE prpubid = %(oid)s
        AND prrelid <> ALL(%(ours)s))
"""


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
