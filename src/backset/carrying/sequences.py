"""The sequences and identities of tables that rows came to: they go on where the old ones are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from backset.carrying.positions import Position, behind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.carrying.tables import Name
    from backset.carrying.transfer import Transfer
    from backset.connections.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """A sequence, and how it stands.

    columns: schema, table and name of those that own it or take values from it. numbers: those of
    them whose greatest value means something.
    """

    schema: str
    name: str
    columns: list[list[str]]
    numbers: list[list[str]]
    position: Position


def advance(new: Session, before: Sequence[Counter], transfers: Sequence[Transfer]) -> int:
    """Let the new sequences go on behind the old ones and behind the rows; return how many moved.

    Those of the tables that rows came to, and those that no column uses. The old one is that of
    the same name, and that of the same column in the table that the rows are from.
    before: what read() found in the old database.
    """
    sources = {each.table: each.source for each in transfers}
    wanted = [each for each in read(new) if _is_wanted(each, sources)]
    furthest = _furthest(new, wanted)
    moved = 0
    for number, each in enumerate(wanted):
        theirs = [old.position for old in before if _is_before(old, each, sources)]
        if to := behind(each.position, theirs, furthest.get(number)):
            place = sql.Identifier(each.schema, each.name).as_string(new)
            new.execute("SELECT setval(%s::regclass, %s, %s)", [place, *to])
            moved += 1
    return moved


def read(session: Session) -> list[Counter]:
    """Return all sequences but those that may not be read."""
    found = session.execute(_SEQUENCES).fetchall()
    if not found:
        return []
    query = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}, last_value, is_called FROM {}").format(
            number, sql.Identifier(*each[:2])
        )
        for number, each in enumerate(found)
    )
    stands = {number: stand for number, *stand in session.execute(query)}
    return [
        Counter(
            schema=schema,
            name=name,
            columns=columns,
            numbers=numbers,
            position=Position(*stands[number], *limits),
        )
        for number, (schema, name, columns, numbers, *limits) in enumerate(found)
    ]


def _is_wanted(each: Counter, sources: Mapping[Name, Name]) -> bool:
    tables = {(schema, table) for schema, table, _ in each.columns}
    return not tables or not tables.isdisjoint(sources)


def _is_before(old: Counter, new: Counter, sources: Mapping[Name, Name]) -> bool:
    columns = [[*sources[s, t], column] for s, t, column in new.columns if (s, t) in sources]
    is_namesake = (old.schema, old.name) == (new.schema, new.name)
    return is_namesake or any(each in columns for each in old.columns)


def _furthest(session: Session, found: Sequence[Counter]) -> dict[int, int]:
    """Return the last value of the columns of each, in its own direction; none of empty ones."""
    queries = [
        sql.SQL("SELECT {}, {}({})::numeric FROM {}").format(
            number,
            sql.SQL("max" if each.position.step > 0 else "min"),
            sql.Identifier(column),
            sql.Identifier(schema, table),
        )
        for number, each in enumerate(found)
        for schema, table, column in each.numbers
    ]
    if not queries:
        return {}
    furthest: dict[int, int] = {}
    for number, value in session.execute(sql.SQL(" UNION ALL ").join(queries)):
        if value is not None:
            ahead = max if found[number].position.step > 0 else min
            furthest[number] = ahead(int(value), furthest.get(number, int(value)))
    return furthest


_SEQUENCES = """
WITH uses AS (
    SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
    UNION SELECT d.refobjid, v.adrelid, v.adnum
    FROM pg_depend d JOIN pg_attrdef v ON v.oid = d.objid
    WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
), columns AS (
    SELECT uses.sequence, ARRAY[n.nspname, c.relname, a.attname]::text[] AS name,
           coalesce(nullif(t.typbasetype, 0), t.oid)
               IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
           AND has_table_privilege(c.oid, 'SELECT') AS is_number
    FROM uses JOIN pg_class c ON c.oid = uses.relation JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = uses.number
         JOIN pg_type t ON t.oid = a.atttypid
    WHERE c.relkind IN ('r', 'p'))
SELECT n.nspname, s.relname, ARRAY(SELECT columns.name FROM columns WHERE sequence = s.oid),
       ARRAY(SELECT columns.name FROM columns WHERE sequence = s.oid AND is_number),
       q.seqincrement, q.seqmin, q.seqmax, q.seqcycle
FROM pg_class s JOIN pg_sequence q ON q.seqrelid = s.oid JOIN pg_namespace n ON n.oid = relnamespace
WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(s.oid, 'SELECT')
  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass
                  AND x.objid = s.oid AND x.deptype = 'e')
ORDER BY 1, 2
"""
