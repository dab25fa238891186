"""`__next`: made beside the target in its likeness, in a thread; removed again if the run fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from backset.errors import BacksetError
from backset.process import signals
from backset.process.signals import submit
from backset.runs import ownership
from backset.servers import derived, read_only, swap

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from backset.connections.session import Session
    from backset.runs.current import CurrentDatabase
    from backset.runs.states import CloneState
    from backset.servers.server import Server


class NextDatabase:
    """Makes it once, as a copy of what is cloned, or empty."""

    def __init__(self, server: Server, current: CurrentDatabase, clone: CloneState) -> None:
        self._server = server
        self._current = current
        self._clone = clone
        self._thread = ThreadPoolExecutor(1)
        self._made: Future[None] | None = None

    @property
    def name(self) -> str:
        """What it is called until it is the target."""
        return self._server.names.next

    @property
    def is_begun(self) -> bool:
        """Whether there may be something of it to remove."""
        return self._made is not None

    def begin(self) -> None:
        """Begin to create it, while the dump is written."""
        if self._made is None:
            recalled = self._clone.recalled
            template = recalled.template if recalled else None
            where = self._server, self._current.database, template
            self._made = submit(self._thread, derived.create_next, *where)

    def make(self, *, acts: bool = True) -> None:
        """Create it, unless that has begun, and wait for it. Raises what the server says.

        acts: whether our login acts there as the role that the tables belong to. A dump says itself
        whose each object is, and has what only the login itself may set.
        """
        self.begin()
        if self._made is not None:
            self._made.result()
        read_only.lift(self._server.session, self.name)
        role = self._current.ownership().role if acts else ""
        if role:
            ownership.begin(self._server.session, self.name, role)

    def make_anew(self) -> None:
        """Make it once more, in place of one that holds something; nobody is connected to it."""
        with signals.deferred():
            swap.drop(self._server, self.name)
        self._made = None
        self.make(acts=False)

    def give_back(self, session: Session) -> None:
        """Take back what was set for the time in which it was built, as it becomes the target."""
        target = self._server.names.target
        read_only.restore(session, target)
        if self._current.ownership().role:
            ownership.end(session, target)

    def close(self) -> None:
        """End the thread, when it has done what it began."""
        self._thread.shutdown()


def remove(server: Server, error: BaseException) -> None:
    """Drop the `__next` of this run; what keeps us from that is added to the error.

    A loaded server can take longer over a session than DROP waits, and a signal can leave our own
    in the middle of a statement.
    """
    name = server.names.next
    attempts: tuple[Callable[[], None], ...] = (
        lambda: swap.drop(server, name, is_own=True),
        lambda: swap.drop_aside(server, [name], is_own=True),
    )
    for attempt in attempts:
        try:
            attempt()
        except (BacksetError, OSError) as second:
            problem = second
        else:
            return
    error.add_note(f"{problem}; the next run removes {name}")
