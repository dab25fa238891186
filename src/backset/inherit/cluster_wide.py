"""What migrations can make outside of the content of their database, which no reset removes.

That is roles and tablespaces, which belong to the server, and what the server knows of a database
as a whole, which no copy of it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.errors import Finding

if TYPE_CHECKING:
    from backset.connections.session import Session


@dataclass(frozen=True, slots=True)
class ClusterWide:
    """objects: kind and name of each role and tablespace.

    server: a hash of all that belongs to the server; database: of what it knows of the database.
    """

    objects: frozenset[tuple[str, str]]
    server: str
    database: str


def look(session: Session, database: str = "") -> ClusterWide:
    """Return what is so now. database: the session's own, if none is named."""
    since = session.info.server_version
    more = _PARAMETERS if since >= 150000 else ""  # noqa: PLR2004  (the version that brought it)
    query = _QUERY.format(more=more).encode()
    row = session.execute(query, {"database": database or session.info.dbname}).fetchone()
    kinds, names, server, of_database = row or ([], [], "", "")
    return ClusterWide(frozenset(zip(kinds, names, strict=True)), server, of_database)


def made(before: ClusterWide, after: ClusterWide) -> list[Finding]:
    """Return a finding for each role and tablespace that has come in between."""
    return [_finding(kind, name) for kind, name in sorted(after.objects - before.objects)]


def _finding(kind: str, name: str) -> Finding:
    return Finding(
        kind="cluster-wide object",
        name=name,
        what=f"while the migrations ran, the {kind} {name} was made",
        why="it belongs to the server: no reset, undo or restore of a database removes it",
        remedy="let the migration make it only where it is missing, or the next rebuild may fail",
    )


_PARAMETERS = """
UNION ALL SELECT 'parameter', parname, to_jsonb(p) - 'oid' FROM pg_parameter_acl p"""
# Of a role that is in no other one, the others are not to be seen; what is hidden stays so.
_QUERY = """
WITH about AS (
    SELECT 'role' AS kind, rolname::text AS name, to_jsonb(r) - 'oid' AS value FROM pg_roles r
    UNION ALL SELECT 'tablespace', spcname::text, to_jsonb(t) - 'oid' FROM pg_tablespace t
    UNION ALL SELECT 'member', pg_get_userbyid(roleid) || ' ' || pg_get_userbyid(member)
                     || ' ' || pg_get_userbyid(grantor),
                     to_jsonb(m) - 'oid' - 'roleid' - 'member' - 'grantor' FROM pg_auth_members m
    UNION ALL SELECT 'setting', coalesce(pg_get_userbyid(nullif(setrole, 0)), ''),
                     to_jsonb(setconfig) FROM pg_db_role_setting WHERE setdatabase = 0
    UNION ALL SELECT 'slot', slot_name::text, to_jsonb(database)
              FROM pg_replication_slots WHERE slot_type = 'logical'
    UNION ALL SELECT 'subscription', subname::text, to_jsonb(subdbid) FROM pg_subscription{more}
), own AS (
    SELECT to_jsonb(ARRAY[datacl::text, datconnlimit::text, datistemplate::text,
                          dattablespace::text, datdba::text,
                          shobj_description(d.oid, 'pg_database')])
        || coalesce((SELECT jsonb_agg(jsonb_build_array(setrole, setconfig) ORDER BY setrole)
                     FROM pg_db_role_setting WHERE setdatabase = d.oid), '[]')
        || coalesce((SELECT jsonb_agg(jsonb_build_array(provider, label) ORDER BY provider)
                     FROM pg_shseclabel l WHERE l.objoid = d.oid
                     AND l.classoid = 'pg_database'::regclass), '[]') AS value
    FROM pg_database d WHERE datname = %(database)s
)
SELECT coalesce(array_agg(kind ORDER BY kind, name) FILTER (WHERE kind IN ('role', 'tablespace')),
                '{{}}'),
       coalesce(array_agg(name ORDER BY kind, name) FILTER (WHERE kind IN ('role', 'tablespace')),
                '{{}}'),
       md5(string_agg(concat_ws(' ', kind, name, value), ',' ORDER BY kind, name, value::text)),
       coalesce((SELECT md5(value::text) FROM own), '')
FROM about
"""
