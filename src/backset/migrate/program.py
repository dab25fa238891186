"""Alembic's program, as a process: started, shared by several chains, handed on, ended."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from backset.process import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backset.settings.settings import Settings


_LAST_WORDS_S = 0.2
_MORE = "more"


_WORKER = Path(__file__).parents[1] / "alembic_worker"


class Program:
    """Alembic's program; each of its sockets has a process of its own.

    What imports Alembic is one process. The others are made from that one: the import takes most
    of the time of a small project.
    """

    def __init__(self, settings: Settings, number: int = 1, more: Sequence[str] = ()) -> None:
        with ExitStack() as stack:
            pairs = [socket.socketpair() for _ in range(number)]
            theirs = [stack.enter_context(other).fileno() for _, other in pairs]
            self._child = process.Child(
                [*command_line(settings, *theirs), *more],
                env=settings.plain_env,
                cwd=settings.root,
                pass_fds=theirs,
            )
        self.links = [own for own, _ in pairs]
        self.is_shared = number > 1
        self.of = settings.python, settings.root

    @property
    def tail(self) -> Sequence[str]:
        """The last lines that it printed."""
        return self._child.tail

    def status(self) -> int | None:
        """Return the exit status of its process, once it has ended; None where others go on."""
        if self.is_shared:
            self._child.has_ended(_LAST_WORDS_S)
            return None
        return self._child.wait()

    def end(self, link: socket.socket) -> None:
        """Hang up, and wait until that process has ended; with the last one the program ends."""
        if link not in self.links:
            return
        self.links.remove(link)
        if self.links:
            with suppress(OSError):
                link.shutdown(socket.SHUT_WR)
                link.settimeout(process.GRACE_S)
                while link.recv(4096):  # nothing comes any more when it has ended
                    pass
        link.close()
        if not self.links:
            self._child.end()

    def end_all(self) -> None:
        """Hang up on every process of it."""
        for link in tuple(self.links):
            self.end(link)


class Nursery(Program):
    """Alembic's program, which makes a process of itself for each socket that is asked for.

    So one import serves many databases, and what the migrations of one leave in memory, no other
    one's process ever has.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, more=[_MORE])
        self.is_shared = True
        (self.control,) = self.links
        self._is_open = False

    def is_there(self, settings: Settings) -> bool:
        """Tell whether it is of this project, and has not ended."""
        is_of = self.of == (settings.python, settings.root)
        return is_of and not self._child.has_ended(0)

    def another(self) -> socket.socket:
        """Return the socket of a new process. Raises OSError where the program has ended."""
        own, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.control, [b"!"], [theirs.fileno()])
        self.links.append(own)
        return own


# What gives processes in place of new programs, if anything does: see nursery.kept().
SOURCES: list[Callable[[Settings], tuple[Program, socket.socket] | None]] = []
_left: list[Program] | None = None


@contextmanager
def handed_on() -> Iterator[None]:
    """Let a worker of the block leave its process to a later one of it: see Worker.leave()."""
    global _left  # noqa: PLW0603  (a task is one process, or one call after another)
    _left = []
    try:
        yield
    finally:
        for each in _left:
            each.end(each.links[0])
        _left = None


def is_left(settings: Settings) -> bool:
    """Tell whether there is a process that has imported this application."""
    of = settings.python, settings.root
    return not settings.is_throw_away and any(each.of == of for each in _left or ())


def command_line(settings: Settings, *descriptors: int) -> list[str]:
    """Return the command line of a worker for each of the sockets that have these descriptors."""
    return [settings.python, str(_WORKER), *map(str, descriptors)]


def left_to_the_next(of: Program) -> bool:
    """Leave a process that has imported its application; tell whether anybody may come for it."""
    if _left is None:
        return False
    _left.append(of)
    return True


def alone(settings: Settings) -> tuple[Program, socket.socket]:
    """Return a program and its only socket: one that was left, or a new one."""
    for source in SOURCES:
        if found := source(settings):
            return found
    made = _left.pop() if _left and is_left(settings) else Program(settings)
    return made, made.links[0]
