"""A line over TCP to a server: it can be cut, or carry nothing any more, as a network does."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 2**16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST


class Line:
    """Listens on a port of its own, and passes everything on to a server's, and back."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: set[socket.socket] = set()
        self._is_silent = False
        self._is_mute = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        return int(self._listener.getsockname()[1])

    def cut(self) -> None:
        """Reset every connection, and refuse new ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in tuple(self._ends):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)

    def silence(self) -> None:
        """Carry nothing any more: whoever connects, or waits for an answer, waits for ever."""
        self._is_silent = True

    def silence_new(self) -> None:
        """Carry nothing for whoever connects from now on; who is connected goes on."""
        self._is_mute = True

    def _accept(self) -> None:
        with suppress(OSError):  # it was cut
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._ends.add(client)
        with client, suppress(OSError):
            if self._is_mute:
                while client.recv(_CHUNK):
                    pass
                return
            server = socket.create_connection(("127.0.0.1", self._server))
            self._ends.add(server)
            with server:
                back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
                back.start()
                self._pump(client, server)
                back.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if not self._is_silent:
                    sink.sendall(data)
            if not self._is_silent:
                sink.shutdown(socket.SHUT_WR)


@contextmanager
def to(server: int) -> Iterator[Line]:
    """Open a line to a server's port, for as long as the block lasts."""
    line = Line(server)
    try:
        yield line
    finally:
        line.cut()
