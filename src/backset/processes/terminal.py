"""Hands the terminal to an interactive program; what goes into a log instead is looked at."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, TextIO

from backset.processes.process import GRACE_S, cannot_start
from backset.processes.streams import shown
from backset.wording import redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path


def attach(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    redact: Callable[[str], str] | None = None,
    in_github: bool = False,
    only_speaks: bool = False,
    pass_fds: Sequence[int] = (),
    meanwhile: Callable[[], None] = lambda: None,
) -> int:
    """Hand the terminal to an interactive program, such as psql; return its exit status.

    It stays in our process group, since a terminal talks to one group only; an INT is its own.
    redact: applied to each line that it writes to what is not a terminal, such as a log of CI.
    in_github: whether such a log takes some lines for commands, and not what they are.
    only_speaks: whether it does nothing with a terminal but to write lines, which then do nothing.
    meanwhile: is called once it runs, and returns when it has ended or needs nothing more.
    """
    before = signal.signal(signal.SIGINT, lambda *_: None)  # unlike SIG_IGN, not inherited
    ours = [sys.stdout, sys.stderr]
    how = {"in_github": in_github, "only_speaks": only_speaks}
    passing = [_passing(each, redact, **how) for each in ours]
    pipes = [subprocess.PIPE if each else None for each in passing]
    try:
        popen = subprocess.Popen(
            argv, env=env, cwd=cwd, stdout=pipes[0], stderr=pipes[1], pass_fds=pass_fds
        )
        with _copying(popen, ours, passing):
            try:
                meanwhile()
                return popen.wait()
            finally:
                if popen.poll() is None:  # a signal to us was not one to it
                    popen.terminate()
                    with suppress(subprocess.TimeoutExpired):
                        popen.wait(GRACE_S)
                    popen.kill()
                    popen.wait()
    except OSError as error:
        raise cannot_start(argv, error) from None
    finally:
        signal.signal(signal.SIGINT, before)


def _passing(
    ours: TextIO | None,
    redact: Callable[[str], str] | None,
    *,
    in_github: bool,
    only_speaks: bool,
) -> Callable[[str], str] | None:
    """Return what a line goes through on its way to one of our streams; None hands that over.

    What goes into a file is no log of GitHub's, and stays as it is.
    """
    if ours is None:
        return None
    if ours.isatty():
        return _quiet if only_speaks else None
    if in_github and stat.S_ISREG(os.fstat(ours.fileno()).st_mode):
        return redact
    if in_github and redact is not None:
        return lambda line: redaction.no_command(redact(line))
    return redaction.no_command if in_github else redact


def _quiet(line: str) -> str:
    return shown(line.rstrip("\r\n")) + "\n"


@contextmanager
def _copying(
    popen: subprocess.Popen[bytes],
    ours: Sequence[TextIO],
    passing: Sequence[Callable[[str], str] | None],
) -> Iterator[None]:
    """Copy what a program writes into pipes to our own streams, a line at a time."""

    def copy(source: IO[bytes], sink: IO[bytes], passed: Callable[[str], str]) -> None:
        with suppress(OSError), source:  # nobody reads our stream any more: nor we the program's
            for line in source:
                text = passed(line.decode(errors="surrogateescape"))
                sink.write(text.encode(errors="surrogateescape"))
                sink.flush()

    found = zip((popen.stdout, popen.stderr), ours, passing, strict=True)
    pipes = [(source, sink.buffer, each) for source, sink, each in found if source and each]
    threads = [threading.Thread(target=copy, args=each, daemon=True) for each in pipes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(GRACE_S)  # a daemon that it left behind may keep the pipe open
