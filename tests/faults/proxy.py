"""A socket between a run and its server, which breaks exactly where the server has to commit."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Lost = Literal["reply", "everything"]

_CHUNK = 2**16
_RENAME, _COMMIT = b" RENAME TO ", b"COMMIT\0"
_OURS = b"application_name\0backset "  # in the packet that opens a session

_silent: list[socket.socket] = []  # what a server still takes for a session, long after the run


class Proxy:
    """Listens on one socket and passes everything on to another.

    lost: at COMMIT, whether the server does it and its answer never arrives, or the server never
    gets it, and does not even learn that the line is broken, as when a network goes away.
    """

    def __init__(self, ours: Path, server: Path, lost: Lost) -> None:
        self._server = str(server)
        self._lost = lost
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(ours))
        ours.chmod(0o777)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more sessions."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self._server)
            opening = client.recv(_CHUNK)
            server.sendall(opening)
            pump = threading.Thread(target=_pump, args=(server, client), daemon=True)
            pump.start()
            swaps = False
            while data := client.recv(_CHUNK):
                swaps = swaps or (_OURS in opening and _RENAME in data)
                if swaps and _COMMIT in data:
                    self._break(client, server, data)
                    return
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
            pump.join()

    def _break(self, client: socket.socket, server: socket.socket, data: bytes) -> None:
        client.shutdown(socket.SHUT_RDWR)
        if self._lost == "reply":
            server.sendall(data)
            server.shutdown(socket.SHUT_WR)
        else:
            _silent.append(server.dup())


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def between(folder: Path, server: Path, lost: Lost) -> Iterator[None]:
    """Stand between a socket of the same name in `folder` and the server's, while it lasts."""
    while _silent:
        _silent.pop().close()
    folder.mkdir()
    proxy = Proxy(folder / server.name, server, lost)
    try:
        yield
    finally:
        proxy.close()
        (folder / server.name).unlink()
        folder.rmdir()
