"""A session of ours, and what becomes of one that is interrupted before it is open."""

from __future__ import annotations

import signal
import socket
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.connections.session import connect, explained
from backset.connections.target import Target
from backset.errors import Interrupted, SettingsError, StepFailedError, UnreachableError
from backset.process import signals

if TYPE_CHECKING:
    from pathlib import Path

    from backset.servers.cluster import Cluster


def test_an_interrupted_connect_hangs_up_at_once() -> None:
    """A server that waits for our password would hold up every DROP DATABASE for a minute.

    The error is still alive when the cleaning begins, and so would be what its frames hold.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(10)
        target = Target.parse(f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/db")
        threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
        with signals.raised(), pytest.raises(Interrupted) as caught:
            connect(target, "test")
        client, _ = silent.accept()
        with client:
            client.settimeout(2)
            while client.recv(1024):  # its opening packet, and then the end
                pass
    assert caught.value.exit_code == 130


def test_no_grant_is_asked_for_rows_that_row_security_hides(database_url: str, plain: str) -> None:
    """The server calls both a lack of privileges, in the language of its messages."""
    target = Target.parse(database_url)
    with connect(target, "test") as session:
        session.execute(
            f"CREATE TABLE hidden (id int); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;"
            f"CREATE TABLE closed (); GRANT SELECT, INSERT ON hidden TO {plain};"
            f"SET row_security = off; SET ROLE {plain}".encode()
        )
        for statement, remedy in (
            ("SELECT FROM hidden", "BYPASSRLS; no GRANT shows hidden rows"),
            ("SET row_security = on; INSERT INTO hidden VALUES (1)", "BYPASSRLS; no GRANT"),
            ("SELECT FROM closed", "let an administrator GRANT that to your role"),
        ):
            with pytest.raises(StepFailedError) as caught, explained(target):
                session.execute(statement.encode())
            assert remedy in caught.value.remedy


def test_a_session_that_is_about_to_end_is_waited_for(cluster: Cluster, plain: str) -> None:
    """The server counts one that was left a moment longer, and a role may have just enough."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as session:
        session.execute(f"ALTER ROLE {plain} CONNECTION LIMIT 1".encode())
    target = Target.parse(cluster.url("postgres", plain))
    before = psycopg.connect(target.url)
    threading.Timer(0.5, before.close).start()
    with closing(connect(target, "test")), pytest.raises(UnreachableError, match="too many"):
        connect(target, "test")


def test_a_session_that_is_not_returned_is_closed(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for as long as somebody holds the error: it would keep a DROP DATABASE waiting."""
    params = Target.parse(cluster.url("postgres")).params
    host, port = params["host"], params["port"]
    (tmp_path / "services").write_text(f"[two]\nhost={host},{host}\nport={port},{port}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    target = Target.parse("postgresql://postgres@/postgres?service=two")
    with pytest.raises(SettingsError, match="several hosts") as held:
        connect(target, "refused")
    with psycopg.connect(cluster.url("postgres")) as session:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^backset refused'"
        deadline = time.monotonic() + 10
        while session.execute(query).fetchone() != (0,):  # the server sees the end a moment later
            assert time.monotonic() < deadline
            session.rollback()
    assert held.value.lines()
