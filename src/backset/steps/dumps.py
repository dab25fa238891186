"""Steps between a database and the folder of backups: one into it, one back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.chain import Details, Done, Step
from backset.described import ABSENT, described, key
from backset.steps.databases import EndedDetails, ended
from backset.text.quantities import amount, count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from backset.backups.manifest import Backup
    from backset.errors import Finding
    from backset.migrate.upgrading import Progress
    from backset.runs.run import Run


_WITH_PATH = "loads only with the database's search_path"
_ROWS = "`backup` and `load`: exact counts in the dump, by table"


@described(kw_only=True)
class _BackupDetails(EndedDetails):
    file: str = key("`backup`: the path of the dump; absent where there was nothing to dump")
    rows: Mapping[str, int] = key("`backup` and `load`: exact counts in the dump, by table")
    sha256: str = key("`backup`: of the dump, in hexadecimal, as in its manifest")
    proved: bool = key("`backup`: whether it was restored and compared (`--prove`)")
    same_as: str | None = key(
        "`backup`: another one of the same state, whose file it has; null where there is none"
    )
    needs_search_path: bool = key(
        "`backup`: whether it loads only with the search path of the database"
    )


@described(kw_only=True)
class _LoadDetails(Details):
    rows: Mapping[str, int] = key("`backup` and `load`: exact counts in the dump, by table")


def _backup(run: Run, progress: Progress, meanwhile: Callable[[], None]) -> Done:
    """Dump the target with its manifest and scripts; prove that, where it is asked for."""
    from backset.backups import backup as backups
    from backset.backups import restoration
    from backset.connections.activity import listed
    from backset.runs import in_place, notes
    from backset.servers import derived

    derived.clear_scratch(run.server, run.current.databases)
    if run.options.proves:
        restoration.refuse_proof(run.server, run.current.databases)
    ended = run.server.endable(run.target.database) if run.in_place.is_chosen else []
    if run.in_place.is_chosen:
        in_place.freeze(run)
    farewell = f" · ended {listed(ended)}" if ended else ""
    gone = EndedDetails(ended=ended if run.in_place.is_chosen else ABSENT)
    if run.current.is_empty():
        run.work.demand_scripts()
        return Done(f"nothing to back up ({run.current.why_empty}){farewell}", gone)

    def folders() -> tuple[Path, ...]:
        meanwhile()  # pg_dump is at work, and Alembic's process still imports
        run.work.demand_scripts()
        return run.work.scripts().folders

    above = run.settings.zstd_above
    taken = backups.take(
        *(run.backups.store, run.target, folders, run.backups.programs),
        zstd_above=above,
        left_out=run.current.left_out(),
        wish=run.options.wish,
        is_remade=lambda session: notes.is_remade(run, session),
        server_id=run.server.identifier(),
    )
    run.backups.taken = taken
    if run.options.proves:
        progress(f"restoring it into {run.server.names.scratch}")
        needs_path = restoration.prove(
            taken, run.server, run.current.database, run.backups.programs
        )
        if needs_path or taken.manifest.obstacle:
            taken = run.backups.taken = backups.noted(taken, needs_search_path=needs_path)
    about, twin = taken.manifest, run.backups.store.twin(taken)
    text = f"{run.settings.shown(taken.dump)} · {amount(about.size_bytes)}, {_rows(about.rows)}"
    text += f" · the same state as {twin.name}, one file" if twin else ""
    text += " · proved: restored and compared" if run.options.proves else ""
    text += f" · {_WITH_PATH}" if about.needs_search_path else ""
    unread = ", ".join(".".join(each) for each in about.left_out)
    text += f" · left out, since others own it: {unread}" if unread else ""
    details = _BackupDetails(
        file=str(taken.dump),
        rows=about.rows,
        sha256=about.sha256,
        proved=run.options.proves,
        same_as=twin.name if twin else None,
        needs_search_path=about.needs_search_path,
        ended=gone.ended,
    )
    return Done(text + farewell, details, _unloadable(taken))


def _unloadable(taken: Backup) -> tuple[Finding, ...]:
    """Return what keeps a backup from being loaded."""
    from backset.errors import Finding

    if not taken.manifest.obstacle:
        return ()
    found = Finding(
        kind="unloadable backup",
        what=f"{taken.name} cannot be loaded as it is, {taken.manifest.obstacle}",
        why="until that is mended, its rows come back by hand alone",
        remedy="mend what it names in the database, and take another backup",
        name=taken.name,
    )
    return (found,)


def _plan_backup(run: Run) -> str:
    from backset.backups import restoration

    if run.options.proves:
        restoration.refuse_proof(run.server, run.current.databases)
    ending = ended(run) if run.in_place.is_chosen else ""
    if run.current.is_empty():
        return f"nothing to back up ({run.current.why_empty}){ending}"
    size = amount(run.current.database.size_bytes or 0) if run.current.database else ""
    folder = run.settings.shown(run.backups.store.folder)
    text = f"would dump {run.target.database} ({size}) into {folder}"
    if run.options.proves:
        text += f" · would restore that into {run.server.names.scratch}, compare, and drop it"
    if name := run.options.wish.name:
        run.backups.store.refuse_name(name)
        text += f" as {name}"
    return text + ending


def _load(run: Run, progress: Progress) -> Done:
    """Load a backup into the database beside the target, and compare it with the manifest."""
    from backset.backups import restoration
    from backset.inherit import inheritance
    from backset.runs import in_place

    chosen, by_path = run.backups.chosen(run.server), False
    progress(f"loading {chosen.name}")
    chosen.check()
    if run.in_place.is_chosen:
        run.in_place.writers.let_in()  # all of it comes in one transaction
        if gone := in_place.load(run, chosen, own=False):
            progress(gone, lasting=True)
    else:
        restoration.program(chosen, run.backups.programs)  # or a refusal, before making it
        run.next.make(acts=False)
        run.work.inherit(inheritance.OF_DATABASE)

        def emptied() -> None:
            progress("the dump does not load by itself: once more, with the database's search_path")
            run.work.leave()
            run.next.make_anew()
            run.work.inherit(inheritance.OF_DATABASE)

        where = run.work.target, run.server.major, run.backups.programs
        by_path |= restoration.load(chosen, *where, emptied=emptied)
        run.work.inheritance.repeat(
            run.work.session()
        )  # the script of an extension may set search_path
    counts = chosen.manifest.rows
    text = f"{chosen.name} · {_rows(counts)}, as its manifest says"
    text += f" · {_WITH_PATH}" if by_path else ""
    return Done(text, _LoadDetails(rows=counts))


def _plan_load(run: Run) -> str:
    return f"would load {run.backups.chosen(run.server).name} into {run.work.target.database}"


def _rows(rows: Mapping[str, int]) -> str:
    return f"{count(len(rows), 'table')}, {count(sum(rows.values()), 'row')}"


backup = Step(
    "backup",
    _backup,
    _plan_backup,
    does="pg_dump, read back, with a manifest",
    gives="backup",
    writes=False,
    migrates=True,
    waits=True,
    is_kept=True,
)
load = Step(
    "load",
    _load,
    _plan_load,
    does="pg_restore, compared with the manifest",
    gives="next",
    where="rebuilt",
)
