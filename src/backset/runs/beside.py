"""The new database beside the target: made in a thread, while something else is done."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from backset.processes.signals import submit
from backset.servers import copying, swap

if TYPE_CHECKING:
    from concurrent.futures import Future

    from backset.servers.server import Database, Server


class Beside:
    """Makes `__next`, once, in the likeness of the target."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._made: Future[None] | None = None

    @property
    def is_begun(self) -> bool:
        """Whether there may be something of it to remove."""
        return self._made is not None

    def begin(self, server: Server, old: Database | None, template: Database | None) -> None:
        """Begin: with a copy of `template`, or empty."""
        if self._made is None:
            self._made = submit(self._thread, _create, server, old, template)

    def wait(self) -> None:
        """Wait until it is there. Raises what the server says."""
        if self._made is not None:
            self._made.result()

    def close(self) -> None:
        """End the thread, when it has done what it began."""
        self._thread.shutdown()


def _create(server: Server, old: Database | None, template: Database | None) -> None:
    name = server.names.next
    if template is None or old is None:
        swap.make(server, name, "next", old)
        return
    # Closed until it has its mark: one that has content and no mark would be somebody else's.
    copying.copy(server.session, template, name, old, closed=True)
    swap.show(server, name, "next")
