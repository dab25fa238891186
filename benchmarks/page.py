"""The generated part of the page: tables of what was measured. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import figures
from benchmarks.figures import Absent, Comparison, Curve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.figures import Reading

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
TITLES = {
    "rebuild": "The small database of this project",
    "commands": "Steps and smaller commands",
    "listing": "`invoke --list`",
    "sizes": "Large databases",
    "branching": "Databases of branches",
    "seeding": "Mock rows",
    "carrying": "Rows that are carried",
    "chains": "Long chains",
    "tables": "Many tables",
    "comparing": "Two schemas",
    "sessions": "Open sessions",
    "squashing": "Squashing a chain",
    "application": "An application as real ones are",
    "fleet": "Many databases",
    "pytest": "A database for each test",
}
_HEAD = "| what | backset | beside it | | ratio | at most |\n|---|---|---|---|---|---|"


def spliced(page: str, generated: str) -> str:
    """Return the page with what is generated between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{generated}\n{END}{after}"


def rendered(content: Mapping[str, Any]) -> str:
    """Return the tables of everything that was measured."""
    parts = [_surroundings(content)]
    for name, title in TITLES.items():
        measured = content["measures"].get(name)
        if measured:
            found = [figures.of(each) for each in measured["found"]]
            parts += [f"### {title}", *tables(found)]
    return "\n\n".join(parts)


def _surroundings(content: Mapping[str, Any]) -> str:
    about, versions = content["machine"], content["versions"]
    settings = ", ".join(f"`{name} = {value}`" for name, value in content["settings"].items())
    return (
        f"{about['system']} on {about['processor']}, {about['cores']} cores, "
        f"{about['memory_gb']} GB of memory; "
        f"{', '.join(f'{name} {number}' for name, number in versions.items())}. "
        f"The server: {settings}."
    )


def tables(found: list[figures.Found]) -> Iterator[str]:
    """Yield the table of one measure, and the list of what it could not measure.

    Curves are in the picture; one that has nothing beside it is a table as well.
    """
    lines = [each for each in found if isinstance(each, Comparison)]
    lines = lines or [each for curve in found if isinstance(curve, Curve) for each in curve.lines]
    if lines:
        yield "\n".join([_HEAD, *map(_line, lines)])
    absent = [each for each in found if isinstance(each, Absent)]
    missing = [f"- {each.what}: not measured, {each.why}" for each in absent]
    if missing:
        yield "\n".join(missing)


def _line(each: Comparison) -> str:
    theirs = (each.theirs.name, _shown(each.theirs, each.unit)) if each.theirs else ("", "")
    ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
    goal = "" if each.goal is None else f"{each.goal:g}{'' if each.theirs else ' ' + each.unit}"
    if each.is_met is False:
        goal = f"**{goal}**"
    cells = (each.what, _shown(each.ours, each.unit), *theirs, ratio, goal)
    return f"| {' | '.join(each.replace('|', '&#124;') for each in cells)} |"


def _shown(reading: Reading, unit: str) -> str:
    """Return the median with its unit, and the spread where there is one."""
    low, high = reading.spread
    spread = f" ({_number(low)}–{_number(high)})" if len(reading.values) > 1 else ""
    return f"{_number(reading.median)} {unit}{spread}"


def _number(value: float) -> str:
    """Return three digits of it, or all before the point."""
    digits = max(0, 3 - len(str(int(value)))) if value >= 1 else 3
    return f"{value:,.{digits}f}"
