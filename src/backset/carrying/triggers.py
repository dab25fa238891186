"""The triggers that must not fire while rows come, and the row security that forbids COPY."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.connections.session import Session

Statements = list[str]


def read(session: Session, tables: Sequence[int]) -> tuple[Statements, Statements]:
    """Return what silences the triggers of these tables, and what gives each its state back.

    The owner may do that for all triggers but those of the system, which are the foreign keys'.
    The search path must be empty. tables: by their oids; of a partitioned one also the partitions,
    since each has triggers with states of their own.
    """
    found = session.execute(_TRIGGERS.encode(), {"tables": tables}).fetchall()
    away = [statement for statement, _ in found]
    return list(dict.fromkeys(away)), [statement for _, statement in found]


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
