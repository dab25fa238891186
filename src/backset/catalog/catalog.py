"""Reads one database through a given session: its tables, rows, columns, sequences, revisions."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from backset.text.quantities import about

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backset.connections.session import Session


_LONGEST_BYTES = 63  # NAMEDATALEN - 1: the server cuts a longer name, with a notice at most
FIRST_OF_A_USER = 16384  # FirstNormalObjectId: below it is what initdb made


def is_users(schema: str) -> str:
    """Return the condition that a schema, an expression of SQL, is none of the server's own.

    PostgreSQL keeps names that begin with `pg_` to itself. So it leaves a `pg_temp_N` and its
    `pg_toast_temp_N` behind for ever once a session has had a temporary table.
    """
    return f"({schema} !~ '^pg_' AND {schema} <> 'information_schema')"


def stored(name: str) -> str:
    """Return a name, which may have its schema or table before it, as the server stores it."""
    parts = (each.encode()[:_LONGEST_BYTES].decode("utf-8", "ignore") for each in name.split("."))
    return ".".join(parts)


# How the server spells a definition, and a value, depends on these. What asks for them has hundreds
# of expressions, and compiling those takes three times as long as to do without.
SETTINGS = """
SET LOCAL search_path = ''; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD';
SET LOCAL IntervalStyle = 'postgres'; SET LOCAL extra_float_digits = 1;
SET LOCAL quote_all_identifiers = off; SET LOCAL jit = off;
"""


def spelled(session: psycopg.Connection[Any], query: sql.Composable) -> list[tuple[Any, ...]]:
    """Return what a query gives, spelled in the same way whatever the session's settings are.

    One round trip; inside a transaction the settings stay until that ends.
    """
    cursor = session.execute(sql.SQL(SETTINGS) + query)
    while cursor.nextset():
        pass
    return cursor.fetchall()


@dataclass(frozen=True, slots=True)
class LaggingSequence:
    """A sequence whose next value its column has reached or passed."""

    name: str
    next_value: int
    column: str
    maximum: int


def tables(session: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Return (schema, name) of every user table; a partitioned one stands for its partitions."""
    return session.execute(TABLES).fetchall()


def schemas(session: psycopg.Connection[Any]) -> list[str]:
    """Return every schema of a user's but `public`."""
    return [name for (name,) in session.execute(_SCHEMAS)]


def remote(session: psycopg.Connection[Any]) -> str:
    """Return in words what may have brought rows from another place here; empty where nothing."""
    return ", ".join(text for (text,) in session.execute(_REMOTE))


def empty_schemas(session: psycopg.Connection[Any]) -> list[str]:
    """Return every schema that nothing is in, as SQL has its name."""
    return [name for (name,) in session.execute(_EMPTY_SCHEMAS)]


def homes(session: psycopg.Connection[Any]) -> frozenset[str]:
    """Return the schemas that a name without a schema may mean to a project.

    Those of the search path, and those with a version table: env.py may set a path of its own.
    """
    return search_path(session) | {schema for schema, _ in version_tables(session)}


def search_path(session: psycopg.Connection[Any]) -> frozenset[str]:
    """Return the schemas that a name without a schema is looked for in, on this session."""
    return frozenset(name for (name,) in session.execute("SELECT unnest(current_schemas(false))"))


def own_search_path(session: psycopg.Connection[Any]) -> str:
    """Return the search path of a session as SET takes it, schemas that do not exist included."""
    return str(*session.execute("SHOW search_path").fetchone() or ("",))


def is_empty(session: psycopg.Connection[Any]) -> bool:
    """Tell whether nobody has made anything here since the database was created."""
    return session.execute(_OBJECTS).fetchone() == (False,)


def is_bare(session: psycopg.Connection[Any]) -> bool:
    """Tell whether there is nothing here but what a new database would inherit anyway.

    That is extensions with all that belongs to them, default privileges, and publications.
    """
    return session.execute(_BELONGINGS).fetchone() == (False,)


def row_counts(
    session: psycopg.Connection[Any], wanted: Callable[[tuple[str, str]], bool] = lambda _: True
) -> dict[str, int]:
    """Return the exact number of rows of every user table, by its shown name, in one snapshot.

    wanted: which of them, by schema and name.
    """
    return counts(session, [each for each in tables(session) if wanted(each)])


class RowCounts(dict[str, int | None]):
    """The rows of tables by their shown names; None for a table that the role may not read.

    estimated: the names of those that were not counted, since that takes long.
    """

    estimated: frozenset[str] = frozenset()

    def told(self, name: str) -> str:
        """Return the number of one for people: `30`, `≈ 12 M`, `?`."""
        number = self[name]
        if number is None:
            return "?"
        return about(number) if name in self.estimated else str(number)


def readable_counts(session: psycopg.Connection[Any], *, exact: bool = False) -> RowCounts:
    """Return the rows of each table; of large ones, unless exact, as ANALYZE has estimated them."""
    found, closed = tables(session), unreadable(session)
    known = {} if exact else {shown(s, n): rows for s, n, rows in session.execute(_LARGE)}
    wanted = [each for each in found if each not in closed and shown(*each) not in known]
    counted = counts(session, wanted)
    rows = RowCounts(
        (shown(*each), None if each in closed else {**known, **counted}[shown(*each)])
        for each in found
    )
    rows.estimated = frozenset(name for name in known if rows.get(name) is not None)
    return rows


def unreadable(session: psycopg.Connection[Any]) -> set[tuple[str, str]]:
    """Return schema and name of the tables whose rows the role may not read, or not all of them."""
    return {(schema, name) for schema, name, _ in session.execute(_CLOSED).fetchall()}


def guarded(session: psycopg.Connection[Any]) -> set[tuple[str, str]]:
    """Return those of unreadable() of which row security hides rows; no GRANT shows them."""
    found = session.execute(_CLOSED).fetchall()
    return {(schema, name) for schema, name, is_guarded in found if is_guarded}


def counts(
    session: psycopg.Connection[Any],
    names: Sequence[tuple[str, str]],
    *,
    at_most: int | None = None,
) -> dict[str, int]:
    """Return the exact number of rows of some tables, by their shown names, in one snapshot.

    at_most: where the counting of each table stops, which spares reading a large one.
    """
    count = sql.SQL("SELECT {}, count(*) FROM {}")
    queries = [count.format(number, _some(name, at_most)) for number, name in enumerate(names)]
    found = dict(rows(session, queries))
    return {shown(*name): found[number] for number, name in enumerate(names)}


def _some(name: tuple[str, str], at_most: int | None) -> sql.Composable:
    if at_most is None:
        return sql.Identifier(*name)
    limited = sql.SQL("(SELECT FROM {} LIMIT {}) AS part")
    return limited.format(sql.Identifier(*name), at_most)


def shown(schema: str, table: str) -> str:
    """Return a table's name as people write it: without `public`."""
    return table if schema == "public" else f"{schema}.{table}"


def meant(name: str) -> list[tuple[str, str]]:
    """Return each schema and name that people may mean by a shown one, which may have more dots."""
    dots = [place for place, each in enumerate(name) if each == "."]
    return [("public", name), *((name[:place], name[place + 1 :]) for place in dots)]


def columns(session: psycopg.Connection[Any]) -> Mapping[str, set[str]]:
    """Return what table_columns() does, by shown names."""
    found: dict[str, set[str]] = {}
    for name, own in table_columns(session).items():
        found.setdefault(shown(*name), set()).update(own)
    return found


def table_columns(session: psycopg.Connection[Any]) -> Mapping[tuple[str, str], list[str]]:
    """Return the columns of every user table and view, partitions too, by schema and name."""
    found: dict[tuple[str, str], list[str]] = {each: [] for each in tables(session)}
    for schema, table, column in session.execute(_COLUMNS).fetchall():
        found.setdefault((schema, table), []).append(column)
    return found


def version_tables(session: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Return (schema, name) of every table that is shaped like Alembic's version table.

    Its shape, not its name: env.py may give it another, and a backup must not have to run env.py.
    """
    return session.execute(_VERSION_TABLES).fetchall()


def _readable_version_tables(session: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Return those of version_tables() that the role may read."""
    closed = unreadable(session)
    return [each for each in version_tables(session) if each not in closed]


def revisions(
    session: psycopg.Connection[Any], spare: Callable[[tuple[str, str]], bool] = lambda _: False
) -> list[str]:
    """Return the rows of every table that is shaped like Alembic's version table.

    spare: which of them are somebody else's, by schema and name.
    """
    found: set[str] = set()
    for schema, table in _readable_version_tables(session):
        if spare((schema, table)):
            continue
        query = sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(schema, table))
        found |= {revision for (revision,) in session.execute(query)}
    return sorted(found)


def indexes(session: psycopg.Connection[Any]) -> dict[str, bool]:
    """Return every index of a user's table, as SQL names it, and whether it is valid.

    One that is being built at this moment counts as valid, and so does one of a partitioned table,
    which is not valid before all its parts are attached.
    """
    found = session.execute(_INDEXES).fetchall()
    return {shown(schema, name): is_valid for schema, name, _, is_valid in found}


def invalid_indexes(
    session: psycopg.Connection[Any], spare: Callable[[tuple[str, str]], bool] = lambda _: False
) -> dict[str, tuple[str, str]]:
    """Return schema and name of every index that is not valid, by both as SQL spells them.

    spare: which tables are somebody else's, by schema and name, and their indexes as well.
    """
    found = session.execute(_INVALID_INDEXES).fetchall()
    return {
        spelled: (schema, name)
        for spelled, schema, name, table in found
        if not spare((schema, table))
    }


def other_names(session: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Return kind and shown name of every sequence, view, type, domain and value of an enum."""
    found = session.execute(_OTHER_NAMES).fetchall()
    return [(kind, shown(schema, name)) for kind, schema, name in found]


def youngest_row(session: psycopg.Connection[Any]) -> str:
    """Return the latest moment in any column of a date or time that is not in the future."""
    latest = sql.SQL(
        "SELECT to_char(max({0})::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') "
        "FROM {1} WHERE {0} <= now()"
    )
    queries = [
        latest.format(sql.Identifier(column), sql.Identifier(schema, table))
        for schema, table, column in session.execute(_TIMES).fetchall()
    ]
    return max((moment for (moment,) in rows(session, queries) if moment), default="")


def may_create_tables(session: psycopg.Connection[Any]) -> bool:
    """Tell whether the role may make tables where migrations make them.

    That is where a name without a schema goes, unless the project has a schema of its own already:
    CREATE on the database is a right to make schemas, and none to make tables in `public`.
    """
    return session.execute(_MAY_CREATE).fetchone() == (True,)


def may_create_schemas(session: psycopg.Connection[Any]) -> bool:
    """Tell whether the role may make schemas here."""
    query = "SELECT has_database_privilege(current_database(), 'CREATE')"
    return session.execute(query).fetchone() == (True,)


def size_bytes(session: psycopg.Connection[Any], name: str = "") -> int:
    """Return the size of a database on the server's disk; 0 where the role may not connect to it.

    name: the session's own, if none is named. The server looks at every file of it.
    """
    return int(*session.execute(_SIZE, [name]).fetchone() or (0,))


def files(session: psycopg.Connection[Any]) -> int:
    """Return how many files the database is on the server's disk, about."""
    query = "SELECT count(*) FROM pg_class WHERE relfilenode <> 0"
    return int(*session.execute(query).fetchone() or (0,))


_SIZE = """
SELECT pg_database_size(oid) FROM pg_database
WHERE datname = coalesce(nullif(%s, ''), current_database())
  AND has_database_privilege(oid, 'CONNECT')
"""


def unlogged(session: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Return the tables and sequences that are empty on each standby, since no WAL has them."""
    return [(schema, name) for schema, name in session.execute(_UNLOGGED).fetchall()]


def server_id(session: psycopg.Connection[Any]) -> str:
    """Return the server's system identifier: no other cluster has it.

    If that is a secret, the mark that a run has left on the server; empty where there is none.
    """
    may = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"
    if session.execute(may).fetchone() != (True,):
        (name,) = session.execute(_SERVER_MARK).fetchone() or (None,)
        return name.removeprefix(SERVER_MARK) if name else ""
    query = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"
    return str(*session.execute(query).fetchone() or ("",))


def wal_position(session: psycopg.Connection[Any]) -> int | None:
    """Return how many bytes the server had written to its log; None where it does not say.

    What a server knows of the order of things, whatever its clock and ours say. In a transaction.
    """
    try:
        with session.transaction():
            row = session.execute(_WAL_POSITION).fetchone()
    except psycopg.Error:  # a server that only looks like PostgreSQL
        return None
    return int(row[0]) if row and row[0] is not None else None


def lagging_sequences(session: psycopg.Connection[Any]) -> list[LaggingSequence]:
    """Return the ascending sequences that would give a value their own column already has.

    Those of tables that the role may not read are left out.
    """
    owned = session.execute(_SEQUENCES).fetchall()
    found = rows(session, [_next(number, *row) for number, row in enumerate(owned)])
    lagging = sorted(row for row in found if row[2] is not None and row[1] <= row[2])
    return [_lag(*owned[number], *values) for number, *values in lagging]


def _next(
    number: int, sequence: Sequence[str], step: int, table: Sequence[str], column: str
) -> sql.Composed:
    """Return the query for the next value of one sequence, and the maximum of its column."""
    return sql.SQL(
        "SELECT {}, CASE WHEN is_called THEN last_value + {} ELSE last_value END, "
        "(SELECT max({})::numeric FROM {}) FROM {}"
    ).format(
        *(number, step, sql.Identifier(column), sql.Identifier(*table)), sql.Identifier(*sequence)
    )


def _lag(
    sequence: Sequence[str],
    _step: int,
    table: Sequence[str],
    column: str,
    next_value: int,
    maximum: int,
) -> LaggingSequence:
    name, owner = shown(*sequence), f"{shown(*table)}.{column}"
    return LaggingSequence(name, int(next_value), owner, int(maximum))


_UNLOGGED = f"""
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence = 'u' AND c.relkind IN ('r', 'S') AND {is_users("n.nspname")}
ORDER BY 1, 2
"""
_WAL_POSITION = """
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END
       - '0/0'::pg_lsn
"""
SERVER_MARK = "backset server "  # how the name of an application begins that is such a mark
# With the oid of its role in it: a copy of all roles, on another server, has other oids mostly.
_SERVER_MARK = f"""
SELECT min(substr(each, 18)) FROM pg_db_role_setting, unnest(setconfig) each
WHERE each ~ ('^application_name={SERVER_MARK}' || setrole || '[.][0-9a-f]+$')
"""
_USER_SCHEMA = is_users("n.nspname")
_NOT_OF_AN_EXTENSION = """NOT EXISTS (SELECT FROM pg_depend x
    WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e')"""
_MAY_READ = "has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')"
READABLE = f"({_MAY_READ} AND NOT row_security_active(c.oid))"
# A user's table `c` in `n`: not a partition, nor an extension's.
IS_TABLE = f"""
c.relkind IN ('r', 'p') AND NOT c.relispartition AND {_USER_SCHEMA} AND {_NOT_OF_AN_EXTENSION}
"""
_REMOTE = """
SELECT 'the foreign server ' || quote_ident(srvname) FROM pg_foreign_server
UNION ALL SELECT 'the extension ' || extname FROM pg_extension WHERE extname IN ('dblink', 'http')
ORDER BY 1
"""
_EMPTY_SCHEMAS = """
SELECT quote_ident(nspname) FROM pg_namespace n WHERE NOT EXISTS (
    SELECT FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = n.oid
    AND deptype = 'n')
"""
_SCHEMAS = f"""
SELECT n.nspname FROM pg_namespace n WHERE {_USER_SCHEMA} AND n.nspname <> 'public' ORDER BY 1
"""
TABLES = f"""
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {IS_TABLE} ORDER BY 1, 2
"""
# Their size is looked at as well: one that was emptied since ANALYZE is counted, in no time.
_LARGE = """
SELECT n.nspname, c.relname, c.reltuples::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.reltuples >= 1000000
  AND pg_relation_size(c.oid) >= 20 * c.reltuples
"""
_CLOSED = f"""
SELECT n.nspname, c.relname, {_MAY_READ}
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND {_USER_SCHEMA} AND NOT {READABLE}
"""
_CATALOGS = (
    *("pg_class", "pg_type", "pg_proc", "pg_namespace", "pg_extension", "pg_publication"),
    *("pg_foreign_data_wrapper", "pg_foreign_server", "pg_default_acl", "pg_event_trigger"),
    *("pg_collation", "pg_cast", "pg_operator", "pg_conversion", "pg_language", "pg_ts_config"),
    *("pg_ts_dict", "pg_statistic_ext", "pg_largeobject_metadata"),
)
_INHERITED = {"pg_extension", "pg_default_acl", "pg_publication"}
_PLACES = {
    "pg_namespace": "oid",
    "pg_class": "relnamespace",
    "pg_type": "typnamespace",
    "pg_proc": "pronamespace",
}
_SYSTEM = f"SELECT oid FROM pg_namespace WHERE NOT {is_users('nspname')}"
_MADE = {
    each: f"SELECT FROM {each} WHERE oid >= {FIRST_OF_A_USER}"
    + (f" AND {_PLACES[each]} NOT IN ({_SYSTEM})" if each in _PLACES else "")
    for each in _CATALOGS
}
_OBJECTS = "SELECT EXISTS ({})".format(" UNION ALL ".join(_MADE.values()))
# What depends on a member of an extension, such as the row type and the indexes of its table.
_BELONGINGS = """
WITH RECURSIVE theirs AS (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
    UNION SELECT 'pg_namespace'::regclass, extnamespace FROM pg_extension
    UNION SELECT d.classid, d.objid FROM pg_depend d JOIN theirs t
          ON (d.refclassid, d.refobjid) = (t.classid, t.objid) WHERE d.deptype IN ('a', 'i'))
SELECT EXISTS ({})
""".format(
    " UNION ALL ".join(
        f"{made} AND ('{each}'::regclass, oid) NOT IN (SELECT classid, objid FROM theirs)"
        for each, made in _MADE.items()
        if each not in _INHERITED
    )
)
_COLUMNS = f"""
SELECT n.nspname, c.relname, a.attname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute a ON attrelid = c.oid
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_USER_SCHEMA} AND attnum > 0 AND NOT attisdropped
"""
_VERSION_TABLES = f"""
SELECT n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute a ON attrelid = c.oid
WHERE c.relkind = 'r' AND {_USER_SCHEMA} AND attnum > 0 AND NOT attisdropped
GROUP BY 1, 2 HAVING array_agg(attname::text || ' ' || atttypid::regtype)
    IN (ARRAY['version_num character varying'], ARRAY['version_num text'])
"""
# For a session of somebody else's: how many tables there are, version tables too.
TABLE_COUNT = f"SELECT count(*) FROM ({TABLES}) every"
# The columns in one text; the version table is left out.
COLUMN_NAMES = f"""
SELECT coalesce(string_agg(name, E'\\n' ORDER BY name COLLATE "C"), '') FROM (
    SELECT concat_ws('.', schema, own, attname) AS name,
           count(*) OVER (PARTITION BY oid) = 1 AND attname = 'version_num' AS is_version
    FROM (SELECT n.nspname AS schema, c.relname AS own, c.oid, a.attname
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               JOIN pg_attribute a ON attrelid = c.oid
          WHERE {IS_TABLE} AND attnum > 0 AND NOT attisdropped) columns) names
WHERE NOT is_version
"""
_INDEXES = f"""
SELECT n.nspname, c.relname, t.relname, i.indisvalid OR c.relkind = 'I' OR EXISTS (
    SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {_USER_SCHEMA} AND {_NOT_OF_AN_EXTENSION}
"""
_INVALID_INDEXES = f"""
SELECT concat_ws('.', quote_ident(schema), quote_ident(name)), schema, name, of_table
FROM ({_INDEXES}) AS every (schema, name, of_table, is_valid) WHERE NOT is_valid ORDER BY 1
"""
_OTHER_NAMES = f"""
SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'view' END, n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('S', 'v', 'm') AND {_USER_SCHEMA}
UNION ALL SELECT CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, n.nspname, t.typname
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype IN ('e', 'd', 'r', 'c') AND {_USER_SCHEMA} AND NOT EXISTS (
    SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
UNION ALL SELECT 'value', n.nspname, concat_ws('.', t.typname, e.enumlabel)
FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE {_USER_SCHEMA}
"""
_TIMES = f"""
SELECT n.nspname, c.relname, a.attname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute a ON attrelid = c.oid
WHERE {IS_TABLE} AND attnum > 0 AND NOT attisdropped AND {READABLE}
  AND atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype) ORDER BY 1, 2, 3
"""
_MAY_CREATE = f"""
SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'),
                has_database_privilege(current_database(), 'CREATE'))
    OR EXISTS (SELECT FROM pg_namespace n WHERE {_USER_SCHEMA} AND n.nspname <> 'public'
               AND has_schema_privilege(oid, 'CREATE') AND EXISTS (
                   SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind = 'r'
                   AND pg_has_role(c.relowner, 'USAGE')))
"""
# An ordinary table without a page has no row, so that its sequence cannot lag behind it.
_MAY_HAVE_ROWS = """(c.relkind <> 'r' OR c.relhassubclass OR pg_relation_size(c.oid) > 0
    OR c.relam <> (SELECT oid FROM pg_am WHERE amname = 'heap'))"""
_SEQUENCES = f"""
SELECT ARRAY[sn.nspname, s.relname]::text[], q.seqincrement,
       ARRAY[n.nspname, c.relname]::text[], a.attname
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
     JOIN pg_sequence q ON q.seqrelid = s.oid JOIN pg_namespace sn ON sn.oid = s.relnamespace
     JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
     AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
  AND d.deptype IN ('a', 'i') AND q.seqincrement > 0 AND NOT q.seqcycle
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  AND has_schema_privilege(sn.oid, 'USAGE') AND has_table_privilege(s.oid, 'SELECT')
  AND {_USER_SCHEMA} AND {_MAY_HAVE_ROWS} ORDER BY 1
"""


# A UNION of n is planned in n² steps, and locks every table with its indexes: a thousand take
# longer to plan than to read, and some thousands do not fit into the server's table of locks.
_AT_ONCE = 50


def rows(session: Session, queries: Sequence[sql.Composable]) -> Iterator[tuple[Any, ...]]:
    """Yield what all queries give, in one snapshot.

    That is the snapshot of the caller's transaction, if there is one and it has one.
    """
    if len(queries) <= _AT_ONCE:
        yield from _union(session, queries)
        return
    with _snapshot(session):
        for first in range(0, len(queries), _AT_ONCE):
            with session.transaction(force_rollback=True):  # which lets go of the locks
                found = _union(session, queries[first : first + _AT_ONCE])
            yield from found


def _union(session: Session, queries: Sequence[sql.Composable]) -> list[tuple[Any, ...]]:
    return session.execute(sql.SQL(" UNION ALL ").join(queries)).fetchall() if queries else []


@contextmanager
def _snapshot(session: Session) -> Iterator[None]:
    if session.info.transaction_status != TransactionStatus.IDLE:
        yield
        return
    with session.transaction():
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
