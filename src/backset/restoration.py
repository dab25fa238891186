"""Loads a backup into an empty database, and holds the result against the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset import comparison
from backset.errors import StepFailedError
from backset.programs import JOBS
from backset.session import connect

if TYPE_CHECKING:
    from backset.manifest import Backup
    from backset.programs import Programs
    from backset.target import Target


def load(backup: Backup, target: Target, major: int, programs: Programs) -> None:
    """Load a backup into the empty database `target`, then compare rows and catalog.

    major: the server's. Raises StepFailedError with the differences.
    """
    pg_restore = programs.find("pg_restore", major)
    arguments = ["--exit-on-error", "--no-password", "--dbname", target.conninfo]
    if backup.dump.is_dir():
        arguments.append(f"--jobs={JOBS}")
    programs.run(pg_restore, *arguments, str(backup.dump), target=target)
    with connect(target, "restore") as session:
        differences = comparison.compare(backup.manifest, session)
    if differences:
        what = f"{backup.name} restored otherwise than its manifest says"
        remedy = "choose another one from `invoke backups`"
        raise StepFailedError(f"{what}: {comparison.in_words(differences)}", remedy)
