"""Nothing waits without saying for whom: a look, once a second, at who blocks this run."""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import psycopg

from backset.connections import activity
from backset.connections.activity import Client, listed
from backset.connections.session import connect
from backset.errors import StepFailedError
from backset.processes import signals
from backset.processes.identity import run_mark

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backset.connections.session import Session
    from backset.connections.target import Target

EVERY_S = 1.0  # a run that is over sooner never pays for a look
_FRESH_S = 2.5  # a look may come between the end of a wait and that of its step


class Waits:
    """For as long as the block lasts, tells `notice` whom this run waits for, once each.

    A thread looks over a session of its own on `maintenance`, since ours are the ones that wait.
    databases: those that the run works on; on them Alembic and the seed command are watched too.
    began: the server's pid of a session that is older than they are.
    A step that fails while it is held up says by whom.
    """

    def __init__(
        self,
        maintenance: Target,
        databases: Sequence[str],
        began: int,
        notice: Callable[[str, Sequence[Client]], None],
    ) -> None:
        self._maintenance = maintenance
        self._databases = databases
        self._began = began
        self._notice = notice
        self._told: set[tuple[str | None, int]] = set()
        self._last: list[Client] = []
        self._last_at = -math.inf
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        with signals.deferred():
            self._thread.start()
        return self

    def __exit__(self, _type: object, error: object, _trace: object) -> None:
        self._over.set()
        self._thread.join(EVERY_S)  # a server that is gone would keep it busy for longer
        is_fresh = time.monotonic() - self._last_at < _FRESH_S
        if isinstance(error, StepFailedError) and is_fresh:
            error.what += f" (it waited for {listed(self._last)})"

    def _watch(self) -> None:
        if self._over.wait(EVERY_S):
            return
        # Without the server the run itself fails, and says so.
        with (
            suppress(StepFailedError, psycopg.Error),
            connect(self._maintenance, "waits") as session,
        ):
            self._look(session)
            while not self._over.wait(EVERY_S):
                self._look(session)

    def _look(self, session: Session) -> None:
        found = activity.waits(session, self._databases, run_mark(), self._began)
        if found:
            self._last = list({client.pid: client for _, client in found}.values())
            self._last_at = time.monotonic()
        for waiting in dict.fromkeys(name for name, _ in found):
            blocking = {client.pid: client for name, client in found if name == waiting}
            new = [blocking[pid] for pid in blocking if (waiting, pid) not in self._told]
            self._told |= {(waiting, pid) for pid in blocking}
            if new and not self._over.is_set():
                whose = "" if waiting is None else f"{waiting} "
                self._notice(f"{whose}waits for {listed(new)}", new)
