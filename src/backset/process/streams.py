"""Our own streams: where they are closed, or read no more; what goes out does nothing there."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from backset.process import signals
from backset.text import redaction

if TYPE_CHECKING:
    from collections.abc import Iterable

UNREAD = 128 + signal.SIGPIPE  # the exit code where nobody reads what is written
_abandoned: TextIO | None = None
_secrets: frozenset[str] = frozenset()


def open_closed() -> None:
    """Open nothing in the place of closed streams: else a socket or a file gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system gives the lowest free number
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()


def conceal(secrets: Iterable[str]) -> None:
    """Let these passwords be in nothing that goes out from here on, whoever has written them."""
    global _secrets  # noqa: PLW0603  (so are the streams)
    _secrets = frozenset(secrets)


def concealed(text: str) -> str:
    """Return a text without the passwords of this run."""
    return redaction.unguessed(text, _secrets)


def shown(text: str) -> str:
    """Return a text as it goes to a terminal or into a log: one line that does nothing there."""
    return redaction.printable(concealed(text))


def tell(text: str, *, is_error: bool = False, reveals: bool = False) -> None:
    """Print one line. reveals: whether it may have a password, since somebody has asked for it.

    Raises Interrupted where nobody reads any more, as SIGPIPE ends a program. Not by the signal
    itself: it comes for every socket and pipe, and a swap must not be torn.
    """
    try:
        line = redaction.printable(text) if reveals else shown(text)
        print(line, file=sys.stderr if is_error else sys.stdout, flush=True)
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
