"""What judges, changes or slows down rows as they come: dropped before them, and rebuilt after."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.rows import kwargs_row

from backset.carry import row_errors, tables
from backset.catalog import catalog
from backset.connections import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from backset.carry.tables import CarriedTable, Name, TableCopy
    from backset.connections.session import Session

    Hands = Sequence[Session]

# Measured: with fewer rows the indexes of a table are as quickly filled as built.
_BUILT_AFTER_ROWS = 20_000
_AT_ONCE = 50  # in one transaction, which holds a lock on each object that they name


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A constraint, and the statements that the server has made of it; empty where there is none.

    table: as SQL names it. add: makes it again, but does not ask about rows that are there;
    validate: does. name, of, columns: of a foreign key, and of its table, schema and name; other,
    referred: of what it refers to.
    orphans: a query for the keys of the rows that refer to nothing, with the number of these rows.
    """

    table: str
    drop: str
    add: str
    comment: str
    validate: str = ""
    name: str = ""
    of: Sequence[str] = ()
    columns: Sequence[str] = ()
    referred: Sequence[str] = ()
    other: Sequence[str] = ()
    orphans: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index, and the statements that the server has made of it; empty where there is none.

    root: the index of the partitioned table that it is a part of, or itself; depth: how far down.
    is_parent: whether it consists of those of partitions. table: as SQL names it.
    drop: takes the whole tree away. build: makes this one alone, in its tablespace; bind: gives it
    to its constraint; attach: makes it a part of its parent. details: such as its comment.
    is_exclusive: whether nobody else may work on the table while it is built.
    columns, duplicates: what may be there once, and the query for what is there more often.
    stays: whether it cannot be made again exactly, or something else needs it.
    """

    oid: int
    root: int
    depth: int
    is_parent: bool
    table: str
    drop: str
    build: str
    bind: str
    attach: str
    details: Sequence[str]
    is_exclusive: bool
    columns: Sequence[str]
    duplicates: str
    stays: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What was taken from the new database, and how rebuild() puts it back.

    tables: those that get rows, the largest first. triggers: the statements that wake them.
    """

    tables: Sequence[CarriedTable]
    indexes: Sequence[Index]
    constraints: Sequence[Constraint]
    triggers: Sequence[str]

    @property
    def keys(self) -> dict[Name, tuple[str, ...]]:
        """The columns of each table's primary key, which may have been taken away."""
        return {each.name: each.key for each in self.tables}


def drop(
    session: Session, transfers: Sequence[TableCopy], *, built_after_rows: int = _BUILT_AFTER_ROWS
) -> Dropped:
    """Take away what would judge, change or slow down the rows of these.

    The role must own the tables, and need not be a superuser. Nobody else may use the database:
    a run that ends before all is put back leaves it without.
    built_after_rows: from how many rows on the indexes of a table are built after them. One that
    has rows already keeps its indexes, by which these can be told from those that come.
    """
    ordered = sorted(transfers, key=lambda each: each.rows, reverse=True)
    with session.transaction():
        for each in filter(None, map(str.strip, catalog.SETTINGS.split(";"))):
            session.execute(each.encode())
        found = tables.found(session, [each.table for each in ordered])
        large = {each.table for each in ordered if each.rows >= built_after_rows}
        bare = [each for each in found if each.name in large and not _has_rows(session, each)]
        built = _indexes(session, _family(bare))
        family = _family(found)
        bound = _foreign_keys(session, family) + _not_valid(session, family)
        silence, wake = _triggers(session, family)
    _execute(session, silence)
    _execute(session, [each.drop for each in bound])
    _execute(session, [each.drop for each in built])
    return Dropped(tables=found, indexes=built, constraints=bound, triggers=wake)


def _has_rows(session: Session, table: CarriedTable) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(*table.name))
    return session.execute(query).fetchone() == (True,)


def _family(found: Iterable[CarriedTable]) -> list[int]:
    return [oid for table in found for oid in table.family]


def rebuild(
    taken: Dropped, new: Callable[[], Session], progress: Callable[[str], None] = lambda _: None
) -> None:
    """Make everything again as it was, and ask whether the rows are as it demands.

    The planner's statistics of the tables are gathered too: a database without is slow at first.
    new: opens a session. progress: is told in words how far it is, in this thread.
    Raises StepFailedError with table, constraint and the first keys.
    """
    with ExitStack() as opened:
        hands = workers.hands(lambda: opened.enter_context(closing(new())))
        for hand in hands:
            hand.execute("SET synchronous_commit = off")
        _build(taken.indexes, hands, progress)
        _execute(hands[0], _bound(taken.indexes))
        _execute(hands[0], [each.add for each in taken.constraints])
        _execute(hands[0], [each.comment for each in taken.constraints])
        _validate(taken, hands, progress)
        _execute(hands[0], taken.triggers)


def _build(indexes: Sequence[Index], hands: Hands, progress: Callable[[str], None]) -> None:
    """Build those of tables, each by itself but where nobody else may work on the table."""
    single = [each for each in indexes if not each.is_parent]
    jobs = [[each] for each in single if not each.is_exclusive]
    alone = [each for each in single if each.is_exclusive]
    for group in (jobs, [list(each) for _, each in groupby(alone, lambda each: each.table)]):
        _run([partial(_make, each) for each in group], hands, progress, "building indexes")


def _make(indexes: Sequence[Index], session: Session) -> None:
    for each in indexes:
        named = row_errors.of_index(session, each.columns, each.duplicates)
        with row_errors.told(each.table), named:
            session.execute(each.build.encode())


def _bound(indexes: Sequence[Index]) -> Iterator[str]:
    """Yield what makes keys of indexes, and one of those that partitions have."""
    yield from (each.bind for each in indexes)
    yield from (each.build for each in indexes if each.is_parent)
    deepest_first = sorted(indexes, key=lambda each: each.depth, reverse=True)
    yield from (each.attach for each in deepest_first)
    for each in indexes:
        yield from each.details


def _validate(taken: Dropped, hands: Hands, progress: Callable[[str], None]) -> None:
    """Ask table by table, since no two of these statements can work on the same one."""
    todo: dict[str, list[Constraint]] = {each.spelled: [] for each in taken.tables}
    for each in taken.constraints:
        if each.validate:
            todo.setdefault(each.table, []).append(each)
    jobs = [partial(_judge, *each) for each in todo.items()]
    _run(jobs, hands, progress, "checking tables")


def _judge(table: str, constraints: Sequence[Constraint], session: Session) -> None:
    _execute(session, [f"ANALYZE {table}"])
    for each in constraints:
        named = row_errors.of_foreign_key(session, each.columns, each.other, each.orphans)
        with row_errors.told(table), named:
            session.execute(each.validate.encode())


def _run(
    jobs: Sequence[Callable[[Session], None]],
    hands: Hands,
    progress: Callable[[str], None],
    words: str,
) -> None:
    done: list[object] = []

    def work(job: Callable[[Session], None], session: Session) -> None:
        job(session)
        done.append(job)

    if jobs:
        workers.run(
            [partial(work, job) for job in jobs],
            hands,
            lambda hand: [hand],
            lambda: progress(f"{words}: {len(done)} of {len(jobs)}"),
        )


def _foreign_keys(session: Session, tables: Sequence[int]) -> list[Constraint]:
    """Return the foreign keys from these tables or to them, in the order of their creation.

    That is the order in which PostgreSQL asks them, so it has to stay.
    The search path must be empty. tables: by their oids, partitions too.
    """
    since = {"may_wait": session.info.server_version >= _PARTITIONED_MAY_WAIT}
    return _read(session, _FOREIGN_KEYS, {"tables": tables, **since})


def _not_valid(session: Session, tables: Sequence[int]) -> list[Constraint]:
    """Return the checks that old rows need not hold: rows that are carried are old ones.

    Of the tables, and of domains; the search path must be empty.
    """
    return _read(session, _NOT_VALID, {"tables": tables})


def _read(session: Session, query: str, parameters: Mapping[str, object]) -> list[Constraint]:
    cursor = session.cursor(row_factory=kwargs_row(Constraint))
    return cursor.execute(query.encode(), parameters).fetchall()


def _indexes(session: Session, tables: Sequence[int]) -> list[Index]:
    """Return the indexes of these tables that can be made again exactly, table by table.

    One that something else needs stays, such as the primary key of a view's GROUP BY.
    The search path must be empty. tables: by their oids, with all partitions.
    """
    cursor = session.cursor(row_factory=kwargs_row(Index))
    found = cursor.execute(_INDEXES.encode(), {"tables": list(tables)}).fetchall()
    staying = {each.root for each in found if each.stays}
    return [each for each in found if each.root not in staying]


def _triggers(session: Session, tables: Sequence[int]) -> tuple[list[str], list[str]]:
    """Return what silences the triggers of these tables, and what gives each its state back.

    The owner may do that for all triggers but those of the system, which are the foreign keys'.
    The search path must be empty. tables: by their oids; of a partitioned one also the partitions,
    since each has triggers with states of their own.
    """
    found = session.execute(_TRIGGERS.encode(), {"tables": tables}).fetchall()
    away = [statement for statement, _ in found]
    return list(dict.fromkeys(away)), [statement for _, statement in found]


def _execute(session: Session, statements: Iterable[str]) -> None:
    """Run them in their order, many in one round trip; empty ones are left out.

    Raises StepFailedError with what the server says.
    """
    wanted = [each for each in statements if each]
    for start in range(0, len(wanted), _AT_ONCE):
        with row_errors.told(session.info.dbname):
            session.execute("; ".join(wanted[start : start + _AT_ONCE]).encode())


_PARTITIONED_MAY_WAIT = 180000  # before, no foreign key of a partitioned table may be NOT VALID
_FOREIGN_KEYS = """
SELECT place AS "table", format('ALTER TABLE %%s DROP CONSTRAINT %%I', place, k.conname) AS drop,
       format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s%%s', place, k.conname,
              pg_get_constraintdef(k.oid), CASE WHEN waits THEN ' NOT VALID' END) AS add,
       coalesce('COMMENT ON CONSTRAINT ' || quote_ident(k.conname) || ' ON ' || place || ' IS ' ||
                quote_literal(obj_description(k.oid, 'pg_constraint')), '') AS comment,
       CASE WHEN waits THEN format('ALTER TABLE %%s VALIDATE CONSTRAINT %%I', place, k.conname)
            ELSE '' END AS validate,
       k.conname AS name, ARRAY[n.nspname, c.relname]::text[] AS of, columns, referred,
       ARRAY[rn.nspname, r.relname]::text[] AS other,
       format('SELECT %%s, sum(count(*)) OVER () FROM %%s%%s AS ours WHERE ROW(%%s) IS NOT NULL'
              ' AND NOT EXISTS (SELECT FROM %%s AS theirs WHERE (%%s) = (%%s))'
              ' GROUP BY %%s ORDER BY %%s LIMIT 6', -- one more than is shown
              texts, CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END, place, ours,
              k.confrelid::regclass, theirs, ours, ours, ours) AS orphans
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace,
     LATERAL (SELECT k.conrelid::regclass::text,
                     k.convalidated AND (c.relkind <> 'p' OR %(may_wait)s)) x (place, waits),
     LATERAL (SELECT array_agg(a.attname::text ORDER BY n),
                     array_agg(b.attname::text ORDER BY n),
                     string_agg(format('ours.%%I', a.attname), ', ' ORDER BY n),
                     string_agg(format('ours.%%I::text', a.attname), ', ' ORDER BY n),
                     string_agg(format('theirs.%%I', b.attname), ', ' ORDER BY n)
              FROM unnest(k.conkey, k.confkey) WITH ORDINALITY AS each (mine, other, n)
                   JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = mine
                   JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = other
             ) y (columns, referred, ours, texts, theirs)
WHERE k.contype = 'f' AND k.conparentid = 0
  AND (k.conrelid = ANY (%(tables)s) OR k.confrelid = ANY (%(tables)s))
ORDER BY k.oid
"""
_NOT_VALID = """
SELECT place AS "table",
       format('ALTER %%s %%s DROP CONSTRAINT %%I', kind, place, k.conname) AS drop,
       format('ALTER %%s %%s ADD CONSTRAINT %%I %%s', kind, place, k.conname,
              pg_get_constraintdef(k.oid)) AS add,
       coalesce('COMMENT ON CONSTRAINT ' || quote_ident(k.conname) || ' ON ' ||
                CASE kind WHEN 'DOMAIN' THEN 'DOMAIN ' ELSE '' END || place || ' IS ' ||
                quote_literal(obj_description(k.oid, 'pg_constraint')), '') AS comment
FROM pg_constraint k,
     LATERAL (SELECT CASE k.contypid WHEN 0 THEN 'TABLE' ELSE 'DOMAIN' END,
                     CASE k.contypid WHEN 0 THEN k.conrelid::regclass::text
                     ELSE k.contypid::regtype::text END) x (kind, place)
WHERE k.contype IN ('c', 'n') AND NOT k.convalidated AND k.coninhcount = 0
  AND (k.conrelid = ANY (%(tables)s) OR k.contypid <> 0)
ORDER BY k.oid
"""
# A constraint that is no B-tree cannot be given an index that is there already.
_INDEXES = """
SELECT i.indexrelid AS oid, root, depth, c.relkind = 'I' AS is_parent, place AS "table",
       CASE WHEN root <> i.indexrelid THEN ''
            WHEN k.oid IS NULL THEN format('DROP INDEX %%s', me)
            ELSE format('ALTER TABLE %%s DROP CONSTRAINT %%I', place, k.conname) END AS drop,
       format('SET default_tablespace = %%L; ', coalesce(s.spcname, '')) ||
           CASE WHEN is_whole THEN format('ALTER TABLE ONLY %%s ADD CONSTRAINT %%I %%s', place,
                                          k.conname, pg_get_constraintdef(k.oid))
                ELSE pg_get_indexdef(i.indexrelid) END AS build,
       CASE WHEN is_whole OR k.oid IS NULL THEN ''
            ELSE format('ALTER TABLE ONLY %%s ADD CONSTRAINT %%I %%s USING INDEX %%I%%s', place,
                        k.conname, CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END,
                        c.relname, CASE WHEN k.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED'
                                        WHEN k.condeferrable THEN ' DEFERRABLE' END) END AS bind,
       CASE WHEN h.inhparent IS NULL THEN ''
            ELSE format('ALTER INDEX %%s ATTACH PARTITION %%s', h.inhparent::regclass, me)
       END AS attach,
       array_remove(ARRAY[
           'COMMENT ON INDEX ' || me || ' IS ' ||
               quote_literal(obj_description(i.indexrelid, 'pg_class')),
           'COMMENT ON CONSTRAINT ' || quote_ident(k.conname) || ' ON ' || place || ' IS ' ||
               quote_literal(obj_description(k.oid, 'pg_constraint')),
           CASE WHEN i.indisreplident THEN format(
               'ALTER TABLE ONLY %%s REPLICA IDENTITY USING INDEX %%I', place, c.relname) END,
           CASE WHEN i.indisclustered THEN format(
               'ALTER TABLE %%s CLUSTER ON %%I', place, c.relname) END
       ], NULL) || ARRAY(
           SELECT format('ALTER INDEX %%s ALTER COLUMN %%s SET STATISTICS %%s',
                         me, a.attnum, a.attstattarget)
           FROM pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0
       ) AS details,
       is_whole AS is_exclusive, columns,
       CASE WHEN i.indisunique THEN format(
           'SELECT %%s, count(*) OVER () FROM ONLY %%s WHERE (%%s) AND (%%s) GROUP BY %%s'
           ' HAVING count(*) > 1 ORDER BY %%s LIMIT 6', -- one more than is shown
           array_to_string(columns, '::text, ') || '::text', place,
           CASE WHEN to_jsonb(i) ->> 'indnullsnotdistinct' = 'true' THEN 'true'
                ELSE format('ROW(%%s) IS NOT NULL', listed) END,
           coalesce(pg_get_expr(i.indpred, i.indrelid), 'true'), listed, listed) ELSE ''
       END AS duplicates,
       NOT i.indisvalid OR EXISTS (
           SELECT FROM pg_depend d
           WHERE d.deptype = 'x' AND (d.classid, d.objid) = ('pg_class'::regclass, i.indexrelid)
              OR d.classid NOT IN ('pg_class'::regclass, 'pg_constraint'::regclass,
                                   'pg_trigger'::regclass)
                 AND (d.refclassid, d.refobjid) IN (('pg_class'::regclass, i.indexrelid),
                                                    ('pg_constraint'::regclass, k.oid))
       ) OR root <> i.indexrelid AND k.conparentid = 0 OR i.indisunique AND EXISTS (
           SELECT FROM pg_index other -- a foreign key to these columns takes the older one
           WHERE other.indrelid = i.indrelid AND other.indexrelid <> i.indexrelid
             AND other.indisunique
             AND ARRAY(SELECT unnest(other.indkey[0:other.indnkeyatts - 1]) ORDER BY 1)
               = ARRAY(SELECT unnest(i.indkey[0:i.indnkeyatts - 1]) ORDER BY 1)
       ) AS stays
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
     LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
     LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
     LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid,
     LATERAL (SELECT i.indexrelid::regclass::text, i.indrelid::regclass::text,
                     coalesce(pg_partition_root(i.indexrelid), i.indexrelid)::oid,
                     (SELECT count(*) FROM pg_partition_ancestors(i.indexrelid)),
                     k.oid IS NOT NULL
                     AND (c.relkind = 'I' OR k.contype = 'x' OR m.amname <> 'btree')
     ) x (me, place, root, depth, is_whole),
     LATERAL (SELECT array_agg(pg_get_indexdef(i.indexrelid, n, false) ORDER BY n),
                     string_agg(pg_get_indexdef(i.indexrelid, n, false), ', ' ORDER BY n)
              FROM generate_series(1, i.indnkeyatts) AS each (n)) y (columns, listed)
WHERE i.indrelid = ANY (%(tables)s)
ORDER BY array_position(%(tables)s::oid[], i.indrelid), i.indexrelid
"""
_TRIGGERS = """
SELECT format('ALTER TABLE ONLY %%s DISABLE TRIGGER USER', t.tgrelid::regclass),
       format('ALTER TABLE ONLY %%s ENABLE %%s TRIGGER %%I', t.tgrelid::regclass,
              CASE t.tgenabled WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'REPLICA' END, t.tgname)
FROM pg_trigger t
WHERE t.tgrelid = ANY (%(tables)s) AND NOT t.tgisinternal AND t.tgenabled <> 'D'
UNION ALL
SELECT format('ALTER TABLE %%s NO FORCE ROW LEVEL SECURITY', c.oid::regclass),
       format('ALTER TABLE %%s FORCE ROW LEVEL SECURITY', c.oid::regclass)
FROM pg_class c WHERE c.oid = ANY (%(tables)s) AND c.relforcerowsecurity
ORDER BY 1, 2
"""
