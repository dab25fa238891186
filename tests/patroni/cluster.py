"""Three servers under Patroni, and the etcd by which they agree, on ports of this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg

from backset.process.process import Child
from backset.servers.cluster import Account, Cluster, account_of
from backset.servers.location import temporary_place, tether_folder
from tests import packages
from tests.clusters import free_port
from tests.patroni import debian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PASSWORD = "pa%t:roni/@"
SCOPE = "backset"
_PATIENCE_S = 120.0
_DYNAMIC: dict[str, Any] = {
    "ttl": 20,  # the least that Patroni takes
    "loop_wait": 2,
    "retry_timeout": 5,
    "maximum_lag_on_failover": 1_048_576,
    "synchronous_mode": True,
    "postgresql": {
        "use_pg_rewind": True,
        "use_slots": True,
        "parameters": {
            "wal_level": "logical",
            "max_connections": 60,
            "wal_log_hints": "on",
            "dynamic_shared_memory_type": "mmap",  # else a server that is killed leaves some
        },
    },
}
_HBA = ["local all all trust", "local replication all trust"] + [
    f"host {databases} all 127.0.0.1/32 scram-sha-256" for databases in ("all", "replication")
]


@dataclass(eq=False)
class Member:
    """A server and the Patroni that looks after it."""

    name: str
    folder: Path
    port: int = field(default_factory=free_port)
    api: int = field(default_factory=free_port)
    child: Child | None = None

    @property
    def data(self) -> Path:
        """The data directory of its server."""
        return self.folder / "data"

    def ask(self, path: str, method: str = "GET", given: object = None) -> Any:  # noqa: ANN401
        """Ask its REST API; return the answer, or None where there is none."""
        body = None if given is None else json.dumps(given).encode()
        url = f"http://127.0.0.1:{self.api}{path}"
        request = urllib.request.Request(url, body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=2 if method == "GET" else 60) as answer:  # noqa: S310  (ours)
                text = answer.read().decode()
        except OSError:
            return None
        with suppress(ValueError):
            return json.loads(text)
        return text

    def processes(self) -> list[psutil.Process]:
        """Return the processes of its server."""
        found = []
        for each in psutil.process_iter():
            with suppress(psutil.Error):
                if each.cwd() == str(self.data):
                    found.append(each)
        return found


class Patroni:
    """The three of them: started one after the other, asked, killed, and ended."""

    def __init__(self, folder: Path, account: Account | None, bin_dir: Path) -> None:
        self._folder = folder
        self._account = account
        self._bin = bin_dir
        self._store = free_port()
        self._open = ExitStack()
        self.members = [Member(name, folder / name) for name in ("a", "b", "c")]

    def start(self) -> None:
        """Start etcd, the first server, and then the others, which copy it."""
        where = f"http://127.0.0.1:{self._store}"
        peers = f"http://127.0.0.1:{free_port()}"
        words = ["--data-dir", str(self._made("etcd")), "--name", "etcd", "--log-level", "error"]
        words += ["--listen-client-urls", where, "--advertise-client-urls", where]
        words += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
        words += ["--initial-cluster", f"etcd={peers}"]
        etcd = debian.program(self._packages, "etcd")
        self._open.enter_context(self._child([str(etcd), *words], "etcd", {}))
        for each in self.members:
            self._made(each.name)
            self.begin(each)
            self._await(f"{each.name} does not serve", partial(self._serves, each))
        self.await_whole()

    def begin(self, member: Member) -> None:
        """Start a Patroni, and with it a server: a new one, a copy, or the one that is there."""
        file = member.folder / "patroni.json"  # which is YAML, too
        file.write_text(json.dumps(self._settings(member)))
        file.chmod(0o644)  # the passwords are those of a throw-away server
        argv, env = debian.patroni(self._packages, file)
        member.child = self._child(argv, member.name, env)

    def end(self) -> None:
        """End all that was started."""
        for each in self.members:
            self.kill(each)
        self._open.close()

    def kill(self, member: Member) -> None:
        """Kill a server and its Patroni, as a machine does that dies."""
        child, member.child = member.child, None
        if child is not None:
            with suppress(ProcessLookupError):
                os.killpg(child.session_id, signal.SIGKILL)
        for each in member.processes():  # before anything that waits: they would go on
            with suppress(psutil.NoSuchProcess):
                each.kill()
        if child is not None:
            child.end()

    def halt(self, member: Member) -> None:
        """Let a server and its Patroni stand still."""
        assert member.child is not None
        os.killpg(member.child.session_id, signal.SIGSTOP)
        for each in member.processes():
            with suppress(psutil.NoSuchProcess):
                each.suspend()

    def restore(self, member: Member) -> None:
        """Let a member that was killed or stands still come back, as one of the cluster."""
        if (member.ask("/patroni") or {}).get("state") != "running":
            self.kill(member)
            self.begin(member)
        self.await_whole()

    def leader(self) -> Member | None:
        """Return the member that takes writes, as Patroni has it and as the server says."""
        for each in self.members:
            if each.child is not None and (each.ask("/patroni") or {}).get("role") in _LEADING:
                with suppress(psycopg.Error), psycopg.connect(self.url_of(each)) as session:
                    if session.execute("SELECT pg_is_in_recovery()").fetchone() == (False,):
                        return each
        return None

    def await_leader(self, other: Member | None = None) -> Member:
        """Wait for a leader, if need be another one; return it."""
        self._await("nobody leads", lambda: self.leader() not in {None, other})
        found = self.leader()
        assert found is not None
        return found

    def await_whole(self) -> None:
        """Wait until one leads, the others stream, and the synchronous one of them is chosen."""
        self._await("the cluster is not whole", self._is_whole)

    def configure(self, **given: object) -> None:
        """Change the settings that all members have, and wait until these know of them."""
        leader = self.await_leader()
        leader.ask("/config", "PATCH", given)
        wait_s = 3 * _DYNAMIC["loop_wait"]
        time.sleep(wait_s)
        self.await_whole()

    def switch_over(self) -> None:
        """Let a standby take over in good order."""
        leader = self.await_leader()
        leader.ask("/switchover", "POST", {"leader": leader.name})

    def url_of(self, member: Member, database: str = "postgres") -> str:
        """Return the URL of one of the servers, for its superuser."""
        return f"postgresql://postgres@/{database}?host={member.folder}&port={member.port}"

    def url(self, role: str, database: str) -> str:
        """Return the URL with all three servers, of which the run finds the one to write to."""
        password = "".join(f"%{each:02x}" for each in PASSWORD.encode())
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.members)
        choice = "target_session_attrs=read-write&connect_timeout=3"
        return f"postgresql://{role}:{password}@{hosts}/{database}?{choice}"

    def _is_whole(self) -> bool:
        leader = self.leader()
        if leader is None:
            return False
        members = (leader.ask("/cluster") or {}).get("members", [])
        roles = [each["role"] for each in members]
        is_waited_for = bool((leader.ask("/config") or {}).get("synchronous_mode"))
        # `running` is also how 3.0 calls one that streams.
        follow = [each for each in members if each["state"] in _FOLLOWING and "lag" in each]
        return (
            len(follow) == len(self.members) - 1
            and all(each["lag"] == 0 for each in follow)
            and roles.count("sync_standby") == int(is_waited_for)
        )

    def _serves(self, member: Member) -> bool:
        return (member.ask("/patroni") or {}).get("state") == "running"

    def _await(self, what: str, is_so: Callable[[], object]) -> None:
        until = time.monotonic() + _PATIENCE_S
        while not is_so():
            if time.monotonic() > until:
                raise TimeoutError(f"{what}: see the logs in {self._folder}")
            time.sleep(0.2)

    def _made(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(mode=0o755)
        if self._account:
            os.chown(folder, self._account.uid, self._account.gid)
        return folder

    @property
    def _packages(self) -> Path:
        return self._folder / "packages"

    def _child(self, argv: list[str], name: str, more: Mapping[str, str]) -> Child:
        def note(line: str) -> None:
            with (self._folder / f"{name}.log").open("a") as log:
                log.write(f"{line}\n")

        account = (self._account.uid, self._account.gid) if self._account else None
        env = {"PATH": os.defpath, "LC_ALL": "C", **more}
        cwd = self._folder / name
        return Child(argv, env=env, cwd=cwd, on_line=note, account=account, tethered=True)

    def _settings(self, member: Member) -> Mapping[str, Any]:
        here = f"127.0.0.1:{member.port}"
        users = {
            who: {"username": name, "password": PASSWORD}
            for who, name in (
                ("superuser", "postgres"),
                ("replication", "replicator"),
                ("rewind", "rewinder"),
            )
        }
        api = f"127.0.0.1:{member.api}"
        return {
            "scope": SCOPE,
            "name": member.name,
            "restapi": {"listen": api, "connect_address": api},
            "etcd3": {"hosts": [f"127.0.0.1:{self._store}"]},
            "bootstrap": {
                "dcs": _DYNAMIC,
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}],
            },
            "postgresql": {
                "listen": here,
                "connect_address": here,
                "data_dir": str(member.data),
                "bin_dir": str(self._bin),
                "pgpass": str(member.folder / "pgpass"),
                "authentication": users,
                "parameters": {"unix_socket_directories": str(member.folder)},
                "pg_hba": _HBA,
            },
        }


_LEADING = frozenset({"master", "primary", "leader"})  # as versions of Patroni have it
_FOLLOWING = frozenset({"running", "streaming"})


@contextmanager
def running(major: int) -> Iterator[Patroni]:
    """Run the cluster for as long as the block lasts; nothing of it stays, however we end.

    Raises NotHereError of tests.patroni.debian.
    """
    folder = Path(tempfile.mkdtemp(prefix="patroni-", dir=temporary_place()))
    folder.chmod(0o755)
    tether = tether_folder(folder)
    account = account_of(folder)
    programs = packages.installed(major)
    reachable = Cluster(folder=folder, major=major, programs=programs, account=account)
    made = Patroni(folder, account, reachable.installation / "bin")
    try:
        (folder / "packages").mkdir()
        debian.unpack(folder / "packages")
        made.start()
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)
        tether.cut()
