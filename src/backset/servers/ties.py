"""What PostgreSQL ties to one database, so that a rename fails or takes it along unseen."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.connections.session import Session


def found(
    session: Session, databases: Sequence[str], called: Mapping[str, str] = MappingProxyType({})
) -> tuple[tuple[str, str], ...]:
    """Return what ties databases down, each with what to do; `session` is on the same server.

    called: other names for some of them, which people know. Tried on PostgreSQL 16 and 18: a
    prepared transaction and a subscription make RENAME fail, and DROP … WITH (FORCE) too. A logical
    slot follows its database into `__previous`, and is gone with it, without a word.
    """
    rows = session.execute(_TIES, {"databases": list(databases)}).fetchall()
    return tuple(
        (f"{called.get(database, database)} has the {kind} {name}", _REMEDIES[kind])
        for database, kind, name in rows
    )


_REMEDIES = {
    "prepared transaction": "COMMIT PREPARED or ROLLBACK PREPARED it",
    "logical replication slot": "if nobody needs it: SELECT pg_drop_replication_slot(its name)",
    "subscription": "if nobody needs it: DROP SUBSCRIPTION, in that database",
}
_TIES = """
SELECT database, 'prepared transaction', gid FROM pg_prepared_xacts
WHERE database = ANY(%(databases)s)
UNION ALL
SELECT database, 'logical replication slot', slot_name FROM pg_replication_slots
WHERE database = ANY(%(databases)s) AND slot_type = 'logical'
UNION ALL
SELECT d.datname, 'subscription', s.subname FROM pg_subscription s
JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = ANY(%(databases)s)
ORDER BY 1, 2, 3
"""
