"""TERM, INT and HUP become one exception in the main thread, except where they must wait.

Threads are started undisturbed: a signal in the midst of that leaves locks taken for ever.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from backset.errors import Interrupted, Overdue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future, ThreadPoolExecutor
    from types import FrameType

_LOOK_AGAIN_S = 0.05
# What is outermost for as long as a program runs: a script, or a module by `-m`.
_PROGRAMS = frozenset({"<module>", "_run_module_as_main"})
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_deferrals = 0
_waiting: list[int] = []
_ignored = False
_came = False
Given = ParamSpec("Given")
Result = TypeVar("Result")


@contextmanager
def raised(*, last: bool = False) -> Iterator[None]:
    """Raise Interrupted for the first signal; ignore later ones, so that the cleaning can end.

    last: whether the process ends after the block when a signal has come. Then later ones are
    ignored for good: the interpreter restores the default actions while it ends, and one of them
    would put its own exit code in place of ours. No program is started any more.
    """
    global _ignored, _came  # noqa: PLW0603  (signal handlers are global too)
    _ignored = _came = False
    before = {each: signal.getsignal(each) for each in _SIGNALS}
    for each in _SIGNALS:
        if before[each] is not signal.SIG_IGN:  # nohup asked for that
            signal.signal(each, _interrupt)
    try:
        yield
    finally:
        ignore()
        for each, handler in before.items():
            signal.signal(each, signal.SIG_IGN if last and _came else handler)


def quiet(signum: int, frame: FrameType | None) -> None:
    """Handle INT as Python does, but for the time in which the interpreter ends.

    It waits for threads then, and would print KeyboardInterrupt as an exception that it ignores. So
    INT ends the process there, as TERM does.
    """
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    if frame is None or frame.f_code.co_name not in _PROGRAMS:
        signal.signal(signum, signal.SIG_DFL)
        signal.raise_signal(signum)
    signal.default_int_handler(signum, frame)


@contextmanager
def deferred() -> Iterator[None]:
    """Hold signals back during something short that must not be torn, such as the swap.

    Not by a signal mask: the kernel would give the signal to another thread, and Python would
    still run its handler in this one. In another thread than the main one nothing is held back:
    none comes there, and one that was raised there would be lost to the run.
    """
    global _deferrals  # noqa: PLW0603  (signal handlers are global too)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _deferrals += 1
    try:
        yield
    finally:
        _deferrals -= 1
        if _waiting and not _deferrals:
            _raise(_waiting[0])


@contextmanager
def limited(limit_s: float) -> Iterator[None]:
    """Raise Overdue in the main thread if the block takes longer; 0 is no limit, and not less.

    By a signal, like an interruption: so it ends whatever is waited for, in the same good order.
    """

    def expire(_signum: int, _frame: FrameType | None) -> None:
        if _deferrals:
            signal.setitimer(signal.ITIMER_REAL, _LOOK_AGAIN_S)
        elif not _ignored:
            ignore()
            raise Overdue(limit_s)

    before = signal.signal(signal.SIGALRM, expire)
    before_s, _ = signal.setitimer(signal.ITIMER_REAL, limit_s)  # such as that of pytest-timeout
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, before_s)


def ignore() -> None:
    """From here on let no signal interrupt us: the run is ending anyway, and cleans up.

    One assignment, so that no signal comes in between; and not by SIG_IGN, which the programs that
    the cleaning starts would inherit.
    """
    global _ignored  # noqa: PLW0603  (signal handlers are global too)
    _ignored = True
    _waiting.clear()


def listen() -> None:
    """Let signals interrupt us again, unless one has come: the run was not ending, it goes on."""
    global _ignored  # noqa: PLW0603  (signal handlers are global too)
    _ignored = _came


def has_come() -> bool:
    """Tell whether the run is ending, as after a signal whose Interrupted somebody swallowed."""
    return _ignored


def wait_while(asks: Callable[[], Result], limit_s: float, every_s: float) -> Result:
    """Ask again and again while the answer is yes, for so long at most; return the last answer.

    A signal interrupts the wait, unless signals are deferred.
    """
    deadline = time.monotonic() + limit_s
    while (answer := asks()) and time.monotonic() < deadline:
        time.sleep(every_s)
    return answer


def come(signum: int) -> None:
    """Do what the signal would; it is raised in the main thread only, as they all are."""
    if threading.current_thread() is threading.main_thread():
        _interrupt(signum, None)


def _interrupt(signum: int, _frame: FrameType | None) -> None:
    if _ignored:
        return
    if _deferrals:
        _waiting.append(signum)
    else:
        _raise(signum)


def _raise(signum: int) -> None:
    global _came  # noqa: PLW0603  (signal handlers are global too)
    ignore()
    _came = True
    raise Interrupted(signum)


def submit(
    pool: ThreadPoolExecutor,
    work: Callable[Given, Result],
    *arguments: Given.args,
    **options: Given.kwargs,
) -> Future[Result]:
    """Let a thread of a pool do something; an interruption comes when it has begun."""
    with deferred():
        return pool.submit(work, *arguments, **options)
