"""Which backups of a server may go: by what they mean, and never the last of some rows. Pure."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from backset.backups.manifest import Backup


def surplus(
    taken: Sequence[Backup],
    *,
    keep: int,
    keep_days: int,
    protected: Iterable[str],
    is_good: Callable[[Backup], bool],
) -> Sequence[Backup]:
    """Return those of a server's backups, the oldest first, that neither budget nor promise keeps.

    keep: how many stay: the newest one, then the newest of each revision, then that of each of the
    last `keep_days` days that have one, then other states, then second names of these. Those that
    are pinned or `protected` stay beside them, and the last ones of some rows.
    is_good: tells whether a dump is undamaged, which may mean to read it.
    """
    spare = set(protected)
    free = [each for each in taken[::-1] if not each.manifest.is_pinned]
    names = dict.fromkeys(each.name for each in _ranked(free, keep_days))
    kept = set(islice(names, keep))
    older = [each for each in free if each.name not in kept | spare]
    if not older:
        return []
    last = {each.name for each in _last_of_their_rows(taken[::-1], is_good)}
    return [each for each in older[::-1] if each.name not in last]


def _ranked(newest_first: Sequence[Backup], keep_days: int) -> Iterator[Backup]:
    """Yield all, the one that matters most first; one may come again."""
    whole = [each for each in newest_first if not each.manifest.is_half_built]
    days = _newest_of_each(whole, lambda each: each.manifest.taken_at.date())
    ranks = (
        newest_first[:1],
        _newest_of_each(whole, lambda each: each.manifest.revisions),
        islice(days, keep_days),
        _newest_of_each(newest_first, lambda each: each.manifest.content_sha256 or each.name),
        newest_first,
    )
    yield from chain.from_iterable(ranks)


def _newest_of_each(
    newest_first: Sequence[Backup], kind: Callable[[Backup], Hashable]
) -> Iterator[Backup]:
    found: dict[Hashable, Backup] = {}
    for each in newest_first:
        found.setdefault(kind(each), each)
    return iter(found.values())


def _last_of_their_rows(
    newest_first: Sequence[Backup], is_good: Callable[[Backup], bool]
) -> Iterator[Backup]:
    """Yield the newest undamaged one, and that with rows which no rebuild makes again.

    And each state that a run has replaced without its rows, and of each table the newest of those
    with the most rows: some of these stand in no other one.
    """

    def newest(candidates: Iterable[Backup]) -> Iterator[Backup]:
        return islice(filter(is_good, candidates), 1)

    yield from newest(newest_first)
    yield from newest(x for x in newest_first if not x.manifest.is_remade)
    replaced: dict[str, list[Backup]] = {}
    for each in newest_first:
        if each.manifest.is_replaced:
            replaced.setdefault(each.manifest.content_sha256 or each.name, []).append(each)
    for same in replaced.values():
        yield from newest(same)
    most: dict[str, int] = {}
    for each in newest_first:
        for table, rows in each.manifest.rows.items():
            most[table] = max(rows, most.get(table, 0))
    for table, rows in most.items():
        if rows:
            yield from newest(x for x in newest_first if x.manifest.rows.get(table) == rows)
