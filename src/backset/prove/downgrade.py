"""Takes every migration back, in a scratch database: base → head → base must leave nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.catalog import catalog, difference
from backset.catalog.difference import Sides
from backset.errors import Finding, StepFailedError
from backset.inherit import cluster_wide
from backset.prove import rows, scratch
from backset.servers import derived
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backset.catalog.difference import Difference, Item
    from backset.prove.scratch import Scratch
    from backset.runs.run import Run

_PURPOSE = "take the migrations back"
_LEFT = Sides("the empty database", "the database at base")
_AGAIN = Sides("the first build", "the second one")
_HALF_WAY = "let downgrade() take back what upgrade() did, or leave this check out"


def findings(run: Run, progress: Callable[[str], None]) -> list[Finding]:
    """Build the chain, take it back to base, and build it again; the target is not touched.

    Raises LockedError, RefusedError where the role cannot make a database, and StepFailedError
    where the chain cannot even be built.
    """
    name = run.server.names.scratch
    scratch.prepare(run, [name], _PURPOSE)
    with scratch.made(run, name) as made:
        return list(_there_and_back(made, progress))


def refuse(run: Run) -> None:
    """Raise RefusedError where no scratch database can be made."""
    names = [run.server.names.scratch]
    derived.refuse_scratch(run.server, names, run.current.databases, _PURPOSE)


def _there_and_back(made: Scratch, progress: Callable[[str], None]) -> Iterator[Finding]:
    empty, before = made.schema(), cluster_wide.look(made.session)
    made.upgrade(progress)
    first = made.schema()
    try:
        made.downgrade(progress)
    except StepFailedError as error:
        yield _failure(error)
        return
    left, inserted = made.schema(), rows.read(made.session)
    # Alembic leaves its own table, and needs the schema of that before the first migration.
    own = {f"schema {schema}" for schema, _ in catalog.version_tables(made.session)}
    for each in difference.between(empty, left, _LEFT):
        if each.subject.replace('"', "") in own:
            continue
        table = difference.shown(each.subject.removeprefix("table "))
        there = inserted[table].total if table in inserted else 0
        yield _leftover(each, f", with {count(there, 'row')}" if there else "")
    for role in cluster_wide.made(before, cluster_wide.look(made.session)):
        yield _finding("downgrade leaves", role.name, f"{role.name} is left on the server")
    yield from _second(made, first, progress)


def _second(
    made: Scratch, first: dict[str, Item], progress: Callable[[str], None]
) -> Iterator[Finding]:
    """Go up again: it must succeed, and make the same."""
    try:
        made.upgrade(progress)
    except StepFailedError as error:
        what = f"after a downgrade to base the upgrade fails: {error.what}"
        yield _finding("downgrade leaves", "", what)
        return
    for each in difference.between(first, made.schema(), _AGAIN):
        if not each.minor:
            what = f"after a downgrade to base the upgrade makes something else: {each.text}"
            yield _finding("downgrade leaves", difference.shown(each.subject), what)


def _failure(error: StepFailedError) -> Finding:
    return Finding(
        kind="downgrade fails",
        name="",
        what=f"the downgrade to base fails: {error.what}",
        why="nobody can go back past that revision",
        remedy=_HALF_WAY,
    )


def _leftover(each: Difference, rows: str) -> Finding:
    name = difference.shown(each.subject)
    if each.what == "added":
        what = f"{name} is left at base{rows}"
    elif each.what == "missing":
        what = f"{name} was there before the first migration, and is gone at base"
    else:
        what = each.text
    return _finding("downgrade leaves", name, what)


def _finding(kind: str, name: str, what: str) -> Finding:
    why = "the next upgrade meets it"
    return Finding(kind=kind, name=name, what=what, why=why, remedy=_HALF_WAY)
