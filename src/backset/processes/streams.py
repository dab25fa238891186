"""Our own stdin, stdout and stderr, where whoever started us has closed them, or reads no more."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TextIO

from backset.processes import signals

UNREAD = 128 + signal.SIGPIPE  # the exit code where nobody reads what is written
_abandoned: TextIO | None = None


def open_closed() -> None:
    """Open nothing in the place of closed streams: else a socket or a file gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system gives the lowest free number
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()


def tell(text: str, *, is_error: bool = False) -> None:
    """Print a line. Raises Interrupted where nobody reads any more, as SIGPIPE ends a program.

    Not by the signal itself: it comes for every socket and pipe, and a swap must not be torn.
    """
    try:
        print(text, file=sys.stderr if is_error else sys.stdout, flush=True)
    except BrokenPipeError:
        abandon(is_error=is_error)
        signals.come(signal.SIGPIPE)


def abandon(*, is_error: bool = False) -> None:
    """Write to nowhere from now on: what could not be written would fail again when we end."""
    if is_error:
        sys.stderr = _nowhere()
    else:
        global _abandoned  # noqa: PLW0603  (so is the stream)
        sys.stdout = _abandoned = _nowhere()


def is_abandoned() -> bool:
    """Tell whether what goes to stdout is read by nobody any more."""
    return sys.stdout is _abandoned


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
