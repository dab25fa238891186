"""Watch: what was copied of the old database, and whether that is still what stands there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.carrying import comparison, marks, plan
from backset.catalogs import past
from backset.catalogs.catalog import shown
from backset.errors import StepFailedError
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from backset.carrying.comparison import Digest
    from backset.carrying.marks import Marks
    from backset.carrying.tables import Transfer
    from backset.configuration.rules import Rules
    from backset.connections.session import Session

    Name = tuple[str, str]


@dataclass
class Watch:
    """The rules of a carry, the old database's marks, and the digests of what was copied.

    before: from before the snapshot of the copy; after a look, those of that look.
    is_whole: whether whole tables were copied, whatever of them came into the new database.
    """

    rules: Rules
    before: Marks
    copied: Sequence[tuple[Transfer, Digest]] = field(default_factory=tuple)
    is_whole: bool = False

    @classmethod
    def begin(cls, session: Session, rules: Rules) -> Watch:
        """Begin, on a session in no transaction, before the snapshot of the copy is taken."""
        return cls(rules, marks.read(session))

    def look(self, session: Session) -> set[Name]:
        """Return the tables that may have been written to since the last look, and matter."""
        now = marks.read(session)
        moved, self.before = self.before.moved(now), now
        return {name for name in moved if self._matters(name)}

    def _matters(self, name: Name) -> bool:
        if name == marks.LARGE_OBJECTS:
            return self.rules.carries_all and not self.rules.leaves(past.LARGE_OBJECTS)
        if any(name == transfer.source for transfer, _ in self.copied):
            return True
        return self.rules.carries(shown(*name)) and not self.rules.leaves(shown(*name))

    def compare(self, session: Session, new: Session, tables: AbstractSet[Name]) -> None:
        """Demand that the plan is still what it was, and that some tables have the rows copied.

        A new table, or a value in a column that had none, has no place in the new schema.
        session: in the transaction in which lock() was called. Raises StepFailedError.
        """
        found = {each.table: each for each in self._transfers(session, new)}
        known = {each.source for each, _ in self.copied}
        if self.is_whole and (others := found.keys() & tables - known):
            raise _written(f"{', '.join(shown(*each) for each in sorted(others))} is new")
        if self.is_whole and marks.LARGE_OBJECTS in tables and past.large_objects(session):
            raise _written("it has large objects now")
        differences = [
            words
            for transfer, copied in self.copied
            if transfer.source in tables
            for words in _differences(session, transfer, found.get(transfer.table), copied)
        ]
        if differences:
            raise _written("; ".join(differences))

    def _transfers(self, session: Session, new: Session) -> Sequence[Transfer]:
        if self.is_whole:
            return plan.whole(session, self.rules)
        decided = plan.decide(session, new, self.rules)
        if decided.problems:
            raise StepFailedError.of(decided.problems)
        return decided.transfers


def lock(session: Session, tables: Collection[Name]) -> None:
    """Let others read some tables, and not write them, until the session's transaction ends.

    Raises StepFailedError where one is gone.
    """
    for name in sorted(tables):
        try:
            session.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(sql.Identifier(*name)))
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            raise _written(f"{shown(*name)} is gone") from None


def _differences(
    session: Session, before: Transfer, now: Transfer | None, copied: Digest
) -> Iterator[str]:
    name = shown(*before.source)
    if now is None or (now.source, now.columns) != (before.source, before.columns):
        yield f"{name} has other columns"
        return
    found = comparison.digest_of_old(session, now)
    if found.rows != copied.rows:
        yield f"{name} has {count(found.rows, 'row')}, and had {copied.rows:,}"
    elif found != copied:
        yield f"{name} has other values in its {count(found.rows, 'row')}"


def _written(how: str) -> StepFailedError:
    what = f"the old database was written to since it was copied: {how}"
    return StepFailedError(what, "stop what writes there, then run this again")
