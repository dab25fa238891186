"""Errors of this run are found in the log of a real server, or it is said why they cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.checks import server_log
from backset.described import plain
from backset.process.identity import application_name
from tests.clusters import free_port, majors, running
from tests.conftest import ROLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.servers.cluster import Cluster


@pytest.fixture(scope="module", params=majors())
def logging(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server of each major version that collects its log itself."""
    with running(request.param, free_port(), ["logging_collector = on"]) as made:
        with psycopg.connect(made.url("postgres"), autocommit=True) as session:
            session.execute(f"CREATE ROLE {ROLE} LOGIN")
        yield made


def fail(cluster: Cluster, table: str, name: str | None = None) -> None:
    """Cause an error on the server, and swallow it."""
    name = name or application_name("seed")
    with (
        psycopg.connect(cluster.url("postgres"), application_name=name) as session,
        pytest.raises(psycopg.errors.UndefinedTable),
    ):
        session.execute(f"TABLE {table}")


def look(cluster: Cluster, role: str = "postgres") -> server_log.Look:
    """Look into the log through a session of a role."""
    with psycopg.connect(cluster.url("postgres", role), autocommit=True) as session:
        return server_log.of_server(session)


@pytest.mark.parametrize("form", ["stderr", "csvlog", "jsonlog"])
def test_each_form_of_the_log_is_read(logging: Cluster, form: str) -> None:
    """Through the server, with the errors of this run and of no other."""
    if form == "jsonlog" and logging.major < 15:
        pytest.skip("PostgreSQL 15 brought it")
    with psycopg.connect(logging.url("postgres"), autocommit=True) as session:
        session.execute(f"ALTER SYSTEM SET log_destination = '{form}'")
        session.execute("SELECT pg_reload_conf(), pg_rotate_logfile(), pg_sleep(0.5)")
    fail(logging, f"mine_{form}")
    fail(logging, "not_mine", name="backset seed on elsewhere, pid 1")
    found = look(logging)
    assert found.unread == ""
    assert [each for each in found.errors if form in each] == [
        f'ERROR: relation "mine_{form}" does not exist'
        + (" at character 7" if form == "stderr" else "")
    ]
    assert not any("not_mine" in each for each in found.errors)


def test_only_the_end_of_a_long_log_is_read(logging: Cluster) -> None:
    """What was written since the run began is found behind megabytes of others' lines."""
    with psycopg.connect(logging.url("postgres"), autocommit=True) as session:
        session.execute("ALTER SYSTEM SET log_destination = 'stderr'")
        session.execute("SELECT pg_reload_conf(), pg_rotate_logfile(), pg_sleep(0.5)")
        fail(logging, "early")
        session.execute(
            "DO $$ BEGIN FOR i IN 1..3000 LOOP RAISE LOG '%', repeat('x', 500); END LOOP; END $$"
        )
    assert any("early" in each for each in look(logging).errors)


def test_a_role_without_the_rights_is_told_which_it_lacks(logging: Cluster) -> None:
    """As an administrator would GRANT them; with them it can look."""
    functions = (
        "pg_current_logfile(text)",
        "pg_stat_file(text, boolean)",
        "pg_read_binary_file(text, bigint, bigint, boolean)",
    )
    assert str(look(logging, ROLE)) == (
        f"server's log not readable: the role may not run {' and '.join(functions)}"
    )
    with psycopg.connect(logging.url("postgres"), autocommit=True) as session:
        for each in functions:
            session.execute(f"GRANT EXECUTE ON FUNCTION {each} TO {ROLE}")
    fail(logging, "granted")
    assert any("granted" in each for each in look(logging, ROLE).errors)


def test_a_log_that_cannot_be_attributed_is_said(logging: Cluster) -> None:
    """Without %a nobody knows whose error it is."""
    with psycopg.connect(logging.url("postgres"), autocommit=True) as session:
        session.execute("ALTER SYSTEM SET log_destination = 'syslog'")
        session.execute("SELECT pg_reload_conf(), pg_sleep(0.3)")
        assert look(logging).unread == "it goes to the system's log (log_destination)"
        session.execute("ALTER SYSTEM SET log_destination = 'stderr'")
        session.execute("SELECT pg_reload_conf(), pg_sleep(0.3)")
    with psycopg.connect(logging.url("postgres"), autocommit=True) as session:
        assert "has no %a" in server_log._hindrance(  # noqa: SLF001  (the command line has one)
            "stderr", "%m ", "C", [], collects=True
        )


def test_a_server_that_leaves_its_log_to_others(cluster: Cluster) -> None:
    """As in a container: its standard error is not to be had through it."""
    assert "logging_collector is off" in look(cluster).unread


def test_the_file_of_the_embedded_server_is_read_directly(cluster: Cluster) -> None:
    """It costs no question; a file that is not there is said."""
    fail(cluster, "in_the_file")
    found = server_log.of_file(cluster.log)
    assert any("in_the_file" in each for each in found.errors)
    assert found.unread == ""
    gone = server_log.of_file(cluster.folder / "no_such_log")
    assert gone.unread == "no_such_log: No such file or directory"
    assert plain(gone) == {"readable": False, "why": gone.unread, "errors": []}
