"""The proof: after the copy, count and content of every table, the old one against the new."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from backset.carrying import culprits, digest, parallel, row_errors
from backset.carrying.pair import Pair
from backset.carrying.snapshot import adopt
from backset.errors import StepFailedError
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backset.carrying.digest import Digest
    from backset.carrying.tables import Transfer
    from backset.connections.session import Session

    Name = tuple[str, str]
    Digests = dict[Name, Digest]

_REMEDY = (
    "see what the new tables do to their rows, such as a rule; what a type rounds needs one in "
    "[tool.backset.fill]"
)


def compare(
    transfers: Sequence[Transfer],
    snapshot: str,
    old: Callable[[], Session],
    new: Callable[[], Session],
    *,
    keys: Mapping[Name, Sequence[str]],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[tuple[Transfer, Digest]]:
    """Demand that the new tables have the rows of the snapshot; return what these were.

    snapshot, old, new, keys: as copy() gets them. progress: is told how many tables are read, and
    how many there are on both sides. Raises StepFailedError with tables, counts and keys.
    """
    ordered = sorted(transfers, key=lambda each: each.size_bytes, reverse=True)
    sides: tuple[Digests, Digests] = ({}, {})
    with ExitStack() as opened:
        pairs = parallel.hands(lambda: Pair.opened(old, new, opened))
        for pair in pairs:
            pair.agree()
            adopt(pair.old, snapshot)
        jobs = [
            partial(job, each, side)
            for each in ordered
            for job, side in zip((_read_old, _read_new), sides, strict=True)
        ]
        parallel.run(
            jobs,
            pairs,
            lambda pair: pair.sessions,
            lambda: progress(sum(map(len, sides)), len(jobs)),
        )
        differences = [
            words
            for each in ordered
            for words in _differences(pairs[0], each, sides, keys.get(each.table, ()))
        ]
    if differences:
        what = f"the new rows are not those that were copied: {'; '.join(differences)}"
        raise StepFailedError(what, _REMEDY)
    return [(each, sides[0][each.table]) for each in transfers]


# One side of a table at a time: so even one large table keeps both hands busy.
def _read_old(transfer: Transfer, found: Digests, pair: Pair) -> None:
    with row_errors.told_of_the_old(transfer.name):
        found[transfer.table] = digest.of_old(pair.old, transfer, recoded=pair.recodes)


def _read_new(transfer: Transfer, found: Digests, pair: Pair) -> None:
    with row_errors.told(transfer.name):
        found[transfer.table] = digest.of_new(pair.new, transfer, recoded=pair.recodes)


def _differences(
    pair: Pair, transfer: Transfer, sides: Sequence[Digests], key: Sequence[str]
) -> Iterator[str]:
    old, new = (side[transfer.table] for side in sides)
    if old != new:
        rows = f"{count(old.rows, 'row')} in the old database, {new.rows:,} in the new one"
        yield f"{transfer.name} ({rows}{culprits.named(pair, transfer, key)})"
