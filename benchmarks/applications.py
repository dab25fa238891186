"""A working application rebuilt, held against its own command; and where the time goes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks import application, bare, rebuilds
from benchmarks.figures import Comparison, Reading
from benchmarks.sides import Side, alternate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.amounts import Amounts
    from benchmarks.figures import Found
    from benchmarks.place import Place

_OWN = ("python", "-m", "shop", "upgrade")
_SHARES = {
    "backup": "dump, read back",
    "upgrade": "migrations",
    "verify": "describing and comparing",
    "promote": "swap",
}
_BEFORE = "before the first step and between steps: imports, and what waits for them"


def working(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield reset-db and `status` of the generated application, and each share of the time."""
    shape = application.Shape()
    names = ("ours", "warm", "own")
    folders = {each: _laid_down(place, shape, each) for each in names}
    shares: dict[str, list[float]] = {}
    sides = [
        _rebuild(place, "ours", folders["ours"], rebuilds.cold(place)[1:], shares),
        _rebuild(place, "warm", folders["warm"], [], {}),
        _own(place, folders["own"]),
        *bare.chains(place, _database("bare"), folders["own"], "SHOP_DATABASE"),
    ]
    cold, warm, own, *floors = alternate(sides, amounts.few)
    yield Comparison("reset-db, cold", "s", cold, own, 1.15)
    for name, floor in zip(bare.FLOORS.values(), floors, strict=True):
        yield Comparison(f"{name}: cold", "s", floor, own)
    yield Comparison("reset-db, nothing changed", "s", warm, own)
    for name, seconds in shares.items():
        yield Comparison(name, "s", Reading("a share of reset-db, cold", tuple(seconds[1:])))
    looks = [
        Side("backset status", lambda: place.run("backset", "status", cwd=folders["own"])),
        Side("alembic current", lambda: place.run("alembic", "current", cwd=folders["own"])),
    ]
    ours, theirs = alternate(looks, amounts.few)
    yield Comparison("status at head", "s", ours, theirs, 1.1)
    yield from _deep(place, amounts, folders["own"])
    place.drop(*map(_database, (*names, *(f"bare_{each}" for each in bare.FLOORS))), "made")


def _deep(place: Place, amounts: Amounts, folder: Path) -> Iterator[Found]:
    """Yield the deep comparison against Alembic's, and create_all() beside that."""
    env = {"SHOP_DATABASE": place.url("made")}

    def renew() -> None:
        schemas = [f"CREATE SCHEMA {each}" for each in application.SCHEMAS]
        place.renew("made")
        place.sql("made", *schemas)

    def theirs() -> None:
        place.run("alembic", "check", cwd=folder)
        place.run("python", "-m", "shop", "create", cwd=folder, env=env)

    sides = [
        Side("verify --deep", lambda: place.run("backset", "verify", "--deep", cwd=folder)),
        Side("alembic check, create_all", theirs, renew),
    ]
    ours, other = alternate(sides, amounts.few)
    yield Comparison("verify --deep", "s", ours, other, 1.6)


def _database(name: str) -> str:
    return f"working_{name}"


def _laid_down(place: Place, shape: application.Shape, name: str) -> Path:
    """Write the application, with a database that its own command has migrated."""
    folder = place.folder / "working" / name
    url = place.url(_database(name))
    for path, text in application.files(shape, url, own_command=False):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    place.renew(_database(name))
    place.run(*_OWN, cwd=folder)
    return folder


def _rebuild(
    place: Place, name: str, folder: Path, flags: list[str], shares: dict[str, list[float]]
) -> Side:
    """Return a rebuild with backup and verification; shares: gets the seconds of each part."""

    def run() -> None:
        notes = folder / application.IMPORTS
        notes.unlink(missing_ok=True)
        told = json.loads(place.run("backset", "reset-db", *flags, "--json", cwd=folder))
        steps = {each["step"]: each["seconds"] for each in told["steps"]}
        for step, words in _SHARES.items():
            shares.setdefault(f"{step}: {words}", []).append(steps[step])
        shares.setdefault(_BEFORE, []).append(told["seconds"] - sum(steps.values()))
        imports = notes.read_text().splitlines() if notes.exists() else []
        seconds = sum(float(each.split()[0]) for each in imports)
        shares.setdefault("imports of the application, in all of it", []).append(seconds)

    return Side(f"reset-db, {name}", run)


def _own(place: Place, folder: Path) -> Side:
    def check() -> None:
        query = "SELECT count(*) FROM pg_tables WHERE schemaname ~ 'sales|stock|people'"
        if (found := place.sql(_database("own"), query)) != [(application.Shape().tables,)]:
            raise SystemExit(f"{found} tables")

    return Side(
        "its own command",
        lambda: place.run(*_OWN, cwd=folder),
        lambda: place.renew(_database("own")),
        check,
    )
