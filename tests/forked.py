"""Alembic's processes, made by a fork from one that has imported Alembic: half the time of a test.

What is run in them is the program itself, in a session of its own and with the environment that it
was given; or a script of the project, such as its seed command, which imports the same; or
Alembic's own command, by which tests lay a database down. Where anything else is asked for that an
interpreter looks at when it starts, one starts. A run that a test starts as a process of its own is
not touched.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from contextlib import ExitStack, closing, contextmanager
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

PROGRAM = Path(__file__).parents[1] / "src/backset/alembic_worker"
_LIMITS = (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_AS)
_MOST = 1 << 20  # bytes of a request


@contextmanager
def processes() -> Iterator[None]:
    """Let process.process make them so, within the block; nothing is started before the first.

    On Linux alone: its sockets keep requests apart, and its libraries outlive a fork.
    """
    if sys.platform != "linux":
        yield
        return
    import pytest  # noqa: PLC0415  (the program itself does not need these)

    from backset.process import process  # noqa: PLC0415
    from tests.incident import project  # noqa: PLC0415

    known = _looked_at(os.environ), _limits()
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        source = cache(lambda: stack.enter_context(started()))

        def popen(argv: Sequence[str], **how: Any) -> Any:  # noqa: ANN401  (as Popen has it)
            is_like = is_ours(argv, how) and (_looked_at(how["env"]), _limits()) == known
            return Forked(source(), argv, how) if is_like else subprocess.Popen(argv, **how)

        def run(argv: Sequence[str], **how: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401
            is_like = (_looked_at(how["env"]), _limits()) == known
            if not is_like:
                return subprocess.run(argv, **how)  # noqa: PLW1510  (the caller says it)
            return completed(source(), argv, how)

        for module, names in ((process, {"Popen": popen}), (project, {"run": run})):
            patch.setattr(module, "subprocess", SimpleNamespace(**{**vars(subprocess), **names}))
        yield


@contextmanager
def started() -> Iterator[socket.socket]:
    """Start what imports Alembic; give the socket that takes requests."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, __file__, str(theirs.fileno())]
        environ = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        source = subprocess.Popen(command, env=environ, pass_fds=[theirs.fileno()])
    with closing(ours):
        yield ours
    source.wait()


def is_ours(argv: Sequence[str], how: Mapping[str, Any]) -> bool:
    """Tell whether that is the program or a script, by this interpreter and for this account."""
    return (
        (argv[1:2] == [str(PROGRAM)] or _is_script(argv, how))
        and Path(argv[0]).parent == Path(sys.executable).parent
        and "user" not in how
        and how["stdout"] == subprocess.PIPE
    )


def _is_script(argv: Sequence[str], how: Mapping[str, Any]) -> bool:
    return "".join(argv[1:2]).endswith(".py") and Path(how["cwd"], argv[1]).is_file()


def completed(
    source: socket.socket, argv: Sequence[str], how: Mapping[str, Any]
) -> subprocess.CompletedProcess[str]:
    """Run `python -m alembic …` as subprocess.run would that takes its output, both streams."""
    errors, sink = os.pipe()
    try:
        process = Forked(source, argv, how, sink)
    finally:
        os.close(sink)
    pieces: dict[int, list[bytes]] = {process.stdout.fileno(): [], errors: []}
    left = set(pieces)
    while left:
        for each in select.select(left, [], [])[0]:
            pieces[each].append(piece := os.read(each, 1 << 16))
            left -= set() if piece else {each}
    process.stdout.close()
    os.close(errors)
    written = [b"".join(each).decode() for each in pieces.values()]
    return subprocess.CompletedProcess(argv, process.wait(), *written)


def _looked_at(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what an interpreter looks at when it starts, but for what a process can change."""
    names = ("PYTHON", "LC_", "LANG", "LD_", "COVERAGE", "TZ")
    spare = {"PYTHONIOENCODING", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
    found = {
        name: text for name, text in environ.items() if name.startswith(names) and name not in spare
    }
    return {"LANG": "C.UTF-8", **found}  # which Python takes where there is none


def _limits() -> list[tuple[int, int]]:
    return [resource.getrlimit(each) for each in _LIMITS]


class Forked:
    """What process.process needs of a Popen.

    errors: where the process writes its errors; where the rest goes, by default.
    """

    stderr = None

    def __init__(
        self,
        source: socket.socket,
        argv: Sequence[str],
        how: Mapping[str, Any],
        errors: int | None = None,
    ) -> None:
        self.args = argv
        self.returncode: int | None = None
        self._lock = threading.Lock()
        ends = [os.pipe() for _ in range(3)]
        mask = os.umask(0o77)
        os.umask(mask)
        asked = {"environ": dict(how["env"]), "cwd": str(how["cwd"]), "mask": mask}
        writers = [sink for _, sink in ends]
        asked["argv"] = list(argv[1:])
        given = [int(each) for each in how.get("pass_fds", ())]
        given.append(writers[0] if errors is None else errors)
        try:
            message = json.dumps(asked, ensure_ascii=True).encode()
            socket.send_fds(source, [message], [*given, *writers])
        finally:
            for each in writers:
                os.close(each)
        (output, _), (self._status, _), (answer, _) = ends
        self.stdout: IO[str] = open(output, encoding="utf-8", errors="replace")  # noqa: SIM115, PTH123
        with open(answer, encoding="ascii") as told:  # noqa: PTH123
            self.pid = int(told.read())

    def poll(self) -> int | None:
        """Return the exit status, or None as long as it goes on."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status. Raises TimeoutExpired."""
        ended = self._ended(timeout)
        if ended is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return ended

    def _ended(self, within_s: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], within_s)[0]:
            with self._lock:
                if self.returncode is None:
                    self.returncode = int(os.read(self._status, 20))
                    os.close(self._status)
        return self.returncode


def serve(descriptor: int) -> None:
    """Import Alembic as the program does; make a process for each request, and tell of its end."""
    sys.path[0] = str(PROGRAM)  # as where the program starts
    program = runpy.run_path(str(PROGRAM / "__main__.py"), run_name="program")
    worker = program["prepared"]()
    worker.import_ahead()
    worker.collect()
    source = socket.socket(fileno=descriptor)
    noticed, notice = os.pipe()
    os.set_blocking(notice, False)
    signal.set_wakeup_fd(notice)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    made: dict[int, int] = {}
    watched: list[socket.socket | int] = [source, noticed]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if noticed in ready:
            os.read(noticed, 4096)
            tell(made)
        if source in ready:
            message, descriptors, _, _ = socket.recv_fds(source, _MOST, 64)
            if not message:
                return
            *links, errors, output, status, answer = descriptors
            if not (pid := os.fork()):
                asked = json.loads(message)
                become(asked, links, (output, errors), answer)
                run(asked["argv"], links, partial(program["serve"], worker, links))
                sys.exit()
            made[pid] = status
            for each in (*links, errors, output, answer):
                os.close(each)


def tell(made: dict[int, int]) -> None:
    """Write the exit status of each that has ended."""
    for pid in list(made):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with open(made.pop(pid), "w", encoding="ascii") as told:  # noqa: PTH123
                told.write(str(os.waitstatus_to_exitcode(status)))


def run(argv: list[str], links: list[int], serve_alembic: Callable[[], None]) -> None:
    """Be the program that was asked for, from its first line on."""
    if argv[0] == str(PROGRAM):
        sys.argv = [argv[0], *map(str, links)]
        serve_alembic()
    elif argv[0].endswith(".py"):
        sys.argv, sys.path[0] = argv, str(Path(argv[0]).resolve().parent)
        sys.excepthook = partial(_tell, argv[0])
        runpy.run_path(argv[0], run_name="__main__")
    else:
        import alembic.config  # noqa: PLC0415  (only tests.forked's own process has it already)

        sys.argv = [alembic.config.__file__, *argv[2:]]
        sys.path.insert(0, str(Path.cwd()))
        alembic.config.main(prog="alembic", argv=argv[2:])


def _tell(
    script: str, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print what the interpreter would: no frame is there before that of the script."""
    while trace is not None and trace.tb_frame.f_code.co_filename != script:
        trace = trace.tb_next
    traceback.print_exception(kind, error, trace)


def become(asked: dict[str, Any], links: list[int], outputs: tuple[int, int], answer: int) -> None:
    """Be what a start of the program would have made of this process."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(asked["cwd"])
    os.umask(asked["mask"])
    os.environ.clear()
    os.environ.update(asked["environ"])
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    nothing = os.open(os.devnull, os.O_RDONLY)
    for own, standard in ((nothing, 0), (outputs[0], 1), (outputs[1], 2)):
        os.dup2(own, standard)
    with open(answer, "w", encoding="ascii") as told:
        told.write(str(os.getpid()))
    for each in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208
        if each not in {0, 1, 2, *links}:
            os.closerange(each, each + 1)  # it may be gone: one was that of the list


if __name__ == "__main__":
    serve(int(sys.argv[1]))
