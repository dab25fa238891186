"""Loads a backup into an empty database, and holds the result against the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset import comparison
from backset.errors import StepFailedError
from backset.programs import JOBS
from backset.session import connect, conninfo

if TYPE_CHECKING:
    from pathlib import Path

    from backset.manifest import Backup
    from backset.programs import Programs
    from backset.target import Target


def load(
    backup: Backup,
    target: Target,
    major: int,
    programs: Programs,
    *,
    entries: Path | None = None,
    exactly: bool = True,
) -> None:
    """Load a backup into the empty database `target`, then compare rows and catalog.

    major: the server's. entries: a list for `pg_restore --use-list`, all in one transaction.
    exactly: whether what the manifest does not know is a difference too.
    Raises StepFailedError with the differences.
    """
    pg_restore = programs.find("pg_restore", major)
    arguments = ["--exit-on-error", "--no-password", "--dbname", conninfo(target, "restore")]
    if entries:
        arguments += ["--single-transaction", "--use-list", str(entries)]
    elif backup.dump.is_dir():
        arguments.append(f"--jobs={JOBS}")
    programs.run(pg_restore, *arguments, str(backup.dump), target=target)
    with connect(target, "restore") as session:
        differences = comparison.compare(backup.manifest, session, exactly=exactly)
    if differences:
        what = f"{backup.name} restored otherwise than its manifest says"
        remedy = "choose another one from `invoke backups`"
        raise StepFailedError(f"{what}: {comparison.in_words(differences)}", remedy)
