"""Where a command went, as far as the server's counters tell it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.connections.target import Target
from backset.errors import AstrayError
from backset.migrate.project_command import CommandOutcome, ProjectCommand, SessionMonitor
from backset.servers.server import Server
from backset.settings.reader import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.connections.session import Session

NAME = "backset seed, in a test"


@pytest.fixture
def server(database_url: str) -> Iterator[Server]:
    """A live database with a table, and an empty one beside it."""
    with Server(Target.parse(database_url), "test") as opened:
        with psycopg.connect(database_url) as session:
            session.execute("CREATE TABLE marks (id int)")
        opened.session.execute(f"CREATE DATABASE {opened.names.next}".encode())
        yield opened


def write_and_leave(server: Server) -> None:
    """Write to the live database as somebody whom nobody looks at, and be counted."""
    pid = write(server)
    gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    while server.session.execute(gone, [pid]).fetchone() != (0,):
        time.sleep(0.01)


def write(server: Server) -> int:
    """Write to the live database on a session of its own; return its pid."""
    with closing(opened(server.target)) as session:
        session.execute("INSERT INTO marks VALUES (1)")
        return session.info.backend_pid


def opened(target: Target) -> Session:
    """Open a session that bears the command's name."""
    return psycopg.connect(**{**target.params, "application_name": NAME}, autocommit=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("came", [True, False])
def test_a_short_write_is_the_commands_only_where_it_never_came_to_its_database(
    server: Server, tmp_path: Path, *, came: bool
) -> None:
    """Else it may have been anybody's, and a restore would take away what a colleague wrote."""
    subject = server.target.named(server.names.next)
    seen = SessionMonitor(server.session, subject.database, server.target.database, NAME)
    seen.begin()
    if came:
        with closing(opened(subject)):
            seen.look(0)
    write_and_leave(server)
    seen.finish(0)
    door = ProjectCommand(load(tmp_path, {}), subject, server.target, server.session)
    done = CommandOutcome("./seed.sh", 0, [], seen)
    assert (seen.came, seen.unseen, seen.written) == (came, 1, 1)
    if came:
        (doubt,) = door.doubts(done)
        assert "1 session on" in doubt.what
        assert "up to 1 row written in" in doubt.what
        assert doubt.why == "it may have been another client's"
    else:
        with pytest.raises(AstrayError, match="never connected to"):
            door.doubts(done)
