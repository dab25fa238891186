"""Our own stdin, stdout and stderr, where whoever started us has closed them, or reads no more."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO


def open_closed() -> None:
    """Open nothing in the place of closed streams: else a socket or a file gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system gives the lowest free number
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()


def abandon_stdout() -> None:
    """Write to nowhere from now on: what could not be written would fail again when we end."""
    sys.stdout = _nowhere()


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
