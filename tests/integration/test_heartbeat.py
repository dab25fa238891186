"""A server that falls silent holds up nothing: neither a session, nor a program of the run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from backset.connections import heartbeat
from backset.connections import session as sessions
from backset.connections.heartbeat import Heartbeat
from backset.connections.session import connect, conninfo, explained
from backset.connections.target import Target
from backset.errors import StepFailedError, UnreachableError
from backset.process.process import Child
from backset.servers.programs import embedded_folder
from backset.settings.reader import load
from tests.faults import line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from backset.servers.cluster import Cluster


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask every tenth of a second, and wait for a second."""
    for name, seconds in (("_EVERY_S", 0.1), ("_ANSWER_S", 0.2), ("_SILENT_S", 1.0)):
        monkeypatch.setattr(heartbeat, name, seconds)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_falls_silent_ends_what_waits_for_it(tcp_url: str, tmp_path: Path) -> None:
    """The statement of a session fails, a program is ended, and the error says why."""
    target = Target.parse(tcp_url)
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    with line.to(int(target.params["port"])) as way:
        there = Target.parse(tcp_url.replace(target.params["port"], str(way.port)))
        with (
            closing(connect(there, "test")) as session,
            Child(argv, env=os.environ, cwd=tmp_path) as child,
        ):
            threading.Timer(0.5, way.silence).start()  # it has answered by then
            with pytest.raises(StepFailedError) as caught, Heartbeat(session), explained(there):
                session.execute("SELECT pg_sleep(1)")
            assert child.wait() != 0
    assert caught.value.what.startswith("the server has not answered for 1 s: ")
    assert "the server and the way to it" in caught.value.remedy


@pytest.mark.usefixtures("impatient")
def test_what_never_knew_the_question_ends_nothing(tcp_url: str) -> None:
    """Something before the server may wait for more than the question: the sessions are well."""
    port = Target.parse(tcp_url).params["port"]
    with line.to(int(port)) as way:
        there = Target.parse(tcp_url.replace(port, str(way.port)))
        with closing(connect(there, "test")) as session:
            way.silence_new()
            with Heartbeat(session):
                session.execute("SELECT pg_sleep(2)")


def test_a_session_that_is_just_made_has_an_end_in_time(
    tcp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server lets it in, and falls silent before the first answer."""
    monkeypatch.setattr(sessions, "_FIRST_S", 0.5)
    target = Target.parse(tcp_url)
    with line.to(int(target.params["port"])) as way:
        opened = sessions._opened  # noqa: SLF001  (that moment is inside)

        def silenced(params: Mapping[str, str]) -> sessions.Session:
            made = opened(params)
            way.silence()
            return made

        monkeypatch.setattr(sessions, "_opened", silenced)
        with pytest.raises(UnreachableError, match="closed"):
            connect(Target.parse(tcp_url.replace(target.params["port"], str(way.port))), "test")


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.usefixtures("impatient")
def test_a_server_that_answers_is_asked_without_a_word_in_its_log(
    cluster: Cluster, database_url: str, tcp_url: str, *, is_local: bool
) -> None:
    """However long it takes over a statement, on a socket and over TCP."""
    with closing(connect(Target.parse(database_url if is_local else tcp_url), "test")) as session:
        before = cluster.log.stat().st_size
        with Heartbeat(session):
            session.execute("SELECT pg_sleep(2)")
    with cluster.log.open() as log:
        log.seek(before)
        assert [text for text in log if "packet" in text or "protocol" in text] == []


def test_a_folder_of_a_socket_may_have_any_name(database_url: str, tmp_path: Path) -> None:
    """`@` begins the name of an abstract socket; the home of ada@shop has one, too."""
    target = Target.parse(database_url)
    folder = tmp_path / "ada@shop"
    folder.symlink_to(target.params["host"])
    url = f"postgresql://{target.params['user']}@/{target.database}?host={folder}"
    with closing(connect(Target.parse(f"{url}&port={target.params['port']}"), "test")) as session:
        assert Heartbeat(session)._answers()  # noqa: SLF001  (what it sees)


def test_every_connection_has_an_end_in_time(tmp_path: Path) -> None:
    """Our sessions, PostgreSQL's programs, and the project's: what the URL says goes first."""
    (tmp_path / "pyproject.toml").write_text("[tool.backset]\n")
    settings = load(tmp_path, {})
    for query, seconds in (("", "10"), ("?connect_timeout=3", "3")):
        target = Target.parse(f"postgresql://u@h/db{query}")
        told = conninfo(target, "test")
        assert f"connect_timeout={seconds}" in told
        assert "keepalives_idle=30" in told
        assert "tcp_user_timeout=60000" in told
        assert settings.child_env(target)["PGCONNECT_TIMEOUT"] == "10"
    assert load(tmp_path, {"PGCONNECT_TIMEOUT": "4"}).child_env(target)["PGCONNECT_TIMEOUT"] == "4"


_OPENS = "import psycopg, sys; psycopg.connect(sys.argv[1])"


@pytest.mark.slow
def test_no_program_waits_for_ever_for_a_server_that_says_nothing(
    database_url: str, tmp_path: Path
) -> None:
    """Each of PostgreSQL's ends, and a program of the project's with libpq."""
    (tmp_path / "pyproject.toml").write_text("[tool.backset]\n")
    folder, dump = embedded_folder() / "bin", str(tmp_path / "dump")
    make = [str(folder / "pg_dump"), "--format=custom", f"--file={dump}", database_url]
    subprocess.run(make, check=True)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = Target.parse(f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/db")
        told = ("--no-password", "--dbname", conninfo(target, "test"))
        plain = {"PATH": os.defpath}
        programs = [
            ([str(folder / "pg_dump"), *told], plain),
            ([str(folder / "pg_restore"), *told, dump], plain),
            ([str(folder / "psql"), *told, "--command=SELECT 1"], plain),
            ([sys.executable, "-c", _OPENS, target.url], load(tmp_path, {}).child_env(target)),
        ]
        started = [
            subprocess.Popen(argv, env=env, stderr=subprocess.PIPE) for argv, env in programs
        ]
        began = time.monotonic()
        for each in started:
            _, words = each.communicate(timeout=60)
            assert each.returncode != 0
            assert b"timeout expired" in words or b"not appear to be" in words, words
        assert time.monotonic() - began < 50
