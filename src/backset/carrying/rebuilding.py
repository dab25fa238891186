"""Puts back what was set aside, two tables at a time, and lets it judge the rows."""

from __future__ import annotations

from contextlib import ExitStack, closing
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from backset.carrying import parallel, row_errors, statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backset.carrying.aside import Aside
    from backset.carrying.constraints import Constraint
    from backset.carrying.indexes import Index
    from backset.connections.session import Session

    Hands = Sequence[Session]


def rebuild(
    taken: Aside, new: Callable[[], Session], progress: Callable[[str], None] = lambda _: None
) -> None:
    """Make everything again as it was, and ask whether the rows are as it demands.

    The planner's statistics of the tables are gathered too: a database without is slow at first.
    new: opens a session. progress: is told in words how far it is, in this thread.
    Raises StepFailedError with table, constraint and the first keys.
    """
    with ExitStack() as opened:
        hands = parallel.hands(lambda: opened.enter_context(closing(new())))
        for hand in hands:
            hand.execute("SET synchronous_commit = off")
        _build(taken.indexes, hands, progress)
        statements.run(hands[0], _bound(taken.indexes))
        statements.run(hands[0], [each.add for each in taken.constraints])
        statements.run(hands[0], [each.comment for each in taken.constraints])
        _validate(taken, hands, progress)
        statements.run(hands[0], taken.triggers)


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


def _validate(taken: Aside, hands: Hands, progress: Callable[[str], None]) -> None:
    """Ask table by table, since no two of these statements can work on the same one."""
    todo: dict[str, list[Constraint]] = {each.spelled: [] for each in taken.tables}
    for each in taken.constraints:
        if each.validate:
            todo.setdefault(each.table, []).append(each)
    jobs = [partial(_judge, *each) for each in todo.items()]
    _run(jobs, hands, progress, "checking tables")


def _judge(table: str, constraints: Sequence[Constraint], session: Session) -> None:
    statements.run(session, [f"ANALYZE {table}"])
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
        parallel.run(
            [partial(work, job) for job in jobs],
            hands,
            lambda hand: [hand],
            lambda: progress(f"{words}: {len(done)} of {len(jobs)}"),
        )
