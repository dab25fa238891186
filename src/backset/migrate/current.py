"""Where a database stands in one chain of revisions: env.py's own words, else the catalogs'.

Some env.py runs only behind a command of the project, and some fails. Its version tables and the
scripts can still be held against each other; its models cannot be compared then, and that is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backset.catalog import versions
from backset.errors import AlembicError, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.catalog.versions import VersionTable
    from backset.connections.session import Session
    from backset.migrate.worker import Worker

_OF_SCRIPTS = frozenset(
    {"broken chain", "unreadable file", "no configuration", "no section", "several heads"}
)
_BEHIND = "env.py runs only behind the project's own command"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database stands in one chain, by its version tables and the scripts.

    strays: the orphaned revisions of each version table that has some. pending: what is to be run,
    in some of the tables.
    """

    tables: tuple[VersionTable, ...]
    strays: Mapping[str, list[str]]
    pending: tuple[str, ...]

    @property
    def orphans(self) -> tuple[str, ...]:
        """The rows of all its version tables that no script has."""
        return tuple(sorted({each for rows in self.strays.values() for each in rows}))

    @property
    def revisions(self) -> list[str]:
        """The rows of all its version tables."""
        return sorted({row for table in self.tables for row in table.revisions})

    @property
    def shown(self) -> str:
        """The version tables with their rows, for people."""
        return "; ".join(
            f"{each.shown}: {', '.join(each.revisions) or 'empty'}" for each in self.tables
        )


def place(worker: Worker, session: Session) -> Place:
    """Read the version tables of the worker's chain, and hold them against its scripts."""
    known = {each.id for each in worker.scripts.revisions}
    every = versions.tables(session)
    where = (worker.lineage, every, known, worker.beside)
    found = tuple(versions.likely(*where, is_behind=worker.has_door))
    places = [worker.place(table.revisions) for table in found] or [worker.place(())]
    pairs = zip(found, places, strict=False)
    strays = {table.shown: place["orphans"] for table, place in pairs if place["orphans"]}
    return Place(found, strays, tuple(each for place in places for each in place["pending"]))


def describe(worker: Worker, session: Session, *, only_looks: bool = False) -> dict[str, Any]:
    """Ask env.py for versions and models; where a command is its door, fall back on the catalogs.

    `uncompared` in the answer says why there are no models then. Raises StepFailedError.
    only_looks: an env.py that fails is a finding, `failure` in the answer, and stops nothing.
    """
    try:
        about = worker.ask("describe", session)
    except AlembicError as error:
        if error.kind in _OF_SCRIPTS or not (
            worker.has_door or _is_told(error, only_looks=only_looks)
        ):
            raise
        if not worker.has_door:
            found = _by_catalogs(worker, session, "env.py fails")
            return {**found, "failure": _failure(error)}
        said = f"it opens {error.words}" if error.kind == "wrong target" else error.words
        return _by_catalogs(worker, session, f"{_BEHIND}: {said}")
    if worker.has_door and about["models"] == 0:  # the command imports them, and env.py does not
        about = {**about, "models": None, "uncompared": f"{_BEHIND}: it loads no model by itself"}
    if about["revisions"] or not worker.has_door:
        return about
    why = f"{_BEHIND}: it does not see the version tables by itself"
    found = _by_catalogs(worker, session, why)
    return found if found["revisions"] else about


def together(several: Sequence[dict[str, Any]], labels: Sequence[str]) -> dict[str, Any]:
    """Return the descriptions of several chains as if they were one.

    labels: how a line about each of them begins.
    """
    if len(several) == 1:
        return several[0]
    counts = [each["models"] for each in several if each["models"] is not None]
    return {
        "revisions": [row for each in several for row in each["revisions"]],
        "orphans": [row for each in several for row in each["orphans"]],
        "pending": [each for about in several for each in about["pending"]],
        "strays": {
            f"{label}{table}": rows
            for label, each in zip(labels, several, strict=True)
            for table, rows in each["strays"].items()
        },
        "columns": {name: own for each in several for name, own in each["columns"].items()},
        "version_table": ", ".join(each["version_table"] for each in several),
        "models": sum(counts) if counts else None,
    }


def _is_told(error: AlembicError, *, only_looks: bool) -> bool:
    return only_looks and error.kind != "wrong target"  # which is a state of its own


def _failure(error: AlembicError) -> Finding:
    why = "the versions were read in the catalogs, and the models were not compared"
    return Finding(kind="env.py fails", what=error.what, why=why, remedy=error.remedy)


def _by_catalogs(worker: Worker, session: Session, why: str) -> dict[str, Any]:
    found = place(worker, session)
    return {
        "revisions": found.revisions,
        "orphans": list(found.orphans),
        "strays": found.strays,
        "pending": list(found.pending),
        "heads": list(worker.scripts.heads),
        "version_table": ", ".join(each.shown for each in found.tables) or "no version table",
        "models": None,
        "columns": {},
        "enums": {},
        "uncompared": why,
    }
