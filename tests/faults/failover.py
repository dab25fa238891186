"""The primary dies under a run, in each way and in each step, and its standby takes over."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from backset.servers.location import temporary_cluster
from tests.clusters import follow, free_port, programs
from tests.faults import line, making, strikes
from tests.faults.faults import Fault
from tests.faults.world import CARRY, HOSTS, IN_PLACE, LINE, RESET, TCP, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backset.servers.cluster import Cluster
    from tests.faults.run import Run
    from tests.faults.strikes import Scene
    from tests.faults.world import State

STEPS = ("backup", "reset", "upgrade", "verify", "seed", "promote")
_PATIENCE_S = 60.0
_NOTICED_S = 150.0  # a minute until nobody counts on the server, and what is tried then


class Pair(World):
    """A primary and its synchronous standby: `cluster` is whichever is the primary."""

    line: line.Line | None = None
    fencing: threading.Timer | None = None

    def __init__(self, folder: Path, primary: Cluster, standby: Cluster) -> None:
        super().__init__(folder, primary, {})
        self.standby = standby
        self.is_joined = False
        self.is_dead = False

    def url(self, door: str, database: str = "aideator") -> str:
        """Return the URL of a database; by both servers of the pair where that is the door."""
        url = super().url(TCP if door in {HOSTS, LINE} else door, database)
        if door not in {HOSTS, LINE}:
            return url
        port = self.line.port if door == LINE and self.line else self.cluster.port
        hosts = f"127.0.0.1:{port},127.0.0.1:{self.standby.port}"
        return url.replace(f"127.0.0.1:{self.cluster.port}", hosts)

    def start(self, task: str, *, door: str, project: str = "plain", mark: str) -> Run:
        """Start a task, with the consent that a server with standbys wants."""
        if self.is_joined:
            plan = super().start(f"{task} --plan --json", door=door, project=project, mark=mark)
            plan.wait(_PATIENCE_S)
            digest = json.loads("\n".join(each.text for each in plan.lines)).get("confirm")
            task = f"{task} --confirm {digest}" if digest else task
        return super().start(task, door=door, project=project, mark=mark)

    def put(self, state: State) -> None:
        """Make a state, on both servers."""
        if not self.is_joined:
            self._join()
        super().put(state)
        with self.superuser as session:
            while session.execute(_IS_BEHIND).fetchone() != (False,):
                time.sleep(0.02)

    def _join(self) -> None:
        shutil.rmtree(self.standby.data, ignore_errors=True)
        for left in self.standby.socket_folder.glob(".s.PGSQL.*"):
            left.unlink()  # the lock names a process that nobody may have buried
        follow(self.standby, self.cluster)
        with self.superuser as session:
            while session.execute("SELECT FROM pg_stat_replication").fetchone() is None:
                time.sleep(0.02)
        strikes.name_standbys(self, "*")
        self.is_joined = True

    def promote(self) -> None:
        """Let the standby be the primary, which waits for no standby any more."""
        programs(self.standby, "pg_ctl", "promote", "-w", "-D", str(self.standby.data))
        self.cluster, self.standby = self.standby, self.cluster
        self.is_joined, self.is_dead = False, True
        strikes.name_standbys(self, "")

    def heal(self) -> None:
        """End what is left of the old primary, and wait until the new one answers."""
        if self.fencing is not None:
            self.fencing.cancel()
        if self.is_dead:
            end(self.standby, signal.SIGKILL)
            self.is_dead = False
        super().heal()


def end(cluster: Cluster, signum: signal.Signals) -> None:
    """Send a signal to every process of a server."""
    for each in _processes(cluster):
        with suppress(psutil.NoSuchProcess):
            each.send_signal(signum)


def _processes(cluster: Cluster) -> list[psutil.Process]:
    """Return the processes of a server, also of one whose first process is gone."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.Error):
            if each.cwd() == str(cluster.data):
                found.append(each)
    return sorted(found, key=lambda each: each.pid)


def fail_over(death: Callable[[Scene, Pair], None], scene: Scene) -> bool:
    """Let the primary die, and promote the standby at once, or a moment later."""
    world, hit = scene.world, not scene.run.is_over
    assert isinstance(world, Pair)
    death(scene, world)
    pause = scene.rng.choice((0.0, 0.3, 2.0))
    scene.notes.append(f"promoted after {pause} s")
    time.sleep(pause)
    world.promote()
    return hit


def machine(_scene: Scene, world: Pair) -> None:
    """Kill every process of the server, as a machine does that dies."""
    end(world.cluster, signal.SIGKILL)


def postmaster(_scene: Scene, world: Pair) -> None:
    """Kill its first process alone: the others notice that, or go on for a while."""
    first = (world.cluster.data / "postmaster.pid").read_text().split()[0]
    psutil.Process(int(first)).kill()


def immediate(_scene: Scene, world: Pair) -> None:
    """Stop it as `pg_ctl stop -m immediate` does."""
    world.stop(signal.SIGQUIT)


def stopped(scene: Scene, world: Pair) -> None:
    """Let it stand still, and kill it a while later, as whoever fences it does."""
    end(world.cluster, signal.SIGSTOP)
    after_s = scene.rng.uniform(5, 15)
    scene.notes.append(f"killed after {after_s:.1f} s")
    world.fencing = threading.Timer(after_s, end, (world.cluster, signal.SIGKILL))
    world.fencing.start()


def cut(_scene: Scene, world: Pair) -> None:
    """Reset all connections to it, which goes on."""
    assert world.line is not None
    world.line.cut()


def silent(_scene: Scene, world: Pair) -> None:
    """Let nothing come through to it, nor back."""
    assert world.line is not None
    world.line.silence()


@contextmanager
def _line(world: World) -> Iterator[None]:
    assert isinstance(world, Pair)
    with line.to(world.cluster.port) as world.line:
        yield


def _fault(name: str, death: Callable[[Scene, Pair], None], *, by_line: bool = False) -> Fault:
    return Fault(
        name=name,
        codes=frozenset({0, 4}),
        tasks=(RESET, CARRY, IN_PLACE),
        doors=(LINE if by_line else HOSTS,),
        around=_line if by_line else nullcontext,
        strike=partial(fail_over, death),
        steps=STEPS,
        hangs_s=_NOTICED_S,
    )


FAULTS = (
    _fault("the primary's machine dies", machine),
    _fault("the primary's postmaster is killed", postmaster),
    _fault("the primary is stopped, immediate", immediate),
    _fault("the primary stands still, and is killed", stopped),
    _fault("the line to the primary is cut", cut, by_line=True),
    _fault("the line to the primary is silent", silent, by_line=True),
)


def fault_of(seed: int) -> Fault:
    """Return the kind of a trial."""
    return FAULTS[seed % len(FAULTS)]


@contextmanager
def opened() -> Iterator[Pair]:
    """Make a pair for as long as the block lasts."""
    with ExitStack() as stack:
        primary, standby = (
            stack.enter_context(temporary_cluster(18, tcp_port=free_port())) for _ in range(2)
        )
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="failover-")))
        world = Pair(folder, primary, standby)
        world.backups.mkdir()
        primary.start()
        with world.superuser as session:  # else a server that is killed leaves shared memory behind
            session.execute("ALTER SYSTEM SET dynamic_shared_memory_type = mmap")
        primary.stop()
        primary.start()
        for each in (primary, standby):
            stack.callback(end, each, signal.SIGKILL)
        making.furnish(world)
        yield world


_IS_BEHIND = "SELECT bool_or(replay_lsn < pg_current_wal_lsn()) FROM pg_stat_replication"
