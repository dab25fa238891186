"""What faults do: to a run, to its server, or beside it for as long as it lasts."""

from __future__ import annotations

import json
import signal
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from tests import poolers
from tests.faults import proxy
from tests.faults.world import DEVELOPER, PASSWORD, POOLER, RESET, SOCKET, TARGET, TCP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from random import Random

    from tests.faults.proxy import Lost
    from tests.faults.run import Run
    from tests.faults.world import World


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


@contextmanager
def pooled(mode: str, world: World) -> Iterator[None]:
    """Let PgBouncer stand between, with sessions of both databases that nobody uses."""
    login = (DEVELOPER, PASSWORD)
    settings = f"pool_mode = {mode}\n{poolers.AROUND}"
    port, server = world.pooler_port, world.cluster.port
    with poolers.running(world.folder, port, server, login, settings) as process:
        world.pooler = process
        for name in (TARGET, "postgres"):
            with ExitStack() as opened:
                for _ in range(3):
                    session = opened.enter_context(psycopg.connect(world.url(POOLER, name)))
                    session.execute("SELECT 1")
        yield


def end_pooler(scene: Scene) -> bool:
    """End the pooler under the run, and all its sessions with it."""
    hit = not scene.run.is_over
    if scene.world.pooler is not None:
        scene.world.pooler.kill()
    return hit


@contextmanager
def only_read(of: str, name: str, world: World) -> Iterator[None]:
    """Let a role or a database be one whose sessions only read."""
    words = sql.SQL("ALTER {} {} {} default_transaction_read_only")
    on, off = (
        words.format(sql.SQL(of), sql.Identifier(name), sql.SQL(each)) for each in ("SET", "RESET")
    )
    with world.superuser as session:
        session.execute(on + sql.SQL(" TO on"))
        yield
        session.execute(off)


@contextmanager
def away(world: World) -> Iterator[None]:
    """Let every commit wait for a standby that never comes."""
    name_standbys(world, "away")
    yield
    name_standbys(world, "")


def name_standbys(world: World, names: str) -> None:
    """Let every commit of the server wait for standbys of these names from now on."""
    with world.superuser as session:
        session.execute("SET synchronous_commit = local")
        session.execute(sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(names))
        session.execute("SELECT pg_reload_conf()")
    is_told = False
    while not is_told:
        with world.superuser as session:
            is_told = session.execute("SHOW synchronous_standby_names").fetchone() == (names,)


def take_a_slot(scene: Scene) -> bool:
    """Begin to replicate the target, which follows its database through a rename."""
    hit = not scene.run.is_over
    while True:  # who comes while it is renamed is sent away, and comes again
        with suppress(psycopg.OperationalError):
            session = psycopg.connect(scene.world.url(SOCKET), autocommit=True)
            break
    with session:
        session.execute("SELECT pg_create_logical_replication_slot('meanwhile', 'pgoutput')")
    return hit


@contextmanager
def without_slots(world: World) -> Iterator[None]:
    """Drop the slots that were taken, when the run is over."""
    yield
    with world.superuser as session:
        session.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


@contextmanager
def unloadable(world: World) -> Iterator[None]:
    """Give the target a CHECK without which its dump would load by itself."""
    with psycopg.connect(world.url(TCP)) as session:
        session.execute(_COUNTS_ON_THE_PATH)
    yield


_COUNTS_ON_THE_PATH = """
CREATE FUNCTION is_told(text) RETURNS boolean LANGUAGE plpgsql AS
    'BEGIN RETURN (SELECT count(*) >= 0 FROM tasks); END';
ALTER TABLE users ADD CONSTRAINT told CHECK (is_told(email))
"""


@contextmanager
def future(world: World) -> Iterator[None]:
    """Let all backups be of a time to come, as if the clock had been wrong."""
    for path in world.backups.glob("*/*.json"):
        about = json.loads(path.read_text())
        path.write_text(json.dumps({**about, "taken_at": "2099-01-01T00:00:00Z"}))
    yield


def broken_line(lost: Lost, world: World) -> AbstractContextManager[None]:
    """Let the connection break where the swap commits."""
    cluster = world.cluster
    server = cluster.socket_folder / f".s.PGSQL.{cluster.port}"
    return proxy.between(world.proxy, server, lost)


def rival(scene: Scene) -> bool:
    """Start a second run: one of the two is told that the other holds the lock."""
    hit = not scene.run.is_over
    second = scene.world.finish(RESET, door=TCP, mark=f"{scene.run.mark} rival")
    scene.notes.append(f"the second run ended with {second.code}: {second.error.strip()}")
    if second.code not in {0, 75}:
        scene.broken.append("the second run neither ran nor was told of the lock")
    return hit
