"""One change of a schema each, with what makes it, what takes it back, and what must be named.

Whoever compares two databases has to see every one of them, and nothing else: so they are data. The
statements stand by themselves, run in one transaction, and name nothing but what `setup` makes
there, the schema that comes first on the search path, and what PREPARED says. Objects that have no
schema have a name of their own, so that all of them fit into one database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

# What they need of the server, for a superuser outside of a transaction.
PREPARED = (
    "CREATE ROLE reader",
    "SET allow_in_place_tablespaces = on",
    "CREATE TABLESPACE elsewhere LOCATION ''",
)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of what `setup` has made, and `back`, which takes it back.

    named: the subject and the `what` of each difference, as catalog.schema.between() has them, with
    the schema left out. since: the first major version of PostgreSQL that can say it.
    """

    name: str
    setup: str
    change: str
    back: str
    named: tuple[tuple[str, str], ...]
    since: int = 13

    def __str__(self) -> str:
        return self.name

    @property
    def is_by_hand(self) -> bool:
        """Whether it writes into a catalog, as no migration does."""
        return any(each in self.change for each in ("UPDATE pg_", "INSERT INTO pg_"))


def _one(
    name: str, setup: str, change: str, back: str, named: str, since: int = 13
) -> Change:  # one difference, as `subject: what`
    return _some(name, setup, change, back, (named,), since)


def _some(
    name: str, setup: str, change: str, back: str, named: tuple[str, ...], since: int = 13
) -> Change:
    pairs = [each.rpartition(": ") for each in named]
    return Change(name, setup, change, back, tuple((a, b) for a, _, b in pairs), since)


def _anew(name: str, drop: str, before: str, after: str, named: str, since: int = 13) -> Change:
    """Return a change of what is dropped and made anew; `;;` ends what comes before it."""
    setup, _, before = before.rpartition(";;")
    first = f"{setup}; {before}" if setup else before
    return _one(name, first, f"{drop}; {after}", f"{drop}; {before}", named, since)


_T = "CREATE TABLE t (id int PRIMARY KEY, a int, b text, c text)"
_F = "CREATE FUNCTION f(x int) RETURNS int LANGUAGE sql AS 'SELECT 1'"
_TRIGGERED = (
    f"{_T}; CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'"
)
_PARTED = (
    "CREATE TABLE p (a int, b text) PARTITION BY RANGE (a); "
    "CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (1) TO (2)"
)


def _index(name: str, after: str, since: int = 13) -> Change:
    before = f"{_T};; CREATE INDEX i ON t (b, a)"
    return _anew(f"index {name}", "DROP INDEX i", before, after, "index i: definition", since)


def _constraint(name: str, before: str, after: str, since: int = 13) -> Change:
    setup = (
        "CREATE TABLE r (id int PRIMARY KEY, n int, UNIQUE (id, n)); "
        "CREATE TABLE t (id int, a int, b int, s int4range, d daterange)"
    )
    add, drop = "ALTER TABLE t ADD CONSTRAINT k", "ALTER TABLE t DROP CONSTRAINT k"
    named = "constraint k on t: definition"
    return _anew(name, drop, f"{setup};; {add} {before}", f"{add} {after}", named, since)


def _altered(
    name: str, setup: str, head: str, after: str, before: str, named: str, since: int = 13
) -> Change:
    """Return a change that one statement makes, and takes back with another end."""
    return _one(name, setup, f"{head} {after}", f"{head} {before}", named, since)


_INDEXES = (
    _index("WHERE", "CREATE INDEX i ON t (b, a) WHERE a > 3"),
    _index("USING", "CREATE INDEX i ON t USING gist ((point(a, a)))"),
    _index("INCLUDE", "CREATE INDEX i ON t (b, a) INCLUDE (c)"),
    _index("WITH", "CREATE INDEX i ON t (b, a) WITH (fillfactor = 50)"),
    _index("operator class", "CREATE INDEX i ON t (b text_pattern_ops, a)"),
    _index("collation", 'CREATE INDEX i ON t (b COLLATE "POSIX", a)'),
    _index("DESC", "CREATE INDEX i ON t (b DESC, a)"),
    _index("NULLS FIRST", "CREATE INDEX i ON t (b NULLS FIRST, a)"),
    _index("UNIQUE", "CREATE UNIQUE INDEX i ON t (b, a)"),
    _index("expression", "CREATE INDEX i ON t (lower(b), a)"),
    _anew(
        "index NULLS NOT DISTINCT",
        "DROP INDEX i",
        f"{_T};; CREATE UNIQUE INDEX i ON t (a)",
        "CREATE UNIQUE INDEX i ON t (a) NULLS NOT DISTINCT",
        "index i: definition",
        15,
    ),
    _altered("index tablespace", f"{_T}; CREATE INDEX i ON t (a)", "ALTER INDEX i SET TABLESPACE",
             "elsewhere", "pg_default", "index i: tablespace"),
    _altered("index statistics", f"{_T}; CREATE INDEX i ON t ((a + 1))",
             "ALTER INDEX i ALTER COLUMN 1 SET STATISTICS", "77", "-1", "index i: statistics"),
    _altered("index clustered", f"{_T}; CREATE INDEX i ON t (a)", "ALTER TABLE t",
             "CLUSTER ON i", "SET WITHOUT CLUSTER", "index i: clustered"),
    _altered("index comment", f"{_T}; CREATE INDEX i ON t (a)", "COMMENT ON INDEX i IS",
             "'x'", "NULL", "index i: comment"),
    _one("index name", f"{_T}; CREATE INDEX i ON t (a)", "ALTER INDEX i RENAME TO j",
         "ALTER INDEX j RENAME TO i", "index i: renamed"),
)  # fmt: skip

_FK = "FOREIGN KEY (a, b) REFERENCES r (id, n)"
_CONSTRAINTS = (
    _constraint("CHECK", "CHECK (a > 0)", "CHECK (a > 1)"),
    _constraint("CHECK NOT VALID", "CHECK (a > 0)", "CHECK (a > 0) NOT VALID"),
    _constraint("CHECK NOT ENFORCED", "CHECK (a > 0)", "CHECK (a > 0) NOT ENFORCED", 18),
    _constraint("CHECK NO INHERIT", "CHECK (a > 0)", "CHECK (a > 0) NO INHERIT"),
    _constraint("FOREIGN KEY", _FK, "FOREIGN KEY (b, a) REFERENCES r (id, n)"),
    _constraint("MATCH FULL", _FK, f"{_FK} MATCH FULL"),
    _constraint("FOREIGN KEY NOT VALID", _FK, f"{_FK} NOT VALID"),
    _constraint("FOREIGN KEY NOT ENFORCED", _FK, f"{_FK} NOT ENFORCED", 18),
    _constraint("ON DELETE", _FK, f"{_FK} ON DELETE CASCADE"),
    _constraint("ON UPDATE", _FK, f"{_FK} ON UPDATE RESTRICT"),
    _constraint("ON DELETE columns", f"{_FK} ON DELETE SET NULL",
                f"{_FK} ON DELETE SET NULL (b)", 15),
    _constraint("UNIQUE NULLS NOT DISTINCT", "UNIQUE (a)", "UNIQUE NULLS NOT DISTINCT (a)", 15),
    _constraint("UNIQUE INCLUDE", "UNIQUE (a)", "UNIQUE (a) INCLUDE (b)"),
    _constraint("UNIQUE DEFERRABLE", "UNIQUE (a)", "UNIQUE (a) DEFERRABLE"),
    _constraint("EXCLUDE", "EXCLUDE USING gist (s WITH &&)", "EXCLUDE USING gist (s WITH -|-)"),
    _constraint("EXCLUDE WHERE", "EXCLUDE USING gist (s WITH &&)",
                "EXCLUDE USING gist (s WITH &&) WHERE (s > '[1,2)')"),
    _constraint("WITHOUT OVERLAPS", "UNIQUE (s, d)", "UNIQUE (s, d WITHOUT OVERLAPS)", 18),
    _anew("PERIOD", "ALTER TABLE t DROP CONSTRAINT k",
          "CREATE TABLE r (s int4range, d daterange, UNIQUE (s, d), "
          "UNIQUE (s, d WITHOUT OVERLAPS)); CREATE TABLE t (s int4range, d daterange);; "
          "ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (s, d) REFERENCES r (s, d)",
          "ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (s, PERIOD d) REFERENCES r (s, PERIOD d)",
          "constraint k on t: definition", 18),
    _altered("FOREIGN KEY DEFERRABLE", "CREATE TABLE t (id int PRIMARY KEY, a int CONSTRAINT k "
             "REFERENCES t)", "ALTER TABLE t ALTER CONSTRAINT k", "DEFERRABLE INITIALLY DEFERRED",
             "NOT DEFERRABLE", "constraint k on t: definition"),
    _one("constraint name", "CREATE TABLE t (a int CONSTRAINT k CHECK (a > 0))",
         "ALTER TABLE t RENAME CONSTRAINT k TO l", "ALTER TABLE t RENAME CONSTRAINT l TO k",
         "constraint k on t: renamed"),
    _altered("constraint comment", "CREATE TABLE t (a int CONSTRAINT k CHECK (a > 0))",
             "COMMENT ON CONSTRAINT k ON t IS", "'x'", "NULL", "constraint k on t: comment"),
    _altered("comment of a key's index", _T, "COMMENT ON INDEX t_pkey IS", "'x'", "NULL",
             "constraint t_pkey on t: comment of the index"),
    _altered("key WITH", _T, "ALTER INDEX t_pkey", "SET (fillfactor = 50)", "RESET (fillfactor)",
             "constraint t_pkey on t: options"),
    _altered("key tablespace", _T, "ALTER INDEX t_pkey SET TABLESPACE", "elsewhere", "pg_default",
             "constraint t_pkey on t: tablespace"),
    _altered("key clustered", _T, "ALTER TABLE t", "CLUSTER ON t_pkey", "SET WITHOUT CLUSTER",
             "constraint t_pkey on t: clustered"),
    _altered("NOT NULL NO INHERIT", "CREATE TABLE t (a int CONSTRAINT n NOT NULL)",
             "ALTER TABLE t ALTER CONSTRAINT n", "NO INHERIT", "INHERIT",
             "constraint n on t: added", 18),
    _anew("NOT NULL NOT VALID", "ALTER TABLE t DROP CONSTRAINT n",
          "CREATE TABLE t (a int);; ALTER TABLE t ADD CONSTRAINT n NOT NULL a",
          "ALTER TABLE t ADD CONSTRAINT n NOT NULL a NOT VALID", "constraint n on t: added", 18),
)  # fmt: skip


def _column(name: str, after: str, before: str, aspect: str, since: int = 13) -> Change:
    return _altered(f"column {name}", _T, "ALTER TABLE t ALTER b", after, before,
                    f"column t.b: {aspect}", since)  # fmt: skip


def _identity(name: str, after: str, before: str, aspect: str) -> Change:
    setup = "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY)"
    return _altered(f"identity {name}", setup, "ALTER TABLE t ALTER id", after, before,
                    f"sequence t_id_seq: {aspect}")  # fmt: skip


_COLUMNS = (
    _column("TYPE", "TYPE varchar(9)", "TYPE text", "type"),
    _column("NOT NULL", "SET NOT NULL", "DROP NOT NULL", "null"),
    _column("DEFAULT", "SET DEFAULT 'x'", "DROP DEFAULT", "default"),
    _column("COLLATE", 'TYPE text COLLATE "C"', "TYPE text", "collation"),
    _column("STORAGE", "SET STORAGE EXTERNAL", "SET STORAGE EXTENDED", "storage"),
    _column("COMPRESSION", "SET COMPRESSION pglz", "SET COMPRESSION default", "compression", 14),
    _column("STATISTICS", "SET STATISTICS 7", "SET STATISTICS -1", "statistics"),
    _column("options", "SET (n_distinct = 5)", "RESET (n_distinct)", "options"),
    _altered("column comment", _T, "COMMENT ON COLUMN t.b IS", "'x'", "NULL",
             "column t.b: comment"),
    _one("column rights", _T, "GRANT SELECT (b) ON t TO reader", "REVOKE SELECT (b) ON t FROM "
         "reader", "column t.b: rights"),
    _anew("generated expression", "ALTER TABLE t DROP g",
          "CREATE TABLE t (a int);; ALTER TABLE t ADD g int GENERATED ALWAYS AS (a + 1) STORED",
          "ALTER TABLE t ADD g int GENERATED ALWAYS AS (a + 2) STORED", "column t.g: generated"),
    _anew("generated VIRTUAL", "ALTER TABLE t DROP g",
          "CREATE TABLE t (a int);; ALTER TABLE t ADD g int GENERATED ALWAYS AS (a + 1) STORED",
          "ALTER TABLE t ADD g int GENERATED ALWAYS AS (a + 1) VIRTUAL", "column t.g: generated",
          18),
    _some("order of columns", "CREATE TABLE t (a int, b int)",
          "ALTER TABLE t DROP a; ALTER TABLE t ADD a int",
          "ALTER TABLE t DROP b; ALTER TABLE t ADD b int", ("table t: order",)),
    _altered("identity ALWAYS", "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY)",
             "ALTER TABLE t ALTER id SET GENERATED", "BY DEFAULT", "ALWAYS",
             "column t.id: identity"),
    _identity("START", "SET START 5", "SET START 1", "start"),
    _identity("CACHE", "SET CACHE 5", "SET CACHE 1", "cache"),
    _identity("INCREMENT", "SET INCREMENT 5", "SET INCREMENT 1", "increment"),
    _identity("MINVALUE", "SET MINVALUE -5", "SET MINVALUE 1", "minimum"),
    _identity("MAXVALUE", "SET MAXVALUE 500", "SET MAXVALUE 2147483647", "maximum"),
    _identity("CYCLE", "SET CYCLE", "SET NO CYCLE", "cycle"),
    _some("identity, not serial", "CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY)",
          "ALTER TABLE t ALTER id DROP IDENTITY; CREATE SEQUENCE t_id_seq AS int OWNED BY t.id; "
          "ALTER TABLE t ALTER id SET DEFAULT nextval('t_id_seq')",
          "ALTER TABLE t ALTER id DROP DEFAULT; DROP SEQUENCE t_id_seq; "
          "ALTER TABLE t ALTER id ADD GENERATED BY DEFAULT AS IDENTITY",
          ("column t.id: default", "column t.id: identity")),
)  # fmt: skip


def _sequence(name: str, after: str, before: str, aspect: str, since: int = 13) -> Change:
    return _altered(f"sequence {name}", "CREATE SEQUENCE s", "ALTER SEQUENCE s", after, before,
                    f"sequence s: {aspect}", since)  # fmt: skip


_SEQUENCES = (
    _some("sequence AS", "CREATE SEQUENCE s", "ALTER SEQUENCE s AS int",
          "ALTER SEQUENCE s AS bigint", ("sequence s: maximum", "sequence s: type")),
    _sequence("START", "START 3", "START 1", "start"),
    _sequence("INCREMENT", "INCREMENT 3", "INCREMENT 1", "increment"),
    _sequence("CACHE", "CACHE 3", "CACHE 1", "cache"),
    _sequence("CYCLE", "CYCLE", "NO CYCLE", "cycle"),
    _sequence("UNLOGGED", "SET UNLOGGED", "SET LOGGED", "persistence", 15),
    _sequence("OWNER", "OWNER TO reader", "OWNER TO CURRENT_USER", "owner"),
    _some("sequence OWNED BY", "CREATE TABLE t (a int); CREATE SEQUENCE s",
          "ALTER SEQUENCE s OWNED BY t.a", "ALTER SEQUENCE s OWNED BY NONE",
          ("sequence s: column", "sequence s: owner")),
    _one("rights on the sequence of a column", "CREATE TABLE t (id serial)",
         "GRANT USAGE ON t_id_seq TO reader", "REVOKE USAGE ON t_id_seq FROM reader",
         "sequence t_id_seq: rights"),
    _altered("sequence comment", "CREATE SEQUENCE s", "COMMENT ON SEQUENCE s IS", "'x'", "NULL",
             "sequence s: comment"),
)  # fmt: skip


def _table(name: str, after: str, before: str, aspect: str, since: int = 13) -> Change:
    return _altered(f"table {name}", _T, "ALTER TABLE t", after, before, f"table t: {aspect}",
                    since)  # fmt: skip


_TABLES = (
    _table("TABLESPACE", "SET TABLESPACE elsewhere", "SET TABLESPACE pg_default", "tablespace"),
    _table("WITH", "SET (fillfactor = 50)", "RESET (fillfactor)", "options"),
    _table("toast options", "SET (toast.autovacuum_enabled = off)",
           "RESET (toast.autovacuum_enabled)", "toast options"),
    _table("REPLICA IDENTITY", "REPLICA IDENTITY FULL", "REPLICA IDENTITY DEFAULT",
           "replica identity"),
    _table("ROW LEVEL SECURITY", "ENABLE ROW LEVEL SECURITY", "DISABLE ROW LEVEL SECURITY",
           "row security"),
    _table("OWNER", "OWNER TO reader", "OWNER TO CURRENT_USER", "owner"),
    _one("table UNLOGGED", "CREATE TABLE t (a int)", "ALTER TABLE t SET UNLOGGED",
         "ALTER TABLE t SET LOGGED", "table t: persistence"),
    _altered("FORCE ROW LEVEL SECURITY", f"{_T}; ALTER TABLE t ENABLE ROW LEVEL SECURITY",
             "ALTER TABLE t", "FORCE ROW LEVEL SECURITY", "NO FORCE ROW LEVEL SECURITY",
             "table t: row security"),
    _one("table access method", f"{_T}; CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER "
         "heap_tableam_handler", "ALTER TABLE t SET ACCESS METHOD heap2",
         "ALTER TABLE t SET ACCESS METHOD heap", "table t: access method", 15),
    _altered("table OF", "CREATE TYPE pair AS (a int, b text); CREATE TABLE t (a int, b text)",
             "ALTER TABLE t", "OF pair", "NOT OF", "table t: of type"),
    _altered("table INHERITS", "CREATE TABLE p (a int); CREATE TABLE t (a int)", "ALTER TABLE t",
             "INHERIT p", "NO INHERIT p", "table t: parents"),
    _anew("partition key", "DROP TABLE p", "CREATE TABLE p (a int, b int) PARTITION BY RANGE (a)",
          "CREATE TABLE p (a int, b int) PARTITION BY RANGE (b)", "table p: partition key"),
    _one("partition bounds", _PARTED,
         "ALTER TABLE p DETACH PARTITION p_1; ALTER TABLE p ATTACH PARTITION p_1 "
         "FOR VALUES FROM (3) TO (4)", "ALTER TABLE p DETACH PARTITION p_1; ALTER TABLE p ATTACH "
         "PARTITION p_1 FOR VALUES FROM (1) TO (2)", "table p_1: bounds"),
    _altered("default of a partition", _PARTED, "ALTER TABLE p_1 ALTER b", "SET DEFAULT 'x'",
             "DROP DEFAULT", "table p_1: columns"),
    _altered("NOT NULL of a partition", _PARTED, "ALTER TABLE p_1 ALTER b", "SET NOT NULL",
             "DROP NOT NULL", "table p_1: columns"),
    _altered("statistics of a partition", _PARTED, "ALTER TABLE p_1 ALTER b SET STATISTICS", "9",
             "-1", "table p_1: columns"),
    _altered("storage of a partition", _PARTED, "ALTER TABLE p_1 ALTER b SET STORAGE", "PLAIN",
             "EXTENDED", "table p_1: columns"),
    _altered("comment on a partition's column", _PARTED, "COMMENT ON COLUMN p_1.b IS", "'x'",
             "NULL", "table p_1: column comments"),
    _one("rights on a partition's column", _PARTED, "GRANT SELECT (b) ON p_1 TO reader",
         "REVOKE SELECT (b) ON p_1 FROM reader", "table p_1: column rights"),
    _altered("trigger of a partition", f"{_PARTED}; CREATE FUNCTION g() RETURNS trigger LANGUAGE "
             "plpgsql AS 'BEGIN RETURN new; END'; CREATE TRIGGER r AFTER INSERT ON p FOR EACH ROW "
             "EXECUTE FUNCTION g()", "ALTER TABLE p_1", "DISABLE TRIGGER r", "ENABLE TRIGGER r",
             "table p_1: triggers", 15),
    _altered("index of a partition WITH", f"{_PARTED}; CREATE INDEX ON p (a)",
             "ALTER INDEX p_1_a_idx", "SET (fillfactor = 50)", "RESET (fillfactor)",
             "table p_1: indexes"),
    _altered("comment on a partition's index", f"{_PARTED}; CREATE INDEX ON p (a)",
             "COMMENT ON INDEX p_1_a_idx IS", "'x'", "NULL", "table p_1: indexes"),
    _altered("comment on a partition's key", f"{_PARTED}; ALTER TABLE p ADD PRIMARY KEY (a)",
             "COMMENT ON CONSTRAINT p_1_pkey ON p_1 IS", "'x'", "NULL", "table p_1: indexes"),
    _some("which index is the identity", f"{_T}; ALTER TABLE t ALTER a SET NOT NULL; "
          "CREATE UNIQUE INDEX i ON t (a); ALTER TABLE t REPLICA IDENTITY USING INDEX i",
          "ALTER TABLE t REPLICA IDENTITY USING INDEX t_pkey",
          "ALTER TABLE t REPLICA IDENTITY USING INDEX i",
          ("constraint t_pkey on t: replica identity", "index i: replica identity")),
    _altered("table comment", _T, "COMMENT ON TABLE t IS", "'x'", "NULL", "table t: comment"),
    _one("table rights", _T, "GRANT SELECT ON t TO reader", "REVOKE SELECT ON t FROM reader",
         "table t: rights"),
    _one("WITH GRANT OPTION", f"{_T}; GRANT SELECT ON t TO reader",
         "GRANT SELECT ON t TO reader WITH GRANT OPTION",
         "REVOKE GRANT OPTION FOR SELECT ON t FROM reader", "table t: rights"),
    _one("rights of the owner", f"{_T}; GRANT SELECT ON t TO reader",
         "REVOKE UPDATE ON t FROM CURRENT_USER", "GRANT UPDATE ON t TO CURRENT_USER",
         "table t: rights"),
    _one("security label", _T, "INSERT INTO pg_seclabel VALUES ('t'::regclass, "
         "'pg_class'::regclass, 0, 'provider', 'secret')",
         "DELETE FROM pg_seclabel WHERE objoid = 't'::regclass", "table t: security labels"),
    _one("table", "CREATE TABLE t (id serial PRIMARY KEY, b text)", "CREATE TABLE u (a int "
         "PRIMARY KEY)", "DROP TABLE u", "table u: added"),
)  # fmt: skip

_V = f"{_T}; CREATE VIEW v AS SELECT id, b FROM t"
_M = f"{_T}; CREATE MATERIALIZED VIEW m AS SELECT id, b FROM t"
_VIEWS = (
    _one("view", _V, "CREATE OR REPLACE VIEW v AS SELECT id, b FROM t WHERE id > 3",
         "CREATE OR REPLACE VIEW v AS SELECT id, b FROM t", "view v: definition"),
    _altered("security_barrier", _V, "ALTER VIEW v", "SET (security_barrier)",
             "RESET (security_barrier)", "view v: options"),
    _altered("security_invoker", _V, "ALTER VIEW v", "SET (security_invoker)",
             "RESET (security_invoker)", "view v: options", 15),
    _altered("check_option", _V, "ALTER VIEW v", "SET (check_option = local)",
             "RESET (check_option)", "view v: options"),
    _altered("default of a view", _V, "ALTER VIEW v ALTER b", "SET DEFAULT 'x'", "DROP DEFAULT",
             "view v: columns"),
    _altered("comment on a view's column", _V, "COMMENT ON COLUMN v.b IS", "'x'", "NULL",
             "view v: column comments"),
    _one("rights on a view's column", _V, "GRANT SELECT (b) ON v TO reader",
         "REVOKE SELECT (b) ON v FROM reader", "view v: column rights"),
    _anew("materialized view", "DROP MATERIALIZED VIEW m",
          f"{_T};; CREATE MATERIALIZED VIEW m AS SELECT id FROM t",
          "CREATE MATERIALIZED VIEW m AS SELECT id FROM t WHERE id > 3",
          "materialized view m: definition"),
    _altered("materialized view WITH", _M, "ALTER MATERIALIZED VIEW m", "SET (fillfactor = 50)",
             "RESET (fillfactor)", "materialized view m: options"),
    _altered("statistics of a materialized view", _M,
             "ALTER MATERIALIZED VIEW m ALTER b SET STATISTICS", "9", "-1",
             "materialized view m: columns"),
)  # fmt: skip


def _function(name: str, after: str, before: str) -> Change:
    return _altered(f"function {name}", _F, "ALTER FUNCTION f(int)", after, before,
                    "function f(integer): definition")  # fmt: skip


def _aggregate(name: str, more: str, named: str) -> Change:
    head = "CREATE AGGREGATE n (int8) (sfunc = int8pl, stype = int8"
    return _anew(f"aggregate {name}", "DROP AGGREGATE n (int8)", f"{head})", f"{head}, {more})",
                 f"aggregate n(bigint): {named}")  # fmt: skip


_ROUTINES = (
    _one("function body", _F, _F.replace("CREATE", "CREATE OR REPLACE").replace("1'", "2'"),
         _F.replace("CREATE", "CREATE OR REPLACE"), "function f(integer): definition"),
    _function("volatility", "IMMUTABLE", "VOLATILE"),
    _function("STRICT", "STRICT", "CALLED ON NULL INPUT"),
    _function("SECURITY DEFINER", "SECURITY DEFINER", "SECURITY INVOKER"),
    _function("LEAKPROOF", "LEAKPROOF", "NOT LEAKPROOF"),
    _function("PARALLEL", "PARALLEL SAFE", "PARALLEL UNSAFE"),
    _function("COST", "COST 7", "COST 100"),
    _function("SET", "SET search_path = pg_catalog", "RESET search_path"),
    _anew("function default", "DROP FUNCTION f", _F,
          _F.replace("x int", "x int DEFAULT 3"), "function f(integer): definition"),
    _anew("function result", "DROP FUNCTION f", _F, _F.replace("RETURNS int", "RETURNS SETOF int"),
          "function f(integer): definition"),
    _altered("function comment", _F, "COMMENT ON FUNCTION f IS", "'x'", "NULL",
             "function f(integer): comment"),
    _altered("function OWNER", _F, "ALTER FUNCTION f OWNER TO", "reader", "CURRENT_USER",
             "function f(integer): owner"),
    _one("function rights", _F, "REVOKE EXECUTE ON FUNCTION f FROM PUBLIC",
         "GRANT EXECUTE ON FUNCTION f TO PUBLIC", "function f(integer): rights"),
    _one("procedure", "CREATE PROCEDURE q() LANGUAGE sql AS 'SELECT 1'",
         "CREATE OR REPLACE PROCEDURE q() LANGUAGE sql AS 'SELECT 2'",
         "CREATE OR REPLACE PROCEDURE q() LANGUAGE sql AS 'SELECT 1'", "procedure q(): definition"),
    _aggregate("INITCOND", "initcond = '5'", "definition"),
    _aggregate("FINALFUNC", "finalfunc = int8up", "definition"),
    _anew("aggregate FINALFUNC_MODIFY", "DROP AGGREGATE n (int8)", "CREATE AGGREGATE n (int8) "
          "(sfunc = int8pl, stype = int8, finalfunc = int8up)", "CREATE AGGREGATE n (int8) "
          "(sfunc = int8pl, stype = int8, finalfunc = int8up, finalfunc_modify = shareable)",
          "aggregate n(bigint): final"),
    _some("aggregate FINALFUNC_EXTRA", "CREATE FUNCTION e(int8, int8) RETURNS int8 LANGUAGE sql "
          "AS 'SELECT $1'; CREATE AGGREGATE n (int8) (sfunc = int8pl, stype = int8)",
          "CREATE OR REPLACE AGGREGATE n (int8) (sfunc = int8pl, stype = int8, finalfunc = e, "
          "finalfunc_extra)",
          "CREATE OR REPLACE AGGREGATE n (int8) (sfunc = int8pl, stype = int8)",
          ("aggregate n(bigint): definition", "aggregate n(bigint): final")),
    _aggregate("SSPACE", "sspace = 99", "state size"),
    _aggregate("COMBINEFUNC", "combinefunc = int8pl", "partial"),
    _aggregate("PARALLEL", "parallel = safe", "parallel"),
    _aggregate("MSFUNC", "msfunc = int8pl, minvfunc = int8mi, mstype = int8", "moving"),
    _anew("aggregate SORTOP", "DROP AGGREGATE n (int8)", "CREATE AGGREGATE n (int8) "
          "(sfunc = int8larger, stype = int8)", "CREATE AGGREGATE n (int8) "
          "(sfunc = int8larger, stype = int8, sortop = >)", "aggregate n(bigint): definition"),
)  # fmt: skip

_G = "CREATE TRIGGER r AFTER UPDATE ON t FOR EACH"


def _trigger(name: str, before: str, after: str) -> Change:
    return _anew(f"trigger {name}", "DROP TRIGGER r ON t", f"{_TRIGGERED};; {before}", after,
                 "trigger r on t: definition")  # fmt: skip


_R = "CREATE TRIGGER r AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION g()"
_O = f"{_T}; CREATE POLICY o ON t USING (id > 0) WITH CHECK (id > 0)"
_E = (
    "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; "
    "CREATE FUNCTION e2() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'"
)


def _event(name: str, after: str, named: str) -> Change:
    head, before = f"CREATE EVENT TRIGGER e_{name}", "ON ddl_command_end WHEN tag IN ('DROP RULE')"
    return _anew(f"event trigger {name}", f"DROP EVENT TRIGGER e_{name}",
                 f"{_E};; {head} {before} EXECUTE FUNCTION e()", f"{head} {after}",
                 f"event trigger e_{name}: {named}")  # fmt: skip


_TRIGGERS = (
    _trigger("WHEN", _R, f"{_G} ROW WHEN (new.id > 3) EXECUTE FUNCTION g()"),
    _trigger("REFERENCING", f"{_G} STATEMENT EXECUTE FUNCTION g()", "CREATE TRIGGER r AFTER UPDATE "
             "ON t REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION g()"),
    _trigger("arguments", _R, f"{_G} ROW EXECUTE FUNCTION g('x')"),
    _trigger("BEFORE", _R, _R.replace("AFTER", "BEFORE")),
    _trigger("columns", _R, _R.replace("UPDATE", "UPDATE OF b")),
    _trigger("DEFERRABLE", _R.replace("CREATE", "CREATE CONSTRAINT"),
             "CREATE CONSTRAINT TRIGGER r AFTER UPDATE ON t DEFERRABLE FOR EACH ROW EXECUTE "
             "FUNCTION g()"),
    _altered("trigger disabled", f"{_TRIGGERED}; {_R}", "ALTER TABLE t", "DISABLE TRIGGER r",
             "ENABLE TRIGGER r", "trigger r on t: enabled"),
    _altered("trigger ALWAYS", f"{_TRIGGERED}; {_R}", "ALTER TABLE t", "ENABLE ALWAYS TRIGGER r",
             "ENABLE TRIGGER r", "trigger r on t: enabled"),
    _altered("trigger comment", f"{_TRIGGERED}; {_R}", "COMMENT ON TRIGGER r ON t IS", "'x'",
             "NULL", "trigger r on t: comment"),
    _anew("rule", "DROP RULE l ON t", f"{_T};; CREATE RULE l AS ON DELETE TO t DO INSTEAD NOTHING",
          "CREATE RULE l AS ON DELETE TO t DO ALSO NOTIFY t", "rule l on t: definition"),
    _altered("rule disabled", f"{_T}; CREATE RULE l AS ON DELETE TO t DO ALSO NOTIFY t",
             "ALTER TABLE t", "DISABLE RULE l", "ENABLE RULE l", "rule l on t: enabled"),
    _altered("policy USING", _O, "ALTER POLICY o ON t USING", "(id > 1)", "(id > 0)",
             "policy o on t: using"),
    _altered("policy CHECK", _O, "ALTER POLICY o ON t WITH CHECK", "(id > 1)", "(id > 0)",
             "policy o on t: check"),
    _altered("policy TO", _O, "ALTER POLICY o ON t TO", "reader", "PUBLIC",
             "policy o on t: roles"),
    _anew("policy FOR", "DROP POLICY o ON t", f"{_T};; CREATE POLICY o ON t USING (id > 0)",
          "CREATE POLICY o ON t FOR SELECT USING (id > 0)", "policy o on t: command"),
    _anew("policy RESTRICTIVE", "DROP POLICY o ON t", f"{_T};; CREATE POLICY o ON t USING (true)",
          "CREATE POLICY o ON t AS RESTRICTIVE USING (true)", "policy o on t: restrictive"),
    _altered("policy comment", _O, "COMMENT ON POLICY o ON t IS", "'x'", "NULL",
             "policy o on t: comment"),
    _event("tags", "ON ddl_command_end WHEN tag IN ('DROP CAST') EXECUTE FUNCTION e()", "tags"),
    _event("function", "ON ddl_command_end WHEN tag IN ('DROP RULE') EXECUTE FUNCTION e2()",
           "function"),
    _event("event", "ON ddl_command_start WHEN tag IN ('DROP RULE') EXECUTE FUNCTION e()",
           "event"),
    _altered("event trigger disabled", f"{_E}; CREATE EVENT TRIGGER e_off ON ddl_command_end WHEN "
             "tag IN ('DROP RULE') EXECUTE FUNCTION e()", "ALTER EVENT TRIGGER e_off", "DISABLE",
             "ENABLE", "event trigger e_off: enabled"),
)  # fmt: skip

_S = "CREATE STATISTICS x (dependencies) ON a, id FROM t"


def _statistics(name: str, after: str, since: int = 13) -> Change:
    return _anew(f"statistics {name}", "DROP STATISTICS x", f"{_T};; {_S}", after,
                 "statistics object x: definition", since)  # fmt: skip


_STATISTICS = (
    _statistics("kinds", _S.replace("dependencies", "dependencies, ndistinct")),
    _statistics("columns", _S.replace("a, id", "a, b")),
    _statistics("expression", _S.replace("a, id", "a, (id + 1)"), 14),
    _altered("statistics target", f"{_T}; {_S}", "ALTER STATISTICS x SET STATISTICS", "7", "-1",
             "statistics object x: statistics"),
    _altered("statistics comment", f"{_T}; {_S}", "COMMENT ON STATISTICS x IS", "'x'", "NULL",
             "statistics object x: comment"),
    _altered("statistics OWNER", f"{_T}; {_S}", "ALTER STATISTICS x OWNER TO", "reader",
             "CURRENT_USER", "statistics object x: owner"),
)  # fmt: skip


def _type(name: str, before: str, after: str, aspect: str, since: int = 13) -> Change:
    return _anew(f"type {name}", "DROP TYPE y", before, after, f"type y: {aspect}", since)


_D = "CREATE DOMAIN y AS int CONSTRAINT k CHECK (VALUE > 0)"
_B = (
    "CREATE TYPE y; CREATE FUNCTION y_in(cstring) RETURNS y LANGUAGE internal IMMUTABLE STRICT AS "
    "'textin'; CREATE FUNCTION y_out(y) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS "
    "'textout'; CREATE TYPE y (INPUT = y_in, OUTPUT = y_out, LIKE = text)"
)
_TYPES = (
    _type("labels", "CREATE TYPE y AS ENUM ('a')", "CREATE TYPE y AS ENUM ('a', 'b')", "labels"),
    _type("order of labels", "CREATE TYPE y AS ENUM ('a', 'b')", "CREATE TYPE y AS ENUM ('b', 'a')",
          "labels"),
    _altered("name of a label", "CREATE TYPE y AS ENUM ('a', 'b')", "ALTER TYPE y RENAME VALUE",
             "'a' TO 'c'", "'c' TO 'a'", "type y: labels"),
    _altered("domain DEFAULT", _D, "ALTER DOMAIN y", "SET DEFAULT 3", "DROP DEFAULT",
             "type y: default"),
    _altered("domain NOT NULL", _D, "ALTER DOMAIN y", "SET NOT NULL", "DROP NOT NULL",
             "type y: null"),
    _anew("domain type", "DROP DOMAIN y", "CREATE DOMAIN y AS int", "CREATE DOMAIN y AS bigint",
          "type y: type"),
    _anew("domain COLLATE", "DROP DOMAIN y", "CREATE DOMAIN y AS text",
          'CREATE DOMAIN y AS text COLLATE "C"', "type y: collation"),
    _anew("domain CHECK", "ALTER DOMAIN y DROP CONSTRAINT k",
          "CREATE DOMAIN y AS int;; ALTER DOMAIN y ADD CONSTRAINT k CHECK (VALUE > 0)",
          "ALTER DOMAIN y ADD CONSTRAINT k CHECK (VALUE > 1)", "constraint k on y: definition"),
    _anew("domain NOT VALID", "ALTER DOMAIN y DROP CONSTRAINT k",
          "CREATE DOMAIN y AS int;; ALTER DOMAIN y ADD CONSTRAINT k CHECK (VALUE > 0)",
          "ALTER DOMAIN y ADD CONSTRAINT k CHECK (VALUE > 0) NOT VALID",
          "constraint k on y: definition"),
    _some("name of a domain's constraint", _D, "ALTER DOMAIN y RENAME CONSTRAINT k TO l",
          "ALTER DOMAIN y RENAME CONSTRAINT l TO k",
          ("constraint k on y: missing", "constraint l on y: added")),
    _altered("comment on a domain's constraint", _D, "COMMENT ON CONSTRAINT k ON DOMAIN y IS",
             "'x'", "NULL", "constraint k on y: comment"),
    _altered("domain comment", _D, "COMMENT ON DOMAIN y IS", "'x'", "NULL", "type y: comment"),
    _one("domain rights", _D, "REVOKE USAGE ON DOMAIN y FROM PUBLIC",
         "GRANT USAGE ON DOMAIN y TO PUBLIC", "type y: rights"),
    _altered("composite type", "CREATE TYPE y AS (a int, b text)", "ALTER TYPE y",
             "ADD ATTRIBUTE c int", "DROP ATTRIBUTE c", "column y.c: added"),
    _altered("attribute of a composite type", "CREATE TYPE y AS (a int)", "ALTER TYPE y ALTER "
             "ATTRIBUTE a TYPE", "bigint", "int", "column y.a: type"),
    _altered("comment on a composite type", "CREATE TYPE y AS (a int)", "COMMENT ON TYPE y IS",
             "'x'", "NULL", "composite type y: comment"),
    _one("rights on a composite type", "CREATE TYPE y AS (a int)",
         "REVOKE USAGE ON TYPE y FROM PUBLIC", "GRANT USAGE ON TYPE y TO PUBLIC",
         "composite type y: rights"),
    _type("subtype of a range", "CREATE TYPE y AS RANGE (subtype = int4, multirange_type_name = m)",
          "CREATE TYPE y AS RANGE (subtype = int8, multirange_type_name = m)", "range of", 14),
    _type("collation of a range", "CREATE TYPE y AS RANGE (subtype = text)",
          'CREATE TYPE y AS RANGE (subtype = text, collation = "C")', "range of"),
    _type("operator class of a range", "CREATE TYPE y AS RANGE (subtype = text)",
          "CREATE TYPE y AS RANGE (subtype = text, subtype_opclass = text_pattern_ops)",
          "operator class"),
    _type("difference of a range", "CREATE TYPE y AS RANGE (subtype = float8)",
          "CREATE TYPE y AS RANGE (subtype = float8, subtype_diff = float8mi)",
          "difference function"),
    _type("multirange", "CREATE TYPE y AS RANGE (subtype = int4, multirange_type_name = m)",
          "CREATE TYPE y AS RANGE (subtype = int4, multirange_type_name = n)", "multirange", 14),
    _altered("base type", _B, "ALTER TYPE y SET (STORAGE =", "external)", "extended)",
             "type y: definition"),
)  # fmt: skip


def _operator(name: str, more: str, aspect: str) -> Change:
    head = "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq"
    return _anew(f"operator {name}", "DROP OPERATOR === (int, int)", f"{head})", f"{head}, {more})",
                 f"operator ===(integer,integer): {aspect}")  # fmt: skip


_C = (
    "CREATE FUNCTION f_cast(y) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''y''::text'; "
    "CREATE FUNCTION f2_cast(y) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''z''::text'"
)
_CAST = f"CREATE TYPE y AS (a int); {_C};; CREATE CAST (y AS text) WITH FUNCTION f_cast"
_OPERATORS = (
    _operator("RESTRICT", "RESTRICT = eqsel", "restrict"),
    _operator("JOIN", "JOIN = eqjoinsel", "join"),
    _operator("HASHES", "HASHES", "hashes"),
    _operator("MERGES", "MERGES", "merges"),
    _operator("COMMUTATOR", "COMMUTATOR = ===", "commutator"),
    _anew("operator FUNCTION", "DROP OPERATOR === (int, int)",
          "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
          "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4ne)",
          "operator ===(integer,integer): function"),
    _anew("operator class default", "DROP OPERATOR FAMILY c USING hash CASCADE",
          "CREATE TYPE y AS ENUM ('a');; CREATE OPERATOR CLASS c FOR TYPE y USING hash AS "
          "FUNCTION 1 hashenum(anyenum)",
          "CREATE OPERATOR CLASS c DEFAULT FOR TYPE y USING hash AS FUNCTION 1 hashenum(anyenum)",
          "operator class c USING hash: default"),
    _altered("operator of a family", "CREATE OPERATOR FAMILY fam USING btree",
             "ALTER OPERATOR FAMILY fam USING btree", "ADD OPERATOR 1 < (int4, int8)",
             "DROP OPERATOR 1 (int4, int8)", "operator family fam USING btree: operators"),
    _altered("function of a family", "CREATE OPERATOR FAMILY fam USING btree",
             "ALTER OPERATOR FAMILY fam USING btree", "ADD FUNCTION 1 (int4, int8) btint48cmp",
             "DROP FUNCTION 1 (int4, int8)", "operator family fam USING btree: functions"),
    _anew("access method", "DROP ACCESS METHOD am_1",
          "CREATE ACCESS METHOD am_1 TYPE INDEX HANDLER bthandler",
          "CREATE ACCESS METHOD am_1 TYPE INDEX HANDLER hashhandler",
          "access method am_1: handler"),
    _anew("cast context", "DROP CAST (y AS text)", _CAST,
          "CREATE CAST (y AS text) WITH FUNCTION f_cast AS IMPLICIT",
          "cast (y AS pg_catalog.text): context"),
    _anew("cast function", "DROP CAST (y AS text)", _CAST,
          "CREATE CAST (y AS text) WITH FUNCTION f2_cast", "cast (y AS pg_catalog.text): function"),
    _some("collation LOCALE", "CREATE COLLATION l (locale = 'C')",
          "DROP COLLATION l; CREATE COLLATION l (locale = 'POSIX')",
          "DROP COLLATION l; CREATE COLLATION l (locale = 'C')",
          ("collation l: character type", "collation l: locale")),
)  # fmt: skip


def _collation(name: str, column: str, after: str, before: str, since: int = 13) -> Change:
    head = f"UPDATE pg_collation SET {column} ="
    where = "WHERE collname = 'l' AND collnamespace = current_schema()::regnamespace"
    return _one(f"collation {name}", "CREATE COLLATION l (locale = 'C')",
                f"{head} {after} {where}", f"{head} {before} {where}", f"collation l: {name}",
                since)  # fmt: skip


_H = (  # pg_dump leaves out the handler of a language that is the server's own
    "CREATE FUNCTION handle() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', "
    "'plpgsql_call_handler'"
)
_TS = "CREATE TEXT SEARCH CONFIGURATION z (COPY = simple)"
_OTHERS = (
    _collation("deterministic", "collisdeterministic", "false", "true"),
    _collation("provider", "collprovider", "'i'", "'c'"),
    _collation("rules", "collicurules", "'&a < g'", "NULL", 16),
    _collation("version", "collversion", "'1'", "NULL"),
    _anew("conversion DEFAULT", "DROP CONVERSION z",
          "CREATE CONVERSION z FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
          "CREATE DEFAULT CONVERSION z FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
          "conversion z: default"),
    _altered("text search mapping", _TS, "ALTER TEXT SEARCH CONFIGURATION z ALTER MAPPING FOR word "
             "WITH", "english_stem, simple", "simple", "text search configuration z: mappings"),
    _one("text search mapping missing", _TS, "ALTER TEXT SEARCH CONFIGURATION z DROP MAPPING FOR "
         "word", "ALTER TEXT SEARCH CONFIGURATION z ADD MAPPING FOR word WITH simple",
         "text search configuration z: mappings"),
    _altered("text search dictionary", "CREATE TEXT SEARCH DICTIONARY z (TEMPLATE = simple, "
             "accept = true)", "ALTER TEXT SEARCH DICTIONARY z", "(accept = false)",
             "(accept = true)", "text search dictionary z: options"),
    _anew("text search template", "DROP TEXT SEARCH TEMPLATE z",
          "CREATE TEXT SEARCH TEMPLATE z (LEXIZE = dsimple_lexize)",
          "CREATE TEXT SEARCH TEMPLATE z (LEXIZE = dsynonym_lexize)",
          "text search template z: lexize"),
    _anew("text search parser", "DROP TEXT SEARCH PARSER z",
          "CREATE TEXT SEARCH PARSER z (START = prsd_start, GETTOKEN = prsd_nexttoken, "
          "END = prsd_end, LEXTYPES = prsd_lextype)",
          "CREATE TEXT SEARCH PARSER z (START = prsd_start, GETTOKEN = prsd_nexttoken, "
          "END = prsd_end, LEXTYPES = prsd_lextype, HEADLINE = prsd_headline)",
          "text search parser z: headline"),
    _anew("language", "DROP LANGUAGE lang_1", f"{_H};; CREATE LANGUAGE lang_1 HANDLER handle",
          "CREATE TRUSTED LANGUAGE lang_1 HANDLER handle",
          "language lang_1: trusted"),
    _one("language rights", f"{_H}; CREATE TRUSTED LANGUAGE lang_2 HANDLER handle",
         "REVOKE USAGE ON LANGUAGE lang_2 FROM PUBLIC", "GRANT USAGE ON LANGUAGE lang_2 TO PUBLIC",
         "language lang_2: rights"),
    _anew("transform", "DROP TRANSFORM FOR int LANGUAGE lang_3",
          f"{_H}; CREATE LANGUAGE lang_3 HANDLER handle;; CREATE TRANSFORM FOR int LANGUAGE "
          "lang_3 (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION "
          "int4recv(internal))", "CREATE TRANSFORM FOR int LANGUAGE lang_3 (FROM SQL WITH FUNCTION "
          "prsd_lextype(internal))", "transform for integer language lang_3: to",
          16),  # before, the server says it in other words
    _altered("schema OWNER", "CREATE SCHEMA n_1", "ALTER SCHEMA n_1 OWNER TO", "reader",
             "CURRENT_USER", "schema n_1: owner"),
    _one("schema rights", "CREATE SCHEMA n_2", "GRANT USAGE ON SCHEMA n_2 TO reader",
         "REVOKE USAGE ON SCHEMA n_2 FROM reader", "schema n_2: rights"),
    _altered("schema comment", "CREATE SCHEMA n_3", "COMMENT ON SCHEMA n_3 IS", "'x'", "NULL",
             "schema n_3: comment"),
    _one("schema", "", "CREATE SCHEMA n_4", "DROP SCHEMA n_4", "schema n_4: added"),
    _one("default privileges", "CREATE SCHEMA n_5; ALTER DEFAULT PRIVILEGES IN SCHEMA n_5 GRANT "
         "SELECT ON TABLES TO reader", "ALTER DEFAULT PRIVILEGES IN SCHEMA n_5 GRANT INSERT ON "
         "TABLES TO reader", "ALTER DEFAULT PRIVILEGES IN SCHEMA n_5 REVOKE INSERT ON TABLES "
         "FROM reader", "default acl for role postgres in schema n_5 on tables: rights"),
)  # fmt: skip


def _publication(
    number: int, name: str, after: str, before: str, named: str, since: int = 13
) -> Change:
    setup = f"{_T}; CREATE PUBLICATION pub_{number} FOR TABLE t"
    return _altered(f"publication {name}", setup, f"ALTER PUBLICATION pub_{number}", after, before,
                    named.format(f"pub_{number}"), since)  # fmt: skip


_REL = "publication relation t in publication {}"
_PUBLICATIONS = (
    _publication(1, "publish", "SET (publish = 'insert')",
                 "SET (publish = 'insert, update, delete, truncate')",
                 "publication {}: publishes"),
    _publication(2, "via root", "SET (publish_via_partition_root)",
                 "SET (publish_via_partition_root = false)", "publication {}: via root"),
    _publication(3, "generated columns", "SET (publish_generated_columns = stored)",
                 "SET (publish_generated_columns = none)", "publication {}: generated columns", 18),
    _publication(4, "columns", "SET TABLE t (id, b)", "SET TABLE t", _REL + ": columns", 15),
    _publication(5, "rows", "SET TABLE t WHERE (id > 3)", "SET TABLE t", _REL + ": rows", 15),
    _publication(6, "table", "DROP TABLE t", "ADD TABLE t", _REL + ": missing"),
    _publication(7, "schemas", "ADD TABLES IN SCHEMA public", "DROP TABLES IN SCHEMA public",
                 "publication {}: schemas", 15),
    _anew("publication FOR ALL TABLES", "DROP PUBLICATION pub_9", "CREATE PUBLICATION pub_9",
          "CREATE PUBLICATION pub_9 FOR ALL TABLES", "publication pub_9: publishes"),
)  # fmt: skip

_SECRET = "password 'a/secret:5@'"


def _foreign(number: int) -> str:
    return (
        f"CREATE FOREIGN DATA WRAPPER w_{number}; CREATE SERVER far_{number} FOREIGN DATA WRAPPER "
        f"w_{number} OPTIONS (host 'a'); CREATE USER MAPPING FOR reader SERVER far_{number} "
        f"OPTIONS (\"user\" 'a', {_SECRET}); CREATE FOREIGN TABLE ft (a int) SERVER far_{number}"
    )


_FOREIGN = (
    _altered("wrapper options", _foreign(1), "ALTER FOREIGN DATA WRAPPER w_1 OPTIONS",
             "(ADD x '1')", "(DROP x)", "foreign-data wrapper w_1: options"),
    _altered("server options", _foreign(2), "ALTER SERVER far_2 OPTIONS (SET host", "'b')", "'a')",
             "server far_2: options"),
    _altered("server VERSION", _foreign(3), "ALTER SERVER far_3 VERSION", "'2'", "NULL",
             "server far_3: server version"),
    _one("server rights", _foreign(4), "GRANT USAGE ON FOREIGN SERVER far_4 TO reader",
         "REVOKE USAGE ON FOREIGN SERVER far_4 FROM reader", "server far_4: rights"),
    _altered("user mapping options", _foreign(5), "ALTER USER MAPPING FOR reader SERVER far_5 "
             'OPTIONS (SET "user"', "'b')", "'a')",
             "user mapping reader on server far_5: options"),
    _altered("user mapping password", _foreign(6), "ALTER USER MAPPING FOR reader SERVER far_6 "
             "OPTIONS (SET password", "'b/secret:6@')", "'a/secret:5@')",
             "user mapping reader on server far_6: secret options"),
    _one("user mapping", _foreign(7), "DROP USER MAPPING FOR reader SERVER far_7",
         f"CREATE USER MAPPING FOR reader SERVER far_7 OPTIONS (\"user\" 'a', {_SECRET})",
         "user mapping reader on server far_7: missing"),
    _altered("foreign table options", _foreign(8), "ALTER FOREIGN TABLE ft OPTIONS", "(ADD x '1')",
             "(DROP x)", "foreign table ft: options"),
    _altered("foreign column options", _foreign(9), "ALTER FOREIGN TABLE ft ALTER a OPTIONS",
             "(ADD x '1')", "(DROP x)", "column ft.a: options"),
    _anew("foreign table SERVER", "DROP FOREIGN TABLE ft", "CREATE FOREIGN DATA WRAPPER w_10; "
          "CREATE SERVER far_10 FOREIGN DATA WRAPPER w_10; CREATE SERVER far_11 FOREIGN DATA "
          "WRAPPER w_10;; CREATE FOREIGN TABLE ft (a int) SERVER far_10",
          "CREATE FOREIGN TABLE ft (a int) SERVER far_11", "foreign table ft: server"),
    _one("wrapper rights", _foreign(12), "GRANT USAGE ON FOREIGN DATA WRAPPER w_12 TO reader",
         "REVOKE USAGE ON FOREIGN DATA WRAPPER w_12 FROM reader",
         "foreign-data wrapper w_12: rights"),
)  # fmt: skip

CHANGES = (
    *(*_INDEXES, *_CONSTRAINTS, *_COLUMNS, *_SEQUENCES, *_TABLES, *_VIEWS, *_ROUTINES, *_TRIGGERS),
    *(*_STATISTICS, *_TYPES, *_OPERATORS, *_OTHERS, *_PUBLICATIONS, *_FOREIGN),
)


def known(major: int) -> list[Change]:
    """Return the changes that a server can make."""
    return [each for each in CHANGES if each.since <= major]


def place(change: Change) -> str:
    """Return the schema of a change's own, so that all of them fit into one database."""
    return f"own_{CHANGES.index(change)}"


def make(session: psycopg.Connection[Any], changes: Sequence[Change]) -> None:
    """Make what the changes begin from, each in its own schema."""
    for each in changes:
        session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(place(each))))
        run(session, each, each.setup)


def run(session: psycopg.Connection[Any], change: Change, statements: str) -> None:
    """Run statements of a change in its own schema."""
    path = sql.SQL("SET LOCAL search_path = {}, public").format(sql.Identifier(place(change)))
    session.execute(path)
    if statements:
        session.execute(statements.encode())
