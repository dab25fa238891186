"""The table of faults: what each does to a run, and what the run may then answer."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from tests.faults import proxy, volume
from tests.faults.world import IN_PLACE, PROXY, RESET, RESTORE, SOCKET, TCP, UNDO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from random import Random

    from tests.faults.proxy import Lost
    from tests.faults.run import Run
    from tests.faults.world import World

BESIDE = (RESET, RESET, RESTORE, UNDO)
EVERY = (*BESIDE, IN_PLACE)


@dataclass(slots=True)
class Scene:
    """A run and its world, as a fault sees them.

    notes: what was done, for the log.
    broken: promises that the fault itself saw broken.
    """

    world: World
    run: Run
    rng: Random
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A kind of fault.

    tasks: which it can strike. codes: the documented exit codes. project, doors: where the run
    happens, and as whom.
    around: holds something up for as long as the run lasts. strike: is called at the
    moment, and tells whether it hit anything.
    early: whether the moment is in the first step, since the fault waits for its victim itself.
    must: `before` or `after` where the target has to be one of them; the run decides otherwise.
    """

    name: str
    codes: frozenset[int]
    tasks: tuple[str, ...] = BESIDE
    project: str = "plain"
    doors: tuple[str, ...] = (SOCKET, TCP)
    around: Callable[[World], AbstractContextManager[object]] = nullcontext
    strike: Callable[[Scene], bool] = lambda _scene: True
    early: bool = False
    must: str = ""
    needs_mount: bool = False

    @property
    def why_not(self) -> str:
        """Why it cannot be tried here; empty where it can."""
        return volume.why_not() if self.needs_mount else ""


def send(signum: signal.Signals, scene: Scene) -> bool:
    """Send the run a signal, if it is still there."""
    if scene.run.is_over:
        return False
    scene.run.popen.send_signal(signum)
    return True


def hold_up(scene: Scene) -> bool:
    """Stop the run as a debugger or a laptop that sleeps does, and let it go on."""
    hit = send(signal.SIGSTOP, scene)
    time.sleep(scene.rng.uniform(0, 1))
    send(signal.SIGCONT, scene)
    return hit


def restart(how: signal.Signals, scene: Scene) -> bool:
    """Stop the server under the run, and start it again a little later."""
    hit = not scene.run.is_over
    scene.world.stop(how)
    pause = scene.rng.choice((0.0, 0.1, 1.0))
    scene.notes.append(f"the server was down for {pause} s")
    time.sleep(pause)
    scene.world.heal()
    return hit


def full_backups(scene: Scene) -> bool:
    """Leave the disk of the backups less space than a backup needs, or just enough."""
    return fill(scene, "backups", scene.rng.randrange(scene.rng.choice((16, 1500))) * 1024)


def full_server(scene: Scene) -> bool:
    """Leave the server's disk a random rest: a database does not fit, or the WAL does not."""
    return fill(scene, "server", scene.rng.choice((0, 1, 2, 4, 8, 16)) * 2**20)


def fill(scene: Scene, disk: str, left_bytes: int) -> bool:
    """Fill one of the world's disks."""
    hit = not scene.run.is_over
    scene.notes.append(f"{left_bytes} bytes were left on the disk of the {disk}")
    scene.world.disks[disk].fill(left_bytes)
    return hit


def terminate(whose: Sequence[str], scene: Scene) -> bool:
    """End the sessions of the run's processes with such a name, as soon as there are some.

    A session is known by the port of its client: what it calls itself is the run's own affair.
    """
    query = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE client_port = ANY(%s)"
    )
    with scene.world.superuser as session:
        while not scene.run.is_over:
            ports = scene.run.ports(whose, scene.world.cluster.port)
            (ended,) = session.execute(query, [ports]).fetchone() or (0,)
            if ended:
                scene.notes.append(f"{ended} sessions ended")
                return True
            time.sleep(0.002)
    return False


@contextmanager
def pool(world: World) -> Iterator[None]:
    """Let clients connect to the target, ask, and leave, again and again."""
    over = threading.Event()
    url = world.url(TCP)
    clients = [threading.Thread(target=_visit, args=(url, over)) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        over.set()
        for client in clients:
            client.join()


def _visit(url: str, over: threading.Event) -> None:
    while not over.wait(0.005):
        with suppress(psycopg.Error), psycopg.connect(url) as session:
            while not over.wait(0.005):
                session.execute("SELECT count(*) FROM tasks")


@contextmanager
def idle(door: str, world: World) -> Iterator[None]:
    """Hold a transaction open on the target, one that has read and written."""
    session = psycopg.connect(world.url(door))
    session.execute("SELECT * FROM tasks")
    session.execute("UPDATE users SET email = email || ' '")
    try:
        yield
    finally:
        session.close()


def broken_line(lost: Lost, world: World) -> AbstractContextManager[None]:
    """Let the connection break where the swap commits."""
    cluster = world.cluster
    server = cluster.socket_folder / f".s.PGSQL.{cluster.port}"
    return proxy.between(world.proxy, server, lost)


def rival(scene: Scene) -> bool:
    """Start a second run: one of the two is told that the other holds the lock."""
    second = scene.world.finish(RESET, door=TCP, mark=f"{scene.run.mark} rival")
    scene.notes.append(f"the second run ended with {second.code}: {second.error.strip()}")
    if second.code not in {0, 75}:
        scene.broken.append("the second run neither ran nor was told of the lock")
    return second.code == 75


_OURS = ("invoke",)
_DUMPS = ("pg_dump", "pg_restore")
_CHILDREN = ("alembic_worker.py", "add_mock_task_data.py")
_DONE_OR_FAILED = frozenset({0, 4})

FAULTS = (
    Fault(
        name="kill -9", codes=frozenset({0, 137}), tasks=EVERY, strike=partial(send, signal.SIGKILL)
    ),
    Fault(
        name="TERM", codes=frozenset({0, 143}), tasks=EVERY, strike=partial(send, signal.SIGTERM)
    ),
    Fault(name="INT", codes=frozenset({0, 130}), tasks=EVERY, strike=partial(send, signal.SIGINT)),
    Fault(name="HUP", codes=frozenset({0, 129}), tasks=EVERY, strike=partial(send, signal.SIGHUP)),
    Fault(name="the run is held up", codes=frozenset({0}), strike=hold_up, must="after"),
    Fault(
        name="the server crashes",
        codes=_DONE_OR_FAILED,
        tasks=EVERY,
        strike=partial(restart, signal.SIGQUIT),
    ),
    Fault(
        name="the server restarts",
        codes=_DONE_OR_FAILED,
        tasks=EVERY,
        strike=partial(restart, signal.SIGINT),
    ),
    Fault(
        name="the disk of the backups is full",
        codes=_DONE_OR_FAILED,
        tasks=(RESET,),
        strike=full_backups,
        early=True,
        needs_mount=True,
    ),
    Fault(
        name="the disk of the server is full",
        codes=_DONE_OR_FAILED,
        strike=full_server,
        early=True,
        needs_mount=True,
    ),
    Fault(
        name="our sessions are ended",
        codes=_DONE_OR_FAILED,
        tasks=EVERY,
        doors=(TCP,),
        strike=partial(terminate, _OURS),
    ),
    Fault(
        name="pg_dump's session is ended",
        codes=_DONE_OR_FAILED,
        tasks=(RESET, RESTORE),
        doors=(TCP,),
        strike=partial(terminate, _DUMPS),
        early=True,
    ),
    Fault(
        name="the sessions of migrations and seed are ended",
        codes=_DONE_OR_FAILED,
        tasks=(RESET,),
        doors=(TCP,),
        strike=partial(terminate, _CHILDREN),
        early=True,
    ),
    Fault(
        name="the answer to the swap's COMMIT is lost",
        codes=_DONE_OR_FAILED,
        doors=(PROXY,),
        around=partial(broken_line, "reply"),
        must="after",
    ),
    Fault(
        name="the network goes away in the swap",
        codes=frozenset({4}),
        doors=(PROXY,),
        around=partial(broken_line, "everything"),
        must="before",
    ),
    Fault(name="a pool reconnects in a loop", codes=frozenset({0}), around=pool, must="after"),
    Fault(
        name="a transaction stays open",
        codes=frozenset({0}),
        around=partial(idle, TCP),
        must="after",
    ),
    Fault(
        name="a superuser's transaction stays open",
        codes=frozenset({4}),
        doors=(TCP,),
        around=partial(idle, SOCKET),
        must="before",
    ),
    Fault(
        name="two runs at once",
        codes=frozenset({0, 75}),
        tasks=(RESET,),
        doors=(TCP,),  # what a superuser has built, its second could not read
        strike=rival,
    ),
    Fault(
        name="a migration fails",
        codes=frozenset({4}),
        tasks=(RESET, IN_PLACE),
        project="bad migration",
        must="before",
    ),
    Fault(
        name="the seed command fails",
        codes=frozenset({4}),
        tasks=(RESET, IN_PLACE),
        project="bad seed",
        must="before",
    ),
)
