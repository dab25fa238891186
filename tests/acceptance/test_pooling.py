"""A pooler between us and PostgreSQL: refused where it shares sessions, else worked through."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import psycopg
import pytest

from backset.connections.pooling import Told, is_shared
from tests.clusters import free_port
from tests.conftest import PASSWORD, ROLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster
    from tests.project import Project

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={server} user={role} password='{password}'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
"""


@contextmanager
def pooler(folder: Path, server: int, mode: str) -> Iterator[int]:
    """Run PgBouncer before a server; yield its port."""
    port, file = free_port(), folder / f"{mode}.ini"
    secret = PASSWORD.replace("'", "''")
    text = CONFIGURATION.format(server=server, port=port, mode=mode, role=ROLE, password=secret)
    file.write_text(text)
    account = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to run as root
    if account:
        file.chmod(0o644)
        for each in (file.parent, *file.parents[1:-1]):
            each.chmod(each.stat().st_mode | 0o011)
    command = [str(PGBOUNCER), "-q", *account, str(file)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            _await(port)
            yield port
        finally:
            process.terminate()


def _await(port: int) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < until, "PgBouncer does not listen"
            time.sleep(0.05)
        else:
            return


@pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed")
def test_a_pooler_that_shares_sessions_is_refused(
    project: Project, cluster: Cluster, name: str, tmp_path: Path
) -> None:
    """At once, with what to do; a run would fail in its middle, and its lock would hold nobody."""
    user = f"{ROLE}:{quote(PASSWORD, safe='')}@127.0.0.1"
    project.query(f'ALTER DATABASE "{name}" OWNER TO {ROLE}')
    with pooler(tmp_path, cluster.port, "transaction") as port:
        project.env["DATABASE_URL"] = f"postgresql://{user}:{port}/{name}"
        for task in ("status", "reset-db", "wait"):
            done = project.invoke(task)
            assert done.returncode == 2, done.stdout + done.stderr
            (line,) = done.stderr.splitlines()
            assert "is a pooler that gives each transaction another session → give DATABASE" in line
    with pooler(tmp_path, cluster.port, "session") as port:
        project.env["DATABASE_URL"] = f"postgresql://{user}:{port}/{name}"
        done = project.invoke("reset-db")
        assert done.returncode == 0, done.stderr


def test_what_is_shared(database_url: str) -> None:
    """Two sessions of the server are not; one that answers for two is."""
    session: psycopg.Connection[Any]
    with psycopg.connect(database_url, autocommit=True) as session:
        assert not is_shared(session, lambda: psycopg.connect(database_url, autocommit=True))
        one = cast("psycopg.Connection[Any]", nullcontext(session))
        assert is_shared(session, lambda: one)
        (pid,) = session.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        assert not Told(session.info.backend_pid, pid).is_doubtful
