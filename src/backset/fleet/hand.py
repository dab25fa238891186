"""A process that does one member's work after the other: started here, and what runs in it.

Signals, the streams and Alembic's processes belong to a process. So a job has one, whichever thread
of whichever machine has taken it; and a job that ends its process ends no worker of a cluster.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.fleet.jobs import Job, JobEnd
from backset.process import process, streams
from backset.settings import reader

if TYPE_CHECKING:
    from collections.abc import Callable

_IDLE_S = 20.0  # after which nobody comes any more: a cluster's thread does not end
_LOOK_EVERY_S = 0.2
TRIES = 3  # of a job whose process dies
_mine = threading.local()
_hands: set[Hand] = set()


class Hand:
    """The process of one thread, and our side of it."""

    def __init__(self, job: Job) -> None:
        self.run = job.site.run
        self._link, theirs = socket.socketpair()
        argv = [sys.executable, "-P", "-m", "backset.fleet", str(theirs.fileno())]
        environ = {**reader.environment(), **dict(job.site.flags)}
        with theirs:
            self._child = process.Child(
                argv, env=environ, cwd=Path(job.site.folder), pass_fds=[theirs.fileno()]
            )
        self._replies = self._link.makefile("r", encoding="utf-8")
        _hands.add(self)

    def take(self, job: Job) -> bool:
        """Give it a job; False where it has ended meanwhile, since nobody came."""
        with suppress(ConnectionError):
            self._link.sendall(json.dumps(job.plain()).encode() + b"\n")
            return bool(self._replies.readline())
        return False

    def result(self, progress: Callable[[str], None]) -> JobEnd:
        """Wait for how the job ends; a process that dies is one way of that."""
        with suppress(ConnectionResetError, ValueError):  # a line that is torn
            for line in self._replies:
                told = json.loads(line)
                if "end" in told:
                    return JobEnd(**told["end"])
                progress(told["progress"])
        status = self._child.wait()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        said = [each for each in self._child.tail if each.strip()]
        words = f": {streams.concealed(said[-1])}" if said and status > 0 else ""
        return JobEnd(how="died", text=f"its process ended with {how}{words}", exit_code=4)

    def interrupt(self) -> None:
        """Let the job end as an interrupted run does."""
        with suppress(ProcessLookupError):
            os.kill(self._child.session_id, signal.SIGTERM)

    def end(self) -> None:
        """Hang up: it ends by that."""
        _hands.discard(self)
        self._replies.close()
        self._link.close()
        self._child.end()


def by_hand(job: Job, progress: Callable[[str], None] = lambda _text: None) -> JobEnd:
    """Do a job in the process of this thread, which is started where there is none."""
    hand = _taken(job)
    end = hand.result(progress)
    if end.how in {"died", "interrupted"}:
        hand.end()
        del _mine.hand
    return end


def look_by_hand(job: Job) -> JobEnd:
    """Do a job that changes nothing; again, where its process dies."""
    ends = (by_hand(job) for _ in range(TRIES - 1))
    return next((each for each in ends if each.how != "died"), None) or by_hand(job)


def _taken(job: Job) -> Hand:
    """Give the job to this thread's process, or to a new one. Raises StepFailedError."""
    old: Hand | None = getattr(_mine, "hand", None)
    if old is not None and old.run == job.site.run and old.take(job):
        return old
    if old is not None:
        old.end()
    _mine.hand = Hand(job)
    _mine.hand.take(job)  # where it has died already, its result says so
    return _mine.hand  # type: ignore[no-any-return]


def interrupt_all() -> None:
    """Interrupt every job of this process."""
    for each in tuple(_hands):
        each.interrupt()


def end_all() -> None:
    """End the processes of threads that are no more."""
    for each in tuple(_hands):
        each.end()


def serve(descriptor: int, do: Callable[[Job, Callable[[str], None]], JobEnd]) -> None:
    """Do the jobs that come through an inherited socket, until that closes or nobody comes."""
    link = socket.socket(fileno=descriptor)
    link.set_inheritable(False)
    _end_with(link)
    buffered = link.makefile("r", encoding="utf-8")

    def send(**told: Any) -> None:  # noqa: ANN401  (JSON)
        with suppress(OSError):  # whoever asked is gone, and so shall we be
            link.sendall(json.dumps(told).encode() + b"\n")

    while select.select([link], [], [], _IDLE_S)[0] and (line := buffered.readline()):
        send(taken=True)
        end = do(Job.of(json.loads(line)), lambda text: send(progress=streams.concealed(text)))
        send(end=end.plain())
        if end.how == "interrupted":
            return


def _end_with(link: socket.socket) -> None:
    """Interrupt this process when the other end of the socket is gone, as TERM does."""

    def watch() -> None:
        with suppress(OSError):
            while link.recv(1, socket.MSG_PEEK):
                over.wait(_LOOK_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)

    over = threading.Event()
    threading.Thread(target=watch, daemon=True).start()
