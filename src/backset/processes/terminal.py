"""Hands the terminal to an interactive program; what goes into a log instead is redacted."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, TextIO

from backset.processes.process import GRACE_S, cannot_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path


def attach(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    redact: Callable[[str], str] | None = None,
    pass_fds: Sequence[int] = (),
    meanwhile: Callable[[], None] = lambda: None,
) -> int:
    """Hand the terminal to an interactive program, such as psql; return its exit status.

    It stays in our process group, since a terminal talks to one group only; an INT is its own.
    redact: applied to each line that it writes to what is not a terminal, such as a log of CI.
    meanwhile: is called once it runs, and returns when it has ended or needs nothing more.
    """
    before = signal.signal(signal.SIGINT, lambda *_: None)  # unlike SIG_IGN, not inherited
    ours = [sys.stdout, sys.stderr]
    kept = [redact is not None and each is not None and not each.isatty() for each in ours]
    pipes = [subprocess.PIPE if each else None for each in kept]
    try:
        popen = subprocess.Popen(
            argv, env=env, cwd=cwd, stdout=pipes[0], stderr=pipes[1], pass_fds=pass_fds
        )
        with _copying(popen, ours, redact or str):
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


@contextmanager
def _copying(
    popen: subprocess.Popen[bytes], ours: Sequence[TextIO], redact: Callable[[str], str]
) -> Iterator[None]:
    """Copy what a program writes into pipes to our own streams, a redacted line at a time."""

    def copy(source: IO[bytes], sink: IO[bytes]) -> None:
        with suppress(OSError), source:  # nobody reads our stream any more: nor we the program's
            for line in source:
                text = redact(line.decode(errors="surrogateescape"))
                sink.write(text.encode(errors="surrogateescape"))
                sink.flush()

    pairs = zip((popen.stdout, popen.stderr), ours, strict=True)
    pipes = [(source, sink.buffer) for source, sink in pairs if source is not None]
    threads = [threading.Thread(target=copy, args=pair, daemon=True) for pair in pipes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(GRACE_S)  # a daemon that it left behind may keep the pipe open
