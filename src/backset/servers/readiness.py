"""Waits until a server serves: what has just been started may answer once, and then start again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from backset.errors import Overdue, StepFailedError, UnreachableError
from backset.processes import signals
from backset.servers.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.connections.target import Target

# The image of PostgreSQL starts a first server for its set-up scripts, and ends it before the real
# one comes. That one listens on a socket only; others are less careful.
ANSWERS = 2
PAUSE_S = 0.5


def wait(target: Target, seconds: float, tell: Callable[[str], None]) -> int:
    """Return the major version of the target's server, when it has answered twice in a row.

    The target itself need not exist: any database that lets us in is an answer.
    seconds: after which it is given up. tell: gets libpq's words, whenever they change.
    Raises StepFailedError with the last of them.
    """
    told = ["no answer"]

    def say(words: str) -> None:
        if words != told[-1]:
            told.append(words)
            tell(words)

    try:
        with signals.limited(seconds):  # one that takes connections and is silent costs 10 s each
            if major := _answered(target, say, once=not seconds):
                return major
    except Overdue:
        pass
    what = f"{target.shown} does not serve after {seconds:g} s: {told[-1]}"
    raise StepFailedError(what, "start the server, or correct DATABASE_URL")


def _answered(target: Target, say: Callable[[str], None], *, once: bool) -> int:
    """Return the major version after ANSWERS in a row; 0 where `once` and there was none."""
    good = 0
    while True:
        major, words = _asked(target)
        good = good + 1 if major else 0
        if words:
            say(words)
        if good == ANSWERS or (once and not major):
            return major
        time.sleep(PAUSE_S)


def _asked(target: Target) -> tuple[int, str]:
    """Return the major version and nothing, or 0 and why not."""
    try:
        with Server(target, "wait") as server:
            return server.major, ""
    except UnreachableError as error:
        return 0, error.words
