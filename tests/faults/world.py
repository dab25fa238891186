"""The world of a campaign: one server, the states that a trial begins from, and the projects."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
from psycopg import sql

from backset.backups import packing
from backset.errors import StepFailedError
from backset.servers.programs import embedded_folder
from tests.clusters import free_port
from tests.faults.run import Run
from tests.incident.fingerprint import fingerprint

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping
    from pathlib import Path

    from backset.servers.cluster import Cluster
    from tests.faults.volume import Volume

    Fingerprint = dict[str, tuple[int, str | None]]

RESET, UNDO, RESTORE = "reset-db --cold", "undo", "restore --yes"  # the newest backup
IN_PLACE = "reset-db --in-place"
CARRY = (
    "reset-db --cold --carry --drop-data"  # the incident's database has a table that nobody knows
)
REBUILDS = {RESET, IN_PLACE, CARRY}
TARGET = "aideator"
PREVIOUS, CLEAN = f"{TARGET}__previous", f"{TARGET}__clean"
DEVELOPER, PASSWORD = "developer", "c%n:rry/@"
SOCKET, TCP = "the socket, as superuser", "TCP, as the owner with a password"
PROXY = "a socket of our own, which breaks at COMMIT"
POOLER = "a pooler, as the owner"
HOSTS = "both servers of a pair, as the owner"
LINE = "the same, and a line to the primary that can break"
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class State:
    """What a trial begins from: databases by name, as (template, comment), and the backups.

    contents: the fingerprint of each of the databases. built: of what each task makes of them.
    """

    databases: Mapping[str, tuple[str, str | None]]
    contents: Mapping[str, Fingerprint]
    backups: Path
    built: Mapping[str, Fingerprint]


class World:
    """One server and one set of projects for a whole campaign.

    states: `broken` (the incident) and `rebuilt` (after a reset-db, with a row of a person's own).
    rhythm: when each step's line came, by state and task.
    """

    states: dict[str, State]
    rhythm: dict[tuple[str, str], list[tuple[str | None, float]]]
    pooler: subprocess.Popen[bytes] | None = None

    def __init__(self, folder: Path, cluster: Cluster, disks: Mapping[str, Volume]) -> None:
        self.folder = folder
        self.cluster = cluster
        self.disks = disks
        self.backups = folder / "backups"
        self.proxy = folder / "proxy"
        self.pooler_port = free_port()
        self.invoke = [sys.executable, "-m", "invoke"]

    @property
    def new(self) -> Fingerprint:
        """What reset-db builds, whatever was there."""
        return self.states["rebuilt"].built[RESET]

    @property
    def superuser(self) -> psycopg.Connection[Any]:
        """A new session of the superuser on the maintenance database."""
        return psycopg.connect(self.cluster.url("postgres"), autocommit=True)

    def url(self, door: str, database: str = TARGET) -> str:
        """Return the URL of a database through the SOCKET, the PROXY, the POOLER or TCP."""
        if door == SOCKET:
            return self.cluster.url(database)
        if door == PROXY:
            place = f"host={self.proxy}&port={self.cluster.port}"
            return f"postgresql://{DEVELOPER}@/{database}?{place}"
        password = "".join(f"%{each:02x}" for each in PASSWORD.encode())
        port = self.pooler_port if door == POOLER else self.cluster.port
        return f"postgresql://{DEVELOPER}:{password}@127.0.0.1:{port}/{database}"

    def start(self, task: str, *, door: str, project: str = "plain", mark: str) -> Run:
        """Start a task in one of the projects."""
        env = {**os.environ, "DATABASE_URL": self.url(door), "BACKSET_BACKUPS": str(self.backups)}
        if door in {TCP, HOSTS, LINE}:  # half of all trials: dumps as those of a large database are
            env["BACKSET_ZSTD_ABOVE"] = "0"
        else:  # the least that retention may keep
            env["BACKSET_KEEP"] = "1"
        words = task.split()
        if door == SOCKET and "--yes" not in words:  # the tables are the developer's
            words.append("--yes")
        return Run.start([*self.invoke, *words], cwd=self.folder / project, env=env, mark=mark)

    def finish(self, task: str, *, door: str, mark: str) -> Run:
        """Run a task to its end, undisturbed."""
        run = self.start(task, door=door, mark=mark)
        run.wait(_PATIENCE_S)
        return run

    def put(self, state: State) -> None:
        """Make databases and backups as they are in a state, and nothing else."""
        with self.superuser as session:
            for name in self.names():
                _execute(session, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
            for name, (template, comment) in state.databases.items():
                copy(session, template, name)
                if comment is not None:
                    literal = sql.Literal(comment)
                    about = sql.SQL("COMMENT ON DATABASE {} IS {}")
                    session.execute(about.format(sql.Identifier(name), literal))
        for entry in self.backups.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.copytree(state.backups, self.backups, dirs_exist_ok=True)

    def names(self) -> list[str]:
        """Return the databases that are named like the target."""
        with self.superuser as session:
            query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1"
            return [name for (name,) in session.execute(query, [TARGET])]

    def content(self, database: str) -> Fingerprint:
        """Return a database's fingerprint, whoever owns its tables."""
        return fingerprint(self.url(SOCKET, database))

    def loaded(self, dump: Path) -> Fingerprint | None:
        """Return the fingerprint of what a dump holds; None where it cannot be loaded."""
        with self.superuser as session:
            _execute(session, "CREATE DATABASE {} TEMPLATE template0", "proof")
            try:
                program = embedded_folder(self.cluster.major) / "bin" / "pg_restore"
                argv = [str(program), "--exit-on-error", "--dbname", self.cluster.url("proof")]
                content = dump.read_bytes()
                if dump.suffix == ".zst":
                    content = b"".join(packing.unpack(dump, [len(content)]))
                done = subprocess.run(argv, input=content, check=False, capture_output=True)
                return fingerprint(self.cluster.url("proof")) if done.returncode == 0 else None
            except StepFailedError:  # it cannot be unpacked
                return None
            finally:
                _execute(session, "DROP DATABASE {} WITH (FORCE)", "proof")

    def stop(self, how: signal.Signals) -> None:
        """Stop the server: INT is `-m fast`, QUIT is `-m immediate`, which is a crash."""
        if server := self._postmaster():
            server.send_signal(how)
            server.wait(_PATIENCE_S)

    def heal(self) -> None:
        """Give the space back, start the server if it is down, and wait until it answers."""
        for disk in self.disks.values():
            disk.clear()
        deadline = time.monotonic() + _PATIENCE_S
        while not self._answers():
            if not self._postmaster():
                self.cluster.start()
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server does not come back: {self.cluster.log}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self.superuser.close()
        except psycopg.OperationalError:
            return False
        return True

    def _postmaster(self) -> psutil.Process | None:
        try:
            text = (self.cluster.data / "postmaster.pid").read_text()
            server = psutil.Process(int(text.split()[0]))
            return server if server.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, psutil.NoSuchProcess):
            return None


def copy(session: psycopg.Connection[Any], template: str, name: str) -> None:
    """Copy a database, with the developer as its owner."""
    _execute(session, "CREATE DATABASE {} TEMPLATE {} OWNER {}", name, template, DEVELOPER)


def _execute(session: psycopg.Connection[Any], statement: str, *names: str) -> None:
    session.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
