"""Loads a backup into an empty database, compares it with its manifest, and so proves it."""

from __future__ import annotations

import tempfile
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backset.backups import replay, toc
from backset.catalog import catalog, object_hashes, schema
from backset.catalog.sharing import LeftOut
from backset.connections.session import connect, explained
from backset.errors import StepFailedError
from backset.servers import derived
from backset.text.quantities import count, few

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backset.backups.manifest import Backup, Manifest
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.servers.derived import Databases
    from backset.servers.programs import Programs
    from backset.servers.server import Database, Server

_SHOWN = 10
_LIMITED_ROLE = "SELECT rolname FROM pg_roles WHERE rolname = current_user AND NOT rolsuper"


def _silent(_text: str) -> None:
    """Tell nobody."""


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
    notice: Callable[[str], None] = _silent,
) -> bool:
    """Load a backup into the empty database `target`, then compare rows and catalog.

    major: the server's. emptied: makes that database anew, where the dump does not load by itself;
    it is then loaded with the search path of the database. notice: is told where something differs
    that no hash of the manifest has. Returns whether the search path was needed. Raises
    StepFailedError with the differences.
    """
    path = backup.manifest.needed_path
    with _entries(backup, target, programs) as entries:
        try:
            fill(backup, target, major, programs, entries=entries, at_once=False)
        except StepFailedError as error:
            if emptied is None or path is not None:
                raise
            emptied()
            path = _own_path(backup, target)
            with _first(error):
                _fill_at_once(backup, target, programs, path=path, entries=entries)
    with connect(target, "restore") as session:
        compare(backup, session)
        if is_unlike(backup.manifest, session):
            what = "a property of an object, such as its comment or its storage, is not"
            notice(f"{what} as it was when {backup.name} was taken")
    return path is not None


@contextmanager
def _entries(backup: Backup, target: Target, programs: Programs) -> Iterator[Path | None]:
    """Give a list for `pg_restore --use-list`, where not everything of a backup is to be loaded.

    Before 15 the schema public belongs to the superuser who made the cluster, and in databases that
    came from there it often still does. pg_dump 15 and later writes that down, though only a
    superuser may give a schema away.
    """
    with connect(target, "restore") as session:
        limited = session.execute(_LIMITED_ROLE).fetchone()
    if limited is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "toc"
        lines = toc.read(backup.dump, program(backup, programs), programs, listing)
        kept = [line for line in lines if not toc.gives_public_away(line, *limited)]
        listing.write_text("\n".join(kept) + "\n", encoding="utf-8", errors="surrogateescape")
        yield listing if kept != lines else None


def is_unlike(about: Manifest, session: Session) -> bool:
    """Tell whether objects differ from what was dumped; no where the manifest cannot tell."""
    if not about.schema_digest:
        return False
    (made, before), (now, after) = (
        each.rsplit(":", 1) for each in (about.schema_digest, schema.of_dump(session))
    )
    return made == now and before != after


def fill(
    backup: Backup,
    target: Target,
    major: int,
    programs: Programs,
    *,
    entries: Path | None = None,
    at_once: bool = True,
) -> None:
    """Load a backup in the way that its manifest names.

    entries: a list for `pg_restore --use-list`. at_once: whether all is loaded in one transaction,
    and where that does not load by itself, with the search path of the database.
    """
    path = backup.manifest.needed_path
    if not at_once and path is None:
        where, to = (backup.dump, program(backup, programs), programs), (target, major)
        replay.load(*where, *to, entries=entries)
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
    found = differences(backup.manifest, session, spare=spare, **how)
    if found:
        what = f"{backup.name} restored otherwise than its manifest says"
        remedy = "choose another one from `invoke backups`"
        raise StepFailedError(f"{what}: {few(found, _SHOWN)}", remedy)


def differences(
    about: Manifest,
    session: Session,
    *,
    exactly: bool = True,
    spare: frozenset[str] = frozenset(),
    is_in_use: bool = False,
) -> list[str]:
    """Return how the database of `session` differs from `about`, a few words each; none is good.

    Every row is counted, and the catalog is read. Another major version may write a definition
    otherwise, and add objects: of the catalog it is only asked whether everything is there. A
    manifest of the earlier format knows no catalog.
    exactly: whether what the manifest does not know is a difference too.
    is_in_use: whether an application may write there already: more rows are no difference then.
    spare: names of tables and of objects that may be as they like.
    """
    closed, left_out = catalog.unreadable(session), LeftOut.of(about.left_out)
    rows = catalog.row_counts(session, lambda table: table not in closed)
    unread = {catalog.shown(*each) for each in closed}
    expected = {table: wanted for table, wanted in about.rows.items() if table not in spare}
    found = [
        f"{table} has {rows[table]} of {count(wanted, 'row')}"
        for table, wanted in expected.items()
        if table in rows and (rows[table] < wanted or (rows[table] > wanted and not is_in_use))
    ]
    found += [f"{table} cannot be counted by this role" for table in expected if table in unread]
    if about.objects is None:
        there = rows.keys() | unread
        return found + [f"table {table} is missing" for table in expected if table not in there]
    wanted = {name: each for name, each in about.objects.items() if name not in spare}
    objects = object_hashes.read(session, left_out.condition())
    # The script of an extension may make a schema that does not belong to it.
    spare |= {f"schema {each}" for each in catalog.empty_schemas(session)} - wanted.keys()
    objects = {name: each for name, each in objects.items() if name not in spare}
    found += [f"{name} is missing" for name in wanted if name not in objects]
    if session.info.server_version // 10000 == about.major:
        found += _defined_otherwise(wanted, objects, exactly=exactly)
    return found


def _defined_otherwise(
    expected: Mapping[str, str], found: Mapping[str, str], *, exactly: bool
) -> Iterator[str]:
    for name, definition in found.items():
        if name not in expected:
            if exactly:
                yield f"{name} is new"
        elif definition != expected[name]:
            yield f"{name} is defined otherwise"


def refuse_proof(server: Server, databases: Databases) -> None:
    """Raise RefusedError where no scratch database can be made."""
    derived.refuse_scratch(server, [server.names.scratch], databases, "prove a backup")


def prove(
    backup: Backup,
    server: Server,
    like: Database | None,
    programs: Programs,
    notice: Callable[[str], None],
) -> bool:
    """Restore `backup` beside the target and compare rows and catalog with its manifest.

    like: the database whose owner, encoding and locale the scratch database gets. notice: as for
    load(). Returns whether it loads only with the search path of the database. Raises
    StepFailedError with the differences; the scratch database is dropped in any case.
    """
    where = server, server.names.scratch, like
    with derived.scratch(*where) as target:
        emptied = partial(derived.make_scratch, *where)
        return load(backup, target, server.major, programs, emptied=emptied, notice=notice)
