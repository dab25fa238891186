"""Throw-away servers of every major."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.servers.location import temporary_cluster
from backset.servers.programs import embedded_folder
from tests import packages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from _pytest.mark import ParameterSet

    from backset.servers.cluster import Cluster

MAJORS = (18, 17, 16, 15, 14, 13)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def installation(major: int) -> Path:
    """Return the folder above `bin` of a server; skip the test where there is none."""
    try:
        return packages.installed(major)
    except packages.NotFetchedError as error:
        pytest.skip(str(error))


def majors(*chosen: int) -> list[ParameterSet]:
    """Return the majors as cases of a test; only PostgreSQL 18 is run by default."""
    marks = {18: ()}
    every = pytest.mark.every_server
    return [
        pytest.param(each, marks=marks.get(each, every), id=str(each)) for each in chosen or MAJORS
    ]


@contextlib.contextmanager
def running(
    major: int, tcp_port: int | None = None, settings: Sequence[str] = ()
) -> Iterator[Cluster]:
    """Run a plain server for as long as the block lasts, with settings that want a restart."""
    programs = installation(major)
    with temporary_cluster(major, tcp_port=tcp_port, installation=programs) as made:
        made.start()
        if settings:
            with psycopg.connect(made.url("postgres"), autocommit=True) as session:
                for each in settings:
                    session.execute(f"ALTER SYSTEM SET {each}".encode())
            made.stop()
            made.start()
        yield made


def as_superuser(cluster: Cluster, name: str, statements: str) -> None:
    """Run statements in the target as an administrator would."""
    with psycopg.connect(cluster.url(name)) as session:
        session.execute(statements.encode())


def dumped(cluster: Cluster, name: str) -> str:
    """Return the whole database as SQL, but for the random words that pg_dump puts into it."""
    pg_dump = embedded_folder(18) / "bin" / "pg_dump"
    argv = [str(pg_dump), "--no-password", cluster.url(name)]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in text.splitlines() if "restrict" not in line)


def crash(cluster: Cluster) -> None:
    """Stop the server as `-m immediate` does, and start it again."""
    pid = int((cluster.data / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGQUIT)
    with suppress(ProcessLookupError, ChildProcessError):
        os.waitpid(pid, 0)
    while (cluster.data / "postmaster.pid").exists():
        time.sleep(0.01)
    cluster.start()


@contextlib.contextmanager
def standing_by(primary: Cluster) -> Iterator[Cluster]:
    """Run a hot standby of a server for as long as the block lasts."""
    with temporary_cluster(primary.major, installation=primary.programs) as made:
        follow(made, primary)
        yield made


def follow(standby: Cluster, primary: Cluster) -> None:
    """Copy a server into an empty cluster, and start that as its hot standby."""
    standby._make_folders()  # noqa: SLF001  (start() would wait for one that takes writes)
    copy = ("-R", "-c", "fast", "-X", "stream", "-d", primary.url("postgres"))
    own = primary.installation / "bin" / "pg_basebackup"  # a newer one will do
    newer = embedded_folder(18) / "bin" / "pg_basebackup"
    programs(standby, str(own if own.exists() else newer), "-D", str(standby.data), *copy)
    # What a newer one writes there, the libpq of an older server does not know.
    where = f"host={primary.socket_folder} port={primary.port} user=postgres dbname=postgres"
    with (standby.data / "postgresql.auto.conf").open("a") as file:
        file.write(f"primary_conninfo = '{where}'\n")
    started(standby)


def started(standby: Cluster) -> None:
    """Start a server that follows another one, and wait until it can be read."""
    standby.log.touch()
    if standby.account:
        os.chown(standby.log, standby.account.uid, standby.account.gid)
    address = standby.address if standby.tcp_port else "''"
    options = {"unix_socket_directories": standby.socket_folder, "listen_addresses": address}
    words = " ".join(f"-c {name}={value}" for name, value in options.items())
    log = ("-l", str(standby.log), "-o", f"{words} -c port={standby.port}")
    programs(standby, "pg_ctl", "start", "-w", "-D", str(standby.data), *log)


def at_hosts(name: str, *clusters: Cluster, more: str = "") -> str:
    """Return the URL of a database with the hosts of servers, in their order."""
    hosts = ",".join(str(each.socket_folder) for each in clusters)
    ports = ",".join(str(each.port) for each in clusters)
    return f"postgresql://postgres@/{name}?host={hosts}&port={ports}{more}"


def programs(cluster: Cluster, name: str, *arguments: str) -> None:
    """Run a program of a server, as its account."""
    status, lines = cluster._run(name, *arguments)  # noqa: SLF001  (its account)
    assert status == 0, lines
