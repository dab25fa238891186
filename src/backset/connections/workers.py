"""Sessions at work at the same time, each in a thread of its own: hands for jobs."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import psycopg

from backset.errors import UnreachableError
from backset.process import signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from backset.connections.session import Session

NUMBER = 2
_LOOK_EVERY_S = 0.1
_GRACE_S = 5.0  # for a server to end what it was told to cancel

Hand = TypeVar("Hand")


def hands(make: Callable[[], Hand], number: int = NUMBER) -> list[Hand]:
    """Make a hand, and more of them where the server has sessions for that; one is enough.

    Raises UnreachableError where there is none even for the first.
    """
    made = [make()]
    with suppress(UnreachableError):
        while len(made) < number:
            made.append(make())
    return made


def run(
    jobs: Iterable[Callable[[Hand], None]],
    hands: Sequence[Hand],
    sessions: Callable[[Hand], Iterable[Session]],
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Do the jobs in their order, each hand one at a time in a thread of its own.

    hands: what a job is given, one for each thread; sessions: those that a hand works with.
    watch: is called in this thread about ten times a second, and at the end.
    Raises what the first job that failed has raised. Signals come to this thread, too; in both
    cases the others are cancelled on their servers, and have ended before it is raised.
    """
    waiting = deque(jobs)

    def work(hand: Hand) -> None:
        while (job := _taken(waiting)) is not None:
            job(hand)

    with ThreadPoolExecutor(max(1, len(hands))) as pool:
        threads: list[Future[None]] = []
        try:
            with signals.deferred():  # a thread that nobody knows of would do all the jobs
                threads += [pool.submit(work, hand) for hand in hands]
            _await(threads, watch)
        except BaseException:
            waiting.clear()
            _end(threads, [each for hand in hands for each in sessions(hand)])
            raise


def _taken(waiting: deque[Callable[[Hand], None]]) -> Callable[[Hand], None] | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _await(threads: Sequence[Future[None]], watch: Callable[[], None]) -> None:
    pending = set(threads)
    while pending:
        done, pending = wait(pending, _LOOK_EVERY_S, FIRST_EXCEPTION)
        watch()
        for each in done:
            each.result()


def _end(threads: Sequence[Future[None]], sessions: Sequence[Session]) -> None:
    """Cancel what runs, until nothing does; hang up on a server that does not listen."""
    deadline = time.monotonic() + _GRACE_S
    while wait(threads, 0).not_done and time.monotonic() < deadline:
        for session in sessions:
            with suppress(psycopg.Error):
                session.cancel_safe(timeout=_GRACE_S)
        wait(threads, _LOOK_EVERY_S)
    if wait(threads, 0).not_done:
        for session in sessions:
            _hang_up(session)


def _hang_up(session: Session) -> None:
    with (
        suppress(psycopg.Error, OSError),  # it is closed already
        socket.socket(fileno=os.dup(session.fileno())) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)
