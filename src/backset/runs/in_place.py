"""The strategy in place: the objects of the target go, and come back from the backup on failure.

A run that is killed leaves the mark of notes.py behind, and the next one does that first.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from backset.backups import backup as backups
from backset.backups import replay, restoration, toc
from backset.catalog import catalog, extension_rows, object_hashes, objects
from backset.connections import activity
from backset.connections.session import connect, explained, one_line
from backset.errors import BacksetError, Interrupted, RefusedError, RestoredError, StepFailedError
from backset.inherit import grants
from backset.process import process, signals
from backset.runs import login, notes
from backset.servers import swap
from backset.text.pasted import bare
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from typing import Any

    from psycopg import sql

    from backset.backups.manifest import Backup
    from backset.runs.run import Run
    from backset.servers.server import Database

_MARK = "unfinished"
_UNKNOWN = (
    "the server does not say whether its objects were dropped: the next run looks, and restores"
)


def freeze(run: Run) -> None:
    """Keep writers out of the target's tables until clear() is done, so that no row is lost.

    Without this, what is written after the dump has begun would be nowhere afterwards.
    """
    run.current.session().execute("BEGIN")  # it ends in clear(), or with the session
    with _evicting(run):
        run.in_place.frozen = objects.freeze(run.current.session(), run.current.sharing().keeps)
        if run.current.sharing().is_nobodys:
            extension_rows.lock(run.current.session())


def clear(run: Run) -> int:
    """Drop the objects of the target that the role may drop; return how many there were.

    Other sessions of our login may only read there from here on. Before the drop is committed, the
    backup is loaded, rows and all, and given up again: what could not be brought back must not go.
    From then on the target is not the truth, and `run.in_place.cleared` says so.
    Raises StepFailedError, with nothing dropped.
    """
    role = run.current.ownership().role  # as long as there are tables to tell it
    with signals.deferred():
        notes.note_unfinished(run, login=True)
        run.in_place.writers.keep_out(acts=bool(role))
        if not run.in_place.writers.are_out:
            notes.note_unfinished(run, login=False)
    with _evicting(run):  # it may take long, and nothing of it stays unless it is committed
        dropped = objects.drop_ours(
            run.current.session(), run.current.sharing().keeps, run.in_place.frozen
        )
        if run.current.sharing().is_nobodys:
            extension_rows.clear(run.current.session())
        if run.backups.taken is not None:
            run.backups.taken = _rehearse(run, run.backups.taken)
    with signals.deferred():
        _mark_database(run)
        if role:
            login.begin(run.current.session(), run.target.database, role)
        run.in_place.cleared = None
        run.current.session().execute("COMMIT")
        run.in_place.cleared = True
    if role:
        login.become(run.current.session(), role)
    run.in_place.writers.stays = objects.tables(run.current.session())
    return dropped


@contextmanager
def safety(run: Run) -> Iterator[None]:
    """Restore the backup if the block fails after clear(). Raises RestoredError then."""
    guard = _Safety(run)
    with guard:
        yield
        if run.in_place.cleared:
            with explained(run.target):
                _end(run)


def _end(run: Run) -> None:
    """Let the rebuilt target be one like any other."""
    notes.give_up(run)
    # Whoever comes after the horizon is seen by it; nobody is there who came before.
    horizon = notes.horizon(run)
    is_alone = not run.server.sessions(run.target.database)
    with signals.deferred():  # one that comes in here is told that all is done
        _remove_marks(run)
        run.in_place.cleared, run.in_place.is_rebuilt = False, True
    if is_alone:
        notes.note_made(run, horizon)


class _Safety:
    """A class, since __exit__ sees every kind of failure, a bug of ours included."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __enter__(self) -> None:
        """Nothing to do yet."""

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if self._run.in_place.cleared is None:
            self._run.in_place.cleared = _look_again(self._run)
        if error is None or self._run.in_place.cleared is False:
            _as_before(self._run)
            return
        note = _UNKNOWN if self._run.in_place.cleared is None else _rescued(self._run)
        if not isinstance(error, (BacksetError, Interrupted)):
            error.add_note(note)
            return
        lines = error.lines()
        what, _, remedy = lines[0].rpartition(" → ")
        what, remedy = (what, remedy) if what else (lines[0], "run it again")
        restored = RestoredError(what, remedy, findings=error.findings)
        restored.quoted = getattr(error, "quoted", ())
        restored.add_note(note)
        raise restored from None


def _as_before(run: Run) -> None:
    """Let writers in again where nothing was dropped; should that fail, the next run does it."""
    if run.in_place.is_chosen and run.in_place.writers.are_out:
        with suppress(BacksetError, psycopg.Error):
            run.close_sessions()  # what was begun there is given up
            run.server.recover()
            _take_back(run)


def _rescued(run: Run) -> str:
    """Put the old content back, whatever signals come; say how that went."""
    name, taken = run.target.database, run.backups.taken
    try:
        signals.ignore()
        run.close_sessions()
        process.end_all()
        run.server.recover()
        kept, gone = bring_back(run, taken, _rows)
        left = f"; what was written meanwhile is in {kept.name}" if kept else ""
        left += f"; {gone}" if gone else ""
    except BacksetError as second:
        how = f"invoke restore {taken.name} --in-place" if taken else "invoke reset-db"
        return f"{name} is half built, and the backup could not be restored: {second} → {how}"
    if taken is None:
        return f"{name} is empty, as it was{left}"
    return f"{name} was restored from {taken.name}, and is as its manifest says{left}"


def keep_rows_of_others(run: Run) -> Backup | None:
    """Dump what others may have written to the rebuilt tables by now, and keep writers out again.

    A carry takes the rows that it finds there for those of the migrations.
    """
    writers = run.in_place.writers
    is_open = (
        writers.were_let_in
        or not writers.are_out
        or objects.are_open_to_others(run.current.session())
    )
    is_open = is_open or bool(run.server.sessions(run.target.database))
    writers.keep_out()
    if not is_open:
        return None
    run.current.session().execute("BEGIN")
    with _evicting(run):
        objects.freeze(run.current.session(), run.current.sharing().keeps)
    kept = _dumped(run) if _rows(run) else None
    writers.revoke()
    run.current.session().execute("COMMIT")
    return kept


def _has_content(run: Run) -> bool:
    return not run.current.is_empty()


def bring_back(
    run: Run, taken: Backup | None, is_dumped: Callable[[Run], object] = _has_content
) -> tuple[Backup | None, str]:
    """Make the target what it was: drop what is half built, load the backup, compare the two.

    is_dumped: whether what stands there is dumped before, so that no row is lost that somebody has
    written; nobody writes any more when that is asked. Returns that dump, and in words what of
    others has not come back.
    """
    gone = ""
    with explained(run.target):
        if taken is not None:
            taken.check()  # before anything is dropped for its sake
        run.current.session().execute("BEGIN")
        with _evicting(run):
            objects.freeze(run.current.session(), run.current.sharing().keeps)
        kept = _dumped(run) if is_dumped(run) else None
        with _evicting(run):
            objects.drop_ours(run.current.session(), run.current.sharing().keeps)
            if run.current.sharing().is_nobodys:
                extension_rows.clear(run.current.session())
            run.current.session().execute("COMMIT")
        run.in_place.writers.reopen()
        if taken is not None:
            gone = load(run, taken, own=True)
        _remove_marks(run)
    return kept, gone


def finish(run: Run, notice: Callable[[str], None], *, replaces: bool) -> None:
    """Bring back the content of a target that a killed run left half built.

    What stands there now is dumped first: somebody may have gone on working with it. A task that
    replaces nothing brings nothing back where there are rows by now. Raises RefusedError then.
    """
    is_set = run.current.database is not None and login.is_set(
        run.server.session, run.target.database
    )
    if is_set:
        run.write_anyhow()
    mark = notes.unfinished(run)
    if mark is None:
        if run.current.database is not None:
            _look_at_others(run, run.current.database, notice, is_set=is_set)
        return
    if _is_void(run, mark) or not notes.has_cleared(run.server.session, mark):
        _remove_file(run)
        return
    run.write_anyhow()
    run.current.demand_unprotected(run.server)  # whoever has mended it by hand may have said so
    name = run.target.database
    if not replaces and (rows := _rows(run)):
        what = f"{name} is half built, since a run in place was killed, and has {rows} by now"
        restore = (
            f"invoke restore {mark['backup']} --in-place" if mark["backup"] else "invoke reset"
        )
        raise RefusedError([(what, f"`{restore}`; what stands there is dumped first")])
    try:
        taken = run.backups.store.find(mark["backup"]) if mark["backup"] else None
        how = f"from {taken.name}" if taken else "to being empty"
        notice(f"a run in place was killed: bringing {name} back {how}")
        with signals.deferred():
            kept, gone = bring_back(run, taken)
        if kept is not None:
            notice(f"what stood there half built is in {kept.name}")
        if gone:
            notice(gone)
    except StepFailedError as error:
        what = f"{name} is half built, since a run in place was killed, and cannot be brought back"
        file = notes.unfinished_path(run)
        remedy = f"mend that; or remove {file}, and name another one to `invoke restore`"
        raise StepFailedError(f"{what}: {error.what}", remedy) from None
    run.close_sessions()


def _look_at_others(
    run: Run, old: Database, notice: Callable[[str], None], *, is_set: bool
) -> None:
    """Say what a run of another checkout has left half built; that one is to bring it back."""
    if old.mark == _MARK or (is_set and not old.owned):
        notice(half_built(old))
    elif is_set:
        _take_back(run)


def _is_void(run: Run, mark: Mapping[str, Any]) -> bool:
    """Tell whether the database itself says that nothing is half built: it was mended elsewhere.

    The mark in its comment, and what is set for our login, come and go in the transactions that
    they are about.
    """
    old, session = run.current.database, run.server.session
    if old is not None and old.owned:
        return old.mark not in {_MARK, "protected"}
    return mark.get("login", False) and not login.is_set(session, run.target.database)


def _rows(run: Run) -> str:
    """Return how many rows stand in our tables, in words; empty where there is none.

    Those of version tables apart: every migration writes them.
    """
    spare = {
        *catalog.version_tables(run.current.session()),
        *catalog.unreadable(run.current.session()),
    }

    def is_ours(table: tuple[str, str]) -> bool:
        return table not in spare and not run.current.sharing().has(table)

    rows = sum(catalog.row_counts(run.current.session(), is_ours).values())
    return count(rows, "row") if rows else ""


def half_built(old: Database) -> str:
    """Say of a database with the mark in its comment what has become of it."""
    what = f"{old.name} is half built, since a run in place was killed in another checkout"
    back = f"`invoke restore {old.label} --in-place`" if old.label else "`invoke reset`"
    return f"{what}: {back} brings it back there"


def _mark_database(run: Run) -> None:
    """Tell other checkouts, in the transaction that drops the objects, where they can be told."""
    if run.current.database is not None and run.current.database.owned:
        taken = run.backups.taken.name if run.backups.taken else ""
        text = swap.marked(f"{_MARK} {taken}".rstrip(), run.current.database.comment)
        run.current.session().execute(swap.comment_on(run.current.database.name, text))


def _remove_marks(run: Run) -> None:
    """Say that all is done, and let everybody write, in one transaction."""
    comment = None
    if run.current.database is not None and run.current.database.owned:
        comment = swap.comment_on(run.current.database.name, run.current.database.comment)
    _take_back(run, comment)
    notes.unfinished_path(run).unlink(missing_ok=True)


def _remove_file(run: Run) -> None:
    """Remove the mark, and what was set for our login since it was made."""
    _take_back(run)
    notes.unfinished_path(run).unlink(missing_ok=True)


def _take_back(run: Run, comment: sql.Composed | None = None) -> None:
    """Let everybody write, and comment on the database: as who owns it, our login or its role."""
    with run.current.session().transaction():
        is_ours = comment is None or run.current.session().execute(_OWNS).fetchone() == (True,)
        if comment is not None and is_ours:
            run.current.session().execute(comment)
        run.in_place.writers.forget(run.current.session())
        if comment is not None and not is_ours:
            run.current.session().execute("SET LOCAL ROLE NONE")
            run.current.session().execute(comment)
    run.in_place.writers.end_readers()


_OWNS = """
SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()
"""


def _look_again(run: Run) -> bool | None:
    """Tell on a new session whether the objects are gone; None if none opens."""
    try:
        with connect(run.target, run.purpose) as session:
            mark = notes.unfinished(run)
            return mark is not None and notes.has_cleared(session, mark)
    except (BacksetError, psycopg.Error):
        return None


def _evicting(run: Run) -> AbstractContextManager[None]:
    """End all sessions on the target but those of runs at work, until the block is left."""
    whose = activity.not_of_runs(run.server.session)
    return swap.evicting(run.server, [run.target.database], whose=whose)


def _dumped(run: Run) -> Backup:
    """Return a backup of the target as it is, without the scripts that it has not come from."""
    above = run.settings.zstd_above
    store, target = run.backups.store, run.target
    spare = run.current.left_out()
    return backups.take(
        *(store, target, lambda: (), run.backups.programs),
        zstd_above=above,
        left_out=spare,
        is_half_built=True,
        server_id=run.server.identifier(),
    )


def load(run: Run, taken: Backup, *, own: bool) -> str:
    """Load a backup into the cleared target, but for what was not dropped there, and compare.

    What belongs to others is not compared: they may have gone on working with it.
    own: whether it is the backup of what was cleared, so that nothing else of ours may be there.
    Returns, in words, which tables have not come back into publications of others.
    """
    grants.forget_defaults(run.current.session())
    with _entries(run, taken, own=own) as listing:
        where = (run.target, run.server.major, run.backups.programs)
        restoration.fill(taken, *where, entries=listing)
    spare = _spare(run, taken)
    restoration.check(taken, run.target, exactly=own, spare=spare, is_in_use=True)
    there = object_hashes.read(run.current.session())
    gone = [each for each in _places(run, taken) if each not in there]
    return f"{', '.join(gone)}: gone, and its owner alone brings it back" if gone else ""


def _spare(run: Run, taken: Backup) -> frozenset[str]:
    """Return what others have: also the places of our tables in publications that are not ours."""
    others = objects.names_of_others(run.current.session(), run.current.sharing().keeps)
    return others | frozenset(_places(run, taken))


def _places(run: Run, taken: Backup) -> list[str]:
    """Return the places of our tables in publications of others, as the manifest names them."""
    others = objects.names_of_others(run.current.session(), run.current.sharing().keeps)
    kept = (each.removeprefix("publication ") for each in others if each.startswith("publication "))
    ends = tuple(f" in publication {bare(each)}" for each in kept)  # never quoted there
    return [each for each in taken.manifest.objects or () if ends and each.endswith(ends)]


def _rehearse(run: Run, taken: Backup) -> Backup:
    """Do what load() would, in the open transaction of `run.current.session()`, and roll that back.

    Returns the backup; where it loads only with the search path of the database, its manifest says
    so. Raises StepFailedError with what keeps it from being loaded.
    """
    known = taken.manifest.needed_path
    ways = [None, taken.manifest.search_path] if known is None else [known]
    errors: list[psycopg.Error | StepFailedError] = []
    with _entries(run, taken, own=True) as listing:
        for path in ways:
            try:
                _try(run, taken, listing, path)
            except (psycopg.Error, StepFailedError) as error:
                if run.current.session().closed:  # nothing is known of the dump then
                    raise
                errors.append(error)
            else:
                if path == known and not taken.manifest.obstacle:
                    return taken
                return backups.noted(taken, needs_search_path=path is not None)
    raise _unloadable(run, taken, errors[0]) from None


def _try(run: Run, taken: Backup, listing: Path, path: str | None) -> None:
    where = taken.dump, restoration.program(taken, run.backups.programs), run.backups.programs
    with run.current.session().transaction(force_rollback=True):
        grants.forget_defaults(run.current.session())
        replay.replay(run.current.session(), *where, entries=listing, path=path)
        restoration.compare(taken, run.current.session(), spare=_spare(run, taken), is_in_use=True)


def _unloadable(run: Run, taken: Backup, error: psycopg.Error | StepFailedError) -> StepFailedError:
    """Return what a person reads of a backup that nothing could be brought back from."""
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        role = run.server.role.name
        what = f"the role {role} could not make again what would be dropped"
        remedy = "as an administrator: give it the right, or CREATEDB, so that nothing is dropped"
    else:
        what = f"{taken.name} cannot be loaded again, so nothing was dropped"
        remedy = "mend what it names in the database, then run this again"
    words = error.what if isinstance(error, StepFailedError) else one_line(error, run.target)
    return StepFailedError(f"{what}: {words}", remedy)


@contextmanager
def _entries(run: Run, taken: Backup, *, own: bool) -> Iterator[Path]:
    """Give a file of what `taken` has and the target has not, for `pg_restore --use-list`."""
    same = own or run.server.identifier() in {taken.manifest.server_id} - {""}
    pg_restore = restoration.program(taken, run.backups.programs)
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "toc"
        lines = toc.read(taken.dump, pg_restore, run.backups.programs, listing)
        rows = (
            extension_rows.tables(run.current.session()) if run.current.sharing().is_nobodys else []
        )
        cleared = [(each.schema, each.name) for each in rows if each.may_write]
        missing = toc.missing(run.current.session(), lines, own=same, cleared=cleared)
        wanted = "\n".join(missing) + "\n"
        listing.write_text(wanted, encoding="utf-8", errors="surrogateescape")
        yield listing
