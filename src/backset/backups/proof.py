"""Proves a backup: restores it into a scratch database of its own, compares, and drops that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.backups import restoration
from backset.servers import companions

if TYPE_CHECKING:
    from backset.backups.manifest import Backup
    from backset.servers.companions import Databases
    from backset.servers.programs import Programs
    from backset.servers.server import Database, Server


def refuse(server: Server, databases: Databases) -> None:
    """Raise RefusedError where no scratch database can be made."""
    companions.refuse_scratch(server, [server.names.scratch], databases, "prove a backup")


def prove(backup: Backup, server: Server, like: Database | None, programs: Programs) -> bool:
    """Restore `backup` beside the target and compare rows and catalog with its manifest.

    like: the database whose owner, encoding and locale the scratch database gets. Returns
    whether it loads only with the search path of the database. Raises StepFailedError with the
    differences; the scratch database is dropped in any case.
    """
    name = server.names.scratch

    def emptied() -> None:
        companions.drop(server, name)
        companions.make_scratch(server, name, like)

    with companions.scratch(server, name, like) as target:
        return restoration.load(backup, target, server.major, programs, emptied=emptied)
