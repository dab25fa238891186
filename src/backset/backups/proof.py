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


def prove(backup: Backup, server: Server, like: Database | None, programs: Programs) -> None:
    """Restore `backup` beside the target and compare rows and catalog with its manifest.

    like: the database whose owner, encoding and locale the scratch database gets.
    Raises StepFailedError with the differences; the scratch database is dropped in any case.
    """
    with companions.scratch(server, server.names.scratch, like) as target:
        restoration.load(backup, target, server.major, programs)
