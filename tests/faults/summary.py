"""What came out of a campaign, in a table: a line for each kind of fault."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.faults.campaign import Trial

_OFTEN = 5
_HEAD = ("trials", "in time", "before", "after", "half built", "broken", "recovery")


def table(trials: Sequence[Trial]) -> list[str]:
    """Return the lines of the table; the last one is about all trials."""
    width = max(len(trial.fault.name) for trial in trials)
    lines = [f"{'fault':<{width}}  {'  '.join(_HEAD)}"]
    for name, each in _by_kind(trials).items():
        skipped = [trial.skipped for trial in each if trial.skipped]
        text = f"skipped: {skipped[0]}" if skipped else _figures(each)
        lines += [f"{name:<{width}}  {text}"] if each else []
    return [*lines, f"{'all':<{width}}  {_figures([t for t in trials if not t.skipped])}"]


def never_in_time(trials: Sequence[Trial]) -> list[str]:
    """Return the kinds that were tried often and came too late each time, so they show nothing."""
    kinds = _by_kind([trial for trial in trials if not trial.skipped])
    often = {name: each for name, each in kinds.items() if len(each) >= _OFTEN}
    return [name for name, each in often.items() if not any(trial.is_hit for trial in each)]


def _by_kind(trials: Sequence[Trial]) -> Mapping[str, list[Trial]]:
    kinds: dict[str, list[Trial]] = {}
    for trial in trials:
        kinds.setdefault(trial.fault.name, []).append(trial)
    return kinds


def _figures(done: Sequence[Trial]) -> str:
    stood = [trial.stood for trial in done]
    before, after = stood.count("before"), stood.count("after")
    figures = [
        len(done),
        sum(trial.is_hit for trial in done),
        before,
        after,
        len(done) - before - after,  # in place only: elsewhere it is a broken promise
        sum(bool(trial.broken) for trial in done),
        f"{median([trial.recovery_s for trial in done] or [0.0]):.1f} s",
    ]
    columns = zip(figures, _HEAD, strict=True)
    return "  ".join(f"{figure:>{len(title)}}" for figure, title in columns)
