"""Measure everything in one go on a server of its own: `python -m benchmarks`, or `nox -s bench`.

The figures go to docs/performance.json, and from there into docs/performance.md and its picture.
No time is a failure; a command that fails is, and so is one that did not do its work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.servers import programs
from benchmarks import (
    amounts,
    applications,
    branching,
    comparing,
    databases_of_tests,
    figures,
    fleets,
    growth,
    loads,
    page,
    place,
    rebuilds,
    shared,
    sizes,
    squashes,
)
from benchmarks.figures import Curve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Measure = Callable[[place.Place, amounts.Amounts], Iterator[figures.Found]]

MEASURES: dict[str, Measure] = {
    "rebuild": rebuilds.rebuild,
    "commands": rebuilds.commands,
    "listing": rebuilds.listing,
    "sizes": sizes.sizes,
    "shared": shared.shared,
    "branching": branching.branching,
    "seeding": loads.seeding,
    "carrying": loads.carrying,
    "chains": growth.chains,
    "tables": growth.tables,
    "comparing": comparing.comparing,
    "sessions": growth.sessions,
    "squashing": squashes.squashing,
    "fleet": fleets.fleets,
    "pytest": databases_of_tests.databases_of_tests,
    "application": applications.working,
}
DOCS = place.ROOT / "docs"
FIGURES, PAGE, PICTURE = (DOCS / f"performance.{each}" for each in ("json", "md", "svg"))
_PACKAGES = ("backset", "invoke", "alembic", "sqlalchemy", "psycopg")
_SETTINGS = ("fsync", "full_page_writes", "synchronous_commit", "shared_buffers", "wal_level")


def main() -> None:
    """Measure what is asked for, print it, and write it where it belongs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="little of it, and write nothing")
    parser.add_argument("--only", action="append", choices=MEASURES, metavar="NAME", help=_NAMES)
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each side runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there instead")
    parser.add_argument("--draw", action="store_true", help="write page and picture anew, only")
    given = parser.parse_args()
    if given.draw:
        return _write(json.loads(FIGURES.read_text(encoding="utf-8")))
    much = amounts.chosen(quick=given.quick, rounds=given.rounds)
    with place.opened() as here:
        content = surroundings(here)
        for name in given.only or MEASURES:
            print(f"\n{name} …", flush=True)
            measured = _measured(here, MEASURES[name], much)
            content["measures"][name] = measured
            found = [figures.of(each) for each in measured["found"]]
            print("\n".join(page.tables(found)))
    if given.json:
        _dump(content, given.json)
    elif not given.quick:
        _write(_merged(content))
    return None


_NAMES = f"one of {', '.join(MEASURES)}; several times for several"


def surroundings(here: place.Place) -> dict[str, Any]:
    """Return what the figures depend on: neither names nor paths of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    query = "SELECT name, current_setting(name) FROM unnest(string_to_array('{}', ',')) AS name"
    return {
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "memory_gb": round(memory / 1e9),
        },
        "versions": {name: version(name) for name in _PACKAGES}
        | {"PostgreSQL": str(programs.EMBEDDED_MAJOR), "Python": platform.python_version()},
        "settings": dict(here.sql("postgres", query.format(",".join(_SETTINGS)))),
        "measures": {},
    }


def _measured(here: place.Place, measure: Measure, much: amounts.Amounts) -> dict[str, Any]:
    load = round(os.getloadavg()[0], 2)
    found = [figures.content(each) for each in measure(here, much)]
    return {"load_before": load, "found": found}


def _merged(content: dict[str, Any]) -> dict[str, Any]:
    """Return it with the measures of earlier runs that this one has not made."""
    if FIGURES.is_file():
        earlier = json.loads(FIGURES.read_text(encoding="utf-8"))["measures"]
        content["measures"] = {**earlier, **content["measures"]}
    return content


def _dump(content: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write(content: dict[str, Any]) -> None:
    from benchmarks import picture  # noqa: PLC0415  (it needs more than the measurements do)

    _dump(content, FIGURES)
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page.spliced(text, page.rendered(content)), encoding="utf-8")
    found = [figures.of(each) for one in content["measures"].values() for each in one["found"]]
    picture.draw([each for each in found if isinstance(each, Curve)], PICTURE)


if __name__ == "__main__":
    main()
