"""Reads the sequences of one database: who uses them, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from backset.catalog.catalog import is_users

if TYPE_CHECKING:
    from backset.connections.session import Session


@dataclass(frozen=True, slots=True)
class Position:
    """How a sequence stands. step: what it adds, which may be negative; low, high: its limits."""

    last_value: int
    is_called: bool
    step: int
    low: int
    high: int
    cycles: bool

    @property
    def next_value(self) -> int:
        """What it would give, if its limits allow that."""
        return self.last_value + self.step if self.is_called else self.last_value

    def moved(self, next_value: int) -> tuple[int, bool] | None:
        """Return what setval() needs to let this one give that value; None if it does anyway.

        Beyond its limit it will give none: it is used up, as the old one was.
        """
        if next_value == self.next_value:
            return None
        if not self.low <= next_value <= self.high:
            return (self.high if self.step > 0 else self.low), True
        before = next_value - self.step
        return (before, True) if self.low <= before <= self.high else (next_value, False)


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


_SEQUENCES = f"""
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
WHERE {is_users("n.nspname")}
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(s.oid, 'SELECT')
  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass
                  AND x.objid = s.oid AND x.deptype = 'e')
ORDER BY 1, 2
"""
