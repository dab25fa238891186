"""How a world is made: a server, a broken database, and copies of its two states."""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.servers.location import temporary_cluster
from tests.faults import volume
from tests.faults.world import (
    CLEAN,
    DEVELOPER,
    PASSWORD,
    REBUILDS,
    RESET,
    TARGET,
    TCP,
    State,
    World,
    copy,
)
from tests.incident.project import add_failing_migration, add_failing_seed, break_it, lay_down

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
_SIZES_KIB = {"server": 400_000, "backups": 16_000}
# Enough that a dump takes some time, and has a middle in which it can be killed.
_NOTES = """
CREATE TABLE notes AS SELECT n AS id, md5(n::text) || md5((n * 7)::text) AS note
FROM generate_series(1, 20000) AS n
"""
# The incident's database lacks columns whose default is the time; no two carries would be alike.
_FILLINGS = """
[tool.backset.fill]
"tasks.updated_at" = "created_at"
"users.updated_at" = "created_at"
"""


@contextmanager
def opened() -> Iterator[World]:
    """Make a world for as long as the block lasts; its disks are tmpfs where they can be."""
    with ExitStack() as stack:
        cluster = stack.enter_context(temporary_cluster(18, tcp_port=_free_port()))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        places = {"server": cluster.folder.parent, "backups": folder / "backups"}
        places["backups"].mkdir()
        disks = {
            name: stack.enter_context(volume.mounted(place, _SIZES_KIB[name]))
            for name, place in places.items()
            if not volume.why_not()
        }
        world = World(folder, cluster, disks)
        cluster.start()
        with world.superuser as session:
            session.execute("ALTER SYSTEM SET wal_level = logical")
        cluster.stop()
        cluster.start()
        stack.callback(world.stop, signal.SIGQUIT)
        furnish(world)
        yield world


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def furnish(world: World) -> None:
    """Break a database as the incident did, rebuild it once, and keep copies of both states."""
    plain = world.folder / "plain"
    plain.mkdir()
    lay_down(plain, REPOSITORY)
    with (plain / "pyproject.toml").open("a") as settings:
        settings.write(_FILLINGS)
    with world.superuser as session:
        role = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}")
        session.execute(role.format(sql.Identifier(DEVELOPER), sql.Literal(PASSWORD)))
        session.execute("ALTER SYSTEM SET max_wal_size = '64MB'")  # the disk is small
        session.execute("SELECT pg_reload_conf()")
        copy(session, "template0", TARGET)
    break_it(plain, world.url(TCP))
    with psycopg.connect(world.url(TCP)) as session:
        session.execute(_NOTES)
    _vary(plain)
    world.rhythm, world.states = {}, {"broken": _kept(world, "broken")}
    learned(world, "broken", RESET)
    with psycopg.connect(world.url(TCP)) as session:
        session.execute("INSERT INTO users (id, email) VALUES ('me', 'me@example.com')")
    world.states["rebuilt"] = _kept(world, "rebuilt")
    learned(world, "rebuilt", RESET)


def learned(world: World, name: str, task: str) -> State:
    """Return a state, with what a task makes of it undisturbed: that is tried once, if need be."""
    if (name, task) not in world.rhythm:
        state = world.states[name]
        world.put(state)
        world.rhythm[name, task] = _measured(world, task)
        if task in REBUILDS:
            built = {**state.built, task: world.content(TARGET)}
            world.states[name] = replace(state, built=built)
    return world.states[name]


def _vary(plain: Path) -> None:
    """Make the projects whose migration, or whose seed command, fails."""
    for variant in ("bad migration", "bad seed"):
        shutil.copytree(plain, plain.with_name(variant))
    add_failing_migration(plain.with_name("bad migration"))
    project = plain.with_name("bad seed")
    words = ", ".join(f'"{word}"' for word in add_failing_seed(project))
    settings = project / "pyproject.toml"
    command = 'seed = ["python", "scripts/add_mock_task_data.py"]'
    text = settings.read_text()
    assert command in text
    settings.write_text(text.replace(command, f"seed = [{words}]"))


def _kept(world: World, state: str) -> State:
    """Copy every database named like the target, and the backups, to begin trials from."""
    databases: dict[str, tuple[str, str | None]] = {}
    names = [name for name in world.names() if name != CLEAN]  # nobody can connect to that
    contents = {name: world.content(name) for name in names}
    with world.superuser as session:
        for name in names:
            template = f"{state} {name}"
            query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
            row = session.execute(f"{query} WHERE datname = %s", [name]).fetchone()
            databases[name] = (template, row[0] if row else None)
            copy(session, name, template)
    backups = world.folder / f"{state} backups"
    shutil.copytree(world.backups, backups)
    return State(databases, contents, backups, {})


def _measured(world: World, task: str) -> list[tuple[str | None, float]]:
    """Run a task; return when each step's line came, the start first and the end last."""
    run = world.finish(task, door=TCP, mark="rehearsal")
    if run.code != 0:
        raise RuntimeError(f"{task} does not even work undisturbed: {run.error}")
    came = [(line.step, line.at_s) for line in run.lines if line.step]
    return [(None, 0.0), *came, ("end", run.lines[-1].at_s)]
