"""A branch's database, beside a copy of the same one by psql."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from benchmarks import place as places
from benchmarks import rows
from benchmarks.figures import Comparison
from benchmarks.sides import Side, alternate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.amounts import Amounts
    from benchmarks.figures import Found
    from benchmarks.place import Place

_NAME, _COPY = "branching", "branching_by_hand"
_ENV = {"BACKSET_DATABASE": _NAME}
_SLOW_MB = 200
_WHO = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")


def branching(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield the first switch to a branch, of a small database and of a large one."""
    place.invoke("reset-db", **_ENV)
    place.run("git", "init", "-q", "-b", "main")
    place.run("git", *_WHO, "commit", "-q", "--allow-empty", "-m", "begin")
    place.invoke("branch", "switch", **_ENV)
    place.run("git", "checkout", "-q", "-b", "feature")
    yield from _of(place, amounts.few, "1 MB")
    size_mb = max(amounts.sizes_mb)
    rows.fill(place, _NAME, size_mb * rows.ROWS_PER_MB)
    yield from _of(place, amounts.few, f"{size_mb} MB", warms_up=size_mb < _SLOW_MB, goal=1.1)
    place.drop(_NAME, _COPY)
    shutil.rmtree(place.project / ".git")


def _of(
    place: Place, rounds: int, size: str, *, warms_up: bool = True, goal: float | None = None
) -> Iterator[Found]:
    """Yield what both take; a floor is the same copy by the server's faster way for its size."""

    def forget() -> None:
        if _NAME in place.invoke("branch", "list", **_ENV).partition("feature")[2]:
            place.invoke("branch", "delete", "feature", "--yes", **_ENV)

    def by_hand(more: str = "") -> None:
        create = f"CREATE DATABASE {_COPY} TEMPLATE {_NAME}{more}"
        place.run(*places.psql(place.url("postgres"), create))

    def clear() -> None:
        place.drop(_COPY)

    sides = [
        Side("branch switch", lambda: place.invoke("branch", "switch", **_ENV), prepare=forget),
        Side("psql, CREATE DATABASE … TEMPLATE", by_hand, prepare=clear),
        Side("the same, file_copy", lambda: by_hand(" STRATEGY file_copy"), prepare=clear),
    ]
    ours, theirs, files = alternate(sides, rounds, warms_up=warms_up)
    yield Comparison(f"the database of a new branch, {size}", "s", ours, theirs, goal)
    yield Comparison(f"the same beside file_copy, {size}", "s", ours, files)
