"""Pure: a run as bars on one scale: when each step went on, beside what, and who was waited for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.page.content import LeftRows, RunTold, SeenClient, TimedNotice

_TICKS = 6  # at most
_LEAST_S = 0.001
_BESIDE_S = 0.005  # the moments are rounded


@dataclass(slots=True)
class Bar:
    """A step. left, width: of its bar, in per cent of the scale. marks: of its notices, likewise.

    beside: the steps that went on at the same time. ended: whose sessions the step has ended.
    """

    id: str
    step: str
    text: str
    seconds: str
    left: float
    width: float
    has_failed: bool = False
    beside: Sequence[str] = ()
    notices: list[TimedNotice] = field(default_factory=list)
    marks: list[float] = field(default_factory=list)
    ended: Sequence[SeenClient] = ()
    lost: Sequence[LeftRows] = ()


@dataclass(frozen=True, slots=True)
class Timeline:
    """The bars, the ticks of their scale (per cent, text), and notices outside of the steps."""

    bars: Sequence[Bar]
    ticks: Sequence[tuple[float, str]]
    notices: Sequence[TimedNotice]


def timeline(ran: RunTold) -> Timeline:
    """Draw a run. A report that does not say when a step began has them one after the other."""
    last, spans = 0.0, []
    for each in ran.steps:
        began = last if each.began is None else each.began
        spans.append((began, began + each.seconds))
        last = began + each.seconds
    whole = max(ran.seconds, last, _LEAST_S)
    bars = [
        Bar(
            f"s{number}",
            each.step,
            each.text,
            spoken_s(each.seconds),
            *(100 * began / whole, 100 * (end - began) / whole),
            beside=_beside(number, spans, ran),
            ended=each.ended,
            lost=each.left,
        )
        for number, (each, (began, end)) in enumerate(zip(ran.steps, spans, strict=True))
    ]
    if ran.error:
        bars.append(_failed(ran, last, whole))
    others = []
    by_name = {each.step: each for each in bars}
    for notice in ran.notices:
        if (bar := by_name.get(notice.step or "")) is None:
            others.append(notice)
            continue
        bar.notices.append(notice)
        if notice.at is not None:
            bar.marks.append(100 * min(notice.at, whole) / whole)
    bars.sort(key=lambda each: each.left)
    return Timeline(bars, [*_ticks(whole)], others)


def _beside(number: int, spans: Sequence[tuple[float, float]], ran: RunTold) -> list[str]:
    began, end = spans[number]
    return [
        each.step
        for other, each in enumerate(ran.steps)
        if other != number and min(end, spans[other][1]) - max(began, spans[other][0]) > _BESIDE_S
    ]


def _failed(ran: RunTold, last: float, whole: float) -> Bar:
    """Return the bar of the step that ended the run: it began once the last one was over."""
    step = (ran.error and ran.error.step) or ran.task
    left, width = 100 * last / whole, 100 * (whole - last) / whole
    return Bar("failed", step, "", spoken_s(whole - last), left, width, has_failed=True)


def _ticks(whole: float) -> list[tuple[float, str]]:
    """Return round moments on the scale."""
    rough = whole / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(each * unit for each in (1, 2, 5, 10) if each * unit >= rough)
    digits = max(0, -math.floor(math.log10(step)))
    several = int(whole / step + 1e-9)
    return [
        (100 * each * step / whole, f"{each * step:.{digits}f} s") for each in range(several + 1)
    ]


def spoken_s(seconds: float) -> str:
    """Return how long something took: `80 ms`, `1.3 s`, `4 min 5 s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004  (a minute)
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
