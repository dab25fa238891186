"""How far a long run is, on stderr: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from operator import length_hint
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")
EVERY_S = 2.0


class Track(Protocol):
    """Passes things on, and tells how many of `total` have passed."""

    def __call__(
        self, sequence: Iterable[T], total: int | None = None, *, description: str
    ) -> Iterable[T]:
        """Pass on what `description` says."""


def silent(
    sequence: Iterable[T],
    total: int | None = None,  # noqa: ARG001
    *,
    description: str,  # noqa: ARG001
) -> Iterable[T]:
    """Pass on what is soon done."""
    return sequence


def lines(sequence: Iterable[T], total: int | None = None, *, description: str) -> Iterator[T]:
    """Print a line every few seconds; the clock is looked at a hundred times in all."""
    whole = length_hint(sequence) if total is None else total
    look_every, said = max(1, whole // 100), monotonic()
    for done, each in enumerate(sequence):
        if done % look_every == 0 and monotonic() - said > EVERY_S:
            said = monotonic()
            print(f"{description}: {done:,} of {whole:,}", file=sys.stderr, flush=True)
        yield each


@contextmanager
def shown() -> Iterator[Track]:
    """Give what tracks, for where stderr goes."""
    if not sys.stderr.isatty():
        yield lines
        return
    from rich import progress  # noqa: PLC0415  (a run of thirty rows does not pay for it)
    from rich.console import Console  # noqa: PLC0415

    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        yield bar.track
