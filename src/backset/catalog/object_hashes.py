"""Is every object there, as it was? Reads each one that a user made, with a hash of its definition.

The hashes of a database and of its restored dump agree when both servers have the same major
version: nothing in them depends on an oid, on the search path or on the session's settings.
The queries, one of each kind of object, are those of `schema`, too.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.catalog.catalog import FIRST_OF_A_USER, is_users, spelled

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg


def read(
    session: psycopg.Connection[Any], condition: sql.Composable | None = None
) -> dict[str, str]:
    """Return kind and qualified name of every object → a hash of 16 hexadecimal digits.

    Empty where the name says it all; the number of the large objects in place of their names.
    condition: in SQL, of the oid `relation` and the name `place` of its schema: what is wanted.
    Members of extensions and PostgreSQL's own objects are left out. One round trip; inside a
    transaction it leaves the search path empty until that ends.
    """
    query = sql.SQL(_INVENTORY).format(condition=condition or sql.SQL("true"))
    return dict(spelled(session, query))


@dataclass(frozen=True, slots=True)
class _Kind:
    """What one system catalog has, in SQL: each object with what can differ in it, and its hash.

    rows: FROM what; where: which of that. oid: the object's; sub: its number, if it is a column.
    relation: the one that it is, or that it belongs to; parent: the one that it is shown as a part
    of, if that is another. owner, rights: its own, if it has any. word: in place of PostgreSQL's.
    aspects: what can differ, by name; what is as usual is NULL. joined: what they alone need.
    hashed: the text whose hash a manifest has, with an aspect in braces; None: it has none.
    if_compared, if_hashed: conditions for one of the two.

    An old backup's manifest is held against a database of today: `hashed` gives the same bytes for
    ever. Where it does not take an aspect, the bytes are others: the separators, `t` for `yes`.
    """

    catalog: str
    _: KW_ONLY
    rows: str = ""
    where: str = "true"
    oid: str = "oid"
    sub: str = "0"
    relation: str = "0"
    parent: str = ""
    owner: str = "NULL"
    rights: str = "NULL"
    word: str = "NULL"
    aspects: Mapping[str, str] = field(default_factory=dict)
    joined: str = ""
    hashed: str | None = "NULL"
    if_compared: str = "true"
    if_hashed: str = "true"

    def to_compare(self) -> str:
        """Return the query for what can differ in them."""
        pairs = ", ".join(f"'{name}', {value}" for name, value in self.aspects.items())
        what = f"""{self.parent or self.relation} AS relation, {self.owner} AS owner,
            {self.rights} AS rights, jsonb_build_object({pairs}) AS aspects, {self.word} AS word"""
        return self._query(what, self.joined, self.if_compared)

    def to_hash(self) -> str:
        """Return the query for the texts that are hashed."""
        text = (self.hashed or "NULL").format_map(self.aspects)
        return self._query(f"{self.relation} AS relation, {text} AS definition", "", self.if_hashed)

    def _query(self, what: str, joined: str, condition: str) -> str:
        rows = f"FROM {self.rows or self.catalog} {joined} WHERE ({self.where}) AND ({condition})"
        key = f"'{self.catalog}'::regclass AS classid, {self.oid} AS objid, {self.sub} AS sub"
        return f"SELECT {key}, {what} {rows}"


_RELATIONS = _Kind(
    "pg_class",
    rows="pg_class c",
    where="c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c')",
    oid="c.oid",
    relation="c.oid",
    parent="0::oid",
    owner="c.relowner",
    rights="coalesce(c.relacl, acldefault('r', c.relowner))",
    aspects={
        "persistence": "CASE c.relpersistence WHEN 'u' THEN 'unlogged' END",
        "row security": """CASE WHEN c.relforcerowsecurity THEN 'forced'
                                WHEN c.relrowsecurity THEN 'enabled' END""",
        "replica identity": """CASE WHEN c.relkind IN ('r', 'p')
                                    THEN nullif(c.relreplident, 'd') END""",
        "options": "(SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(c.reloptions) o)",
        "access method": "(SELECT nullif(amname, 'heap') FROM pg_am WHERE oid = c.relam)",
        "bounds": "pg_get_expr(c.relpartbound, c.oid)",
        "partition key": "pg_get_partkeydef(c.oid)",
        "parents": """(SELECT string_agg(inhparent::regclass::text, ', ' ORDER BY inhseqno)
                       FROM pg_inherits WHERE inhrelid = c.oid)""",
        "populated": "CASE WHEN c.relkind = 'm' AND NOT c.relispopulated THEN 'no' END",
        "definition": "CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END",
    },
    # The hash of a relation is that of its columns, too.
    hashed="""concat_ws(E'\\n', c.relpersistence, c.relrowsecurity, c.relforcerowsecurity,
        c.relreplident, (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(c.reloptions) o),
        {bounds}, {partition key},
        (SELECT string_agg(inhparent::regclass::text, ',' ORDER BY inhseqno)
         FROM pg_inherits WHERE inhrelid = c.oid),
        {definition},
        (SELECT string_agg(concat_ws(' ', quote_ident(a.attname),
                    format_type(a.atttypid, a.atttypmod),
                    nullif(a.attcollation, t.typcollation)::regcollation,
                    CASE WHEN a.attnotnull THEN '!' END, a.attidentity, a.attgenerated,
                    pg_get_expr(d.adbin, d.adrelid)), ', ' ORDER BY a.attnum)
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
              LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))""",
)
# A partition has the columns of its parent.
_COLUMNS = _Kind(
    "pg_class",
    rows="""pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
            JOIN pg_type t ON t.oid = a.atttypid
            LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum""",
    where="""c.relkind IN ('r', 'p', 'f', 'c') AND NOT c.relispartition AND a.attnum > 0
             AND NOT a.attisdropped""",
    oid="c.oid",
    sub="a.attnum",
    relation="c.oid",
    owner="c.relowner",
    rights="a.attacl",
    word="'column'",
    aspects={
        "type": "format_type(a.atttypid, a.atttypmod)",
        "null": "CASE WHEN a.attnotnull THEN 'forbidden' ELSE 'allowed' END",
        "default": "CASE a.attgenerated WHEN '' THEN pg_get_expr(d.adbin, d.adrelid) END",
        "generated": """CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid)
            || CASE a.attgenerated WHEN 'v' THEN ' virtual' ELSE ' stored' END END""",
        "identity": "CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END",
        "collation": "nullif(a.attcollation, t.typcollation)::regcollation",
        "storage": "nullif(a.attstorage, t.typstorage)",
        "compression": "nullif(to_jsonb(a) ->> 'attcompression', '')",
        "position": "row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum)::text",
    },
    hashed=None,
)
# Compared, the index of a constraint is part of that, and that of a partition part of its parent's.
# Of one that CREATE INDEX CONCURRENTLY did not finish there is no hash: pg_dump leaves it out.
_INDEXES = _Kind(
    "pg_class",
    rows="pg_index i JOIN pg_class c ON c.oid = i.indexrelid",
    oid="c.oid",
    relation="i.indrelid",
    aspects={
        "definition": """replace(pg_get_indexdef(c.oid),
            ' INDEX ' || quote_ident(c.relname) || ' ON ', ' INDEX ON ')""",
        "valid": "CASE WHEN NOT i.indisvalid THEN 'no' END",
        "clustered": "CASE WHEN i.indisclustered THEN 'yes' END",
        "replica identity": "CASE WHEN i.indisreplident THEN 'yes' END",
    },
    hashed="pg_get_indexdef(c.oid)",
    if_compared="""NOT i.indisvalid OR NOT c.relispartition AND NOT EXISTS (
        SELECT FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x'))""",
    if_hashed="i.indisvalid OR c.relkind = 'I'",
)
_SEQUENCES = _Kind(
    "pg_class",
    rows="pg_sequence s",
    oid="s.seqrelid",
    relation="s.seqrelid",
    parent="coalesce(a.attrelid, 0)",
    owner="CASE WHEN a.attrelid IS NULL THEN c.relowner END",
    rights="coalesce(c.relacl, acldefault('s', c.relowner))",
    aspects={
        "type": "s.seqtypid::regtype",
        "start": "s.seqstart::text",
        "increment": "s.seqincrement::text",
        "minimum": "s.seqmin::text",
        "maximum": "s.seqmax::text",
        "cache": "s.seqcache::text",
        "cycle": "CASE WHEN s.seqcycle THEN 'yes' END",
        "column": "a.attrelid::regclass || '.' || quote_ident(a.attname)",
    },
    joined="""JOIN pg_class c ON c.oid = s.seqrelid
        LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
             AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
        LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid""",
    hashed="""concat_ws(' ', {type}, {start}, {increment}, {minimum}, {maximum}, {cache},
                        s.seqcycle)""",
)
# Columns say NOT NULL, but not that it is not valid. A constraint with a parent belongs to a
# partition, and its name may change.
_CONSTRAINTS = _Kind(
    "pg_constraint",
    where="contype <> 't' AND conparentid = 0",
    relation="conrelid",
    word="'constraint'",
    aspects={"definition": "pg_get_constraintdef(oid)"},
    hashed="{definition}",
    if_compared="contype <> 'n' OR NOT convalidated",
    if_hashed="contype <> 'n'",
)
_ENABLED = "CASE {} WHEN 'D' THEN 'no' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END"
_TRIGGERS = _Kind(
    "pg_trigger",
    where="NOT tgisinternal",
    relation="tgrelid",
    aspects={"definition": "pg_get_triggerdef(oid)", "enabled": _ENABLED.format("tgenabled")},
    hashed="{definition} || tgenabled::text",
    if_compared="tgparentid = 0",
)
_RULES = _Kind(
    "pg_rewrite",
    where="rulename <> '_RETURN'",
    relation="ev_class",
    aspects={"definition": "pg_get_ruledef(oid)", "enabled": _ENABLED.format("ev_enabled")},
    hashed="{definition} || ev_enabled::text",
)
_POLICIES = _Kind(
    "pg_policy",
    relation="polrelid",
    aspects={
        "command": """CASE polcmd WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert'
                      WHEN 'w' THEN 'update' WHEN 'd' THEN 'delete' ELSE 'all' END""",
        "restrictive": "CASE WHEN NOT polpermissive THEN 'yes' END",
        "roles": """(SELECT string_agg(coalesce(rolname::text, 'public'), ', ' ORDER BY rolname)
                     FROM unnest(polroles) role LEFT JOIN pg_roles r ON r.oid = role)""",
        "using": "pg_get_expr(polqual, polrelid)",
        "check": "pg_get_expr(polwithcheck, polrelid)",
    },
    hashed="""concat_ws(' ', polcmd, polpermissive,
        (SELECT string_agg(CASE role WHEN 0 THEN '' ELSE pg_get_userbyid(role) END, ',' ORDER BY
                           pg_get_userbyid(role)) FROM unnest(polroles) role),
        {using}, '/', {check})""",
)
_FUNCTIONS = _Kind(
    "pg_proc",
    owner="proowner",
    rights="coalesce(proacl, acldefault('f', proowner))",
    aspects={
        "definition": """CASE prokind WHEN 'a' THEN (
            SELECT concat_ws(' ', aggtransfn::regproc, nullif(aggfinalfn, 0)::regproc,
                             aggtranstype::regtype, agginitval, nullif(aggsortop, 0)::regoper)
            FROM pg_aggregate WHERE aggfnoid = oid) ELSE pg_get_functiondef(oid) END"""
    },
    hashed="CASE WHEN prokind <> 'a' THEN {definition} END",
)
_TYPES = _Kind(
    "pg_type",
    rows="pg_type t",
    where="""t.typtype IN ('e', 'd', 'b', 'r')
             AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)""",
    oid="t.oid",
    owner="t.typowner",
    rights="coalesce(t.typacl, acldefault('T', t.typowner))",
    aspects={
        "labels": """(SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
                      FROM pg_enum WHERE enumtypid = t.oid)""",
        "type": "CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) END",
        "null": "CASE WHEN t.typnotnull THEN 'forbidden' END",
        "default": "t.typdefault",
        "collation": """CASE t.typtype WHEN 'd' THEN nullif(t.typcollation, b.typcollation) END
                        ::regcollation""",
        "range of": """(SELECT concat_ws(' ', rngsubtype::regtype, nullif(rngcollation, 0)
                                         ::regcollation) FROM pg_range WHERE rngtypid = t.oid)""",
    },
    joined="LEFT JOIN pg_type b ON b.oid = t.typbasetype",
    hashed="""CASE t.typtype WHEN 'e' THEN
            (SELECT string_agg(quote_literal(enumlabel), ',' ORDER BY enumsortorder)
             FROM pg_enum WHERE enumtypid = t.oid)
        WHEN 'd' THEN concat_ws(' ', {type}, t.typnotnull, t.typcollation::regcollation, {default})
        END""",
)
_EXTENSIONS = _Kind(
    "pg_extension",
    aspects={"schema": "extnamespace::regnamespace::text", "version": "extversion"},
    hashed="{schema}",
)
_SCHEMAS = _Kind(
    "pg_namespace",
    owner="nspowner",
    rights="coalesce(nspacl, acldefault('n', nspowner))",
    if_hashed="nspname <> 'public'",
)
_DEFAULT_RIGHTS = _Kind("pg_default_acl", owner="defaclrole", rights="defaclacl", hashed=None)
_STATISTICS = _Kind(
    "pg_statistic_ext",
    relation="stxrelid",
    aspects={"definition": "pg_get_statisticsobjdef(oid)"},
    hashed="{definition}",
)
_PUBLICATIONS = _Kind(
    "pg_publication",
    aspects={
        "publishes": """concat_ws(', ', CASE WHEN puballtables THEN 'all tables' END,
            CASE WHEN pubinsert THEN 'insert' END, CASE WHEN pubupdate THEN 'update' END,
            CASE WHEN pubdelete THEN 'delete' END, CASE WHEN pubtruncate THEN 'truncate' END)"""
    },
    hashed="concat_ws(' ', puballtables, pubinsert, pubupdate, pubdelete, pubtruncate)",
)
# The name of these says it all in a manifest.
_EVENT_TRIGGERS = _Kind(
    "pg_event_trigger",
    aspects={"definition": "concat_ws(' ', evtevent, evtfoid::regproc, evttags, evtenabled)"},
)
_NAMES_ONLY = (
    *("pg_publication_rel", "pg_operator", "pg_opclass", "pg_opfamily", "pg_collation", "pg_cast"),
    *("pg_conversion", "pg_language", "pg_transform", "pg_ts_config", "pg_ts_dict", "pg_ts_parser"),
    *("pg_ts_template", "pg_foreign_data_wrapper", "pg_foreign_server", "pg_am"),
)
_KINDS = (
    *(_RELATIONS, _COLUMNS, _INDEXES, _SEQUENCES, _CONSTRAINTS, _TRIGGERS, _RULES, _POLICIES),
    *(_FUNCTIONS, _TYPES, _EXTENSIONS, _SCHEMAS, _DEFAULT_RIGHTS, _STATISTICS, _PUBLICATIONS),
    *(_EVENT_TRIGGERS, *map(_Kind, _NAMES_ONLY)),
)
TO_COMPARE = " UNION ALL ".join(each.to_compare() for each in _KINDS)
_TO_HASH = " UNION ALL ".join(each.to_hash() for each in _KINDS if each.hashed is not None)
# Of `object`, one of the kinds, what is a user's; `member` is what is not, such as an extension's.
FOUND = """
FROM object CROSS JOIN pg_identify_object(classid, objid, sub) o CROSS JOIN LATERAL (
     SELECT CASE o.type WHEN 'schema' THEN o.name ELSE o.schema END AS place) AS p
"""
IS_OURS = f"""
    o.identity IS NOT NULL AND coalesce({is_users("place")}, true)
    AND (classid, objid) NOT IN (SELECT classid, objid FROM member)
    AND ('pg_class'::regclass, relation) NOT IN (SELECT classid, objid FROM member)
"""
# The server does not give back what it was told: of a list of varchar constants it first writes
# ARRAY['a'::varchar]::text[], and after a restore ARRAY['a'::varchar::text]. So the casts that it
# adds, and the parentheses, do not count.
_SAID_ANEW = r"[()]|::(text|inet)(\[\])?"
_INVENTORY = f"""
WITH object AS ({_TO_HASH}),
     member AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
SELECT concat_ws(' ', o.type, o.identity), coalesce(left(encode(sha256(convert_to(
           regexp_replace(definition, '{_SAID_ANEW}', '', 'g'),
           CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END
       )), 'hex'), 16), '')
{FOUND}
WHERE objid >= {FIRST_OF_A_USER} AND {IS_OURS} AND {{condition}}
UNION ALL SELECT 'large objects', count(*)::text FROM pg_largeobject_metadata HAVING count(*) > 0
"""
