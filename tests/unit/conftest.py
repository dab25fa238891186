"""Unit tests do no input and no output: connecting and spawning raise."""

from __future__ import annotations

import socket
import subprocess
from typing import NoReturn

import pytest


@pytest.fixture(autouse=True)
def no_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse sockets and programs."""

    def refuse(*_arguments: object, **_options: object) -> NoReturn:
        raise AssertionError("a unit test reached for the outside")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
