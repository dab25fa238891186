"""Fills a cleared database from a backup, but for what was not dropped there; or rehearses that."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from backset.backups import backup as backups
from backset.backups import replay, restoration, toc
from backset.catalogs import configured, inventory, objects
from backset.connections.session import one_line
from backset.errors import StepFailedError
from backset.properties import grants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.backups.manifest import Backup
    from backset.runs.build import Build


def load(build: Build, taken: Backup, *, own: bool) -> str:
    """Load a backup into the cleared target, but for what was not dropped there, and compare.

    What belongs to others is not compared: they may have gone on working with it.
    own: whether it is the backup of what was cleared, so that nothing else of ours may be there.
    Returns, in words, which tables have not come back into publications of others.
    """
    grants.forget_defaults(build.live)
    with _entries(build, taken, own=own) as listing:
        where = (build.target, build.server.major, build.programs)
        restoration.fill(taken, *where, entries=listing)
    spare = _spare(build, taken)
    restoration.check(taken, build.target, exactly=own, spare=spare, is_in_use=True)
    there = inventory.inventory(build.live)
    gone = [each for each in _places(build, taken) if each not in there]
    return f"{', '.join(gone)}: gone, and its owner alone brings it back" if gone else ""


def _spare(build: Build, taken: Backup) -> frozenset[str]:
    """Return what others have: also the places of our tables in publications that are not ours."""
    others = objects.names_of_others(build.live, build.sharing.keeps)
    return others | frozenset(_places(build, taken))


def _places(build: Build, taken: Backup) -> list[str]:
    """Return the places of our tables in publications of others, as the manifest names them."""
    others = objects.names_of_others(build.live, build.sharing.keeps)
    kept = (each.removeprefix("publication ") for each in others if each.startswith("publication "))
    ends = tuple(f" in publication {objects.bare(each)}" for each in kept)  # never quoted there
    return [each for each in taken.manifest.objects or () if ends and each.endswith(ends)]


def rehearse(build: Build, taken: Backup) -> Backup:
    """Do what load() would, in the open transaction of `build.live`, and roll that back.

    Returns the backup; where it loads only with the search path of the database, its manifest says
    so. Raises StepFailedError with what keeps it from being loaded.
    """
    known = taken.manifest.needed_path
    ways = [None, taken.manifest.search_path] if known is None else [known]
    errors: list[psycopg.Error | StepFailedError] = []
    with _entries(build, taken, own=True) as listing:
        for path in ways:
            try:
                _try(build, taken, listing, path)
            except (psycopg.Error, StepFailedError) as error:
                if build.live.closed:  # nothing is known of the dump then
                    raise
                errors.append(error)
            else:
                if path == known and not taken.manifest.obstacle:
                    return taken
                return backups.noted(taken, needs_search_path=path is not None)
    raise _unloadable(build, taken, errors[0]) from None


def _try(build: Build, taken: Backup, listing: Path, path: str | None) -> None:
    where = taken.dump, restoration.program(taken, build.programs), build.programs
    with build.live.transaction(force_rollback=True):
        grants.forget_defaults(build.live)
        replay.replay(build.live, *where, entries=listing, path=path)
        restoration.compare(taken, build.live, spare=_spare(build, taken), is_in_use=True)


def _unloadable(
    build: Build, taken: Backup, error: psycopg.Error | StepFailedError
) -> StepFailedError:
    """Return what a person reads of a backup that nothing could be brought back from."""
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        role = build.server.role.name
        what = f"the role {role} could not make again what would be dropped"
        remedy = "as an administrator: give it the right, or CREATEDB, so that nothing is dropped"
    else:
        what = f"{taken.name} cannot be loaded again, so nothing was dropped"
        remedy = "mend what it names in the database, then run this again"
    words = error.what if isinstance(error, StepFailedError) else one_line(error, build.target)
    return StepFailedError(f"{what}: {words}", remedy)


@contextmanager
def _entries(build: Build, taken: Backup, *, own: bool) -> Iterator[Path]:
    """Give a file of what `taken` has and the target has not, for `pg_restore --use-list`."""
    same = own or build.server_id in {taken.manifest.server_id} - {""}
    pg_restore = restoration.program(taken, build.programs)
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "toc"
        lines = toc.read(taken.dump, pg_restore, build.programs, listing)
        rows = configured.tables(build.live) if build.sharing.is_nobodys else []
        cleared = [(each.schema, each.name) for each in rows if each.may_write]
        missing = toc.missing(build.live, lines, own=same, cleared=cleared)
        wanted = "\n".join(missing) + "\n"
        listing.write_text(wanted, encoding="utf-8", errors="surrogateescape")
        yield listing
