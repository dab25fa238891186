"""Which clusters there are: the project's own under `.backset/`, and throw-away ones."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from backset.configuration import reader
from backset.processes import process, signals
from backset.servers import programs
from backset.servers.cluster import Cluster, account_of, home

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOM_BYTES = 2 * 2**30  # a container's /dev/shm may have 64 MB
# A number may have been given to another process since a crash, so that what has it is looked at.
_END_SERVERS = """
import os, pathlib, shutil, signal, subprocess, sys, time
folders = [pathlib.Path(each) for each in sys.argv[1:]]
for file in folders[0].rglob("postmaster.pid"):
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        try:
            pid = int(file.read_text().split()[0])
            ps = ["ps", "-o", "args=", "-p", str(pid)]
            if str(file.parent) not in subprocess.run(ps, capture_output=True, text=True).stdout:
                break
            os.kill(pid, signum)
        except (OSError, ValueError, IndexError):
            break
        deadline = time.monotonic() + 5
        while file.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
for folder in folders:
    shutil.rmtree(folder, ignore_errors=True)
"""


def project_cluster(root: Path) -> Cluster:
    """Return the cluster of the project in `root`; nothing is made or started yet."""
    who = account_of(root)
    return Cluster(
        folder=home(root, who) / f"postgresql-{programs.EMBEDDED_MAJOR}",
        major=programs.EMBEDDED_MAJOR,
        wheel=programs.embedded_folder(),
        account=who,
    )


@contextmanager
def temporary_cluster(
    major: int,
    tcp_port: int | None = None,
    *,
    address: str = "127.0.0.1",
    installation: Path | None = None,
    keep: bool = False,
) -> Iterator[Cluster]:
    """Give a throw-away cluster, not started, in a new folder; after the block both are gone.

    They are gone when we are killed, too.

    installation: a folder with `bin` of that major version; the embedded one by default.
    keep: whether both stay after the block.
    """
    folder = Path(tempfile.mkdtemp(prefix="backset-", dir=temporary_place()))
    folder.chmod(0o755)
    cluster = Cluster(
        folder=folder / "cluster",
        major=major,
        wheel=installation or programs.embedded_folder(major),
        account=account_of(folder),
        tcp_port=tcp_port,
        address=address,
    )
    tether = tether_folder(folder, cluster.socket_folder)
    try:
        yield cluster
    finally:
        with signals.deferred():
            if not keep:
                cluster.stop()
                shutil.rmtree(folder)
                shutil.rmtree(cluster.socket_folder, ignore_errors=True)  # it may be elsewhere
            tether.cut()


def tether_folder(folder: Path, *others: Path) -> process.Tether:
    """When we are dead, however we died, let the servers in a folder end, and all folders go."""
    return process.Tether(_END_SERVERS, *map(str, (folder, *others)))


def temporary_place() -> Path:
    """Return where throw-away servers are: in memory, which they need not wait for.

    BACKSET_TEMPORARY names another place.
    """
    memory = Path("/dev/shm")  # noqa: S108  (mkdtemp makes a folder of its own in it)
    if named := reader.temporary_folder():
        return named
    with suppress(OSError, ValueError):
        if f" {memory} tmpfs " in Path("/proc/mounts").read_text() and _room(memory) >= _ROOM_BYTES:
            return memory
    return Path("/tmp")  # noqa: S108  (likewise)


def _room(memory: Path) -> int:
    """Return the bytes that may go into a tmpfs: of itself, of the machine, of our container."""
    space = os.statvfs(memory)
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    room = [space.f_bavail * space.f_frsize, int(fields["MemAvailable"].split()[0]) * 1024]
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # the root of all groups has no such files, or says `max`
        limit = int((group / "memory.max").read_text())
        room.append(limit - int((group / "memory.current").read_text()))
    return min(room)
