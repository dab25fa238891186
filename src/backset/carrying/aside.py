"""What stands in the way of rows that come by COPY: set aside before, put back exactly after."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from psycopg import sql

from backset.carrying import constraints, orphans, parallel, tables, triggers, violations
from backset.catalogs import inventory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from backset.carrying.constraints import Constraint
    from backset.carrying.tables import Name, Table
    from backset.carrying.transfer import Transfer
    from backset.connections.session import Session

_AT_ONCE = 50  # statements in one transaction: each holds locks on two or three objects


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """What set_aside() took from the new database, whose owner need not be a superuser."""

    _tables: Sequence[Table]
    _constraints: Sequence[Constraint]
    _triggers: Sequence[str]

    @property
    def keys(self) -> Mapping[Name, Sequence[str]]:
        """The columns of each table's primary key."""
        return {each.name: each.key for each in self._tables}

    def put_back(
        self,
        new: Callable[[], Session],
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        """Make everything again as it was, and let it judge the rows; count them for the planner.

        new: opens a session. progress: is told how many tables are done, and how many there are.
        Raises StepFailedError with table, constraint and key.
        """
        with ExitStack() as opened:
            hands = [opened.enter_context(closing(new())) for _ in range(parallel.WORKERS)]
            for hand in hands:
                hand.execute("SET synchronous_commit = off")
            _run(hands[0], [each.add for each in self._constraints])
            _run(hands[0], [each.comment for each in self._constraints])
            self._validate(hands, progress)
            _run(hands[0], self._triggers)

    def _validate(self, hands: Sequence[Session], progress: Callable[[int, int], None]) -> None:
        """Table by table, since no two of these statements can work on the same one."""
        todo = {each.spelled: [f"ANALYZE {each.spelled}"] for each in self._tables}
        for each in self._constraints:
            if each.validate:
                todo.setdefault(each.table, []).append(each.validate)
        done: list[str] = []

        def look_at(table: str, session: Session) -> None:
            for statement in todo[table]:
                with violations.told(table), orphans.named(session):
                    session.execute(statement.encode())
            done.append(table)

        parallel.run(
            [partial(look_at, table) for table in todo],
            hands,
            lambda hand: [hand],
            lambda: progress(len(done), len(todo)),
        )


def set_aside(session: Session, transfers: Sequence[Transfer]) -> Aside:
    """Take away what would judge, change or slow down the rows; return what puts it back.

    A run that ends before put_back() leaves the new database without; nobody uses it yet.
    """
    with session.transaction():
        for each in filter(None, map(str.strip, inventory.SETTINGS.split(";"))):
            session.execute(each.encode())
        found = tables.found(session, [each.table for each in transfers])
        family = [oid for table in found for oid in table.family]
        bound = constraints.foreign_keys(session, family) + constraints.not_valid(session, family)
        silence, wake = triggers.read(session, family)
    _run(session, silence)
    _run(session, [each.drop for each in bound])
    return Aside(_tables=found, _constraints=bound, _triggers=wake)


def empty(session: Session, names: Sequence[Name]) -> None:
    """Remove all rows of these tables, which are set aside: those that the migrations put there."""
    for table in tables.found(session, names):
        has_rows = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(table.rows)
        if session.execute(has_rows).fetchone() == (True,):
            session.execute(sql.SQL("TRUNCATE {}").format(table.rows))


def _run(session: Session, statements: Iterable[str]) -> None:
    """Run them in their order, many in one round trip."""
    wanted = [each for each in statements if each]
    for start in range(0, len(wanted), _AT_ONCE):
        with violations.told(session.info.dbname):
            session.execute("; ".join(wanted[start : start + _AT_ONCE]).encode())
