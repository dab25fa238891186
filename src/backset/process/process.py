"""The door to other programs: argument lists, own process groups or our terminal, streams."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, TextIO, TypeAlias

from backset.errors import StepFailedError
from backset.process import signals
from backset.process.streams import shown
from backset.text import redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from io import FileIO

Account: TypeAlias = tuple[int, int]  # uid, gid; None everywhere means ourselves
GRACE_S = 5.0  # between TERM and KILL
_ORPHANS_S = 1.0  # for what its leader has left behind
_LOOK_EVERY_S = 0.005
_TAIL_LINES = 40
_PIPE_BYTES = 2**20  # what Linux allows everybody


@contextmanager
def pipe() -> Iterator[tuple[FileIO, FileIO]]:
    """Open a pipe; give its ends, that to read from and that to write to."""
    ends = os.pipe()
    with os.fdopen(ends[0], "rb", 0) as source, os.fdopen(ends[1], "wb", 0) as sink:
        _widen(sink)
        yield source, sink


def _widen(sink: FileIO) -> None:
    """Let both sides of a pipe work on while the other one does not run, where that can be had.

    Linux has room for 64 kB otherwise: a large dump takes a tenth of the processor's time more.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # other pipes of the account have all the room that it may have
            fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class Child:
    """A program in a session of its own; leaving the `with` block ends its whole group.

    The session has no terminal, so that nothing in it can ask. stdin is empty; stdout and stderr
    come as one stream of lines to `on_line`; the last forty stay in `tail`.
    output: a file that gets stdout as it is; the lines are then those of stderr.
    stdin: a file that it reads in place of nothing.
    tethered: whether its group ends even when we are killed and can end nothing.
    Raises StepFailedError when the program cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        on_line: Callable[[str], None] = lambda _line: None,
        pass_fds: Sequence[int] = (),
        account: Account | None = None,
        tethered: bool = False,
        output: IO[bytes] | None = None,
        stdin: IO[bytes] | None = None,
    ) -> None:
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._on_line = on_line
        self._over = False
        self._tether: Tether | None = None
        try:
            with signals.deferred():  # a signal in here would lose a child that runs already
                self._popen = subprocess.Popen(
                    argv,
                    env=env,
                    cwd=cwd,
                    stdin=subprocess.DEVNULL if stdin is None else stdin,
                    stdout=subprocess.PIPE if output is None else output,
                    stderr=subprocess.STDOUT if output is None else subprocess.PIPE,
                    pass_fds=pass_fds,
                    start_new_session=True,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                    **_identity(account),
                )
                self._stream = self._popen.stdout or self._popen.stderr
                self._reader = threading.Thread(target=self._read, daemon=True)
                self._reader.start()
                _running.add(self)
                if tethered:
                    self._tether = Tether(_END_GROUP, str(self._popen.pid))
        except BaseException as error:
            if self in _running:  # nobody knows of it yet: it would go on beside the cleaning
                self.end()
            if isinstance(error, OSError | subprocess.SubprocessError):
                raise _cannot_start(argv, error) from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()

    @property
    def session_id(self) -> int:
        """The number of its session, which is that of the program itself."""
        return self._popen.pid

    def has_ended(self, within_s: float) -> bool:
        """Wait for its end no longer than that; tell whether it has come."""
        self._reader.join(within_s)  # its output ends when it does, and that wakes us at once
        if self._reader.is_alive():
            return self._popen.poll() is not None
        with suppress(subprocess.TimeoutExpired):  # it has closed its output, and goes on
            self._popen.wait(within_s)
        return self._popen.returncode is not None

    def wait(self) -> int:
        """Wait for the program and its output; return its exit status."""
        status = self._popen.wait()
        self._reader.join(GRACE_S)  # a daemon that it left behind may keep the pipe open
        return status

    def end(self) -> None:
        """End the group: TERM, then KILL for those that stay. Once: its number may be reused."""
        if self._over:
            return
        with signals.deferred():
            self._over = True
            if self._tether is not None:
                self._tether.cut()
            if self._popen.poll() is None:
                self._signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    self._popen.wait(GRACE_S)
                self._wait_for_group()
            self._signal(signal.SIGKILL)  # the leader's own children, which may outlive it
            self._popen.wait()
            self._reader.join(GRACE_S)
            _running.discard(self)
        if not self._reader.is_alive() and self._stream is not None:
            self._stream.close()

    def _wait_for_group(self) -> None:
        """Give the leader's children, too, the time to clean up.

        Not for long: where nobody buries orphans, as in some containers, the dead stay in it.
        """
        signals.wait_while(lambda: self._signal(0), _ORPHANS_S, _LOOK_EVERY_S)

    def _signal(self, signum: int) -> bool:
        """Send a signal to the group; tell whether there is anybody in it."""
        try:
            os.killpg(self._popen.pid, signum)
        except (ProcessLookupError, PermissionError):  # macOS: EPERM of a group of zombies
            return False
        return True

    def _read(self) -> None:
        assert self._stream is not None  # noqa: S101  (it is a pipe)
        for line in self._stream:
            text = line.rstrip()
            self.tail.append(text)
            self._on_line(text)


class ScriptAhead:
    """A Python script, started before its turn: it imports libraries, and runs nothing yet.

    argv: `python SCRIPT …`. It ends with the block, or with us.
    """

    _PROGRAM = str(Path(__file__).with_name("script_ahead.py"))

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> None:
        self._is_for: object = (argv, env)
        self._on_line: Callable[[str], None] = lambda _line: None
        self._link, theirs = socket.socketpair()
        python, *words = argv
        with theirs:
            self._child = Child(
                [python, self._PROGRAM, str(theirs.fileno()), *words],
                env=env,
                cwd=cwd,
                on_line=self._hear,
                pass_fds=[theirs.fileno()],
                tethered=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._link.close()
        self._child.end()

    def _hear(self, line: str) -> None:
        self._on_line(line)

    def go(
        self, argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]
    ) -> Child | None:
        """Let it run, once; None where another command is wanted, or it has ended already."""
        if self._is_for != (argv, env) or self._child.has_ended(0):
            return None
        self._is_for, self._on_line = None, on_line
        with self._link, suppress(ConnectionError):  # it has died: its exit status says so
            self._link.sendall(b"!")
        return self._child


_running: set[Child] = set()
_END_GROUP = """
import os, signal, sys, time
for signum in (signal.SIGTERM, signal.SIGKILL):
    os.killpg(int(sys.argv[1]), signum)
    time.sleep(1)
"""


class Tether:
    """A Python program, of the standard library alone, that runs after our death; or never.

    Not PR_SET_PDEATHSIG: that is Linux's alone, wants code between fork and exec, and reaches one
    process but not its children.
    """

    # Nothing is ever written: the read returns when whoever holds the other end is gone.
    _WAIT = "import os; os.read(0, 1)"

    def __init__(self, program: str, *arguments: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", f"{self._WAIT}\n{program}", *arguments],
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def cut(self) -> None:
        """Let the program never run."""
        self._popen.kill()
        self._popen.communicate()


@contextmanager
def all_ended() -> Iterator[None]:
    """End what runs after the block."""
    try:
        yield
    finally:
        end_all()


def end_all() -> None:
    """End every program that still runs, before what it works on is cleaned up.

    A signal may come between the start of one and its `with`.
    """
    for child in tuple(_running):
        child.end()


def last_words(lines: Iterable[str]) -> str:
    """Return in one line why a program failed: its errors, else the last that it said."""
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if "error:" in line.lower() or "fatal:" in line.lower()]
    return " | ".join((errors or said)[-3:]) or "it said nothing"


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    on_line: Callable[[str], None] = lambda _line: None,
    account: Account | None = None,
    tethered: bool = False,
) -> tuple[int, list[str]]:
    """Run a program to its end; return its exit status and its last lines."""
    with Child(
        argv, env=env, cwd=cwd, on_line=on_line, account=account, tethered=tethered
    ) as child:
        return child.wait(), list(child.tail)


@dataclass(frozen=True, slots=True)
class Detached:
    """A server that was started: look whether it has ended, then let go of it."""

    popen: subprocess.Popen[bytes]

    def has_ended(self) -> bool:
        """Tell whether it is gone already."""
        return self.popen.poll() is not None

    def let_go(self) -> None:
        """Leave it running: else Popen would warn, when we end, that its program has not."""
        self.popen.returncode = 0


def detach(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, account: Account | None
) -> Detached:
    """Start a server that is to outlive us."""
    try:
        with log.open("ab") as output:
            popen = subprocess.Popen(
                argv,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **_identity(account),
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise _cannot_start(argv, error) from None
    return Detached(popen)


def _identity(account: Account | None) -> dict[str, Any]:
    """Return Popen's arguments for running as another account; it keeps no group of ours."""
    if account is None:
        return {}
    user, group = account
    return {"user": user, "group": group, "extra_groups": []}


def demand(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> None:
    """Raise StepFailedError where a program is not there, without starting it."""
    program = str(cwd / argv[0]) if os.sep in argv[0] else argv[0]
    folders = env.get("PATH", os.defpath).split(os.pathsep)
    if shutil.which(program, path=os.pathsep.join(str(cwd / each) for each in folders)) is None:
        code = errno.EACCES if (cwd / argv[0]).exists() else errno.ENOENT
        raise _cannot_start(argv, OSError(code, os.strerror(code)))


def _cannot_start(argv: Sequence[str], error: Exception) -> StepFailedError:
    """Return what a person reads of a program that the system does not start."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return StepFailedError(
        f"{argv[0]} cannot be started: {reason}", "install it, or correct the command"
    )


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
        raise _cannot_start(argv, error) from None
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
