"""Rows of a dump: it is restored into a scratch database, without what rows do not need."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from backset.backups import archive, dumps
from backset.carrying.source import Source
from backset.connections.session import Session, connect, conninfo, explained
from backset.errors import StepFailedError
from backset.processes.process import last_words
from backset.servers import companions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backset.backups.archive import Archive
    from backset.connections.target import Target
    from backset.runs.build import Build

_FOREIGN = ("--no-password", "--no-owner", "--no-acl")  # whose roles are not here


def check(build: Build, name: str) -> None:
    """Raise StepFailedError or RefusedError where the dump cannot be restored."""
    found = _read(build, name)
    names = build.server.names
    companions.refuse_scratch(
        build.server, [names.scratch_old], build.server.databases(), "restore a dump"
    )
    if found.backup:
        found.backup.check()


def _read(build: Build, name: str) -> Archive:
    path = archive.find(build.vault, name)
    return archive.read(path, build.server.major, build.programs)


@contextmanager
def opened(build: Build, name: str, progress: Callable[[str], None]) -> Iterator[Source]:
    """Restore a dump for the block; it is dropped whatever happens, after a kill -9 next time."""
    found = _read(build, name)
    (zone,) = (build.live if build.old else build.server.session).execute(_ZONE).fetchone() or ("",)
    with companions.scratch(build.server, build.server.names.scratch_old, build.old) as database:

        def connected() -> Session:
            session = connect(database, build.purpose)
            session.execute("SELECT set_config('TimeZone', %s, false)", [zone])
            return session

        progress(f"restoring {found.path.name} into {database.database}")
        with explained(database):
            _restore(build, found, database)
            with closing(connected()) as session:
                yield Source(database, session, connected)


def _restore(build: Build, found: Archive, database: Target) -> None:
    """Make tables and what they are made of, as far as that can be done here; then load all rows.

    Indexes, constraints, triggers and policies come after the rows in a dump, and stay out.
    """
    doubts = _define(build, found, database)
    pg_restore = build.programs.find("pg_restore", build.server.major)
    arguments = ["--exit-on-error", "--section=data", *_FOREIGN]
    arguments += ["--dbname", conninfo(database, "restore")]
    if found.backup or found.path.is_dir():  # it may be a tar, which no two processes can load
        arguments += dumps.jobs(found.path)
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "toc"
        text = "\n".join(found.rows) + "\n"
        listing.write_text(text, encoding="utf-8", errors="surrogateescape")
        arguments += ["--use-list", os.fspath(listing)]
        where = found.path, pg_restore
        try:
            dumps.read(*where, *arguments, programs=build.programs, target=database)
        except StepFailedError as error:
            what = f"{found.path.name} cannot be restored here: {error.what}"
            raise StepFailedError(what, doubts or error.remedy) from None


def _define(build: Build, found: Archive, database: Target) -> str:
    """Make everything but rows; return what to mend if these need what could not be made.

    A dump may have views, functions and extensions that nothing here can make, and no row needs.
    """
    pg_restore = build.programs.find("pg_restore", build.server.major)
    arguments = ["--section=pre-data", *_FOREIGN, "--dbname", conninfo(database, "restore")]
    where = found.path, pg_restore
    with dumps.reading(*where, *arguments, programs=build.programs, target=database) as child:
        if child.wait() != 1 or not any("errors ignored" in line for line in child.tail):
            build.programs.check(child, pg_restore, database)
        words = database.redact(last_words(child.tail))
    with closing(connect(database, build.purpose)) as session:
        there = {name for (name,) in session.execute("SELECT extname FROM pg_extension")}
    missing = [each for each in found.extensions if each not in there]
    if missing:
        return f"install the extension {', '.join(missing)} on this server"
    return f"mend this first: {words}" if "error:" in words else ""


_ZONE = "SHOW TimeZone"
