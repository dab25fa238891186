"""Several hosts in one URL: the whole run works on the primary that it found, and on no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

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
