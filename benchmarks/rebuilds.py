"""The small database of this project: rebuilt cold and warm, beside its peers; and the commands."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from benchmarks import bare, dbmate_peer, django_peer, memory, peers
from benchmarks.figures import Absent, Comparison, Reading
from benchmarks.sides import Side, alternate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.amounts import Amounts
    from benchmarks.figures import Found
    from benchmarks.place import Place

EMPTY = 'from invoke import task\n\n\n@task\ndef nothing(c):\n    """Do nothing."""\n'
COLD, WARM, SEEDED = "reset-db, cold", "reset-db, warm", "reset-db, warm, cache_seed"
MEMORY_MB = 64.0
CACHED = {"BACKSET_CACHE_SEED": "true", "BACKSET_INPUTS": "scripts/*.py"}
NOT_THERE = "this version has no warm rebuilds"


def cold(place: Place) -> list[str]:
    """Return the words of a rebuild that uses nothing of an earlier one."""
    return ["reset-db", "--cold"] if place.knows("reset-db", "cold") else ["reset-db"]


def rebuild(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield reset-db, and a script without any promise, against the peers, all in turn."""
    place.invoke("reset-db", BACKSET_DATABASE="model")
    sides = {COLD: _ours(place, COLD, "cold", cold(place))}
    sides["by hand"] = peers.by_hand(place, "by_hand")
    sides |= {each: bare.side(place, each, f"bare_{each[-4:]}") for each in (bare.COLD, bare.WARM)}
    if place.knows("reset-db", "cold"):
        sides[WARM] = _warm(place, WARM, "warm")
        sides[SEEDED] = _warm(place, SEEDED, "seeded", **CACHED)
    else:
        yield from (Absent(each, NOT_THERE) for each in (WARM, SEEDED))
    others: dict[str, Callable[[Place, str, str], Side]]
    others = {"dbmate": dbmate_peer.side, "django": django_peer.side}
    for name, side in others.items():
        try:
            sides[name] = side(place, f"of_{name}", "model")
        except peers.Unavailable as why:
            yield Absent(name, str(why))
    readings = dict(zip(sides, alternate([*sides.values()], amounts.rounds), strict=True))
    pairs = ((COLD, "by hand", 0.36), (WARM, "dbmate", 2.0), (SEEDED, "django", 0.3))
    floors = ((bare.COLD, "by hand", None), (bare.WARM, "dbmate", None))
    for ours, theirs, goal in (*pairs, *floors, (COLD, "dbmate", None), (COLD, "django", None)):
        if ours in readings and theirs in readings:
            yield Comparison(ours, "s", readings[ours], readings[theirs], goal)


def _ours(place: Place, name: str, database: str, words: list[str], **env: str) -> Side:
    env = {**env, "BACKSET_DATABASE": database}
    place.invoke("reset-db", **env)
    return peers.checked(place, name, database, [["invoke", *words]], **env)


def _warm(place: Place, name: str, database: str, **env: str) -> Side:
    """Return a rebuild that must be warm."""
    words = _ours(place, name, database, ["reset-db"], **env)
    said = place.invoke("reset-db", **env, BACKSET_DATABASE=database)
    if "cloned" not in said:
        raise SystemExit(f"{name}: nothing was cloned\n{said}")
    return words


def commands(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield each step of a cold rebuild, the smaller commands, and the parent's memory."""
    steps: dict[str, list[float]] = {}
    peaks: list[float] = []
    env = {"BACKSET_DATABASE": "commands"}

    def run() -> None:
        said, peak = memory.watched(place, "invoke", *cold(place), "--json", env=env)
        peaks.append(peak)
        for each in json.loads(said)["steps"]:
            steps.setdefault(each["step"], []).append(each["seconds"])

    def side(*words: str) -> Side:
        return Side("invoke " + " ".join(words), lambda: place.invoke(*words, **env))

    place.invoke("reset-db", **env)
    whole = Side("reset-db --json", run)
    smaller = [side("status"), side("undo"), side("verify"), side("backup"), side("history")]
    smaller += _least(place)
    _, *readings = alternate([whole, *smaller], amounts.rounds)
    for name, seconds in steps.items():
        reading = Reading("one step of reset-db, cold", tuple(seconds[1:]))
        yield Comparison(f"step {name}", "s", reading)
    yield from (Comparison(each.name, "s", each) for each in readings)
    if all(peaks):
        yield Comparison(
            "peak memory, reset-db", "MB", Reading("parent", tuple(peaks[1:])), goal=MEMORY_MB
        )
    else:
        yield Absent("peak memory", memory.WHY_NOT)


def _least(place: Place) -> list[Side]:
    """Return what no rebuild through Invoke and Alembic can do without, before it does anything."""
    alembic = [sys.executable, "-c", "import alembic.command, sqlalchemy.orm, psycopg"]
    return [
        Side("importing Alembic, SQLAlchemy and psycopg", lambda: place.run(*alembic)),
        Side("an empty task of Invoke", lambda: place.run("invoke", "nothing", cwd=_empty(place))),
    ]


def _empty(place: Place) -> Path:
    """Return a folder with the emptiest tasks.py: Invoke refuses one without a task."""
    folder = place.folder / "empty"
    folder.mkdir(exist_ok=True)
    (folder / "tasks.py").write_text(EMPTY, encoding="utf-8")
    return folder


def listing(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield `invoke --list` of the project against one of a single empty task."""
    empty = _empty(place)
    sides = [
        Side("invoke --list", lambda: place.invoke("--list")),
        Side("invoke --list, one empty task", lambda: place.run("invoke", "--list", cwd=empty)),
    ]
    ours, theirs = alternate(sides, 2 * amounts.rounds)
    yield Comparison("invoke --list", "s", ours, theirs, 1.2)
