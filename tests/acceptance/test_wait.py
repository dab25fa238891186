"""`invoke wait`: until the server really serves."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from backset.connections.target import Target
from backset.servers import location
from tests.clusters import free_port, running
from tests.conftest import PASSWORD, ROLE
from tests.elsewhere import forwarding

if TYPE_CHECKING:
    from backset.servers.cluster import Cluster
    from tests.project import Project


def test_a_server_that_comes_later(project: Project) -> None:
    """It says what it waits for, and returns when the server is there; no database is needed."""
    with running(18, free_port()) as late:
        late.stop()  # it has been made, so that the start below is a quick one
        project.env["DATABASE_URL"] = f"postgresql://postgres@127.0.0.1:{late.port}/not_yet_there"
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


@pytest.mark.parametrize("given", ["soon", "-1", 20 * "9"])
def test_a_time_that_is_none(project: Project, given: str) -> None:
    """It is one line, and exit code 2."""
    done = project.invoke("wait", f"--timeout={given}")
    assert done.returncode == 2
    assert f"--timeout is '{given}' → it must be seconds" in done.stderr


def test_the_embedded_server_is_started(project: Project) -> None:
    """It serves as soon as any task has asked for it."""
    project.env = {"BACKSET_DATABASE": "t"}
    try:
        assert "PostgreSQL 18 serves" in project.invoke("wait").stdout
    finally:
        project.invoke("stop")


def test_one_answer_is_not_enough(cluster: Cluster) -> None:
    """What answers once and is gone again is a server of a set-up script: two in a row count."""
    came: list[bool] = []

    def admits() -> bool:
        came.append(len(came) + 1 not in {2, 3, 5, 6})  # two databases are tried each time
        return came[-1]

    who = f"{ROLE}:{quote(PASSWORD, safe='')}"
    told: list[str] = []
    with forwarding("127.0.0.1", ("127.0.0.1", cluster.port), admits) as port:
        target = Target.parse(f"postgresql://{who}@127.0.0.1:{port}/postgres")
        assert location.wait(target, 60, told.append) == 18
    assert len(came) == 8
    assert len(told) == 1
    assert "closed the connection" in told[0]
