"""PgBouncer between a run and its server, where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AROUND = "server_round_robin = 1"  # by default the session that was given back last comes first
_PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
_CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={server} user={role} password='{password}'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
{more}
"""


def why_not() -> str:
    """Return why there is none; empty where there is."""
    return "" if _PROGRAM else "PgBouncer is not installed"


@contextmanager
def running(
    folder: Path, port: int, server: int, login: tuple[str, str], more: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run it on a port of this machine, before the server on another, for as long as the block.

    login: a role of the server and its password, which all clients get. more: of its settings.
    """
    role, password = login
    file = folder / f"pgbouncer-{port}.ini"
    secret = password.replace("'", "''")
    file.write_text(
        _CONFIGURATION.format(server=server, port=port, role=role, password=secret, more=more)
    )
    account = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to run as root
    if account:
        file.chmod(0o644)
        for each in (file.parent, *file.parents[1:-1]):
            each.chmod(each.stat().st_mode | 0o011)
    command = [str(_PROGRAM), "-q", *account, str(file)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            _await(port)
            yield process
        finally:
            process.terminate()


def _await(port: int) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return
