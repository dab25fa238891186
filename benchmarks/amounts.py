"""How much is measured: all of it, or little enough for two or three minutes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """The sizes of what is measured.

    rounds: how often each side runs; large ones `few` times. mock_rows: about as many rows are
    seeded. carried_rows: how many, and the limit of the ratio. tables, sessions, revisions and
    sizes_mb are the points of the curves. fleet: databases: few and most, of which the memory is
    compared, and between them those of which the time is. tests: how many have a database each.
    """

    rounds: int
    few: int
    sizes_mb: tuple[int, ...]
    mock_rows: tuple[int, ...]
    revisions: tuple[int, ...]
    tables: tuple[int, ...]
    sessions: tuple[int, ...]
    carried_rows: dict[int, float | None]
    fleet: tuple[int, int, int]
    tests: tuple[int, int]


FULL = Amounts(
    rounds=11,
    few=3,
    sizes_mb=(10, 100, 300, 1000),
    mock_rows=(30, 100_000, 1_000_000),
    revisions=(1, 50, 100, 200, 400),
    tables=(10, 100, 1000),
    sessions=(0, 10, 40, 80),
    carried_rows={50_000: 0.9, 2_000_000: None},
    fleet=(5, 200, 500),
    tests=(100, 500),
)
QUICK = Amounts(
    rounds=3,
    few=1,
    sizes_mb=(10, 30),
    mock_rows=(30, 20_000),
    revisions=(1, 50),
    tables=(10, 100),
    sessions=(0, 20),
    carried_rows={50_000: 0.9},
    fleet=(5, 20, 40),
    tests=(20, 40),
)


def chosen(*, quick: bool, rounds: int | None) -> Amounts:
    """Return what the flags ask for."""
    amounts = QUICK if quick else FULL
    return replace(amounts, rounds=rounds, few=min(amounts.few, rounds)) if rounds else amounts
