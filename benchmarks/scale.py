"""What `invoke fleet` needs for each database, measured; and many servers, simulated by that.

`python -m benchmarks.scale` measures on this machine, holds the model against what it measured,
and writes docs/scale.json and the tables of docs/explanation/scale.md; with `--draw` only these.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import psutil
import simpy

from benchmarks import fleets, page, place

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

    from benchmarks.place import Place

FIGURES, PAGE = place.ROOT / "docs/scale.json", place.ROOT / "docs/explanation/scale.md"
_FEW, _MANY = 4, 20  # databases: what one needs is the slope between the two
_TOGETHER = (2, 4)
_LOOK_EVERY_S = 0.02
_SLICES = 8  # of each kind of work in one database: its processes take turns
_WORDS = {
    "nothing to do": ("upgrade",),
    "verify": ("verify",),
    "backup": ("backup",),
    "reset-db": ("reset-db", "--yes"),
    "one revision": ("upgrade",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one database needs: seconds of a client's and a server's processors, and of waiting.

    wal_mb: what the server writes to its WAL. sessions, memory_mb: at most, of each database that
    is worked on. start_s: before the first, once.
    """

    client_s: float
    server_s: float
    wait_s: float
    wal_mb: float
    sessions: float
    memory_mb: float
    start_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where it is done. jobs: databases at a time, over all servers."""

    databases: int
    servers: int
    jobs: int
    client_cores: int
    server_cores: int
    are_apart: bool = True  # else clients and the server share the cores of one machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run: seconds, processor seconds of both sides, MB of WAL, and the peaks."""

    seconds: float
    client_s: float
    server_s: float
    wal_mb: float
    sessions: int
    memory_mb: float


def simulate(needs: Needs, site: Site) -> float:
    """Return how many seconds a run over all databases takes."""
    env = simpy.Environment()
    clients = simpy.Resource(env, site.client_cores)
    servers = [
        simpy.Resource(env, site.server_cores) if site.are_apart else clients
        for _ in range(site.servers)
    ]
    left = count()

    def work(cores: simpy.Resource, seconds: float) -> Generator[simpy.Event, Any, None]:
        with cores.request() as turn:
            yield turn
            yield env.timeout(seconds / _SLICES)

    def worker() -> Generator[simpy.Event, Any, None]:
        while (number := next(left)) < site.databases:
            for _ in range(_SLICES):
                yield from work(clients, needs.client_s)
                yield from work(servers[number % site.servers], needs.server_s)
                yield env.timeout(needs.wait_s / _SLICES)

    for _ in range(min(site.jobs, site.databases)):
        env.process(worker())
    env.run()
    return needs.start_s + float(env.now)


def measured(here: Place) -> dict[str, Any]:
    """Return what each action needs, and how the model fares against other numbers at a time."""
    project = fleets.laid_down(here)
    template, names = "of_scale", [f"scale_{each:02}" for each in range(_MANY)]
    here.renew(template)
    (head,) = fleets.alembic(here, project, template)
    for each in names:
        here.renew(each, template)
    new = ""
    found: dict[str, Any] = {}
    for action, words in _WORDS.items():
        takes_back = action == "one revision"  # the last: no model has its table
        if takes_back:
            new = fleets.add_revision(project, head)

        def run(number: int, jobs: int, *, back: str = new, of: tuple[str, ...] = words) -> Sample:
            if back:
                fleets.take_back(here, template, names[:number], back)
            return _sampled(here, project, names[:number], of, jobs)

        if action == "nothing to do":
            fleets.name(project, names)
            fleets.upgrade(here, project, names)
        run(_FEW, 1)  # what is imported and remembered for the first time
        few, many = run(_FEW, 1), run(_MANY, 1)
        needs = _slope(few, many)
        beside = {jobs: run(_MANY, jobs) for jobs in _TOGETHER}
        needs = replace(needs, memory_mb=_more(beside, many, "memory_mb"))
        cores = psutil.cpu_count() or 1
        site = Site(
            databases=_MANY, servers=1, jobs=1, client_cores=cores, server_cores=cores,
            are_apart=False,
        )  # fmt: skip
        held = {
            jobs: (simulate(needs, replace(site, jobs=jobs)), each.seconds)
            for jobs, each in {1: many, **beside}.items()
        }
        found[action] = {"needs": asdict(needs), "held": held}
    sizes = (
        "SELECT sum(pg_database_size(datname)) FROM pg_database WHERE datname ~ '^scale_00(__|$)'"
    )
    ((all_of_it,),) = here.sql("postgres", sizes)
    ((itself,),) = here.sql("postgres", "SELECT pg_database_size('scale_00')")
    here.drop(template, *names)
    return {"actions": found, "disk": round(float(all_of_it) / itself, 2), "mb": itself / 1e6}


def _slope(few: Sample, many: Sample) -> Needs:
    """Return what one database needs, and the start that both had."""
    each = {
        name: max(0.0, (getattr(many, name) - getattr(few, name)) / (_MANY - _FEW))
        for name in ("seconds", "client_s", "server_s", "wal_mb")
    }
    busy = each["client_s"] + each["server_s"]
    return Needs(
        client_s=each["client_s"],
        server_s=each["server_s"],
        wait_s=max(0.0, each["seconds"] - busy),
        wal_mb=each["wal_mb"],
        sessions=many.sessions,
        memory_mb=0,
        start_s=max(0.0, few.seconds - _FEW * each["seconds"]),
    )


def _more(beside: Mapping[int, Sample], alone: Sample, name: str) -> float:
    """Return how much another database at a time takes."""
    most = max(beside)
    return float(max(0, (getattr(beside[most], name) - getattr(alone, name)) / (most - 1)))


def _sampled(
    here: Place, project: Path, names: list[str], words: tuple[str, ...], jobs: int
) -> Sample:
    fleets.name(project, names)
    ((file,),) = here.sql("postgres", "SELECT pg_read_file('postmaster.pid')")
    server, over = psutil.Process(int(file.split()[0])), threading.Event()
    while here.sql("postgres", _DROPS) != [(0,)]:  # what the run before has left to the server
        time.sleep(_LOOK_EVERY_S)
    peaks, used = {"sessions": 0, "memory": 0.0}, dict[int, float]()
    began, wal, cpu = time.monotonic(), _wal(here), _server_s(server)
    argv = ("invoke", "fleet", *words, "--jobs", str(jobs))
    env = {"DATABASE_URL": here.url(names[0])}
    with here.popen(*argv, env=env, cwd=project) as child:
        watcher = threading.Thread(target=_watch, args=(here, child.pid, over, peaks, used))
        watcher.start()
        said = child.communicate()[0]
        over.set()
        watcher.join()
    if child.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {child.returncode}\n{said}")
    return Sample(
        seconds=time.monotonic() - began,
        client_s=sum(used.values()),
        server_s=_server_s(server) - cpu,
        wal_mb=(_wal(here) - wal) / 1e6,
        sessions=int(peaks["sessions"]),
        memory_mb=peaks["memory"],
    )


_DROPS = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^backset discard '"
_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^backset '"


def _watch(
    here: Place, pid: int, over: threading.Event, peaks: dict[str, Any], used: dict[int, float]
) -> None:
    """Note the peaks, and the processor time of each process: nobody waits for forked ones."""
    root = psutil.Process(pid)
    while not over.is_set():
        try:
            processes = [root, *root.children(recursive=True)]
            used |= {each.pid: max(_used_s(each), used.get(each.pid, 0)) for each in processes}
            memory = sum(each.memory_full_info().pss for each in processes) / 1e6
        except psutil.Error:
            memory = 0.0
        peaks["memory"] = max(peaks["memory"], memory)
        peaks["sessions"] = max(peaks["sessions"], here.sql("postgres", _SESSIONS)[0][0])
        over.wait(_LOOK_EVERY_S)


def _server_s(server: psutil.Process) -> float:
    """Return the processor time of the server with all that it has ended."""
    times = server.cpu_times()
    ended: float = sum(times[:4])
    return ended + sum(map(_used_s, server.children()))


def _used_s(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:2]))
    except psutil.NoSuchProcess:
        return 0


def _wal(here: Place) -> int:
    ((found,),) = here.sql("postgres", "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
    return int(found)


_DATABASES, _SERVERS, _SERVER_CORES = 10_000, 50, 8
_CORES = (16, 128)  # of one machine, and of a Dask cluster of eight
_JOBS = (8, 50, 200, 400)
_CONNECTIONS, _RESERVED = 100, 3  # max_connections, superuser_reserved_connections
_NOTHING = 0.0005  # as the first table shows it
_MEMORY_GB = 64  # of each 16 cores


def rendered(content: Mapping[str, Any]) -> str:
    """Return the tables of the page."""
    parts = [
        _table(
            ("", "client, CPU s", "server, CPU s", "waiting, s", "WAL, MB", "sessions", "MB"),
            _needed(content),
        ),
        f"The model, and what was measured, in s: {_MANY} databases, {content['cores']} cores",
        _table(("", *(f"{each} at a time" for each in (1, *_TOGETHER))), _held(content)),
        f"{_DATABASES:,} databases on {_SERVERS} servers of {_SERVER_CORES} cores, minutes:",
        _table(
            ("", "cores for the runs", *(f"{each} at a time" for each in _JOBS)), _grown(content)
        ),
        "What runs out, and at how many databases at a time:",
        _table(
            ("", "cores of one machine", "its memory", "connections of a server", "its cores"),
            _limits(content),
        ),
        f"With the old one and the clone, a database takes {content['disk']:.1f} times its size.",
    ]
    return "\n\n".join(parts)


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(each)} |" for each in lines)


def _all(content: Mapping[str, Any]) -> Iterator[tuple[str, Needs, Mapping[str, Any]]]:
    for action, found in content["actions"].items():
        yield action, Needs(**found["needs"]), found["held"]


def _needed(content: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for action, needs, _ in _all(content):
        told = (needs.client_s, needs.server_s, needs.wait_s, needs.wal_mb)
        yield (
            action,
            *(f"{each:.3f}" for each in told),
            f"{needs.sessions:.0f}",
            f"{needs.memory_mb:.0f}",
        )


def _held(content: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for action, _, held in _all(content):
        yield action, *(f"{model:.1f}, measured {real:.1f}" for model, real in held.values())


def _grown(content: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for action, needs, _ in _all(content):
        for cores in _CORES:
            site = Site(
                databases=_DATABASES,
                servers=_SERVERS,
                jobs=1,
                client_cores=cores,
                server_cores=_SERVER_CORES,
            )
            took = (simulate(needs, replace(site, jobs=each)) / 60 for each in _JOBS)
            yield action, str(cores), *(f"{each:.1f}" for each in took)


def _limits(content: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for action, needs, _ in _all(content):
        whole = needs.client_s + needs.server_s + needs.wait_s
        found = (
            _CORES[0] * _share(whole, needs.client_s),
            _share(_MEMORY_GB * 1000, needs.memory_mb),
            _SERVERS * _share(_CONNECTIONS - _RESERVED, needs.sessions),
            _SERVERS * _SERVER_CORES * _share(whole, needs.server_s),
        )
        yield action, *(f"{each:,.0f}" if each else "" for each in found)


def _share(whole: float, part: float) -> float:
    return whole / part if part > _NOTHING else 0


def main() -> None:
    """Measure, unless `--draw` asks for the page alone; write figures and page."""
    if "--draw" not in sys.argv[1:]:
        with place.opened() as here:
            content = {"cores": psutil.cpu_count(), **measured(here)}
        FIGURES.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    content = json.loads(FIGURES.read_text(encoding="utf-8"))
    shown = rendered(content)
    print(shown)
    PAGE.write_text(page.spliced(PAGE.read_text(encoding="utf-8"), shown), encoding="utf-8")


if __name__ == "__main__":
    main()
