"""Rows of a dump: it is restored into a scratch database, without what rows do not need."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from backset.backups import archive, dumps
from backset.carrying import digest, pending, plan
from backset.carrying.pair import SPELLING
from backset.carrying.source import Source
from backset.catalogs import borrowing, columns, versions
from backset.catalogs.catalog import shown
from backset.connections.session import Session, connect, conninfo, explained
from backset.errors import RefusedError, StepFailedError
from backset.processes.process import last_words
from backset.proofs import scratch
from backset.properties.inheritance import OF_DATABASE
from backset.servers import companions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backset.backups.archive import Archive
    from backset.carrying.digest import Digest
    from backset.carrying.transfer import Transfer
    from backset.configuration.rules import Rules
    from backset.connections.target import Target
    from backset.migrations.migrating import Progress
    from backset.revisions.revision import Revision
    from backset.runs.build import Build

    Name = tuple[str, str]

_OWN = ("--no-password",)
_FOREIGN = (*_OWN, "--no-owner", "--no-acl")  # whose roles are not here


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
def opened(
    build: Build, name: str, progress: Progress, *, is_own: bool = False
) -> Iterator[Source]:
    """Restore a dump for the block; it is dropped whatever happens, after a kill -9 next time.

    Where revisions are pending there that change rows, all of it is restored and goes through them.
    is_own: whether it is of the target itself, whose roles are here.
    """
    found = _read(build, name)
    how = _OWN if is_own else _FOREIGN
    (zone,) = (build.live if build.old else build.server.session).execute(_ZONE).fetchone() or ("",)
    with companions.scratch(build.server, build.server.names.scratch_old, build.old) as database:

        def connected() -> Session:
            session = connect(database, build.purpose)
            session.execute("SELECT set_config('TimeZone', %s, false)", [zone])
            return session

        progress(f"restoring {found.path.name} into {database.database}")
        with explained(database):
            doubts = _define(build, found, database, how)
            path = found.backup.manifest.search_path if found.backup else None
            with closing(connect(database, build.purpose)) as session:
                borrowing.give_path(session, path)
            with closing(connected()) as session:
                _tell_rowless(found, session, progress)
                rules, places = build.options.carries, _places(found, session)
                _load(build, found, database, places, doubts)
                waiting = pending.found(session, build)
                wanted = found.rows(None if waiting else _wanted(session, rules))
                _load(build, found, database, [x for x in wanted if x not in places], doubts)
                copied = _digests(connected, rules) if waiting and is_own and rules else None
                if waiting:
                    _make(build, found, database, "post-data", how)
                    _go_through(build, database, session, waiting, progress)
                yield Source(
                    *(database, session, connected),
                    populated=found.populated,
                    through=[each.path.name for each in waiting],
                    copied=copied,
                )


def _digests(connected: Callable[[], Session], rules: Rules) -> list[tuple[Transfer, Digest]]:
    """Return what the tables have before anything changes it."""
    with closing(connected()) as session:
        session.execute(SPELLING.encode())
        return [(each, digest.of_old(session, each)) for each in plan.whole(session, rules)]


def _go_through(
    build: Build,
    database: Target,
    session: Session,
    waiting: Sequence[Revision],
    progress: Progress,
) -> None:
    """Run the migrations in the copy. Raises StepFailedError, which names these."""
    progress(f"the old rows go through {pending.files(waiting)} in a copy first", lasting=True)
    before = _names(session)
    try:
        with scratch.opened(build, database, OF_DATABASE) as copy:
            copy.upgrade(progress)
    except (StepFailedError, RefusedError) as error:
        raise pending.failed(waiting, error) from None
    if left := pending.found(session, build):
        what = "the migrations ended, and the version table does not say that they were run"
        raise pending.failed(left, StepFailedError(what, ""))
    if gone := sorted(before - _names(session)):
        progress(f"the migrations drop or rename there: {', '.join(gone)}", lasting=True)


def _names(session: Session) -> set[str]:
    """Return the names of the tables, and of the columns."""
    tables = columns.read(session).values()
    return {x.shown for x in tables} | {f"{x.shown}.{c.name}" for x in tables for c in x.columns}


def _places(found: Archive, session: Session) -> list[str]:
    """Return the lines of the rows that say where a database stands."""
    names = tuple(f"{each.schema} {each.name} " for each in versions.tables(session))
    return [line for text, line in found.texts("TABLE DATA").items() if text.startswith(names)]


def _define(build: Build, found: Archive, database: Target, how: Sequence[str]) -> str:
    """Make everything but rows; return what to mend if these need what could not be made.

    A dump may have views, functions and extensions that nothing here can make, and no row needs.
    Indexes, constraints, triggers and policies come after the rows in a dump, and stay out.
    """
    words = _make(build, found, database, "pre-data", how)
    with closing(connect(database, build.purpose)) as session:
        lacking = session.execute(_LACKING, [found.extensions]).fetchall()
    if lacking:
        names, others = ", ".join(name for name, _ in lacking), "or choose others with --tables"
        if all(is_known for _, is_known in lacking):
            return f"run this as a role that may create the extension {names}, {others}"
        return f"install the extension {names} on this server, {others}"
    return f"mend this first: {words}" if "error:" in words else ""


def _make(build: Build, found: Archive, database: Target, section: str, how: Sequence[str]) -> str:
    """Make what is in a section of the dump, as far as that can be made; return the last words."""
    pg_restore = found.pg_restore
    arguments = [f"--section={section}", *how, "--dbname", conninfo(database, "restore")]
    where = found.path, pg_restore
    with dumps.reading(*where, *arguments, programs=build.programs, target=database) as child:
        if child.wait() != 1 or not any("errors ignored" in line for line in child.tail):
            build.programs.check(child, pg_restore, database)
        return database.redact(last_words(child.tail))


def _load(
    build: Build, found: Archive, database: Target, lines: Sequence[str], doubts: str
) -> None:
    """Load rows, by their lines of the dump. doubts: what may be in the way of that."""
    if not lines:
        return
    arguments = ["--section=data", *_FOREIGN]
    if found.backup or found.path.is_dir():  # it may be a tar, which no two processes can load
        arguments += dumps.jobs(found.path)
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "toc"
        text = "\n".join(lines) + "\n"
        listing.write_text(text, encoding="utf-8", errors="surrogateescape")
        arguments += ["--use-list", os.fspath(listing)]
        where, programs = (found.path, found.pg_restore), build.programs
        major = build.server.major
        try:
            dumps.load(*where, *arguments, programs=programs, target=database, major=major)
        except StepFailedError as error:
            what = f"{found.path.name} cannot be restored here: {error.what}"
            raise StepFailedError(what, doubts or error.remedy) from None


def _wanted(session: Session, rules: Rules | None) -> Sequence[Name] | None:
    """Return the tables whose rows are carried, with their partitions; None for all.

    An expression of the settings may ask for the rows of any other.
    """
    if (
        rules is None
        or rules.carries_all
        or any("select" in x.lower() for x in rules.fill.values())
    ):
        return None
    said = {*rules.tables, *(old for new, old in rules.rename.items() if rules.carries(new))}
    names = [
        tuple(each.split(".", 1)) if "." in each else ("public", each) for each in sorted(said)
    ]
    schemas, tables = zip(*names, strict=True)
    return session.execute(_PARTS, [list(schemas), list(tables)] * 2).fetchall()


def _tell_rowless(found: Archive, session: Session, progress: Progress) -> None:
    """Tell of the tables that were dumped without their rows: nobody would miss these here."""
    parents = tuple(f"{schema} {name} " for schema, name in session.execute(_PARTITIONED))
    texts = [each.rpartition(" ")[0] for each in found.rowless if not each.startswith(parents)]
    if texts:
        names = ", ".join(shown(*each.split(" ", 1)) for each in texts)
        progress(f"the dump has no rows of {names}", lasting=True)


_ZONE = "SHOW TimeZone"
_LACKING = """
SELECT wanted, EXISTS (SELECT FROM pg_available_extensions WHERE name = wanted)
FROM unnest(%s::text[]) AS wanted WHERE wanted NOT IN (SELECT extname FROM pg_extension)
"""
_PARTS = """
SELECT schema, name FROM unnest(%s::text[], %s::text[]) AS said (schema, name)
UNION SELECT n.nspname, c.relname
FROM unnest(%s::text[], %s::text[]) AS said (schema, name)
     CROSS JOIN LATERAL pg_partition_tree(to_regclass(format('%%I.%%I', schema, name))) AS part
     JOIN pg_class c ON c.oid = part.relid JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_PARTITIONED = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'p'
"""
