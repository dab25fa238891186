"""Fills a cleared database from a backup, but for what was not dropped there; or rehearses that."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.backups import contents, dumps, restoration
from backset.catalogs import catalog, configured, objects
from backset.connections.session import one_line
from backset.errors import StepFailedError
from backset.properties import privileges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backset.backups.manifest import Backup
    from backset.runs.build import Build

# The frame of a plain dump, and a setting that a server before 17 does not know.
_NOT_FOR_US = re.compile(rb"^(?:\\(?:un)?restrict \w+|SET transaction_timeout = 0;)$", re.MULTILINE)


def load(build: Build, taken: Backup, *, own: bool) -> None:
    """Load a backup into the cleared target, but for what was not dropped there, and compare.

    What belongs to others is not compared: they may have gone on working with it.
    own: whether it is the backup of what was cleared, so that nothing else of ours may be there.
    """
    privileges.forget_defaults(build.live)
    with _entries(build, taken, own=own) as listing:
        where = (build.target, build.server.major, build.programs)
        restoration.fill(taken, *where, entries=listing)
    spare = objects.names_of_others(build.live, build.sharing.keeps)
    spare |= _in_publications_of_others(taken, spare)
    restoration.check(taken, build.target, exactly=own, spare=spare, is_in_use=True)


def _in_publications_of_others(taken: Backup, others: Iterable[str]) -> frozenset[str]:
    """Return what a manifest says of our tables' places in publications that are not ours."""
    ends = tuple(f" in {each}" for each in others if each.startswith("publication "))
    return frozenset(each for each in taken.manifest.objects or () if ends and each.endswith(ends))


def rehearse(build: Build, taken: Backup) -> None:
    """Make all of a backup but its rows in the open transaction of `build.live`; roll that back.

    Raises StepFailedError with what the role may not make again.
    """
    script = _definitions(build, taken)
    (encoding,) = build.live.execute("SELECT getdatabaseencoding()").fetchone() or ("",)
    try:
        with build.live.transaction(force_rollback=True):
            privileges.forget_defaults(build.live)
            speak = sql.SQL("SET client_encoding TO {}")  # the script is read before it can say so
            build.live.execute(speak.format(sql.Literal(encoding)))
            build.live.execute(script)
    except psycopg.Error as error:
        role = build.server.role.name
        what = f"the role {role} could not make again what would be dropped"
        remedy = "as an administrator: give it the right, or CREATEDB, so that nothing is dropped"
        raise StepFailedError(f"{what}: {one_line(error, build.target)}", remedy) from None


def _definitions(build: Build, taken: Backup) -> bytes:
    pg_restore = restoration.program(taken, build.programs)
    with _entries(build, taken, own=True) as listing:
        script = listing.with_name("script")
        files = ["--use-list", os.fspath(listing), "--file", os.fspath(script)]
        dumps.read(taken.dump, pg_restore, "--schema-only", *files, programs=build.programs)
        return _NOT_FOR_US.sub(b"", script.read_bytes())


@contextmanager
def _entries(build: Build, taken: Backup, *, own: bool) -> Iterator[Path]:
    """Give a file of what `taken` has and the target has not, for `pg_restore --use-list`."""
    server_id = catalog.server_id(build.server.session)
    same = own or (server_id != "" and taken.manifest.server_id == server_id)
    pg_restore = restoration.program(taken, build.programs)
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "toc"
        lines = contents.read(taken.dump, pg_restore, build.programs, listing)
        rows = configured.tables(build.live) if build.sharing.is_nobodys else []
        cleared = [(each.schema, each.name) for each in rows if each.may_write]
        missing = contents.missing(build.live, lines, own=same, cleared=cleared)
        wanted = "\n".join(missing) + "\n"
        listing.write_text(wanted, encoding="utf-8", errors="surrogateescape")
        yield listing
