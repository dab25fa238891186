"""The constraints that must not judge rows while they come: foreign keys, and what is NOT VALID."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.connections.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A constraint, and the statements that the server has made of it.

    table: its own, as SQL names it. comment, validate: empty where there is nothing to say.
    """

    table: str
    drop: str
    add: str
    comment: str
    validate: str


def foreign_keys(session: Session, tables: Sequence[int]) -> list[Constraint]:
    """Return the foreign keys from these tables or to them, in the order of their creation.

    That is the order in which PostgreSQL asks them, so it has to stay.
    The search path must be empty. tables: by their oids, partitions too.
    """
    since = {"may_wait": session.info.server_version >= _PARTITIONED_MAY_WAIT}
    return _read(session, _FOREIGN_KEYS, {"tables": tables, **since})


def not_valid(session: Session, tables: Sequence[int]) -> list[Constraint]:
    """Return the checks that old rows need not hold: rows that are carried are old ones.

    Of the tables, and of domains; the search path must be empty.
    """
    return _read(session, _NOT_VALID, {"tables": tables})


def _read(session: Session, query: str, parameters: dict[str, object]) -> list[Constraint]:
    return [
        Constraint(table=table, drop=drop, add=add, comment=comment or "", validate=validate or "")
        for table, drop, add, comment, validate in session.execute(query.encode(), parameters)
    ]


_PARTITIONED_MAY_WAIT = 180000  # before, no foreign key of a partitioned table may be NOT VALID
_FOREIGN_KEYS = """
SELECT place, format('ALTER TABLE %%s DROP CONSTRAINT %%I', place, k.conname),
       format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s%%s', place, k.conname,
              pg_get_constraintdef(k.oid), CASE WHEN waits THEN ' NOT VALID' END),
       CASE WHEN note <> '' THEN
           format('COMMENT ON CONSTRAINT %%I ON %%s IS %%L', k.conname, place, note) END,
       CASE WHEN waits THEN format('ALTER TABLE %%s VALIDATE CONSTRAINT %%I', place, k.conname) END
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid,
     LATERAL (SELECT k.conrelid::regclass::text, obj_description(k.oid, 'pg_constraint'),
                     k.convalidated AND (c.relkind <> 'p' OR %(may_wait)s)) x (place, note, waits)
WHERE k.contype = 'f' AND k.conparentid = 0
  AND (k.conrelid = ANY (%(tables)s) OR k.confrelid = ANY (%(tables)s))
ORDER BY k.oid
"""
_NOT_VALID = """
SELECT place, format('ALTER %%s %%s DROP CONSTRAINT %%I', kind, place, k.conname),
       format('ALTER %%s %%s ADD CONSTRAINT %%I %%s', kind, place, k.conname,
              pg_get_constraintdef(k.oid)),
       CASE WHEN note <> '' THEN format('COMMENT ON CONSTRAINT %%I ON %%s%%s IS %%L', k.conname,
           CASE kind WHEN 'DOMAIN' THEN 'DOMAIN ' END, place, note) END,
       NULL
FROM pg_constraint k,
     LATERAL (SELECT CASE k.contypid WHEN 0 THEN 'TABLE' ELSE 'DOMAIN' END,
                     CASE k.contypid WHEN 0 THEN k.conrelid::regclass::text
                     ELSE k.contypid::regtype::text END,
                     obj_description(k.oid, 'pg_constraint')) x (kind, place, note)
WHERE k.contype IN ('c', 'n') AND NOT k.convalidated AND k.coninhcount = 0
  AND (k.conrelid = ANY (%(tables)s) OR k.contypid <> 0)
ORDER BY k.oid
"""
