"""Where a server really is: real sockets, forwarders and networks, seen from here and elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest

from backset.connections.locality import Locality, gather, is_neighbour, judge
from tests.conftest import PASSWORD, ROLE
from tests.elsewhere import forwarding

if TYPE_CHECKING:
    from pathlib import Path

    from backset.servers.cluster import Cluster

HERE: tuple[str, ...] = ()
CODE = """
import os
from backset.connections import locality, session, target
with session.connect(target.Target.parse(os.environ["WHERE"]), "test") as found:
    print(locality.judge(locality.gather(found)).verdict)
"""


def verdict(url: str, place: tuple[str, ...] = HERE) -> str:
    """Return what a process in `place` thinks of the server that a URL leads it to."""
    done = subprocess.run(
        [*place, sys.executable, "-c", CODE],
        env={**os.environ, "WHERE": url},  # another test looks for the password in arguments
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def over_tcp(port: int, host: str = "127.0.0.1") -> str:
    """Return the URL of a port at which our cluster can be reached."""
    return f"postgresql://{ROLE}:{quote(PASSWORD, safe='')}@{host}:{port}/postgres"


def socket_of(cluster: Cluster) -> str:
    """Return the path of a cluster's Unix socket."""
    return f"{cluster.socket_folder}/.s.PGSQL.{cluster.port}"


def test_our_own_server_is_local_by_either_way(cluster: Cluster) -> None:
    """The Unix socket and TCP, by name and by number."""
    assert verdict(cluster.url("postgres")) == "local"
    assert verdict(over_tcp(cluster.port)) == "local"
    assert verdict(over_tcp(cluster.port, "localhost")) == "local"


@pytest.mark.slow
def test_a_way_around_does_not_make_it_another_machine(cluster: Cluster, short_tmp: Path) -> None:
    """A pooler, or a published port without a bridge: what our kernel runs is here."""
    with forwarding("127.0.0.1", ("127.0.0.1", cluster.port)) as port:
        assert verdict(over_tcp(port)) == "local"
    with forwarding("127.0.0.1", socket_of(cluster)) as port:
        assert verdict(f"postgresql://postgres@127.0.0.1:{port}/postgres") == "local"
    with forwarding(f"{short_tmp}/.s.PGSQL.5432", socket_of(cluster)):
        assert verdict(f"postgresql://postgres@/postgres?host={short_tmp}") == "local"


def test_without_its_process_our_own_server_is_still_local(
    cluster: Cluster, elsewhere: tuple[str, ...]
) -> None:
    """From a container that shares the socket's folder or the network, and on macOS."""
    assert verdict(cluster.url("postgres"), elsewhere) == "local"
    assert verdict(over_tcp(cluster.port), elsewhere) == "local"


@pytest.mark.parametrize("far", ["tcp", "socket"])
def test_a_tunnel_to_another_machine_is_not_local(
    cluster: Cluster, elsewhere: tuple[str, ...], short_tmp: Path, far: str
) -> None:
    """Neither from a port nor from a Unix socket, and wherever it ends over there (ssh -L)."""
    over_there = ("127.0.0.1", cluster.port) if far == "tcp" else socket_of(cluster)
    with forwarding("127.0.0.1", over_there) as port:
        assert verdict(over_tcp(port), elsewhere) == "remote"
    with forwarding(f"{short_tmp}/.s.PGSQL.5432", over_there):
        url = f"{over_tcp(5432, '')}?host={short_tmp}".replace("@:5432/", "@/")
        assert verdict(url, elsewhere) == "remote"


def test_a_server_in_a_container(container: Cluster, elsewhere: tuple[str, ...]) -> None:
    """Local by its address, a published port and a mounted socket; elsewhere none is proved."""
    assert verdict(container.url("postgres")) == "local"
    direct = f"postgresql://postgres@{container.address}:{container.port}/postgres"
    assert (verdict(direct), verdict(direct, elsewhere)) == ("local", "remote")
    with forwarding("127.0.0.1", (container.address, container.port)) as port:
        published = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        assert (verdict(published), verdict(published, elsewhere)) == ("local", "doubtful")


def test_what_shares_a_containers_network_is_this_machine(container: Cluster) -> None:
    """The application in the container beside it is no other machine; one of the LAN is."""
    with psycopg.connect(container.url("postgres")) as session:
        over_socket = judge(gather(session))
    direct = f"postgresql://postgres@{container.address}:{container.port}/postgres"
    with psycopg.connect(direct) as session:
        found = judge(gather(session))
    network = container.address.rpartition(".")[0]
    assert is_neighbour(found, f"{network}.77")
    assert not is_neighbour(found, "192.168.7.7")
    assert not is_neighbour(over_socket, f"{network}.77")
    native = Locality("local", "127.0.0.1:5432", "it runs here", "127.0.0.1")
    assert not is_neighbour(native, "127.0.0.9")
