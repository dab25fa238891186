"""Loads a backup into an empty database, and holds the result against the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.backups import comparison, dumps
from backset.connections.session import connect
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from pathlib import Path

    from backset.backups.manifest import Backup
    from backset.connections.target import Target
    from backset.servers.programs import Programs


def program(backup: Backup, programs: Programs) -> Path:
    """Return the pg_restore of the version that wrote a backup, or the nearest newer one.

    An older one may not know the format of the archive. Raises RefusedError.
    """
    return programs.find("pg_restore", backup.manifest.tool_major)


def load(backup: Backup, target: Target, major: int, programs: Programs) -> None:
    """Load a backup into the empty database `target`, then compare rows and catalog.

    major: the server's. Raises StepFailedError with the differences.
    """
    fill(backup, target, major, programs)
    check(backup, target)


def fill(
    backup: Backup, target: Target, major: int, programs: Programs, *, entries: Path | None = None
) -> None:
    """Load a backup. entries: a list for `pg_restore --use-list`, all in one transaction."""
    arguments = ["--single-transaction", "--use-list", str(entries)] if entries else []
    arguments = arguments or dumps.jobs(backup.dump)
    where = backup.dump, program(backup, programs)
    dumps.load(*where, *arguments, programs=programs, target=target, major=major)


def check(
    backup: Backup,
    target: Target,
    *,
    exactly: bool = True,
    spare: frozenset[str] = frozenset(),
    is_in_use: bool = False,
) -> None:
    """Raise StepFailedError with the differences between `target` and the manifest, if any.

    exactly: whether what the manifest does not know is a difference too. spare: what is not looked
    at, by the names that the manifest has for it. is_in_use: whether more rows are none.
    """
    with connect(target, "restore") as session:
        about = backup.manifest
        how = {"exactly": exactly, "is_in_use": is_in_use}
        differences = comparison.compare(about, session, spare=spare, **how)
    if differences:
        what = f"{backup.name} restored otherwise than its manifest says"
        remedy = "choose another one from `invoke backups`"
        raise StepFailedError(f"{what}: {comparison.in_words(differences)}", remedy)
