"""Signals become one exception, once, and wait where something must not be torn."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest

from backset.errors import Interrupted
from backset.process import signals, streams

EACH = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def send(signum: int = signal.SIGTERM) -> None:
    """Send ourselves a signal."""
    os.kill(os.getpid(), signum)


def test_only_the_first_signal_interrupts() -> None:
    """The cleaning that follows is not torn by a second one, of whatever kind."""
    with signals.raised(), pytest.raises(Interrupted) as caught:  # noqa: PT012  (the cleaning is the point)
        try:
            send()
        finally:
            send()
            send(signal.SIGINT)
    assert caught.value.exit_code == 143


def test_the_handlers_from_before_are_back() -> None:
    """Also after a signal, where the process goes on."""
    before = {each: signal.getsignal(each) for each in EACH}
    with pytest.raises(Interrupted), signals.raised():
        send()
    assert {each: signal.getsignal(each) for each in before} == before


def test_the_end_of_the_process_is_not_torn_either() -> None:
    """A second signal that comes while the interpreter ends does not change the exit code."""
    before = {each: signal.getsignal(each) for each in EACH}
    try:
        with pytest.raises(Interrupted), signals.raised(last=True):
            send()
        send()
        send(signal.SIGINT)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_a_signal_waits_until_the_block_is_over() -> None:
    """Two of them as well; and the cleaning may hold back in its turn."""
    with signals.raised(), pytest.raises(Interrupted) as caught:  # noqa: PT012  (likewise)
        done = False
        try:
            with signals.deferred():
                send(signal.SIGINT)
                send()
                done = True
        finally:
            with signals.deferred():
                pass
            assert done
    assert caught.value.exit_code == 130


def test_a_block_that_fails_does_not_swallow_the_signal() -> None:
    """Who asked the run to end gets the exit code of that."""
    with signals.raised(), pytest.raises(Interrupted), signals.deferred():  # noqa: PT012
        send()
        raise ValueError


def test_nothing_interrupts_what_ends_anyway() -> None:
    """And the handlers from before are back afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    with signals.raised():
        signals.ignore()
        send()
    assert signal.getsignal(signal.SIGTERM) is before
    with signals.raised(), pytest.raises(Interrupted):
        send()


def test_a_reader_that_goes_away_waits_like_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A swap that prints a line is not torn; what is said afterwards goes nowhere."""
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        with signals.raised(), pytest.raises(Interrupted) as caught:  # noqa: PT012  (likewise)
            with signals.deferred():
                streams.tell("one")
                streams.tell("two")
                done = True
            raise AssertionError
        assert streams.is_abandoned()
    assert done
    assert caught.value.exit_code == streams.UNREAD == 141


def test_a_run_that_goes_on_listens_again() -> None:
    """What one part of a run has ignored at its end was not meant for the next part."""
    with signals.raised(), pytest.raises(Interrupted) as caught:  # noqa: PT012  (likewise)
        signals.ignore()
        send()
        signals.listen()
        try:
            send(signal.SIGINT)
        finally:
            signals.listen()
            send()
    assert caught.value.exit_code == 130


def test_what_another_thread_must_not_tear_holds_nothing_up() -> None:
    """Signals come to the main thread alone: one that was raised in another would be lost there."""
    inside, over = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def work() -> None:
        try:
            with signals.deferred():
                inside.set()
                over.wait(10)
        except BaseException as error:  # noqa: BLE001  (that is what must not come)
            raised.append(error)

    thread = threading.Thread(target=work)
    with signals.raised(), pytest.raises(Interrupted):  # noqa: PT012  (likewise)
        thread.start()
        inside.wait(10)
        try:
            send()
            time.sleep(10)
        finally:
            over.set()
            thread.join()
    assert raised == []


def test_int_is_pythons_own_while_a_program_runs() -> None:
    """What comes after a task of ours, such as one of Invoke's own, is interrupted as ever."""
    before = signal.signal(signal.SIGINT, signals.quiet)
    try:
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_wait_ends_with_its_answer() -> None:
    """Or with its time; what was answered last is what counts."""
    answers = iter(["busy", "busy", ""])
    assert signals.wait_while(lambda: next(answers), 60, 0) == ""
    assert signals.wait_while(lambda: "busy", 0.01, 0.001) == "busy"


def test_a_signal_ends_a_wait() -> None:
    """As it ends a sleep: at once, but for a block that must not be torn."""
    answers = iter([True, True, False])

    def interrupted() -> bool:
        send()
        return next(answers)

    with signals.raised(), pytest.raises(Interrupted):
        signals.wait_while(interrupted, 60, 60)
    with signals.raised(), pytest.raises(Interrupted), signals.deferred():
        signals.wait_while(interrupted, 60, 0)
    assert not [*answers]


def test_a_limit_leaves_an_alarm_of_before() -> None:
    """Such as that of pytest-timeout, in whose test a template is built."""
    came: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda signum, _frame: came.append(signum))
    try:
        signal.setitimer(signal.ITIMER_REAL, 3600)
        with signals.limited(0):
            pass
        left_s, _ = signal.getitimer(signal.ITIMER_REAL)
        assert left_s > 0
        signal.raise_signal(signal.SIGALRM)
        assert came == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
