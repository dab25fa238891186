"""Reads what stands in one database: every object that a user made, with a hash of its definition.

The hashes of a database and of its restored dump agree when both servers have the same major
version: nothing in them depends on an oid, on the search path or on the session's settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.catalog.catalog import FIRST_OF_A_USER, is_users

if TYPE_CHECKING:
    import psycopg


def inventory(
    session: psycopg.Connection[Any], condition: sql.Composable | None = None
) -> dict[str, str]:
    """Return kind and qualified name of every object → a hash of 16 hexadecimal digits.

    Empty where the name says it all; the number of the large objects in place of their names.
    condition: in SQL, of the oid `relation` and the name `place` of its schema: what is wanted.
    Members of extensions and PostgreSQL's own objects are left out. One round trip; inside a
    transaction it leaves the search path empty until that ends.
    """
    query = sql.SQL(SETTINGS + _INVENTORY).format(condition=condition or sql.SQL("true"))
    cursor = session.execute(query)
    while cursor.nextset():
        pass
    return dict(cursor.fetchall())


# How a definition is spelled depends on these.
SETTINGS = """
SET LOCAL search_path = ''; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD';
SET LOCAL IntervalStyle = 'postgres'; SET LOCAL extra_float_digits = 1;
SET LOCAL quote_all_identifiers = off;
"""

_COLUMNS = """
SELECT string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
           nullif(a.attcollation, t.typcollation)::regcollation,
           CASE WHEN a.attnotnull THEN '!' END, a.attidentity, a.attgenerated,
           pg_get_expr(d.adbin, d.adrelid)), ', ' ORDER BY a.attnum)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
"""
_RELATIONS = f"""
SELECT 'pg_class'::regclass AS classid, c.oid AS objid, c.oid AS relation,
       concat_ws(E'\\n', c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.relreplident,
           (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(c.reloptions) o),
           pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid),
           (SELECT string_agg(inhparent::regclass::text, ',' ORDER BY inhseqno)
            FROM pg_inherits WHERE inhrelid = c.oid),
           CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
           ({_COLUMNS})) AS definition
FROM pg_class c WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c')
"""
# pg_dump leaves out an index that CREATE INDEX CONCURRENTLY did not finish.
_INDEXES = """
SELECT 'pg_class'::regclass, i.indexrelid, i.indrelid, pg_get_indexdef(i.indexrelid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indisvalid OR c.relkind = 'I'
"""
_SEQUENCES = """
SELECT 'pg_class'::regclass, s.seqrelid, s.seqrelid,
       concat_ws(' ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax,
                 s.seqcache, s.seqcycle) FROM pg_sequence s
"""
# Columns say NOT NULL. A constraint with a parent belongs to a partition, and its name may change.
_CONSTRAINTS = """
SELECT 'pg_constraint'::regclass, k.oid, k.conrelid, pg_get_constraintdef(k.oid)
FROM pg_constraint k WHERE k.contype NOT IN ('n', 't') AND k.conparentid = 0
"""
_TRIGGERS = """
SELECT 'pg_trigger'::regclass, t.oid, t.tgrelid, pg_get_triggerdef(t.oid) || t.tgenabled::text
FROM pg_trigger t WHERE NOT t.tgisinternal
"""
_RULES = """
SELECT 'pg_rewrite'::regclass, r.oid, r.ev_class, pg_get_ruledef(r.oid) || r.ev_enabled::text
FROM pg_rewrite r WHERE r.rulename <> '_RETURN'
"""
_POLICIES = """
SELECT 'pg_policy'::regclass, p.oid, p.polrelid,
       concat_ws(' ', p.polcmd, p.polpermissive,
           (SELECT string_agg(CASE role WHEN 0 THEN '' ELSE pg_get_userbyid(role) END, ',' ORDER BY
                              pg_get_userbyid(role)) FROM unnest(p.polroles) role),
           pg_get_expr(p.polqual, p.polrelid), '/', pg_get_expr(p.polwithcheck, p.polrelid))
FROM pg_policy p
"""
_FUNCTIONS = """
SELECT 'pg_proc'::regclass, f.oid, 0,
       CASE WHEN f.prokind <> 'a' THEN pg_get_functiondef(f.oid) END FROM pg_proc f
"""
_TYPES = """
SELECT 'pg_type'::regclass, t.oid, 0,
       CASE t.typtype WHEN 'e' THEN
           (SELECT string_agg(quote_literal(enumlabel), ',' ORDER BY enumsortorder)
            FROM pg_enum WHERE enumtypid = t.oid)
       WHEN 'd' THEN concat_ws(' ', format_type(t.typbasetype, t.typtypmod), t.typnotnull,
            t.typcollation::regcollation, t.typdefault) END
FROM pg_type t WHERE t.typtype IN ('e', 'd', 'b', 'r')
  AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
"""
_OTHERS = """
SELECT 'pg_extension'::regclass, e.oid, 0, e.extnamespace::regnamespace::text FROM pg_extension e
UNION ALL SELECT 'pg_namespace'::regclass, oid, 0, NULL FROM pg_namespace
          WHERE nspname <> 'public'
UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxrelid, pg_get_statisticsobjdef(oid)
          FROM pg_statistic_ext
UNION ALL SELECT 'pg_publication'::regclass, oid, 0,
                 concat_ws(' ', puballtables, pubinsert, pubupdate, pubdelete, pubtruncate)
          FROM pg_publication
"""
NAMES_ONLY = (
    *("pg_publication_rel", "pg_operator", "pg_opclass", "pg_opfamily", "pg_collation", "pg_cast"),
    *("pg_conversion", "pg_language", "pg_transform", "pg_event_trigger", "pg_ts_config"),
    *("pg_ts_dict", "pg_ts_parser", "pg_ts_template", "pg_foreign_data_wrapper"),
    *("pg_foreign_server", "pg_am"),
)
_PARTS = (
    *(_RELATIONS, _INDEXES, _SEQUENCES, _CONSTRAINTS, _TRIGGERS, _RULES, _POLICIES, _FUNCTIONS),
    *(_TYPES, _OTHERS),
    *(f"SELECT '{each}'::regclass, oid, 0, NULL FROM {each}" for each in NAMES_ONLY),
)
# The server does not give back what it was told: of a list of varchar constants it first writes
# ARRAY['a'::varchar]::text[], and after a restore ARRAY['a'::varchar::text]. So the casts that it
# adds, and the parentheses, do not count.
_SAID_ANEW = r"[()]|::(text|inet)(\[\])?"
_INVENTORY = f"""
WITH object AS ({" UNION ALL ".join(_PARTS)}),
     member AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
SELECT kind || ' ' || identity, coalesce(left(encode(sha256(convert_to(
           regexp_replace(definition, '{_SAID_ANEW}', '', 'g'),
           CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END
       )), 'hex'), 16), '')
FROM (SELECT object.*, o.type AS kind, o.identity,
             CASE o.type WHEN 'schema' THEN o.name ELSE o.schema END AS place
      FROM object, pg_identify_object(classid, objid, 0) o) AS each
WHERE objid >= {FIRST_OF_A_USER} AND identity IS NOT NULL
  AND coalesce({is_users("place")}, true)
  AND (classid, objid) NOT IN (SELECT classid, objid FROM member)
  AND ('pg_class'::regclass, relation) NOT IN (SELECT classid, objid FROM member)
  AND {{condition}}
UNION ALL SELECT 'large objects', count(*)::text FROM pg_largeobject_metadata HAVING count(*) > 0
"""
