"""Which backups may go, by what their manifests say; no file is looked at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.backups import store
from backset.backups.manifest import Backup, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MONDAY = datetime(2026, 11, 23, 12, tzinfo=UTC)


def backup(number: int, **about: object) -> Backup:
    """A backup with a state of its own, an hour after the one before."""
    said: dict[str, Any] = {
        "database": "app",
        "taken_at": MONDAY + timedelta(hours=number % 8),
        "server_id": "7",
        "server_version": "18.4",
        "tool_version": "pg_dump (PostgreSQL) 18.4",
        "revisions": ("head",),
        "rows": {"users": 7},
        "size_bytes": 1,
        "sha256": "",
        "content_sha256": str(number),
        "number": number,
    }
    return Backup(Path(f"{number}.dump"), Manifest(**{**said, **about}))


def kept(
    taken: Sequence[Backup],
    keep: int,
    *,
    keep_days: int = 7,
    protected: Sequence[str] = (),
    is_good: Callable[[Backup], bool] = lambda _: True,
) -> list[int]:
    """Return the numbers of those that stay."""
    gone = store.surplus(
        taken, keep=keep, keep_days=keep_days, protected=protected, is_good=is_good
    )
    names = {each.name for each in gone}
    return [each.manifest.number for each in taken if each.name not in names]


def test_within_the_budget_all_stay_and_beyond_it_the_newest() -> None:
    """Of one revision and one day."""
    taken = [backup(number) for number in range(1, 6)]
    assert kept(taken, 5) == [1, 2, 3, 4, 5]
    assert kept(taken, 2) == [4, 5]


def test_the_newest_of_each_revision_comes_before_others() -> None:
    """An orphaned revision's only dump is not pushed out by many of today's."""
    taken = [backup(1, revisions=("orphan",)), *(backup(number) for number in range(2, 8))]
    assert kept(taken, 3) == [1, 6, 7]


def test_the_newest_of_each_day_comes_before_others() -> None:
    """Of so many days, the last ones with a backup; what the clock says today does not count."""
    days = [backup(n, taken_at=MONDAY + timedelta(days=n // 2)) for n in range(1, 9)]
    assert kept(days, 4) == [3, 5, 7, 8]
    assert kept(days, 4, keep_days=2) == [5, 6, 7, 8]


def test_second_names_of_a_state_go_first() -> None:
    """The same dump under two names is no reason to lose another state."""
    same = {"content_sha256": "same"}
    taken = [backup(1), backup(2, **same), backup(3, **same), backup(4, **same)]
    assert kept(taken, 2) == [1, 4]


def test_what_is_pinned_or_protected_stays_beside_the_budget() -> None:
    """However old it is."""
    taken = [backup(1, is_pinned=True), *(backup(number) for number in range(2, 7))]
    assert kept(taken, 2, protected=["3"]) == [1, 3, 5, 6]


def test_the_last_one_with_the_most_rows_of_a_table_stays() -> None:
    """Some of them stand in no other one; a newer one with as many takes its place."""
    many, fewer = {"users": 5000}, {"users": 1, "tasks": 9}
    taken = [backup(1, rows=many), *(backup(number, rows=fewer) for number in range(2, 9))]
    assert kept(taken, 2) == [1, 7, 8]
    assert kept([*taken, backup(9, rows=many)], 2) == [8, 9]


def test_the_last_one_that_no_rebuild_makes_again_stays() -> None:
    """Though mock data have more rows of each table."""
    mock = {"users": 30}
    made = [backup(number, rows=mock, is_remade=True) for number in range(2, 20)]
    assert kept([backup(1, rows={"users": 2}), *made], 1) == [1, 19]


def test_each_state_that_a_run_has_replaced_stays() -> None:
    """Somebody has typed rows into each; of two dumps of one state the newest one is enough."""
    same: dict[str, Any] = {"is_replaced": True, "content_sha256": "same"}
    taken = [backup(1, is_replaced=True), backup(2, **same), backup(3, **same)]
    taken += [backup(number) for number in range(4, 9)]
    assert kept(taken, 1) == [1, 3, 8]
    assert kept(taken, 1, is_good=lambda each: each.manifest.number != 3) == [1, 2, 8]


def test_the_last_of_some_rows_is_an_undamaged_one() -> None:
    """A newer one that was damaged has nothing."""
    taken = [backup(number) for number in range(1, 6)]
    assert kept(taken, 1, is_good=lambda each: each.manifest.number < 4) == [3, 5]


def test_what_is_half_built_stands_for_no_revision_and_no_day() -> None:
    """Nobody would go back to it."""
    taken = [backup(1, revisions=("a",)), backup(2, revisions=("a",), is_half_built=True)]
    taken += [backup(3), backup(4)]
    assert kept(taken, 2) == [1, 4]
