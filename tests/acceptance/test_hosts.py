"""Several hosts in one URL: the whole run works on the primary that it found, and on no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.connections.target import Target
from backset.servers.standbys import await_replay
from tests.clusters import programs, running, standing_by
from tests.project import Project, agreed, laid_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Cluster, Cluster]]:
    """A primary and its standby."""
    with running(18) as primary, standing_by(primary) as standby:
        yield primary, standby


def places(*clusters: Cluster) -> tuple[str, str]:
    """Return their hosts and ports as libpq's lists have them."""
    hosts = ",".join(str(each.socket_folder) for each in clusters)
    return hosts, ",".join(str(each.port) for each in clusters)


def by_libpq(*clusters: Cluster) -> str:
    """Return a URL with all of them."""
    hosts, ports = places(*clusters)
    words = f"host={hosts}&port={ports}&target_session_attrs=read-write"
    return f"postgresql://postgres@/by_libpq?{words}"


def by_sqlalchemy(*clusters: Cluster) -> str:
    """Return the same as SQLAlchemy spells it."""
    words = "&".join(f"host={each.socket_folder}:{each.port}" for each in clusters)
    return f"postgresql+psycopg://postgres@/by_sqlalchemy?{words}"


@pytest.mark.parametrize("spelled", [by_libpq, by_sqlalchemy])
def test_the_primary_is_found_and_kept(
    pair: tuple[Cluster, Cluster], tmp_path: Path, spelled: Callable[..., str]
) -> None:
    """Each program gets that one address, in the spelling that it was written in."""
    primary, standby = pair
    project = laid_down(tmp_path / "project", "states", spelled(standby, primary))
    for _ in range(2):
        done = agreed(project, "reset-db", "--cold")
        assert done.returncode == 0, done.stderr
    told = project.invoke("status").stdout
    assert str(primary.socket_folder) in told
    assert str(standby.socket_folder) not in told
    ours = Project(project.folder, {**project.env, "DATABASE_URL": primary.url(spelled.__name__)})
    assert ours.query("SELECT version_num FROM alembic_version") == [("c1",)]


def test_without_a_primary_each_host_is_named(
    pair: tuple[Cluster, Cluster], project: Project
) -> None:
    """With what it is, or with what it says; nothing is touched."""
    hosts, ports = places(pair[1])
    words = f"host={hosts},/nowhere&port={ports},7"
    done = project.invoke("reset-db", DATABASE_URL=f"postgresql://postgres@/app?{words}")
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert f"no primary among the hosts of DATABASE_URL: {hosts}:{ports} is a standby; " in line
    assert "; /nowhere:7 does not answer → start the primary, promote a standby, or" in line


def test_rows_come_from_one_host(pair: tuple[Cluster, Cluster], project: Project) -> None:
    """Where they are only read, a standby will do; all of a run reads the same one."""
    primary, standby = pair
    with psycopg.connect(primary.url("postgres"), autocommit=True) as session:
        session.execute("CREATE DATABASE origin")
    project.invoke("reset-db")
    hosts, ports = places(standby, primary)
    origin = f"postgresql://postgres@/origin?host=/nowhere,{hosts}&port=1,{ports}"
    done = project.invoke("carry", "--from", origin, "--plan")
    assert "no server among" not in done.stderr
    assert str(standby.socket_folder) in done.stdout + done.stderr
    assert str(primary.socket_folder) not in done.stdout + done.stderr


def test_after_a_failover_the_new_primary_is_found(tmp_path: Path) -> None:
    """The URL stays as it is."""
    with running(18) as primary, standing_by(primary) as standby:
        project = laid_down(tmp_path / "project", "states", by_libpq(primary, standby))
        assert project.invoke("reset-db").returncode == 0
        primary.stop()
        programs(standby, "pg_ctl", "promote", "-w", "-D", str(standby.data))
        done = project.invoke("reset-db")
        assert done.returncode == 0, done.stderr
        assert str(standby.socket_folder) in project.invoke("status").stdout


def test_a_standby_alone_is_refused(pair: tuple[Cluster, Cluster], project: Project) -> None:
    """It can be looked at, and not be rebuilt."""
    _, standby = pair
    done = project.invoke("reset-db", DATABASE_URL=standby.url("app"))
    assert done.returncode == 3
    assert "standby" in done.stderr


def replays(standby: Cluster, *, goes_on: bool) -> None:
    """Let a standby replay what it gets, or only keep it."""
    verb = "resume" if goes_on else "pause"
    with psycopg.connect(standby.url("postgres"), autocommit=True) as session:
        session.execute(f"SELECT pg_wal_replay_{verb}()".encode())
        while session.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() != (
            "not paused" if goes_on else "paused",
        ):
            pass


def oid(cluster: Cluster, name: str) -> int:
    """Return which database has a name there."""
    with psycopg.connect(cluster.url("postgres")) as session:
        query = "SELECT oid FROM pg_database WHERE datname = %s"
        (found,) = session.execute(query, [name]).fetchone() or (0,)
    return int(found)


def test_a_swap_is_waited_for_on_each_standby(
    pair: tuple[Cluster, Cluster], tmp_path: Path
) -> None:
    """`--standby` ends when the standby has the new database, or says which has not, and why."""
    primary, standby = pair
    project = laid_down(tmp_path / "project", "states", by_libpq(standby, primary))
    assert agreed(project, "reset-db").returncode == 0
    replays(standby, goes_on=False)
    done = agreed(project, "reset-db", "--standby=0.5")
    assert done.returncode == 6
    assert "by_libpq is the new database" in done.stdout
    of_the_primary, of_itself = done.stderr.splitlines()
    assert " behind) has not replayed the swap (who reads there is in the old" in of_the_primary
    assert f"{standby.socket_folder}:{standby.port} has not replayed the swap" in of_itself
    replays(standby, goes_on=True)
    done = agreed(project, "undo", "--standby")
    assert done.returncode == 0, done.stderr
    assert oid(standby, "by_libpq") == oid(primary, "by_libpq") > 0


def test_a_host_of_the_url_is_waited_for_whatever_the_primary_shows(
    pair: tuple[Cluster, Cluster],
) -> None:
    """A role that may not see how far a standby is asks the host itself, and waits for it."""
    primary, standby = pair
    with psycopg.connect(primary.url("postgres"), autocommit=True) as session:
        session.execute("CREATE ROLE short_sighted LOGIN")
        session.execute("SET ROLE short_sighted")
        others = [Target.parse(standby.url("postgres"))]
        assert [each.name for each in await_replay(session, others, 30, print)] == ["walreceiver"]
        replays(standby, goes_on=False)
        session.execute("SELECT pg_logical_emit_message(false, 'test', '', true)")
        seen: list[str] = []

        def say(text: str) -> None:
            if not seen:
                replays(standby, goes_on=True)
            seen.append(text)

        assert [each.name for each in await_replay(session, others, 30, say)] == ["walreceiver"]
        assert "has not replayed the swap" in seen[0]


def test_a_plan_names_standbys_and_slots(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    """How far each standby is, and what WAL a slot keeps for nobody; a subscription is none."""
    primary, standby = pair
    project = laid_down(tmp_path / "project", "states", by_libpq(standby, primary))
    with psycopg.connect(primary.url("postgres"), autocommit=True) as session:
        session.execute("SELECT pg_create_physical_replication_slot('spare', true)")
        try:
            told = project.invoke("reset-db", "--plan").stdout
        finally:
            session.execute("SELECT pg_drop_replication_slot('spare')")
    assert " standby   walreceiver (" in told
    assert "B behind)" in told
    assert " standby   nobody uses the slot spare, which keeps " in told


def test_a_wait_for_standbys_is_in_seconds(project: Project) -> None:
    """Anything else is refused before a step."""
    done = project.invoke("reset-db", "--standby=soon")
    assert done.returncode == 2
    assert done.stderr == " ✘ --standby is 'soon' → it must be seconds, such as 600\n"


def test_a_host_that_cannot_be_asked_is_named_with_what_it_says(
    pair: tuple[Cluster, Cluster], tmp_path: Path
) -> None:
    """It may be a standby that has not replayed the swap: nobody is told that it has."""
    primary, standby = pair
    hosts, ports = places(primary, standby)
    url = f"postgresql://postgres@/unasked?host={hosts},/nowhere&port={ports},7"
    project = laid_down(tmp_path / "project", "states", url)
    done = agreed(project, "reset-db", "--standby=0.5")
    assert done.returncode == 6
    (line,) = done.stderr.splitlines()
    assert "/nowhere:7 may not have replayed the swap, and cannot be asked: " in line
    assert "→ look at that server, or correct the list of hosts" in line
