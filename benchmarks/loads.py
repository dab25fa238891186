"""Many rows written: mock rows beside psql's copy, and old rows that a rebuild carries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks import memory, peers, rebuilds, rows, sizes
from benchmarks.figures import Absent, Comparison, Reading
from benchmarks.sides import Side, alternate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.amounts import Amounts
    from benchmarks.figures import Found
    from benchmarks.place import Place

_ROWS_PER_SCALE = 35
_LARGE = 1_000_000
_BASH = "set -o pipefail; psql -X -d {old} -c '{out}' | psql -X -d {new} -c '{into}'"


def seeding(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield the mock-data script against psql's copy of the same rows, the indexes in place."""
    place.renew("bare")
    place.run("alembic", "upgrade", "head", env={"DATABASE_URL": place.url("bare")})
    for wanted in amounts.mock_rows:
        scale = max(1, round(wanted / _ROWS_PER_SCALE))
        yield _seeding(place, amounts, wanted, scale)


def _seeding(place: Place, amounts: Amounts, wanted: int, scale: int) -> Comparison:
    url = {name: place.url(name) for name in ("mock", "copied")}
    files = {table: place.folder / f"{table}.copy" for table in peers.OURS}

    def script() -> None:
        command = [*peers.SEED, "--scale", str(scale)]
        place.run(*command, env={"DATABASE_URL": url["mock"]})

    def copies(verb: str) -> list[str]:
        pairs = [("-c", f"\\copy {table} {verb} '{file}'") for table, file in files.items()]
        return [word for pair in pairs for word in pair]

    def copy() -> None:
        place.run("psql", "-X", "-q", "-1", "-d", url["copied"], *copies("from"))

    def check() -> None:
        both = [place.sql(name, peers.COUNTS) for name in ("mock", "copied")]
        if both[0] != both[1]:
            raise SystemExit(f"the script has written {both[0]}, and psql {both[1]}")

    place.renew("mock", "bare")
    script()
    place.run("psql", "-X", "-q", "-d", url["mock"], *copies("to"))
    sides = [
        Side("scripts/add_mock_task_data.py", script, lambda: place.renew("mock", "bare")),
        Side("psql \\copy", copy, lambda: place.renew("copied", "bare"), check),
    ]
    is_large = wanted >= _LARGE
    rounds = amounts.few if is_large else amounts.rounds
    ours, theirs = alternate(sides, rounds, warms_up=not is_large)
    goal = 0.8 if is_large else None
    return Comparison(f"mock data, {wanted:,} rows", "s", ours, theirs, goal)


def carrying(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield `reset-db --carry` of rows against a pipe of two psql."""
    if not place.knows("reset-db", "carry"):
        yield Absent("carry", "this version carries no rows")
        return
    for count, goal in amounts.carried_rows.items():
        yield from _carried(place, amounts, count, goal)


def _carried(place: Place, amounts: Amounts, count: int, goal: float | None) -> Iterator[Found]:
    what = f"carry {count:,} rows"
    sized = sizes.Sized(place, 0)
    rows.fill(place, sized.name, count)
    place.renew("piped")
    place.run("alembic", "upgrade", "head", env={"DATABASE_URL": place.url("piped")})
    seconds: list[float] = []

    def carry() -> None:
        words = ["reset-db", "--carry", "--json"]
        said, peak = memory.watched(place, "invoke", *words, env=sized.env)
        sized.peaks.append(peak)
        steps = {each["step"]: each["seconds"] for each in json.loads(said)["steps"]}
        seconds.append(steps["carry"])

    def pipe() -> None:
        urls = {"old": f"'{place.url(sized.name)}'", "new": f"'{place.url('piped')}'"}
        for table in peers.OURS:
            words = {"out": f"COPY {table} TO STDOUT", "into": f"COPY {table} FROM STDIN"}
            place.run("bash", "-c", _BASH.format(**urls, **words))

    def empty() -> None:
        place.sql("piped", "TRUNCATE users, tasks, task_outputs")

    def same() -> None:
        both = [place.sql(name, peers.COUNTS) for name in (sized.name, "piped")]
        if both[0] != both[1]:
            raise SystemExit(f"carried {both[0]}, piped {both[1]}")

    sides = [Side("reset-db --carry", carry), Side("psql to psql, by a pipe", pipe, empty, same)]
    is_large = count >= _LARGE
    whole, theirs = alternate(
        sides, amounts.few if is_large else amounts.rounds, warms_up=not is_large
    )
    ours = Reading("the step carry", tuple(seconds[-len(whole.values) :]))
    yield Comparison(what, "s", ours, theirs, goal)
    yield Comparison(f"{what}: the whole rebuild", "s", whole)
    size = rows.size_mb(place, sized.name)
    for unit, amount in (("rows/s", float(count)), ("MB/s", size)):
        here, there = (
            Reading(each.name, tuple(amount / one for one in each.values))
            for each in (ours, theirs)
        )
        yield Comparison(what, unit, here, there)
    if all(sized.peaks):
        peak = Reading("parent", tuple(sized.peaks))
        yield Comparison(f"peak memory, {what}", "MB", peak, goal=rebuilds.MEMORY_MB)
    place.drop(sized.name, "piped")
