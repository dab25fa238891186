"""An application that writes all the time, and counts what it was told to be committed."""

from __future__ import annotations

import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Self

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterable

_PAUSE_S = 0.01
_PATIENCE_S = 5.0


class Application:
    """Writes for as long as the block lasts, unless it is paused, and connects again if need be.

    acknowledged: the rows whose COMMIT came back. longest_s: the longest time without one.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.acknowledged: list[str] = []
        self.longest_s = 0.0
        self._may_write = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._last = time.monotonic()
        self._may_write.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._may_write.set()
        self._thread.join(_PATIENCE_S)  # a server that stands still would keep it busy for ever

    def pause(self) -> None:
        """Write nothing, and stay connected."""
        self._may_write.clear()
        time.sleep(0.2)

    def go_on(self) -> None:
        """Write again; the longest time begins anew."""
        self._last, self.longest_s = time.monotonic(), 0.0
        self._may_write.set()

    def await_row(self) -> None:
        """Return when one more row is committed."""
        seen = len(self.acknowledged)
        while len(self.acknowledged) == seen:
            time.sleep(0.01)

    def _work(self) -> None:
        number = 0
        while not self._over.is_set():
            with suppress(psycopg.Error), closing(self._session()) as session:
                while not self._over.wait(_PAUSE_S):
                    self._may_write.wait()
                    number += 1
                    row = f"row {number}"
                    session.execute(_INSERT, [row, f"{row}@example.com"])
                    now = time.monotonic()
                    self.longest_s = max(self.longest_s, now - self._last)
                    self._last = now
                    self.acknowledged.append(row)
            self._over.wait(_PAUSE_S)

    def _session(self) -> psycopg.Connection:
        return psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=2,
            tcp_user_timeout=3000,
            keepalives_idle=1,
            keepalives_interval=1,
            keepalives_count=2,
        )


def rows(urls: Iterable[str]) -> set[str]:
    """Return the rows of the application that stand in these databases, where they are there."""
    found: set[str] = set()
    for url in urls:
        with suppress(psycopg.Error), psycopg.connect(url) as session:
            found |= {each for (each,) in session.execute(_ROWS)}
    return found


_INSERT = "INSERT INTO users (id, email) VALUES (%s, %s)"
_ROWS = "SELECT id FROM users WHERE starts_with(id, 'row ')"
