"""What PostgreSQL ties to one database, so that a rename fails or takes it along unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backset.connections.session import Session


def found(session: Session, database: str) -> tuple[tuple[str, str], ...]:
    """Return what ties the database down, each with what to do; `session` is on the same server.

    Tried on PostgreSQL 16 and 18: a prepared transaction and a subscription make RENAME fail, and
    DROP … WITH (FORCE) too. A logical slot follows its database into `__previous`, and is gone
    with it, without a word.
    """
    rows = session.execute(_TIES, {"database": database}).fetchall()
    return tuple((f"{database} has the {kind} {name}", _REMEDIES[kind]) for kind, name in rows)


_REMEDIES = {
    "prepared transaction": "COMMIT PREPARED or ROLLBACK PREPARED it",
    "logical replication slot": "if nobody needs it: SELECT pg_drop_replication_slot(its name)",
    "subscription": "if nobody needs it: DROP SUBSCRIPTION, in that database",
}
_TIES = """
SELECT 'prepared transaction', gid FROM pg_prepared_xacts WHERE database = %(database)s
UNION ALL
SELECT 'logical replication slot', slot_name FROM pg_replication_slots
WHERE database = %(database)s AND slot_type = 'logical'
UNION ALL
SELECT 'subscription', s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE d.datname = %(database)s
ORDER BY 1, 2
"""
