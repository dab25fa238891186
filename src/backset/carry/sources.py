"""What the rows of a carry come from: the target, its backup, another database, or a dump.

Where revisions are pending there that change rows, a copy goes through them first.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backset.backups import backup, dumps, toc
from backset.carry import comparison, overtaken, plan, scratch_schema
from backset.carry.problems import going_without
from backset.carry.tables import SPELLING
from backset.catalog import catalog, columns, evaluated, versions
from backset.catalog.catalog import shown
from backset.catalog.sharing import NOTHING
from backset.connections.session import Session, connect, conninfo, explained
from backset.errors import RefusedError, StepFailedError
from backset.inherit.inheritance import OF_DATABASE
from backset.process.process import last_words
from backset.prove import scratch
from backset.revisions import operations, script_files
from backset.servers import derived

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backset.backups.toc import Archive
    from backset.carry.comparison import Digest
    from backset.carry.plan import Schemas
    from backset.carry.tables import CarrySides, Name, TableCopy
    from backset.catalog.past import Counter
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.migrate.upgrading import Progress
    from backset.migrate.worker import Worker
    from backset.revisions.script_files import Revision
    from backset.settings.rules import Rules

_OLDEST = 12  # pg_partition_tree(), and generated columns
_OWN = ("--no-password",)
_FOREIGN = (*_OWN, "--no-owner", "--no-acl")  # whose roles are not here


@dataclass(frozen=True, slots=True)
class RowSource:
    """A database, a session on it that is in no transaction, and what opens another one.

    schemas: what both sides are, where the rows stand under other names in the new database itself;
    counters: the old sequences, and populated: the materialized views that could be read, where
    these are gone.
    through: the files of pending revisions that the rows have gone through in a copy; copied: where
    that is one of the target, what was in it before, table by table.
    """

    target: Target
    session: Session
    connect: Callable[[], Session]
    schemas: Schemas | None = None
    counters: Sequence[Counter] | None = None
    populated: frozenset[Name] | None = None
    through: Sequence[str] = ()
    copied: Sequence[tuple[TableCopy, Digest]] | None = None


def is_empty(sides: CarrySides) -> bool:
    """Tell whether there is nothing to carry: the rows are the target's, and it has none."""
    was_empty = sides.in_place.past is None if sides.in_place.cleared else sides.old.is_empty()
    return sides.origin is None and was_empty


def check(sides: CarrySides) -> None:
    """Raise an error where rows cannot come from there, before anything is done."""
    origin = sides.origin
    if origin is not None and origin.database is not None:
        _check_database(sides, origin.database)
    elif origin is not None:
        _check_dump(sides, origin.dump)


@contextmanager
def opened(sides: CarrySides, progress: Progress) -> Iterator[RowSource]:
    """Open it for the block. What is made for that is dropped again, whatever happens.

    Where revisions are pending that change rows, it is a copy that has gone through them.
    """
    origin = sides.origin
    if sides.in_place.past is not None and sides.in_place.pending and sides.backups.taken:
        with _opened_dump(sides, str(sides.backups.taken.dump), progress, is_own=True) as source:
            yield source
    elif sides.in_place.past is not None:
        past, connected = (
            sides.in_place.past,
            partial(connect, sides.old.target, sides.server.purpose),
        )
        with scratch_schema.filled(sides, past, progress) as schemas:
            there = (sides.old.target, sides.old.session(), connected)
            yield RowSource(*there, schemas, past.counters, past.populated)
    elif origin is None:
        connected = partial(connect, sides.old.target, sides.server.purpose)
        own = RowSource(sides.old.target, sides.old.session(), connected)
        with _as_it_would_be(sides, own, progress) as source:
            yield source
    elif origin.database is not None:
        with (
            _opened_database(sides, origin.database) as found,
            _as_it_would_be(sides, found, progress) as source,
        ):
            yield source
    else:
        with _opened_dump(sides, origin.dump, progress) as source:
            yield source


@contextmanager
def _as_it_would_be(
    sides: CarrySides, source: RowSource, progress: Progress
) -> Iterator[RowSource]:
    """Open the copy of a database that has gone through what is pending; itself, if nothing is."""
    waiting = _pending(source.session, sides)
    if not waiting:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="backset-") as folder:
        path = _dumped(sides, source.target, Path(folder), waiting, progress)
        is_own = source.target == sides.old.target
        with _opened_dump(sides, str(path), progress, is_own=is_own) as copy:
            path.unlink()
            yield copy


def _dumped(
    sides: CarrySides, target: Target, folder: Path, waiting: Sequence[Revision], progress: Progress
) -> Path:
    """Dump a database, in order to change a copy of it. Raises StepFailedError."""
    server = sides.server
    progress(f"copying {target.database}, for {files_of(waiting)}")
    try:
        derived.refuse_scratch(
            server, [server.names.scratch_old], server.databases(), "change a copy"
        )
        spare = sides.old.left_out() if target == sides.old.target else NOTHING
        above = sides.old.settings.zstd_above
        return backup.alone(
            folder, target, sides.backups.programs, zstd_above=above, left_out=spare
        )
    except (StepFailedError, RefusedError) as error:
        raise _pending_failed(waiting, error) from None


def _check_database(sides: CarrySides, database: Target) -> None:
    """Raise StepFailedError or RefusedError where no rows can be carried from there."""
    with closing(_connected(sides, database)) as session, explained(database):
        major = session.info.server_version // 10000
        if major < _OLDEST:
            remedy = "take a dump with its pg_dump --format=custom, and carry --from that"
            what = f"{database.shown} is PostgreSQL {major}, and rows are read from {_OLDEST} on"
            raise StepFailedError(what, remedy)
        _refuse_own(sides, session)


def _refuse_own(sides: CarrySides, session: Session) -> None:
    """Refuse the target, and what this run drops; by a lock that no other server can show.

    A standby and a copy of the files have the target's name and its server's identifier.
    """
    key = secrets.randbits(63)
    sides.server.session.execute("SELECT pg_advisory_lock(%s)", [key])
    is_here, name = session.execute(_SEES, [key]).fetchone() or (False, "")
    sides.server.session.execute("SELECT pg_advisory_unlock(%s)", [key])
    names = sides.server.names
    if is_here and name == names.target:
        remedy = "`invoke reset-db --carry` carries the rows of the database itself"
        raise RefusedError([(f"--from is {name} itself", remedy)])
    if is_here and name in {names.next, names.discard, *names.scratches}:
        what = f"--from is {name}, which every run makes anew"
        raise RefusedError([(what, "give it another name first, if its rows are needed")])


@contextmanager
def _opened_database(sides: CarrySides, database: Target) -> Iterator[RowSource]:
    """Open it for the block."""
    connected = partial(_connected, sides, database)
    with closing(connected()) as session, explained(database):
        yield RowSource(database, session, connected)


def _connected(sides: CarrySides, database: Target) -> Session:
    """Open a session that cannot write, whatever it is told."""
    session = connect(database, sides.server.purpose)
    session.execute("SET default_transaction_read_only = on")
    return session


def _check_dump(sides: CarrySides, name: str) -> None:
    """Raise StepFailedError or RefusedError where the dump cannot be restored."""
    found = _read(sides, name)
    names = sides.server.names
    derived.refuse_scratch(
        sides.server, [names.scratch_old], sides.server.databases(), "restore a dump"
    )
    if found.backup:
        found.backup.check()


def _read(sides: CarrySides, name: str) -> Archive:
    path = sides.backups.find(name)
    return toc.read_archive(path, sides.server.major, sides.backups.programs)


@contextmanager
def _opened_dump(
    sides: CarrySides, name: str, progress: Progress, *, is_own: bool = False
) -> Iterator[RowSource]:
    """Restore a dump for the block; it is dropped whatever happens, after a kill -9 next time.

    Where revisions are pending there that change rows, all of it is restored and goes through them.
    is_own: whether it is of the target itself, whose roles are here.
    """
    found = _read(sides, name)
    how = _OWN if is_own else _FOREIGN
    (zone,) = (sides.old.session() if sides.old.database else sides.server.session).execute(
        _ZONE
    ).fetchone() or ("",)
    with derived.scratch(
        sides.server, sides.server.names.scratch_old, sides.old.database
    ) as database:

        def connected() -> Session:
            session = connect(database, sides.server.purpose)
            session.execute("SELECT set_config('TimeZone', %s, false)", [zone])
            return session

        progress(f"restoring {found.path.name} into {database.database}")
        with explained(database):
            doubts = _define(sides, found, database, how)
            path = found.backup.manifest.search_path if found.backup else None
            with closing(connect(database, sides.server.purpose)) as session:
                evaluated.give_path(session, path)
            with closing(connected()) as session:
                _tell_rowless(found, session, progress)
                rules, places = sides.rules, _places(found, session)
                _load(sides, found, database, places, doubts)
                waiting = _pending(session, sides)
                wanted = found.rows(None if waiting else _wanted(session, rules))
                _load(sides, found, database, [x for x in wanted if x not in places], doubts)
                copied = _digests(connected, rules) if waiting and is_own else None
                if waiting:
                    _make(sides, found, database, "post-data", how)
                    _go_through(sides, database, session, waiting, progress)
                yield RowSource(
                    *(database, session, connected),
                    populated=found.populated,
                    through=[each.path.name for each in waiting],
                    copied=copied,
                )


def _digests(connected: Callable[[], Session], rules: Rules) -> list[tuple[TableCopy, Digest]]:
    """Return what the tables have before anything changes it."""
    with closing(connected()) as session:
        session.execute(SPELLING.encode())
        return [
            (each, comparison.digest_of_old(session, each)) for each in plan.whole(session, rules)
        ]


def _go_through(
    sides: CarrySides,
    database: Target,
    session: Session,
    waiting: Sequence[Revision],
    progress: Progress,
) -> None:
    """Run the migrations in the copy. Raises StepFailedError, which names these."""
    progress(f"the old rows go through {files_of(waiting)} in a copy first", lasting=True)
    before = _names(session)
    try:
        for worker in sides.new.workers():
            for each in overtaken.look(session, worker, sides):
                overtaken.follow(sides, database, session, each, progress)
        with scratch.opened(sides.server, sides.old, database, OF_DATABASE) as copy:
            copy.upgrade(progress)
    except (StepFailedError, RefusedError) as error:
        raise _pending_failed(waiting, error) from None
    if left := _pending(session, sides):
        what = "the migrations ended, and the version table does not say that they were run"
        raise _pending_failed(left, StepFailedError(what, ""))
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


def _define(sides: CarrySides, found: Archive, database: Target, how: Sequence[str]) -> str:
    """Make everything but rows; return what to mend if these need what could not be made.

    A dump may have views, functions and extensions that nothing here can make, and no row needs.
    Indexes, constraints, triggers and policies come after the rows in a dump, and stay out.
    """
    words = _make(sides, found, database, "pre-data", how)
    with closing(connect(database, sides.server.purpose)) as session:
        lacking = session.execute(_LACKING, [found.extensions]).fetchall()
    if lacking:
        names, others = ", ".join(name for name, _ in lacking), "or choose others with --tables"
        if all(is_known for _, is_known in lacking):
            return f"run this as a role that may create the extension {names}, {others}"
        return f"install the extension {names} on this server, {others}"
    return f"mend this first: {words}" if "error:" in words else ""


def _make(
    sides: CarrySides, found: Archive, database: Target, section: str, how: Sequence[str]
) -> str:
    """Make what is in a section of the dump, as far as that can be made; return the last words."""
    pg_restore = found.pg_restore
    arguments = [f"--section={section}", *how, "--dbname", conninfo(database, "restore")]
    where = found.path, pg_restore
    with dumps.reading(
        *where, *arguments, programs=sides.backups.programs, target=database
    ) as child:
        if child.wait() != 1 or not any("errors ignored" in line for line in child.tail):
            sides.backups.programs.check(child, pg_restore, database)
        return database.redact(last_words(child.tail))


def _load(
    sides: CarrySides, found: Archive, database: Target, lines: Sequence[str], doubts: str
) -> None:
    """Load rows, by their lines of the dump. doubts: what may be in the way of that."""
    if not lines:
        return
    arguments = ["--section=data", *_FOREIGN]
    if found.backup or _is_folder(found):  # it may be a tar, which no two processes can load
        arguments += dumps.jobs(found.path)
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "toc"
        text = "\n".join(lines) + "\n"
        listing.write_text(text, encoding="utf-8", errors="surrogateescape")
        arguments += ["--use-list", os.fspath(listing)]
        where, programs = (found.path, found.pg_restore), sides.backups.programs
        major = sides.server.major
        try:
            dumps.load(*where, *arguments, programs=programs, target=database, major=major)
        except StepFailedError as error:
            what = f"{found.path.name} cannot be restored here: {error.what}"
            raise StepFailedError(what, doubts or error.remedy) from None


def _is_folder(found: Archive) -> bool:
    return isinstance(found.path, Path) and found.path.is_dir()


def _wanted(session: Session, rules: Rules) -> Sequence[Name] | None:
    """Return the tables whose rows are carried, with their partitions; None for all.

    An expression of the settings may ask for the rows of any other.
    """
    if rules.carries_all or any("select" in x.lower() for x in rules.fill.values()):
        return None
    said = {*rules.tables, *(old for new, old in rules.rename.items() if rules.carries(new))}
    schemas, tables = zip(*(name for each in said for name in catalog.meant(each)), strict=True)
    return session.execute(_PARTS, [list(schemas), list(tables)] * 2).fetchall()


def _tell_rowless(found: Archive, session: Session, progress: Progress) -> None:
    """Tell of the tables that were dumped without their rows: nobody would miss these here."""
    parents = tuple(f"{schema} {name} " for schema, name in session.execute(_PARTITIONED))
    texts = [each.rpartition(" ")[0] for each in found.rowless if not each.startswith(parents)]
    if texts:
        names = ", ".join(shown(*each.split(" ", 1)) for each in texts)
        progress(f"the dump has no rows of {names}", lasting=True)


_SEES = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
               AND (classid::bigint << 32) | objid::bigint = %s), current_database()
"""
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


def _pending(session: Session, sides: CarrySides) -> list[Revision]:
    """Return the pending revisions that change old rows, in their order.

    They are known as far as the version tables of a database say where it stands.

    Of an orphaned database, or one without a version, nothing is known, and nothing is pending.
    What only inserts rows of its own has done so in the new database. It counts where the settings
    let old rows replace those, and where a command of the project made that database: one that
    creates all tables and stamps the head has run no migration.
    """
    rules = sides.rules
    places = [each.revisions for each in versions.tables(session) if each.revisions]
    if not places:
        return []
    heads = set(sides.new.scripts().heads)  # without Alembic's process where a clone is taken
    if all(heads == set(rows) for rows in places):
        return []
    waiting: list[Revision] = []
    for worker in sides.new.workers():
        alone = not (rules.replace or _is_by_command(sides, worker))
        matters = operations.depends_on_rows if alone else operations.speaks_of_rows
        behind = overtaken.look(session, worker, sides)
        waiting += [script for each in behind for script in each.pending(matters)]
        now = [overtaken.rows(rows, behind) for rows in places]
        waiting += [each for each in _of(worker, now) if matters(operations.source_of(each))]
    return [each for each in waiting if each.id not in rules.unmigrated]


def _of(worker: Worker, places: Sequence[Sequence[str]]) -> list[Revision]:
    """Return every pending revision of a chain."""
    scripts = worker.scripts
    known = {each.id for each in scripts.revisions}
    ends = scripts.goal if scripts.goal and known.issuperset(scripts.goal) else scripts.heads
    wanted = script_files.ancestors(ends, scripts.revisions)
    waiting: set[str] = set()
    for rows in places:
        if known.issuperset(rows):
            waiting |= wanted - script_files.ancestors(rows, scripts.revisions)
    return [each for each in script_files.ordered(scripts.revisions) if each.id in waiting]


def _is_by_command(sides: CarrySides, worker: Worker) -> bool:
    return bool(sides.old.settings.init or worker.lineage.init or worker.has_door)


def files_of(revisions: Sequence[Revision]) -> str:
    """Return the names of their files, for people."""
    return ", ".join(each.path.name for each in revisions)


def refuse_in_place(sides: CarrySides) -> None:
    """Note what is pending before the target is cleared; refuse what could not be done then.

    Raises RefusedError where the role may not make the copy in which the old rows go through these.
    """
    sides.in_place.pending = _pending(sides.old.session(), sides)
    if sides.in_place.pending and not sides.server.role.may_create:
        what = (
            f"{sides.old.target.database} has not run {files_of(sides.in_place.pending)}, which "
            "would change its rows, and these would come back as they are"
        )
        raise RefusedError([(what, going_without([each.id for each in sides.in_place.pending]))])


def _pending_failed(
    revisions: Sequence[Revision], error: StepFailedError | RefusedError
) -> StepFailedError:
    """Return the error where the copy could not go through these."""
    what = f"the old rows could not go through {files_of(revisions)} in a copy: {error.what}"
    return StepFailedError(what, going_without([each.id for each in revisions]))
