"""The lower rung: the objects of the target are dropped, and come back from the backup on failure.

A run that is killed leaves the mark of notes.py behind, and the next one does that first.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from backset.backups import backup as backups
from backset.backups import restoration, toc
from backset.catalog import catalog, extension_rows, object_hashes, objects, rights
from backset.connections import activity
from backset.connections.session import connect, explained, one_line
from backset.errors import BacksetError, Interrupted, RefusedError, RestoredError, StepFailedError
from backset.inherit import grants
from backset.process import process, signals
from backset.runs import login, notes, ownership
from backset.servers import swap
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from typing import Any

    from psycopg import sql

    from backset.backups.manifest import Backup
    from backset.runs.build import Build
    from backset.servers.server import Database

_MARK = "unfinished"
_UNKNOWN = (
    "the server does not say whether its objects were dropped: the next run looks, and restores"
)


def freeze(build: Build) -> None:
    """Keep writers out of the target's tables until clear() is done, so that no row is lost.

    Without this, what is written after the dump has begun would be nowhere afterwards.
    """
    build.live.execute("BEGIN")  # it ends in clear(), or with the session
    with _evicting(build):
        build.frozen = objects.freeze(build.live, build.sharing.keeps)
        if build.sharing.is_nobodys:
            extension_rows.lock(build.live)


def clear(build: Build) -> int:
    """Drop the objects of the target that the role may drop; return how many there were.

    Other sessions of our login may only read there from here on. Before the drop is committed, the
    backup is loaded, rows and all, and given up again: what could not be brought back must not go.
    From then on the target is not the truth, and `build.cleared` says so. Raises StepFailedError,
    with nothing dropped.
    """
    role = build.ownership.role  # as long as there are tables to tell it
    with signals.deferred():
        notes.note_unfinished(build, login=True)
        build.writers.keep_out(acts=bool(role))
        if not build.writers.are_out:
            notes.note_unfinished(build, login=False)
    with _evicting(build):  # it may take long, and nothing of it stays unless it is committed
        dropped = objects.drop_ours(build.live, build.sharing.keeps, build.frozen)
        if build.sharing.is_nobodys:
            extension_rows.clear(build.live)
        if build.taken is not None:
            build.taken = rehearse(build, build.taken)
    with signals.deferred():
        _mark_database(build)
        if role:
            ownership.begin(build.live, build.target.database, role)
        build.cleared = None
        build.live.execute("COMMIT")
        build.cleared = True
    if role:
        ownership.become(build.live, role)
    build.writers.stays = rights.tables(build.live)
    return dropped


@contextmanager
def safety(build: Build) -> Iterator[None]:
    """Restore the backup if the block fails after clear(). Raises RestoredError then."""
    guard = _Safety(build)
    with guard:
        yield
        if build.cleared:
            notes.give_up(build)
            # Whoever comes after the horizon is seen by it; nobody is there who came before.
            horizon = notes.horizon(build)
            is_alone = not build.server.sessions(build.target.database)
            with signals.deferred():  # one that comes in here is told that all is done
                _remove_marks(build)
                build.cleared, build.is_rebuilt = False, True
            if is_alone:
                notes.note_made(build, horizon)


class _Safety:
    """A class, since __exit__ sees every kind of failure, a bug of ours included."""

    def __init__(self, build: Build) -> None:
        self._build = build

    def __enter__(self) -> None:
        """Nothing to do yet."""

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if self._build.cleared is None:
            self._build.cleared = _look_again(self._build)
        if error is None or self._build.cleared is False:
            _as_before(self._build)
            return
        note = _UNKNOWN if self._build.cleared is None else _rescued(self._build)
        if not isinstance(error, (BacksetError, Interrupted)):
            error.add_note(note)
            return
        lines = error.lines()
        what, _, remedy = lines[0].rpartition(" → ")
        what, remedy = (what, remedy) if what else (lines[0], "run it again")
        restored = RestoredError(what, remedy, findings=error.findings)
        restored.add_note(note)
        raise restored from None


def _as_before(build: Build) -> None:
    """Let writers in again where nothing was dropped; should that fail, the next run does it."""
    if build.is_in_place and build.writers.are_out:
        with suppress(BacksetError, psycopg.Error):
            build.close_sessions()  # what was begun there is given up
            build.server.recover()
            _take_back(build)


def _rescued(build: Build) -> str:
    """Put the old content back, whatever signals come; say how that went."""
    name, taken = build.target.database, build.taken
    try:
        signals.ignore()
        build.close_sessions()
        process.end_all()
        build.server.recover()
        kept, gone = bring_back(build, taken, _rows)
        left = f"; what was written meanwhile is in {kept.name}" if kept else ""
        left += f"; {gone}" if gone else ""
    except BacksetError as second:
        how = f"invoke restore {taken.name} --in-place" if taken else "invoke reset-db"
        return f"{name} is half built, and the backup could not be restored: {second} → {how}"
    if taken is None:
        return f"{name} is empty, as it was{left}"
    return f"{name} was restored from {taken.name}, and is as its manifest says{left}"


def keep_rows_of_others(build: Build) -> Backup | None:
    """Dump what others may have written to the rebuilt tables by now, and keep writers out again.

    A carry takes the rows that it finds there for those of the migrations.
    """
    writers = build.writers
    is_open = writers.were_let_in or not writers.are_out or objects.are_open_to_others(build.live)
    is_open = is_open or bool(build.server.sessions(build.target.database))
    writers.keep_out()
    if not is_open:
        return None
    build.live.execute("BEGIN")
    with _evicting(build):
        objects.freeze(build.live, build.sharing.keeps)
    kept = _dumped(build) if _rows(build) else None
    writers.revoke()
    build.live.execute("COMMIT")
    return kept


def _has_content(build: Build) -> bool:
    return not build.old_is_empty


def bring_back(
    build: Build, taken: Backup | None, is_dumped: Callable[[Build], object] = _has_content
) -> tuple[Backup | None, str]:
    """Make the target what it was: drop what is half built, load the backup, compare the two.

    is_dumped: whether what stands there is dumped before, so that no row is lost that somebody has
    written; nobody writes any more when that is asked. Returns that dump, and in words what of
    others has not come back.
    """
    gone = ""
    with explained(build.target):
        if taken is not None:
            taken.check()  # before anything is dropped for its sake
        build.live.execute("BEGIN")
        with _evicting(build):
            objects.freeze(build.live, build.sharing.keeps)
        kept = _dumped(build) if is_dumped(build) else None
        with _evicting(build):
            objects.drop_ours(build.live, build.sharing.keeps)
            if build.sharing.is_nobodys:
                extension_rows.clear(build.live)
            build.live.execute("COMMIT")
        build.writers.reopen()
        if taken is not None:
            gone = load(build, taken, own=True)
        _remove_marks(build)
    return kept, gone


def finish(build: Build, notice: Callable[[str], None], *, replaces: bool) -> None:
    """Bring back the content of a target that a killed run left half built.

    What stands there now is dumped first: somebody may have gone on working with it. A task that
    replaces nothing brings nothing back where there are rows by now. Raises RefusedError then.
    """
    is_set = build.old is not None and login.is_set(build.server.session, build.target.database)
    if is_set:
        build.write_anyhow()
    mark = notes.unfinished(build)
    if mark is None:
        if build.old is not None:
            _look_at_others(build, build.old, notice, is_set=is_set)
        return
    if _is_void(build, mark) or not notes.has_cleared(build.server.session, mark):
        _remove_file(build)
        return
    build.write_anyhow()
    build.check_protection()  # whoever has mended it by hand may have said so
    name = build.target.database
    if not replaces and (rows := _rows(build)):
        what = f"{name} is half built, since a run in place was killed, and has {rows} by now"
        restore = (
            f"invoke restore {mark['backup']} --in-place" if mark["backup"] else "invoke reset"
        )
        raise RefusedError([(what, f"`{restore}`; what stands there is dumped first")])
    try:
        taken = build.vault.find(mark["backup"]) if mark["backup"] else None
        how = f"from {taken.name}" if taken else "to being empty"
        notice(f"a run in place was killed: bringing {name} back {how}")
        with signals.deferred():
            kept, gone = bring_back(build, taken)
        if kept is not None:
            notice(f"what stood there half built is in {kept.name}")
        if gone:
            notice(gone)
    except StepFailedError as error:
        what = f"{name} is half built, since a run in place was killed, and cannot be brought back"
        file = notes.unfinished_path(build)
        remedy = f"mend that; or remove {file}, and name another one to `invoke restore`"
        raise StepFailedError(f"{what}: {error.what}", remedy) from None
    build.close_sessions()


def _look_at_others(
    build: Build, old: Database, notice: Callable[[str], None], *, is_set: bool
) -> None:
    """Say what a run of another checkout has left half built; that one is to bring it back."""
    if old.mark == _MARK or (is_set and not old.owned):
        notice(half_built(old))
    elif is_set:
        _take_back(build)


def _is_void(build: Build, mark: Mapping[str, Any]) -> bool:
    """Tell whether the database itself says that nothing is half built: it was mended elsewhere.

    The mark in its comment, and what is set for our login, come and go in the transactions that
    they are about.
    """
    old, session = build.old, build.server.session
    if old is not None and old.owned:
        return old.mark not in {_MARK, "protected"}
    return mark.get("login", False) and not login.is_set(session, build.target.database)


def _rows(build: Build) -> str:
    """Return how many rows stand in our tables, in words; empty where there is none.

    Those of version tables apart: every migration writes them.
    """
    spare = {*catalog.version_tables(build.live), *catalog.unreadable(build.live)}

    def is_ours(table: tuple[str, str]) -> bool:
        return table not in spare and not build.sharing.has(table)

    rows = sum(catalog.row_counts(build.live, is_ours).values())
    return count(rows, "row") if rows else ""


def half_built(old: Database) -> str:
    """Say of a database with the mark in its comment what has become of it."""
    what = f"{old.name} is half built, since a run in place was killed in another checkout"
    back = f"`invoke restore {old.label} --in-place`" if old.label else "`invoke reset`"
    return f"{what}: {back} brings it back there"


def _mark_database(build: Build) -> None:
    """Tell other checkouts, in the transaction that drops the objects, where they can be told."""
    if build.old is not None and build.old.owned:
        taken = build.taken.name if build.taken else ""
        text = swap.marked(f"{_MARK} {taken}".rstrip(), build.old.comment)
        build.live.execute(swap.comment_on(build.old.name, text))


def _remove_marks(build: Build) -> None:
    """Say that all is done, and let everybody write, in one transaction."""
    comment = None
    if build.old is not None and build.old.owned:
        comment = swap.comment_on(build.old.name, build.old.comment)
    _take_back(build, comment)
    notes.unfinished_path(build).unlink(missing_ok=True)


def _remove_file(build: Build) -> None:
    """Remove the mark, and what was set for our login since it was made."""
    _take_back(build)
    notes.unfinished_path(build).unlink(missing_ok=True)


def _take_back(build: Build, comment: sql.Composed | None = None) -> None:
    """Let everybody write, and comment on the database: as who owns it, our login or its role."""
    with build.live.transaction():
        is_ours = comment is None or build.live.execute(_OWNS).fetchone() == (True,)
        if comment is not None and is_ours:
            build.live.execute(comment)
        build.writers.forget(build.live)
        if comment is not None and not is_ours:
            build.live.execute("SET LOCAL ROLE NONE")
            build.live.execute(comment)
    build.writers.end_readers()


_OWNS = """
SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()
"""


def _look_again(build: Build) -> bool | None:
    """Tell on a new session whether the objects are gone; None if none opens."""
    try:
        with connect(build.target, build.purpose) as session:
            mark = notes.unfinished(build)
            return mark is not None and notes.has_cleared(session, mark)
    except (BacksetError, psycopg.Error):
        return None


def _evicting(build: Build) -> AbstractContextManager[None]:
    """End all sessions on the target but those of runs at work, until the block is left."""
    whose = activity.not_of_runs(build.server.session)
    return swap.evicting(build.server, [build.target.database], whose=whose)


def _dumped(build: Build) -> Backup:
    """Return a backup of the target as it is, without the scripts that it has not come from."""
    above = build.settings.zstd_above
    vault, target = build.vault, build.target
    spare = build.left_out
    return backups.take(
        *(vault, target, lambda: (), build.programs),
        zstd_above=above,
        left_out=spare,
        is_half_built=True,
        server_id=build.server_id,
    )


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
    there = object_hashes.inventory(build.live)
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
        restoration.replay(build.live, *where, entries=listing, path=path)
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
        rows = extension_rows.tables(build.live) if build.sharing.is_nobodys else []
        cleared = [(each.schema, each.name) for each in rows if each.may_write]
        missing = toc.missing(build.live, lines, own=same, cleared=cleared)
        wanted = "\n".join(missing) + "\n"
        listing.write_text(wanted, encoding="utf-8", errors="surrogateescape")
        yield listing
