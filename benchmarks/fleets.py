"""Many databases brought to head, against Alembic two at a time; and the memory that it takes."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from backset.process.signals import submit
from benchmarks.figures import Absent, Comparison, Reading
from benchmarks.memory import WHY_NOT, watched
from benchmarks.sides import Side, alternate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.amounts import Amounts
    from benchmarks.figures import Found
    from benchmarks.place import Place

_TEMPLATE = "of_fleet"
_REVISION = '''"""One table."""
from alembic import op

revision = "{id}"
down_revision = "{down}"


def upgrade():
    op.create_table("{id}", *())


def downgrade():
    op.drop_table("{id}")
'''
_VERSION = "SELECT version_num FROM alembic_version"
_AT_ONCE = 2


def fleets(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield `fleet upgrade` with nothing to do and with one revision, and its peak of memory."""
    if "fleet" not in place.invoke("--list").split():
        yield Absent("fleet", "this version cannot do it")
        return
    project = laid_down(place)
    place.renew(_TEMPLATE)
    (head,) = alembic(place, project, _TEMPLATE)
    few, many, most = amounts.fleet
    names = [f"member_{each:03}" for each in range(most)]
    for each in names:
        place.renew(each, _TEMPLATE)
    yield _compared(place, amounts, project, names[:many], head, 0.1)
    new = add_revision(project, head)
    yield _compared(place, amounts, project, names[:many], new, 0.2)
    yield from _memory(place, project, names, few, new)
    place.drop(_TEMPLATE, *names)


def laid_down(place: Place) -> Path:
    """Return a copy of the project, to which a revision is added later."""
    project = place.folder / "fleet"
    shutil.copytree(place.project, project, ignore=shutil.ignore_patterns(".backset"))
    return project


def name(project: Path, names: Sequence[str]) -> None:
    """Let the fleet be these databases."""
    file = project / "pyproject.toml"
    text = file.read_text(encoding="utf-8").partition("\n[[tool.backset.fleet]]")[0]
    file.write_text(f"{text}\n[[tool.backset.fleet]]\ndatabases = {[*names]}\n", encoding="utf-8")


def add_revision(project: Path, down: str) -> str:
    """Add a revision with a table; return its id."""
    new = "fleet0000001"
    file = project / "alembic/versions" / f"{new}_one.py"
    file.write_text(_REVISION.format(id=new, down=down), encoding="utf-8")
    return new


def _compared(
    place: Place, amounts: Amounts, project: Path, names: Sequence[str], head: str, goal: float
) -> Comparison:
    is_work = place.sql(names[0], _VERSION) != [(head,)]

    def prepare() -> None:
        if is_work:
            take_back(place, _TEMPLATE, names, head)

    def check() -> None:
        if any(place.sql(each, _VERSION) != [(head,)] for each in names):
            raise SystemExit("not every database is at head")

    def theirs() -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            done = [submit(pool, alembic, place, project, each) for each in names]
            for each in done:
                each.result()

    name(project, names)
    sides = [
        Side("fleet upgrade", lambda: upgrade(place, project, names), prepare, check),
        Side(f"alembic upgrade head, {_AT_ONCE} at a time", theirs, prepare, check),
    ]
    one, other = alternate(sides, amounts.few, warms_up=False)
    what = "one revision to run" if is_work else "nothing to do"
    return Comparison(f"{len(names)} databases, {what}", "s", one, other, goal)


def take_back(place: Place, template: str, names: Sequence[str], revision: str) -> None:
    """Let the databases be as the template is; to copy each anew would take minutes."""
    ((down,),) = place.sql(template, _VERSION)
    for each in names:
        place.sql(
            each,
            f'DROP TABLE IF EXISTS "{revision}"',
            f"UPDATE alembic_version SET version_num = '{down}'",
        )


def upgrade(place: Place, project: Path, names: Sequence[str]) -> None:
    """Bring all of them to head."""
    url = {"DATABASE_URL": place.url(names[0])}
    place.run("invoke", "fleet", "upgrade", "--jobs", str(_AT_ONCE), env=url, cwd=project)


def alembic(place: Place, project: Path, name: str) -> tuple[str, ...]:
    """Bring one database to head; return its rows of the version table."""
    place.run("alembic", "upgrade", "head", env={"DATABASE_URL": place.url(name)}, cwd=project)
    return tuple(row for (row,) in place.sql(name, _VERSION))


def _memory(
    place: Place, project: Path, names: Sequence[str], few: int, head: str
) -> Iterator[Found]:
    """Yield the peak of the process that the user starts, over many databases and over few."""
    peaks = []
    for some in (names, names[:few]):
        take_back(place, _TEMPLATE, some, head)
        name(project, some)
        words = ("invoke", "fleet", "upgrade", "--jobs", str(_AT_ONCE))
        env = {"DATABASE_URL": place.url(names[0])}
        _, peak = watched(place, *words, env=env, cwd=project)
        if any(place.sql(each, _VERSION) != [(head,)] for each in some):
            raise SystemExit("not every database is at head")
        peaks.append(Reading(f"{len(some)} databases", (peak,)))
    if not all(each.median for each in peaks):
        yield Absent("peak memory of a fleet's run", WHY_NOT)
    else:
        yield Comparison("peak memory of the run itself", "MB", peaks[0], peaks[1], 1.2)
