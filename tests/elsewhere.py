"""Stand-ins for other machines: forwarders, networks, and a place that sees no process of ours."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from backset.servers.location import temporary_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backset.servers.cluster import Cluster

_UNSHARE = ("unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")))
_NO_PROCESS_OF_OURS = (*_UNSHARE, "--fork", "--pid", "--mount-proc")

_NEW_PROCESSES = 0x20000000  # CLONE_NEWPID


@pytest.fixture(scope="session")
def elsewhere() -> tuple[str, ...]:
    """The words before a command that let it see no process of ours, as on another machine."""
    if shutil.which("unshare") is None:
        pytest.skip("there are no namespaces of processes on this system")
    tried = subprocess.run([*_NO_PROCESS_OF_OURS, "true"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip("this account may not make a namespace of processes")
    return _NO_PROCESS_OF_OURS


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _connect(address: str | tuple[str, int]) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    link = socket.socket(family)
    link.connect(address)
    return link


@contextlib.contextmanager
def forwarding(
    near: str, far: str | tuple[str, int], admits: Callable[[], bool] = lambda: True
) -> Iterator[int]:
    """Hand what connects to `near` on to `far`, as ssh -L, a proxy or a published port does.

    near: the path of a Unix socket, or an address, of which a free port is taken and given.
    far: the path of a Unix socket, or an address and a port.
    admits: asked for each connection; one that it does not admit is closed at once.
    """
    is_path = "/" in near
    links: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                inner = listener.accept()[0]
                if not admits():
                    inner.close()
                    continue
                links.append(inner)
                outer = _connect(far)
                links.append(outer)
                for ends in ((inner, outer), (outer, inner)):
                    threads.append(threading.Thread(target=_pump, args=ends))
                    threads[-1].start()

    with socket.socket(socket.AF_UNIX if is_path else socket.AF_INET) as listener:
        listener.bind(near if is_path else (near, 0))
        listener.listen()
        accepting = threading.Thread(target=accept, args=[listener])
        accepting.start()
        try:
            yield 0 if is_path else listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for link in links:
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for link in links:
                link.close()


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no network can be made here: ip {' '.join(words)}: {done.stderr.strip()}")


@pytest.fixture(scope="session")
def container() -> Iterator[Cluster]:
    """A server with a network and process numbers of its own, as a container has them.

    Its role `postgres` needs no password over that network.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("only root makes networks, with the program ip")
    name, third = f"bs{secrets.token_hex(3)}", secrets.randbelow(200) + 20
    gateway, address = f"172.30.{third}.1", f"172.30.{third}.2"
    with contextlib.ExitStack() as undo:
        _ip("netns", "add", name)
        undo.callback(_ip, "netns", "del", name)
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("address", "add", f"{gateway}/24", "dev", name)
        _ip("link", "set", name, "up")
        _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        made = undo.enter_context(temporary_cluster(18, tcp_port=5432, address=address))
        _inside(name, 0, made.start)  # initdb needs threads, which the next line forbids
        made.stop()
        _inside(name, _NEW_PROCESSES, made.start)
        undo.callback(_stop, made)
        with (made.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")
        with psycopg.connect(made.url("postgres")) as session:
            session.execute("SELECT pg_reload_conf()")
        yield made


def _inside(network: str, processes: int, work: Callable[[], object]) -> None:
    """Do something in a network, and maybe as the first process of a namespace of processes."""

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{network}") as file:  # noqa: PTH123  (its descriptor is wanted)
            if libc.setns(file.fileno(), 0) != 0 or libc.unshare(processes) != 0:
                raise OSError(ctypes.get_errno(), "cannot enter a namespace")
        work()

    with ThreadPoolExecutor(1) as thread:  # namespaces belong to a thread, and to what it starts
        thread.submit(enter).result()


def _stop(cluster: Cluster) -> None:
    """Stop a server whose own number for itself, in postmaster.pid, is not ours."""
    with _connect(f"{cluster.socket_folder}/.s.PGSQL.{cluster.port}") as link:
        (pid,) = struct.unpack_from("i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    os.kill(pid, signal.SIGINT)
    psutil.wait_procs([psutil.Process(pid)], timeout=10)
