"""How the time of a rebuild grows: with revisions, tables and open sessions."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg

from benchmarks import bare, rebuilds, revisions
from benchmarks.figures import Comparison, Curve, Reading
from benchmarks.sides import Side, alternate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.amounts import Amounts
    from benchmarks.figures import Found
    from benchmarks.place import Place

_TABLES, _REVISIONS = 10, 10  # of a chain that grows in the other
_LONG = 400
_MANY = 1000


def chains(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield a rebuild along chains of revisions, against `alembic upgrade head` alone."""
    pairs = [(each, _TABLES) for each in amounts.revisions]
    readings = [_chain(place, amounts, *each) for each in pairs]
    for (count, _), found in zip(pairs, readings, strict=True):
        yield from _against(f"{count} revisions", found, 1.15 if count == _LONG else None)
    yield from _curves("revisions", amounts.revisions, readings)


def tables(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield a rebuild of some tables, against `alembic upgrade head` alone."""
    readings = [_chain(place, amounts, _REVISIONS, each) for each in amounts.tables]
    for count, found in zip(amounts.tables, readings, strict=True):
        yield from _against(f"{count} tables", found, 1.25 if count == _MANY else None)
    yield from _curves("tables", amounts.tables, readings)


def _against(size: str, found: list[Reading], goal: float | None) -> Iterator[Found]:
    ours, theirs, *floors = found
    yield Comparison(f"reset-db, cold, {size}", "s", ours, theirs, goal)
    for name, floor in zip(bare.FLOORS.values(), floors, strict=True):
        yield Comparison(f"{name}: cold, {size}", "s", floor, theirs)


def _curves(over: str, points: tuple[int, ...], readings: list[list[Reading]]) -> Iterator[Found]:
    names = ("reset-db", "alembic upgrade head")
    for name, several in zip(
        names, zip(*(each[:2] for each in readings), strict=True), strict=True
    ):
        yield Curve(name, over, tuple(zip(map(float, points), several, strict=True)))


def _chain(place: Place, amounts: Amounts, count: int, made: int) -> list[Reading]:
    folder = place.folder / f"chain-{count}-{made}"
    for name, text in revisions.files(count, made):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ours, theirs, floor = (f"{each}_{count}_{made}" for each in ("chain", "alone", "bare"))
    env = {name: {"DATABASE_URL": place.url(name)} for name in (ours, theirs)}
    words = ["backset", *rebuilds.cold(place)]

    def check() -> None:
        query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        found = [place.sql(name, query) for name in (ours, theirs)]
        if found != [[(made + 1,)]] * 2:
            raise SystemExit(f"{found} tables, not {made + 1}")

    def migrate() -> None:
        place.run("alembic", "upgrade", "head", env=env[theirs], cwd=folder)

    sides = [
        Side("reset-db", lambda: place.run(*words, env=env[ours], cwd=folder)),
        Side("alembic upgrade head", migrate, lambda: place.renew(theirs), check),
        *bare.chains(place, floor, folder, "DATABASE_URL"),
    ]
    readings = alternate(sides, amounts.few + 2)
    place.drop(ours, theirs, *(f"{floor}_{each}" for each in bare.FLOORS))
    return readings


def sessions(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield a rebuild of a database to which others are connected: the swap ends their sessions."""
    env = {"BACKSET_DATABASE": "visited"}
    place.invoke("reset-db", **env)
    others = ExitStack()

    def side(count: int) -> Side:
        def come() -> None:
            for _ in range(count):
                others.callback(psycopg.connect(place.url("visited"), autocommit=True).close)

        words = rebuilds.cold(place)
        return Side(str(count), lambda: place.invoke(*words, **env), come, others.close)

    readings = alternate([side(each) for each in amounts.sessions], amounts.few + 2)
    points = tuple(zip(map(float, amounts.sessions), readings, strict=True))
    yield Curve("reset-db", "sessions", points)
