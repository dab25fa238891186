"""Loads a backup into an empty database, and holds the result against the manifest."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from backset.backups import comparison, dumps, replay
from backset.catalogs import catalog
from backset.connections.session import connect, explained
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backset.backups.manifest import Backup
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.servers.programs import Programs


def program(backup: Backup, programs: Programs) -> Path:
    """Return the pg_restore of the version that wrote a backup, or the nearest newer one.

    An older one may not know the format of the archive. Raises RefusedError.
    """
    return programs.find("pg_restore", backup.manifest.tool_major)


def load(
    backup: Backup,
    target: Target,
    major: int,
    programs: Programs,
    *,
    emptied: Callable[[], None] | None = None,
) -> bool:
    """Load a backup into the empty database `target`, then compare rows and catalog.

    major: the server's. emptied: makes that database anew, where the dump does not load by itself;
    it is then loaded with the search path of the database. Returns whether that was needed. Raises
    StepFailedError with the differences.
    """
    path = backup.manifest.needed_path
    try:
        fill(backup, target, major, programs)
    except StepFailedError as error:
        if emptied is None or path is not None:
            raise
        emptied()
        path = _own_path(backup, target)
        with _first(error):
            _fill_at_once(backup, target, programs, path=path)
    check(backup, target)
    return path is not None


def fill(
    backup: Backup, target: Target, major: int, programs: Programs, *, entries: Path | None = None
) -> None:
    """Load a backup in the way that its manifest names.

    entries: a list for `pg_restore --use-list`: all in one transaction, and where that does not
    load by itself, with the search path of the database.
    """
    path = backup.manifest.needed_path
    if entries is None and path is None:
        where, arguments = (backup.dump, program(backup, programs)), dumps.jobs(backup.dump)
        dumps.load(*where, *arguments, programs=programs, target=target, major=major)
        return
    try:
        _fill_at_once(backup, target, programs, path=path, entries=entries)
    except StepFailedError as error:
        if path is not None:
            raise
        with _first(error):
            _fill_at_once(backup, target, programs, path=_own_path(backup, target), entries=entries)


def _fill_at_once(
    backup: Backup,
    target: Target,
    programs: Programs,
    *,
    path: str | None,
    entries: Path | None = None,
) -> None:
    where = backup.dump, program(backup, programs), programs
    with explained(target), closing(connect(target, "restore")) as session, session.transaction():
        replay.replay(session, *where, path=path, entries=entries)


@contextmanager
def _first(error: StepFailedError) -> Iterator[None]:
    """Raise what the dump says by itself, where the second way fails, too."""
    try:
        yield
    except StepFailedError:
        raise error from None


def _own_path(backup: Backup, target: Target) -> str:
    """Return the search path of the database that was dumped, or that of a session on `target`."""
    if backup.manifest.search_path is not None:
        return backup.manifest.search_path
    with closing(connect(target, "restore")) as session:
        return catalog.own_search_path(session)


def check(
    backup: Backup,
    target: Target,
    *,
    exactly: bool = True,
    spare: frozenset[str] = frozenset(),
    is_in_use: bool = False,
) -> None:
    """Do what compare() does on a session of its own."""
    with connect(target, "restore") as session:
        compare(backup, session, exactly=exactly, spare=spare, is_in_use=is_in_use)


def compare(
    backup: Backup,
    session: Session,
    *,
    exactly: bool = True,
    spare: frozenset[str] = frozenset(),
    is_in_use: bool = False,
) -> None:
    """Raise StepFailedError with the differences between a database and the manifest, if any.

    exactly: whether what the manifest does not know is a difference too. spare: what is not looked
    at, by the names that the manifest has for it. is_in_use: whether more rows are none.
    """
    how = {"exactly": exactly, "is_in_use": is_in_use}
    differences = comparison.compare(backup.manifest, session, spare=spare, **how)
    if differences:
        what = f"{backup.name} restored otherwise than its manifest says"
        remedy = "choose another one from `invoke backups`"
        raise StepFailedError(f"{what}: {comparison.in_words(differences)}", remedy)
