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
    of, if that is another. named: the one whose name it has, between prefix and suffix, if that is
    so: pg_identify_object() tells the same, and takes longer. owner, rights: its own, if it has
    any. of_kind: its kind for acldefault(), which tells what its rights are where nobody has
    granted any. word: in place of PostgreSQL's.
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
    named: str = "0"
    prefix: str = "NULL"
    suffix: str = "NULL"
    owner: str = "NULL"
    rights: str = "NULL::aclitem[]"
    of_kind: str = "NULL"
    word: str = "NULL"
    aspects: Mapping[str, str] = field(default_factory=dict)
    joined: str = ""
    hashed: str | None = "NULL"
    if_compared: str = "true"
    if_hashed: str = "true"

    def to_compare(self, number: int) -> str:
        """Return the query for what can differ in them, in the order of their aspects."""
        texts = ", ".join(f"({each})::text" for each in self.aspects.values())
        what = f"""{number} AS number, {self.parent or self.relation} AS relation,
            {self.named} AS named, ({self.prefix})::text AS prefix, ({self.suffix})::text AS suffix,
            {self.owner} AS owner, {self.rights} AS rights, ({self.of_kind})::"char" AS of_kind,
            ARRAY[{texts}]::text[] AS aspects, {self.word} AS word"""
        return self._query(what, self.joined, self.if_compared)

    def to_hash(self) -> str:
        """Return the query for the texts that are hashed."""
        text = (self.hashed or "NULL").format_map(self.aspects)
        return self._query(f"{self.relation} AS relation, {text} AS definition", "", self.if_hashed)

    def _query(self, what: str, joined: str, condition: str) -> str:
        rows = f"FROM {self.rows or self.catalog} {joined} WHERE ({self.where}) AND ({condition})"
        key = f"'{self.catalog}'::regclass AS classid, {self.oid} AS objid, {self.sub} AS sub"
        return f"SELECT {key}, {what} {rows}"


def _yes(condition: str) -> str:
    return f"CASE WHEN {condition} THEN 'yes' END"


def _routine(function: str) -> str:
    return f"nullif({function}, 0)::regprocedure"


def _place(catalog: str, prefix: str, oid: str) -> str:
    """Return the qualified name of what has no type of its own that writes it, such as regclass."""
    return f"""(SELECT concat_ws('.', quote_ident(nspname), quote_ident({prefix}name))
        FROM {catalog} named JOIN pg_namespace n ON n.oid = {prefix}namespace
        WHERE named.oid = {oid})"""


def _listed(array: str, shown: str = "o") -> str:
    """Return the options of an array in the order of their names, since nobody asks for another."""
    every = f"SELECT string_agg({shown}, ', ' ORDER BY o) FROM unnest({array}) o"
    return f"CASE WHEN {array} IS NOT NULL THEN ({every}) END"


# An option that may be a secret, or has one in it, is shown by its name alone. What it is counts as
# a hash, which is in no text and in no digest.
_IS_HIDDEN = r"""(split_part(o, '=', 1) ~* 'pass|pwd|secret|token|key|cred|auth|conn|dsn|ur[il]'
    OR o ~* '(pass|pwd|secret)[a-z]*[[:blank:]]*=|://[^/]*@')"""
_SHOWN = f"CASE WHEN {_IS_HIDDEN} THEN split_part(o, '=', 1) || ' (hidden)' ELSE o END"


def _secrets(array: str) -> str:
    text = "convert_to(string_agg(o, E'\\n' ORDER BY o), getdatabaseencoding())"
    every = f"SELECT encode(sha256({text}), 'hex') FROM unnest({array}) o WHERE {_IS_HIDDEN}"
    return f"CASE WHEN {array} IS NOT NULL THEN ({every}) END"


_TABLESPACE = """CASE WHEN c.reltablespace <> 0
    THEN (SELECT spcname FROM pg_tablespace WHERE oid = c.reltablespace) END"""
# What a column has of its own where it is not an object of its own: in a view, and in a partition,
# which has the columns of its parent.
_OWN_COLUMNS = """CASE WHEN c.relispartition OR c.relkind IN ('v', 'm') THEN (
    SELECT string_agg(quote_ident(a.attname) || ' ' || own.words, ', ' ORDER BY a.attname)
    FROM pg_attribute a LEFT JOIN pg_inherits h ON h.inhrelid = a.attrelid AND c.relispartition
         LEFT JOIN pg_attribute p ON p.attrelid = h.inhparent AND p.attname = a.attname
         CROSS JOIN LATERAL (SELECT {} AS words) AS own
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND own.words <> '') END"""
_DEFAULT = """(SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
    WHERE (adrelid, adnum) = ({0}.attrelid, {0}.attnum))"""
_COLUMN_WORDS = f"""concat_ws(' ',
    CASE WHEN {_DEFAULT.format("a")} IS DISTINCT FROM {_DEFAULT.format("p")}
         THEN 'default ' || coalesce({_DEFAULT.format("a")}, 'none') END,
    CASE WHEN a.attnotnull AND NOT p.attnotnull THEN 'not null' END,
    CASE WHEN a.attstattarget >= 0 THEN 'statistics ' || a.attstattarget END,
    CASE WHEN a.attstorage <> coalesce(p.attstorage, (SELECT typstorage FROM pg_type
                                                     WHERE oid = a.atttypid))
         THEN 'storage ' || a.attstorage::text END,
    {_listed("a.attoptions")})"""
_COLUMN_RIGHTS = """coalesce((SELECT string_agg(concat_ws(' ', coalesce(rolname, 'PUBLIC'), 'may',
                lower(privilege_type), CASE WHEN is_grantable THEN 'and grant it' END), ', '
                ORDER BY rolname, privilege_type)
          FROM aclexplode(a.attacl) LEFT JOIN pg_roles r ON r.oid = grantee), '')"""
# What an index of a partition has that the index of its parent, of which it is a part, has not.
_OWN_INDEXES = f"""(
    SELECT string_agg(quote_ident(x.relname) || ' ' || own.words, ', ' ORDER BY x.relname)
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid AND x.relispartition
         JOIN pg_inherits h ON h.inhrelid = x.oid JOIN pg_class p ON p.oid = h.inhparent
         CROSS JOIN LATERAL (SELECT concat_ws(' ',
             CASE WHEN x.reloptions IS DISTINCT FROM p.reloptions
                  THEN 'with ' || coalesce({_listed("x.reloptions")}, 'nothing') END,
             CASE WHEN i.indisclustered THEN 'clustered' END,
             CASE WHEN i.indisreplident THEN 'replica identity' END,
             quote_literal(obj_description(x.oid, 'pg_class')),
             (SELECT 'key ' || quote_literal(obj_description(oid, 'pg_constraint'))
              FROM pg_constraint WHERE conindid = x.oid AND contype IN ('p', 'u', 'x'))
         ) AS words) AS own
    WHERE i.indrelid = c.oid AND own.words <> '')"""
_ENABLED = "CASE {} WHEN 'D' THEN 'no' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END"


_RELATIONS = _Kind(
    "pg_class",
    rows="pg_class c",
    where="c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c')",
    oid="c.oid",
    relation="c.oid",
    parent="0::oid",
    named="c.oid",
    owner="c.relowner",
    rights="CASE c.relkind WHEN 'c' THEN t.typacl ELSE c.relacl END",
    of_kind="CASE c.relkind WHEN 'c' THEN 'T' ELSE 'r' END",
    aspects={
        "persistence": "CASE c.relpersistence WHEN 'u' THEN 'unlogged' END",
        "row security": """CASE WHEN c.relforcerowsecurity THEN 'forced'
                                WHEN c.relrowsecurity THEN 'enabled' END""",
        "replica identity": """CASE WHEN c.relkind IN ('r', 'p')
                                    THEN nullif(c.relreplident, 'd') END""",
        "options": _listed("coalesce(f.ftoptions, c.reloptions)", _SHOWN),
        "secret options": _secrets("f.ftoptions"),
        "toast options": _listed("toast.reloptions"),
        "server": "(SELECT quote_ident(srvname) FROM pg_foreign_server s WHERE s.oid = f.ftserver)",
        "tablespace": _TABLESPACE,
        "of type": "nullif(c.reloftype, 0)::regtype",
        "access method": "(SELECT nullif(amname, 'heap') FROM pg_am WHERE oid = c.relam)",
        "bounds": "pg_get_expr(c.relpartbound, c.oid)",
        "partition key": "pg_get_partkeydef(c.oid)",
        "parents": """(SELECT string_agg(inhparent::regclass::text, ', ' ORDER BY inhseqno)
                       FROM pg_inherits WHERE inhrelid = c.oid)""",
        "populated": "CASE WHEN c.relkind = 'm' AND NOT c.relispopulated THEN 'no' END",
        "definition": "CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END",
        "columns": _OWN_COLUMNS.format(_COLUMN_WORDS),
        "column comments": _OWN_COLUMNS.format(
            "coalesce(quote_literal(col_description(a.attrelid, a.attnum)), '')"
        ),
        "column rights": _OWN_COLUMNS.format(_COLUMN_RIGHTS),
        "triggers": f"""CASE WHEN c.relispartition THEN (
            SELECT string_agg(quote_ident(g.tgname) || ' ' || coalesce(
                       {_ENABLED.format("g.tgenabled")}, 'yes'), ', ' ORDER BY g.tgname)
            FROM pg_trigger g JOIN pg_trigger p ON p.oid = g.tgparentid
            WHERE g.tgrelid = c.oid AND g.tgenabled <> p.tgenabled
              AND g.tgname !~ '^RI_ConstraintTrigger_') END""",  # these have an oid in their name
        "indexes": f"CASE WHEN c.relispartition THEN {_OWN_INDEXES} END",
        # Of a type it is told of the type, and not of the relation that it has as well.
        "comment": "CASE c.relkind WHEN 'c' THEN obj_description(t.oid, 'pg_type') END",
    },
    joined="""LEFT JOIN pg_type t ON t.oid = c.reltype
        LEFT JOIN pg_foreign_table f ON f.ftrelid = c.oid
        LEFT JOIN pg_class toast ON toast.oid = c.reltoastrelid""",
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
    # Compression has come with 14: without it, the name means what stands outside.
    rows="""(SELECT ''::"char" AS attcompression) AS lacking
            CROSS JOIN LATERAL (SELECT *, attcompression AS compression FROM pg_attribute) a
            JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
            LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum""",
    where="""c.relkind IN ('r', 'p', 'f', 'c') AND NOT c.relispartition AND a.attnum > 0
             AND NOT a.attisdropped""",
    oid="c.oid",
    sub="a.attnum",
    relation="c.oid",
    named="c.oid",
    suffix="'.' || quote_ident(a.attname)",
    owner="c.relowner",
    rights="a.attacl",
    of_kind="'c'",
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
        "compression": "nullif(a.compression, '')",
        "statistics": "CASE WHEN a.attstattarget >= 0 THEN a.attstattarget::text END",
        "options": _listed("coalesce(a.attfdwoptions, a.attoptions)", _SHOWN),
        "secret options": _secrets("a.attfdwoptions"),
        "position": "a.attnum",
    },
    hashed=None,
)
# Which columns of an index are not analyzed as usual; that can be told of expressions alone.
_ANALYZED = """CASE WHEN i.indexprs IS NOT NULL THEN (
    SELECT string_agg(attnum || ' ' || attstattarget, ', ' ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = c.oid AND attstattarget >= 0) END"""
# Compared, the index of a constraint is part of that, and that of a partition part of its parent's.
# Of one that CREATE INDEX CONCURRENTLY did not finish there is no hash: pg_dump leaves it out.
_INDEXES = _Kind(
    "pg_class",
    rows="pg_index i JOIN pg_class c ON c.oid = i.indexrelid",
    where="c.relnamespace <> 'pg_toast'::regnamespace",  # else half of all definitions are of these
    oid="c.oid",
    relation="i.indrelid",
    named="c.oid",
    aspects={
        "definition": """replace(pg_get_indexdef(c.oid),
            ' INDEX ' || quote_ident(c.relname) || ' ON ', ' INDEX ON ')""",
        "valid": "CASE WHEN NOT i.indisvalid THEN 'no' END",
        "clustered": "CASE WHEN i.indisclustered THEN 'yes' END",
        "replica identity": "CASE WHEN i.indisreplident THEN 'yes' END",
        "tablespace": _TABLESPACE,
        "statistics": _ANALYZED,
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
    named="c.oid",
    owner="c.relowner",
    rights="c.relacl",
    of_kind="'s'",
    aspects={
        # Since 15 that of a column has the persistence of its table, unless it is told otherwise.
        "persistence": """CASE WHEN c.relpersistence <> coalesce(t.relpersistence, 'p') THEN
            CASE c.relpersistence WHEN 'u' THEN 'unlogged' ELSE 'logged' END END""",
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
        LEFT JOIN LATERAL (  -- by the index: a hash of all columns takes longer
            SELECT attrelid, attname FROM pg_attribute
            WHERE (attrelid, attnum) = (d.refobjid, d.refobjsubid) OFFSET 0) a ON true
        LEFT JOIN pg_class t ON t.oid = a.attrelid""",
    hashed="""concat_ws(' ', {type}, {start}, {increment}, {minimum}, {maximum}, {cache},
                        s.seqcycle)""",
)
# Columns say NOT NULL, but nothing else of it. A constraint with a parent belongs to a partition,
# and its name may change.
_CONSTRAINTS = _Kind(
    "pg_constraint",
    rows="pg_constraint k",
    where="contype <> 't' AND conparentid = 0",
    oid="k.oid",
    relation="conrelid",
    named="conrelid",
    prefix="quote_ident(conname) || ' on '",
    word="'constraint'",
    aspects={
        "definition": "pg_get_constraintdef(k.oid)",
        "options": _listed("c.reloptions"),
        "tablespace": _TABLESPACE,
        "clustered": _yes("i.indisclustered"),
        "replica identity": _yes("i.indisreplident"),
        "statistics": _ANALYZED,
        "comment of the index": "obj_description(c.oid, 'pg_class')",
    },
    joined="""LEFT JOIN pg_class c ON c.oid = conindid AND contype IN ('p', 'u', 'x')
        LEFT JOIN pg_index i ON i.indexrelid = c.oid""",
    hashed="{definition}",
    if_compared="""contype <> 'n' OR NOT convalidated OR connoinherit
        OR obj_description(k.oid, 'pg_constraint') IS NOT NULL""",
    if_hashed="contype <> 'n'",
)
_TRIGGERS = _Kind(
    "pg_trigger",
    where="NOT tgisinternal",
    relation="tgrelid",
    named="tgrelid",
    prefix="quote_ident(tgname) || ' on '",
    word="'trigger'",
    aspects={"definition": "pg_get_triggerdef(oid)", "enabled": _ENABLED.format("tgenabled")},
    hashed="{definition} || tgenabled::text",
    if_compared="tgparentid = 0",
)
_RULES = _Kind(
    "pg_rewrite",
    where="rulename <> '_RETURN'",
    relation="ev_class",
    named="ev_class",
    prefix="quote_ident(rulename) || ' on '",
    word="'rule'",
    aspects={"definition": "pg_get_ruledef(oid)", "enabled": _ENABLED.format("ev_enabled")},
    hashed="{definition} || ev_enabled::text",
)
_POLICIES = _Kind(
    "pg_policy",
    relation="polrelid",
    named="polrelid",
    prefix="quote_ident(polname) || ' on '",
    word="'policy'",
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
    rows="pg_proc f",
    oid="f.oid",
    owner="proowner",
    rights="proacl",
    of_kind="'f'",
    aspects={
        "definition": """CASE prokind WHEN 'a' THEN
            concat_ws(' ', aggtransfn::regproc, nullif(aggfinalfn, 0)::regproc,
                      aggtranstype::regtype, agginitval, nullif(aggsortop, 0)::regoper)
            ELSE pg_get_functiondef(f.oid) END""",
        "result": "CASE prokind WHEN 'a' THEN pg_get_function_result(f.oid) END",
        "parallel": "CASE prokind WHEN 'a' THEN nullif(proparallel, 'u')::text END",
        "aggregation": "nullif(aggkind, 'n')::text",
        "final": """CASE WHEN aggfinalfn <> 0 THEN concat_ws(' ', nullif(aggfinalmodify, 'r'),
            CASE WHEN aggfinalextra THEN 'extra' END) END""",
        "state size": "nullif(aggtransspace, 0)::text",
        "partial": """nullif(concat_ws(' ', nullif(aggcombinefn, 0)::regproc,
            nullif(aggserialfn, 0)::regproc, nullif(aggdeserialfn, 0)::regproc), '')""",
        "moving": """CASE WHEN aggmtransfn <> 0 THEN concat_ws(' ', aggmtransfn::regproc,
            aggminvtransfn::regproc, nullif(aggmfinalfn, 0)::regproc, aggmtranstype::regtype,
            nullif(aggmtransspace, 0), quote_literal(aggminitval),
            CASE WHEN aggmfinalfn <> 0 THEN aggmfinalmodify::text
                 || CASE WHEN aggmfinalextra THEN ' extra' ELSE '' END END) END""",
    },
    joined="LEFT JOIN pg_aggregate ON aggfnoid = f.oid",
    hashed="CASE WHEN prokind <> 'a' THEN pg_get_functiondef(f.oid) END",
)
_TYPES = _Kind(
    "pg_type",
    rows="pg_type t",
    where="""t.typtype IN ('e', 'd', 'b', 'r')
             AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)""",
    oid="t.oid",
    owner="t.typowner",
    rights="t.typacl",
    of_kind="'T'",
    aspects={
        "labels": """(SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
                      FROM pg_enum WHERE enumtypid = t.oid)""",
        "type": "CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) END",
        "null": "CASE WHEN t.typnotnull THEN 'forbidden' END",
        # What is stored as a text depends on the search path of whoever has made it.
        "default": "coalesce(pg_get_expr(t.typdefaultbin, 0), t.typdefault)",
        "collation": """CASE t.typtype WHEN 'd' THEN nullif(t.typcollation, b.typcollation) END
                        ::regcollation""",
        "range of": """concat_ws(' ', g.rngsubtype::regtype,
                                 nullif(g.rngcollation, 0)::regcollation)""",
        "operator class": f"""(SELECT {_place("pg_opclass", "opc", "o.oid")} FROM pg_opclass o
            WHERE o.oid = g.rngsubopc AND NOT o.opcdefault)""",
        "canonical function": _routine("g.rngcanonical"),
        "difference function": _routine("g.rngsubdiff"),
        "multirange": "(to_jsonb(g) ->> 'rngmultitypid')::oid::regtype",
        "definition": f"""CASE t.typtype WHEN 'b' THEN concat_ws(' ', t.typlen,
            {_yes("t.typbyval")}, t.typalign, t.typstorage, t.typcategory, t.typdelim,
            {_yes("t.typispreferred")}, t.typinput, t.typoutput, t.typreceive, t.typsend,
            t.typmodin, t.typmodout, t.typanalyze, nullif(t.typelem, 0)::regtype,
            (to_jsonb(t) ->> 'typsubscript')) END""",
    },
    joined="""LEFT JOIN pg_type b ON b.oid = t.typbasetype
        LEFT JOIN pg_range g ON g.rngtypid = t.oid""",
    hashed="""CASE t.typtype WHEN 'e' THEN
            (SELECT string_agg(quote_literal(enumlabel), ',' ORDER BY enumsortorder)
             FROM pg_enum WHERE enumtypid = t.oid)
        WHEN 'd' THEN concat_ws(' ', {type}, t.typnotnull, t.typcollation::regcollation,
                                 t.typdefault)
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
    rights="nspacl",
    of_kind="'n'",
    if_hashed="nspname <> 'public'",
)
_DEFAULT_RIGHTS = _Kind("pg_default_acl", owner="defaclrole", rights="defaclacl", hashed=None)
_STATISTICS = _Kind(
    "pg_statistic_ext",
    relation="stxrelid",
    owner="stxowner",
    aspects={
        "definition": "pg_get_statisticsobjdef(oid)",
        "statistics": "CASE WHEN stxstattarget >= 0 THEN stxstattarget::text END",
    },
    hashed="{definition}",
)
# What later servers know is asked for in ways that earlier ones understand: `to_jsonb(row)`; a name
# that means a column only where there is one; and what depends on a catalog, if that is there.
_PUBLICATIONS = _Kind(
    "pg_publication",
    rows="pg_publication p",
    oid="p.oid",
    owner="pubowner",
    aspects={
        "publishes": """concat_ws(', ', CASE WHEN puballtables THEN 'all tables' END,
            CASE WHEN pubinsert THEN 'insert' END, CASE WHEN pubupdate THEN 'update' END,
            CASE WHEN pubdelete THEN 'delete' END, CASE WHEN pubtruncate THEN 'truncate' END)""",
        "via root": _yes("pubviaroot"),
        "generated columns": "nullif(to_jsonb(p) ->> 'pubgencols', 'n')",
        "schemas": """(SELECT string_agg(quote_ident(nspname), ', ' ORDER BY nspname)
            FROM pg_depend d JOIN pg_depend e ON (e.classid, e.objid) = (d.classid, d.objid)
                 AND e.refclassid = 'pg_namespace'::regclass
                 JOIN pg_namespace n ON n.oid = e.refobjid
            WHERE (d.refclassid, d.refobjid) = ('pg_publication'::regclass, p.oid)
              AND d.classid = to_regclass('pg_publication_namespace'))""",
    },
    hashed="concat_ws(' ', puballtables, pubinsert, pubupdate, pubdelete, pubtruncate)",
)
_PUBLISHED = _Kind(
    "pg_publication_rel",
    rows="pg_publication_rel r",
    oid="r.oid",
    aspects={
        "rows": """(SELECT pg_get_expr(prqual, own.prrelid)
                    FROM pg_publication_rel own WHERE own.oid = r.oid)""",
        "columns": """(SELECT (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
                               FROM pg_attribute WHERE attrelid = own.prrelid
                               AND attnum = ANY (prattrs::int2[]))
                       FROM pg_publication_rel own WHERE own.oid = r.oid)""",
    },
    joined="""CROSS JOIN (SELECT NULL::pg_node_tree AS prqual, NULL::int2vector AS prattrs)
        AS lacking""",
)
# The name of all that follows says it all in a manifest.
_EVENT_TRIGGERS = _Kind(
    "pg_event_trigger",
    owner="evtowner",
    aspects={
        "event": "evtevent",
        "function": "evtfoid::regprocedure",
        "tags": "(SELECT string_agg(tag, ', ' ORDER BY tag) FROM unnest(evttags) tag)",
        "enabled": _ENABLED.format("evtenabled"),
    },
)
_OPERATORS = _Kind(
    "pg_operator",
    owner="oprowner",
    aspects={
        "function": _routine("oprcode"),
        "result": "nullif(oprresult, 0)::regtype",
        "commutator": "nullif(oprcom, 0)::regoperator",
        "negator": "nullif(oprnegate, 0)::regoperator",
        "restrict": _routine("oprrest"),
        "join": _routine("oprjoin"),
        "hashes": _yes("oprcanhash"),
        "merges": _yes("oprcanmerge"),
    },
)
_OPERATOR_CLASSES = _Kind(
    "pg_opclass",
    owner="opcowner",
    aspects={
        "family": _place("pg_opfamily", "opf", "opcfamily"),
        "type": "opcintype::regtype",
        "default": _yes("opcdefault"),
        "storage": "nullif(opckeytype, 0)::regtype",
    },
)
_OPERATOR_FAMILIES = _Kind(
    "pg_opfamily",
    rows="pg_opfamily f",
    oid="f.oid",
    owner="opfowner",
    aspects={
        "operators": f"""(SELECT string_agg(concat_ws(' ', amopstrategy, amopopr::regoperator,
                CASE WHEN amopsortfamily <> 0 THEN 'ordered by '
                     || {_place("pg_opfamily", "opf", "amopsortfamily")} END), ', '
                ORDER BY amopstrategy, amopopr::regoperator::text)
            FROM pg_amop WHERE amopfamily = f.oid)""",
        "functions": """(SELECT string_agg(concat_ws(' ', amprocnum, amproclefttype::regtype,
                amprocrighttype::regtype, amproc::regprocedure), ', '
                ORDER BY amprocnum, amproclefttype::regtype::text, amprocrighttype::regtype::text)
            FROM pg_amproc WHERE amprocfamily = f.oid)""",
    },
)
# Of ICU, since 15 the locale has a column of its own, and since 17 that has another name.
_COLLATIONS = _Kind(
    "pg_collation",
    rows="pg_collation c",
    oid="c.oid",
    owner="collowner",
    aspects={
        "provider": "collprovider::text",
        "locale": """coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale',
                              collcollate)""",
        "character type": "collctype::text",
        "rules": "to_jsonb(c) ->> 'collicurules'",
        "deterministic": "CASE WHEN NOT collisdeterministic THEN 'no' END",
        "version": "collversion",
    },
)
_CASTS = _Kind(
    "pg_cast",
    aspects={
        "function": _routine("castfunc"),
        "context": "CASE castcontext WHEN 'a' THEN 'assignment' WHEN 'i' THEN 'implicit' END",
        "method": "castmethod::text",
    },
)
_CONVERSIONS = _Kind(
    "pg_conversion",
    owner="conowner",
    aspects={
        "encodings": """concat_ws(' to ', pg_encoding_to_char(conforencoding),
                                  pg_encoding_to_char(contoencoding))""",
        "function": _routine("conproc"),
        "default": _yes("condefault"),
    },
)
_LANGUAGES = _Kind(
    "pg_language",
    owner="lanowner",
    rights="lanacl",
    of_kind="'l'",
    aspects={
        "trusted": _yes("lanpltrusted"),
        "handler": _routine("lanplcallfoid"),
        "inline": _routine("laninline"),
        "validator": _routine("lanvalidator"),
    },
)
_TRANSFORMS = _Kind(
    "pg_transform", aspects={"from": _routine("trffromsql"), "to": _routine("trftosql")}
)
_SEARCH_CONFIGURATIONS = _Kind(
    "pg_ts_config",
    rows="pg_ts_config c",
    oid="c.oid",
    owner="cfgowner",
    aspects={
        "parser": _place("pg_ts_parser", "prs", "cfgparser"),
        "mappings": """(
            SELECT string_agg(concat_ws(' ', alias, 'with', dictionaries), '; ' ORDER BY alias)
            FROM (SELECT alias, string_agg(mapdict::regdictionary::text, ', ' ORDER BY mapseqno)
                  FROM pg_ts_config_map JOIN ts_token_type(cfgparser) ON tokid = maptokentype
                  WHERE mapcfg = c.oid GROUP BY alias) AS each (alias, dictionaries))""",
    },
)
_DICTIONARIES = _Kind(
    "pg_ts_dict",
    owner="dictowner",
    aspects={
        "template": _place("pg_ts_template", "tmpl", "dicttemplate"),
        "options": "dictinitoption",
    },
)
_PARSERS = _Kind(
    "pg_ts_parser",
    aspects={
        "start": _routine("prsstart"),
        "token": _routine("prstoken"),
        "end": _routine("prsend"),
        "headline": _routine("prsheadline"),
        "types": _routine("prslextype"),
    },
)
_TEMPLATES = _Kind(
    "pg_ts_template", aspects={"init": _routine("tmplinit"), "lexize": _routine("tmpllexize")}
)
_WRAPPERS = _Kind(
    "pg_foreign_data_wrapper",
    owner="fdwowner",
    rights="fdwacl",
    of_kind="'F'",
    aspects={
        "handler": _routine("fdwhandler"),
        "validator": _routine("fdwvalidator"),
        "options": _listed("fdwoptions", _SHOWN),
        "secret options": _secrets("fdwoptions"),
    },
)
_SERVERS = _Kind(
    "pg_foreign_server",
    owner="srvowner",
    rights="srvacl",
    of_kind="'S'",
    aspects={
        "wrapper": """(SELECT quote_ident(fdwname) FROM pg_foreign_data_wrapper w
                       WHERE w.oid = srvfdw)""",
        "type": "srvtype",
        "server version": "srvversion",
        "options": _listed("srvoptions", _SHOWN),
        "secret options": _secrets("srvoptions"),
    },
)
# The view shows options to those alone whom they concern.
_USER_MAPPINGS = _Kind(
    "pg_user_mapping",
    rows="pg_user_mappings",
    oid="umid",
    aspects={
        "options": _listed("umoptions", _SHOWN),
        "secret options": _secrets("umoptions"),
    },
    hashed=None,
)
_ACCESS_METHODS = _Kind("pg_am", aspects={"type": "amtype::text", "handler": _routine("amhandler")})
_KINDS = (
    *(_RELATIONS, _COLUMNS, _INDEXES, _SEQUENCES, _CONSTRAINTS, _TRIGGERS, _RULES, _POLICIES),
    *(_FUNCTIONS, _TYPES, _EXTENSIONS, _SCHEMAS, _DEFAULT_RIGHTS, _STATISTICS, _PUBLICATIONS),
    *(_PUBLISHED, _EVENT_TRIGGERS, _OPERATORS, _OPERATOR_CLASSES, _OPERATOR_FAMILIES, _COLLATIONS),
    *(_CASTS, _CONVERSIONS, _LANGUAGES, _TRANSFORMS, _SEARCH_CONFIGURATIONS, _DICTIONARIES),
    *(_PARSERS, _TEMPLATES, _WRAPPERS, _SERVERS, _USER_MAPPINGS, _ACCESS_METHODS),
)
TO_COMPARE = " UNION ALL ".join(each.to_compare(n) for n, each in enumerate(_KINDS))
ASPECTS = [tuple(each.aspects) for each in _KINDS]  # by the number of TO_COMPARE
_TO_HASH = " UNION ALL ".join(each.to_hash() for each in _KINDS if each.hashed is not None)
# Of `object`, one of the kinds, what is a user's; `member` is what is not, such as an extension's.
IS_OURS = f"""
    coalesce({is_users("place")}, true)
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
FROM object CROSS JOIN pg_identify_object(classid, objid, sub) o CROSS JOIN LATERAL (
     SELECT CASE o.type WHEN 'schema' THEN o.name ELSE o.schema END AS place) AS p
WHERE objid >= {FIRST_OF_A_USER} AND o.identity IS NOT NULL AND {IS_OURS} AND {{condition}}
UNION ALL SELECT 'large objects', count(*)::text FROM pg_largeobject_metadata HAVING count(*) > 0
"""
