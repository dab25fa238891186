"""One `invoke …` as a child process: its lines as they come, its end, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MARK = "FAULTS_RUN"  # every process that a run starts inherits this variable


@dataclass(frozen=True, slots=True)
class Moment:
    """When to strike: so many seconds after the start, or after the line of a step."""

    step: str | None
    delay_s: float

    def __str__(self) -> str:
        return f"{self.delay_s:.3f} s after {self.step or 'the start'}"


@dataclass(slots=True)
class Line:
    """A line of stdout, and when it came, in seconds from the start."""

    at_s: float
    text: str

    @property
    def step(self) -> str | None:
        """The step whose end this line tells; None for any other line."""
        sign, _, rest = self.text.strip().partition(" ")
        return rest.split()[0] if sign == "✔" else None


@dataclass
class Run:
    """A run that was started; `code` is its exit code as a shell shows it, once it has ended."""

    words: Sequence[str]
    popen: subprocess.Popen[str]
    mark: str
    started: float = field(default_factory=time.monotonic)
    lines: list[Line] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    is_hung: bool = False

    def __post_init__(self) -> None:
        self._ended = self.started
        self._news = threading.Condition()
        pipes = ((self.popen.stdout, self._tell), (self.popen.stderr, self.errors.append))
        self._readers = [threading.Thread(target=_read, args=each, daemon=True) for each in pipes]
        for reader in self._readers:
            reader.start()

    @classmethod
    def start(cls, words: Sequence[str], *, cwd: Path, env: Mapping[str, str], mark: str) -> Run:
        """Start a program in a group of its own, marked as all that it starts will be."""
        popen = subprocess.Popen(
            words,
            cwd=cwd,
            env={**env, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return cls(words, popen, mark)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.popen.poll() is not None

    @property
    def code(self) -> int:
        """The exit code, 128 + N for a signal, as shells show it."""
        code = self.popen.returncode
        return code if code >= 0 else 128 - code

    @property
    def error(self) -> str:
        """Everything on stderr."""
        return "".join(self.errors)

    @property
    def seconds(self) -> float:
        """How long it took, once it has been waited for."""
        return self._ended - self.started

    def wait_until(self, moment: Moment) -> None:
        """Wait for a moment; return at once when the run has ended before it."""
        with self._news:
            while moment.step and not self.is_over and moment.step not in self._steps():
                self._news.wait(0.05)
        since = self.started if moment.step is None else time.monotonic()
        while not self.is_over and (left := since + moment.delay_s - time.monotonic()) > 0:
            time.sleep(min(left, 0.01))

    def wait(self, timeout_s: float) -> None:
        """Wait for the end; kill a run that is not over by then, and remember that it hung."""
        try:
            self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.is_hung = True
            self.end()
        self._ended = time.monotonic()
        for reader, pipe in zip(self._readers, (self.popen.stdout, self.popen.stderr), strict=True):
            reader.join(1)
            if (
                pipe and not reader.is_alive()
            ):  # else a child that was left behind holds the pipe open
                pipe.close()

    def end(self) -> None:
        """Kill what is left of it, children included."""
        for process in [*marked(self.mark), psutil.Process(self.popen.pid)]:
            process.kill()
        self.popen.wait()

    def ports(self, whose: Sequence[str], server: int) -> list[int]:
        """Return the ports from which its processes with such a word in their names are connected.

        server: the port that they are connected to.
        """
        found = []
        with suppress(psutil.Error):  # one of them has just ended: the next look finds the others
            top = psutil.Process(self.popen.pid)
            for process in [top, *top.children(recursive=True)]:
                if any(word in part for part in process.cmdline()[:3] for word in whose):
                    found += [
                        each.laddr.port
                        for each in process.net_connections("tcp")
                        if getattr(each.raddr, "port", None) == server  # () where there is none
                    ]
        return found

    def _steps(self) -> set[str | None]:
        return {line.step for line in self.lines}

    def _tell(self, text: str) -> None:
        with self._news:
            self.lines.append(Line(time.monotonic() - self.started, text.rstrip("\n")))
            self._news.notify_all()


def _read(pipe: IO[str], tell: object) -> None:
    for line in pipe:
        tell(line)  # type: ignore[operator]


def marked(mark: str) -> list[psutil.Process]:
    """Return the living processes that inherited the mark of a run, but not zombies."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue  # it has just ended, or belongs to somebody else
    return found


def wait_for_none(mark: str, grace_s: float) -> list[psutil.Process]:
    """Return the processes of a run that are still alive after so many seconds."""
    deadline = time.monotonic() + grace_s
    while (alive := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive
