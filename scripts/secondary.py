"""What a table can do without while many rows come, and is built faster once they are there."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import psycopg

    Session = psycopg.Connection[Any]


class Secondary(NamedTuple):
    """An index or a foreign key: what drops it, and what makes the same again."""

    name: str
    drop: str
    create: str


# Only what its definition says whole: a comment, a tablespace or a disabled trigger would be lost,
# and an index that is unique, replica identity, or part of a partitioned one has other duties.
_INDEXES = """
SELECT c.relname, format('DROP INDEX %%I.%%I', n.nspname, c.relname), pg_get_indexdef(c.oid)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = ANY (%(tables)s::regclass[])
  AND i.indisvalid AND NOT (i.indisunique OR i.indisexclusion)
  AND NOT (i.indisreplident OR i.indisclustered OR c.relispartition)
  AND c.relkind = 'i' AND c.reltablespace = 0
  AND pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE')
  AND NOT EXISTS (SELECT FROM pg_description
                  WHERE classoid = 'pg_class'::regclass AND objoid = c.oid)
  AND NOT EXISTS (SELECT FROM pg_attribute a
                  WHERE a.attrelid = c.oid AND coalesce(a.attstattarget, -1) <> -1)
ORDER BY i.indrelid, c.relname
"""
_FOREIGN_KEYS = """
SELECT k.conname, format('ALTER TABLE %%s DROP CONSTRAINT %%I', k.conrelid::regclass, k.conname),
       format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s',
              k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid))
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_class r ON r.oid = k.confrelid
WHERE k.conrelid = ANY (%(tables)s::regclass[])
  AND k.contype = 'f' AND k.conparentid = 0
  AND pg_has_role(c.relowner, 'USAGE') AND pg_has_role(r.relowner, 'USAGE')
  AND has_table_privilege(r.oid, 'REFERENCES')
  AND NOT EXISTS (SELECT FROM pg_description
                  WHERE classoid = 'pg_constraint'::regclass AND objoid = k.oid)
  AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgconstraint = k.oid AND t.tgenabled <> 'O')
ORDER BY k.conrelid, k.conname
"""


def secondaries(session: Session, tables: Sequence[str]) -> list[Secondary]:
    """Return the indexes and then the foreign keys of these tables that we may build again.

    tables: their names, quoted and qualified where need be.
    """
    given = {"tables": list(tables)}
    return [
        Secondary(*row)
        for query in (_INDEXES, _FOREIGN_KEYS)
        for row in session.execute(query, given).fetchall()
    ]


@contextmanager
def built_afterwards(
    session: Session,
    tables: Sequence[str],
    track: Callable[[list[Secondary]], Iterable[Secondary]] = iter,
) -> Iterator[None]:
    """Do without them in the block, within the session's transaction, and build them after it.

    track: passes each on, when its turn comes to be built.
    """
    found = secondaries(session, tables)
    for each in reversed(found):
        session.execute(each.drop.encode())
    yield
    for each in track(found):
        session.execute(each.create.encode())
