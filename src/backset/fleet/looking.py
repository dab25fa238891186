"""Where the members of a fleet stand, found cheaply: one short session each, one chain for all."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.catalog import catalog, versions
from backset.connections.session import connect, explained
from backset.errors import BacksetError
from backset.fleet import members
from backset.migrate import current
from backset.migrate.answers import Description
from backset.servers.server import Names
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.catalog.versions import VersionTable
    from backset.fleet.members import FleetMember, Site
    from backset.migrate.current import Place
    from backset.migrate.worker import Worker

AT_HEAD, UNREACHABLE = "at head", "unreachable"


@dataclass(frozen=True, slots=True)
class SeenMember:
    """What a short session on a member has seen; no password is in it.

    oid, previous: of the database, and of the one from before, or 0. tables: the version tables.
    trouble, remedy: why there was no such session, and what to do.
    """

    oid: int = 0
    previous: int = 0
    size_bytes: int = 0
    tables: tuple[VersionTable, ...] = ()
    trouble: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class MemberState:
    """Where a member stands. kind: `at head`, `unreachable`, or that of a finding.

    text: for people. remedy: what to do, where something is. pending: how many revisions.
    """

    kind: str
    text: str
    remedy: str = ""
    pending: int = 0


def look(site: Site, member: FleetMember) -> SeenMember:
    """Look at a member. Raises nothing that a database or a server says."""
    try:
        target = members.target(site, member)
        with explained(target), closing(connect(target, "status")) as session:
            members.demand_server(member, catalog.server_id(session))
            names = [Names.of(member.database).previous]
            oid, previous, size = session.execute(_ABOUT, names).fetchone() or (0, 0, 0)
            return SeenMember(oid, previous, size, tuple(versions.tables(session)))
    except BacksetError as error:
        return SeenMember(trouble=error.what, remedy=error.remedy)


class Judge:
    """Holds what was seen against the scripts; what several members share is asked once.

    workers: a process of Alembic for each chain of revisions; they need no database.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._known: dict[tuple[int, tuple[VersionTable, ...]], Place] = {}

    @property
    def goal(self) -> tuple[str, ...]:
        """The heads of every chain."""
        return tuple(each for worker in self._workers for each in sorted(worker.scripts.heads))

    def demand_destination(self) -> None:
        """Raise StepFailedError if a chain has heads that the settings do not accept."""
        current.demand_destination(self._workers)

    def state(self, seen: SeenMember) -> MemberState:
        """Return where a member stands."""
        if seen.trouble:
            return MemberState(UNREACHABLE, seen.trouble, seen.remedy)
        places = [self._place(number, seen.tables) for number in range(len(self._workers))]
        for worker, place in zip(self._workers, places, strict=True):
            if wrong := _wrong(worker, place):
                return wrong
        pending = sum(len(each.pending) for each in places)
        rows = ", ".join(row for each in places for row in each.revisions) or "base"
        if not pending:
            return MemberState(AT_HEAD, f"at {rows}")
        goal = ", ".join(self.goal)
        text = f"at {rows}, {count(pending, 'revision')} before {goal}"
        return MemberState("behind", text, "invoke fleet upgrade", pending)

    def _place(self, number: int, tables: tuple[VersionTable, ...]) -> Place:
        if (number, tables) not in self._known:
            place = current.placed(self._workers[number], tables)
            self._known[number, tables] = place
        return self._known[number, tables]


def _wrong(worker: Worker, place: Place) -> MemberState | None:
    """Return what keeps a member from being migrated, or what it is to follow; None if nothing."""
    about = Description(
        revisions=place.revisions,
        orphans=place.orphans,
        strays=place.strays,
        pending=place.pending,
        heads=worker.scripts.heads,
        version_table=place.shown,
        models=None,
    )
    scripts, lineage = worker.scripts, worker.lineage
    found = current.version_findings(
        about, scripts.goal, alembic=lineage.alembic, scripts=scripts.revisions
    )
    if not found or found[0].kind == "behind":
        return None
    first = found[0]
    return MemberState(first.kind, f"{lineage.label}{first.what}", first.remedy)


_ABOUT = """
SELECT oid, coalesce((SELECT oid FROM pg_database WHERE datname = %s), 0), pg_database_size(oid)
FROM pg_database WHERE datname = current_database()
"""
