"""Whether the server still answers: one that does not for a minute ends what waits for it.

TCP notices a machine that has vanished, where a session has asked for that. It does not notice a
server that stands still while its machine goes on, and a driver of the project's asks for nothing.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from backset.connections import session as sessions
from backset.errors import StepFailedError
from backset.process import process, signals

if TYPE_CHECKING:
    from backset.connections.session import Session

_EVERY_S = 5.0
_ANSWER_S = 10.0  # as connect() has it
_SILENT_S = 60.0  # as TCP has it for the sessions
_TIMES = 4  # a laptop that wakes up has not heard of the server for long
# GSSENCRequest of the protocol: a server answers before it knows who asks. Of that it logs nothing
# but that somebody came, with log_connections.
_QUESTION = (8).to_bytes(4, "big") + (80877104).to_bytes(4, "big")


class Heartbeat:
    """For as long as the block lasts, asks the server of a session whether it is there.

    When it has not answered for a minute, our sessions are cut and our programs ended, so that
    whatever waits for them fails; the error says why. Where it has never answered, nothing is cut:
    what stands before the server may not know the question, and the sessions are well.
    """

    def __init__(self, session: Session) -> None:
        host, self._port = session.info.host, session.info.port
        is_local = host.startswith(("/", "@"))
        folder = f"\0{host[1:]}" if host.startswith("@") else host  # an abstract one
        self._socket = f"{folder}/.s.PGSQL.{self._port}" if is_local else ""
        self._host = session.info.hostaddr or host
        self._is_lost = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        with signals.deferred():
            self._thread.start()
        return self

    def __exit__(self, _type: object, error: object, _trace: object) -> None:
        self._over.set()  # not joined: a server that is silent would keep it busy for longer
        self.explain(error)

    def explain(self, error: object) -> None:
        """Add to an error that it comes of a server that does not answer, where that is so."""
        if self._is_lost and isinstance(error, StepFailedError):
            error.what = f"the server has not answered for {_SILENT_S:.0f} s: {error.what}"
            error.remedy = "see whether the server and the way to it are up, then run this again"

    def _watch(self) -> None:
        heard, missed = math.inf, 0
        while True:
            if self._answers():
                heard, missed = time.monotonic(), 0
            else:
                missed += 1
            if missed >= _TIMES and time.monotonic() - heard > _SILENT_S:
                self._lose()
                return
            if self._over.wait(_EVERY_S):
                return

    def _lose(self) -> None:
        if not self._over.is_set():
            self._is_lost = True
            sessions.cut()
            process.end_all()

    def _answers(self) -> bool:
        """Ask once. That somebody hangs up is an answer, too: a pooler may not know the question.

        Not by PQping: psycopg calls it without letting other threads run.
        """
        with suppress(OSError), self._opened() as line:
            line.settimeout(_ANSWER_S)
            line.sendall(_QUESTION)
            with suppress(ConnectionError):
                line.recv(1)
            return True
        return False

    def _opened(self) -> socket.socket:
        if not self._socket:
            return socket.create_connection((self._host, self._port), _ANSWER_S)
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(_ANSWER_S)
        line.connect(self._socket)
        return line
