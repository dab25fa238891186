"""`invoke wait`: until the server really serves."""

from __future__ import annotations

import shutil
import socket
import threading
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from backset.connections.target import Target
from backset.servers import readiness
from backset.servers.embedded import temporary_cluster
from tests.conftest import PASSWORD, ROLE, Project, free_port

if TYPE_CHECKING:
    from backset.servers.cluster import Cluster


def test_a_server_that_comes_later(project: Project) -> None:
    """It says what it waits for, and returns when the server is there; no database is needed."""
    late = temporary_cluster(18, tcp_port=free_port())
    late.start()  # so that the start below is a quick one
    late.stop()
    project.env["DATABASE_URL"] = f"postgresql://postgres@127.0.0.1:{late.port}/not_yet_there"
    try:
        with project.start("wait", "--timeout", "60") as process:
            assert process.stdout is not None
            assert "waiting: " in (line := process.stdout.readline()), line
            assert "refused" in line
            (late.data / "pg_hba.conf").write_text(
                "local all all trust\nhost all all 127.0.0.1/32 trust\n"
            )
            late.start()
            rest, errors = process.communicate(timeout=90)
        assert process.returncode == 0, errors
        assert "PostgreSQL 18 serves · postgresql://postgres@127.0.0.1" in rest
    finally:
        late.stop()
        shutil.rmtree(late.folder.parent)


def test_a_server_that_never_comes(project: Project) -> None:
    """It is given up with libpq's words and exit code 4, and nothing is started."""
    project.env["DATABASE_URL"] = f"postgresql://x@127.0.0.1:{free_port()}/x"
    done = project.invoke("wait", "--timeout", "1")
    assert done.returncode == 4
    assert "does not serve after 1 s: " in done.stderr
    assert "refused" in done.stderr
    assert " → start the server" in done.stderr


def test_a_server_that_is_silent(project: Project) -> None:
    """It takes connections and says nothing: that is given up as soon as asked, too."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        project.env["DATABASE_URL"] = f"postgresql://x@127.0.0.1:{port}/x"
        done = project.invoke("wait", "--timeout", "1")
    assert done.returncode == 4
    assert "does not serve after 1 s: no answer → start the server" in done.stderr


@pytest.mark.parametrize("given", ["soon", "-1", "1.5", 20 * "9"])
def test_a_time_that_is_none(project: Project, given: str) -> None:
    """It is one line, and exit code 2."""
    done = project.invoke("wait", f"--timeout={given}")
    assert done.returncode == 2
    assert f"--timeout is '{given}' → say it in seconds" in done.stderr


def test_the_embedded_server_is_started(project: Project) -> None:
    """It serves as soon as any task has asked for it."""
    project.env = {"BACKSET_DATABASE": "t"}
    try:
        assert "PostgreSQL 18 serves" in project.invoke("wait").stdout
    finally:
        project.invoke("stop")


class Gate:
    """A TCP port that passes connections on to a server, but for those that are refused."""

    def __init__(self, server: Cluster, refused: set[int]) -> None:
        self.server = server
        self.refused = refused
        self.came = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                ours, _ = self.socket.accept()
            except OSError:  # closed
                return
            self.came += 1
            if self.came in self.refused:
                ours.close()
                continue
            theirs = socket.create_connection(("127.0.0.1", self.server.port))
            for source, sink in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with closing(sink):
        while piece := source.recv(65536):
            sink.sendall(piece)


def test_one_answer_is_not_enough(cluster: Cluster) -> None:
    """What answers once and is gone again is a server of a set-up script: two in a row count."""
    gate = Gate(cluster, refused={2, 3, 5, 6})  # two databases are tried each time
    port = gate.socket.getsockname()[1]
    who = f"{ROLE}:{quote(PASSWORD, safe='')}"
    target = Target.parse(f"postgresql://{who}@127.0.0.1:{port}/postgres")
    told: list[str] = []
    with closing(gate.socket):
        assert readiness.wait(target, 60, told.append) == 18
    assert gate.came == 8
    assert len(told) == 1
    assert "closed the connection" in told[0]
