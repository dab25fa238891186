"""Alembic's own command line on the target, in a worker that has the terminal.

The worker asks for the lock, which proves the target, when env.py opens something: a command that
needs no database asks for none, and no server has to be there.
"""

from __future__ import annotations

import json
import secrets
import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

from backset.connections.session import connect, explained
from backset.errors import BacksetError, StepFailedError
from backset.migrations.worker import failure, greet, program
from backset.processes.process import attach
from backset.servers import location
from backset.wording import explanations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.configuration.lineage import Lineage
    from backset.configuration.settings import Settings
    from backset.connections.target import Target

# Commands of Alembic that print what is in the scripts, and ask nothing.
_SPEAKING = frozenset({"history", "heads", "branches", "show"})
_TRACEBACK = 1  # the exit status of a Python program that ends with one


def run(
    settings: Settings,
    lineage: Lineage,
    words: Sequence[str],
    unknown: BacksetError | None = None,
) -> int:
    """Run `alembic` with these words; return its exit status.

    unknown: why it is not known which database is the target; it is raised where one is needed.
    Raises AlembicError for a connection that is not to the target, and what keeps us from that.
    """
    target = None if unknown else location.named(settings)
    ours, theirs = socket.socketpair()
    with ours, _Side(settings, lineage, target, unknown, ours) as side:
        with theirs:
            greeting = {**greet(settings, lineage, target), "words": list(words)}

            def talk() -> None:
                theirs.close()  # else its end would never be seen
                side.talk(greeting)

            status = attach(
                program(settings, theirs.fileno()),
                env=settings.plain_env,
                cwd=settings.root,
                redact=lambda line: settings.redact(target, line),
                in_github=settings.is_in_github,
                only_speaks=not _SPEAKING.isdisjoint(words),
                pass_fds=[theirs.fileno()],
                meanwhile=talk,
            )
        side.judge(status)
        return status


class _Side:
    """Our side of the socket: it takes the lock, and keeps what is to be told at the end."""

    def __init__(
        self,
        settings: Settings,
        lineage: Lineage,
        target: Target | None,
        unknown: BacksetError | None,
        link: socket.socket,
    ) -> None:
        self._settings, self._lineage, self._target = settings, lineage, target
        self._error = unknown
        self._link = link
        self._open = ExitStack()
        self._began = self._refused = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._open.close()

    def talk(self, greeting: dict[str, Any]) -> None:
        """Greet the worker, and answer it until it has ended."""
        with suppress(ConnectionError), self._link.makefile("r", encoding="utf-8") as lines:
            self._send(greeting)
            for line in lines:
                reply = json.loads(line)
                if reply["event"] == "ready":
                    self._began = True
                elif reply["event"] == "lock":
                    self._send(self._locked())
                else:
                    self._refuse(failure(self._settings, self._lineage, self._target, reply))

    def judge(self, status: int) -> None:
        """Raise what the worker was refused for, or why it is none."""
        if self._error and (self._refused or status == _TRACEBACK):
            raise self._error
        if status > 0 and not self._began:  # its own words stand above
            what = f"{self._settings.shown_python} does not run Alembic"
            raise StepFailedError(what, explanations.INTERPRETER)

    def _locked(self) -> dict[str, int]:
        """Hold a lock in the target until the end; return its key, or nothing where we cannot."""
        if self._target is None:
            self._refused = True
            return {}
        key = secrets.randbits(63)
        try:
            target = location.locate(self._settings)
            with explained(target):
                session = self._open.enter_context(connect(target, "alembic"))
                session.execute("SELECT pg_advisory_lock(%s)", [key])
        except BacksetError as error:
            self._refuse(error)
            return {}
        return {"lock_key": key}

    def _refuse(self, error: BacksetError) -> None:
        self._error, self._refused = error, True

    def _send(self, message: dict[str, Any]) -> None:
        self._link.sendall(json.dumps(message).encode() + b"\n")
