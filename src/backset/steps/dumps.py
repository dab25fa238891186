"""Steps between a database and the folder of backups: one into it, one back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.chain import Done, Step
from backset.steps.databases import ended
from backset.text.quantities import amount, count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from backset.backups.manifest import Backup
    from backset.errors import Finding
    from backset.migrate.upgrading import Progress
    from backset.runs.build import Build


_WITH_PATH = "loads only with the database's search_path"


def _backup(build: Build, progress: Progress, meanwhile: Callable[[], None]) -> Done:
    """Dump the target with its manifest and scripts; prove that, where it is asked for."""
    from backset.backups import backup as backups
    from backset.backups import restoration
    from backset.connections.activity import listed
    from backset.runs import in_place, notes
    from backset.servers import derived

    derived.clear_scratch(build.server, build.databases)
    if build.options.proves:
        restoration.refuse_proof(build.server, build.databases)
    ended = build.server.endable(build.target.database) if build.is_in_place else []
    if build.is_in_place:
        in_place.freeze(build)
    farewell = f" · ended {listed(ended)}" if ended else ""
    gone = {"ended": [each.content() for each in ended]} if build.is_in_place else {}
    if build.old_is_empty:
        build.demand_destination()
        return Done(f"nothing to back up ({build.why_empty}){farewell}", gone)

    def folders() -> tuple[Path, ...]:
        meanwhile()  # pg_dump is at work, and Alembic's process still imports
        build.demand_destination()
        return build.scripts.folders

    above = build.settings.zstd_above
    taken = backups.take(
        *(build.vault, build.target, folders, build.programs),
        zstd_above=above,
        left_out=build.left_out,
        wish=build.options.wish,
        is_remade=lambda session: notes.is_remade(build, session),
        server_id=build.server_id,
    )
    build.taken = taken
    if build.options.proves:
        progress(f"restoring it into {build.server.names.scratch}")
        needs_path = restoration.prove(taken, build.server, build.old, build.programs)
        if needs_path or taken.manifest.obstacle:
            taken = build.taken = backups.noted(taken, needs_search_path=needs_path)
    about, twin = taken.manifest, build.vault.twin(taken)
    text = f"{build.settings.shown(taken.dump)} · {amount(about.size_bytes)}, {_rows(about.rows)}"
    text += f" · the same state as {twin.name}, one file" if twin else ""
    text += " · proved: restored and compared" if build.options.proves else ""
    text += f" · {_WITH_PATH}" if about.needs_search_path else ""
    unread = ", ".join(".".join(each) for each in about.left_out)
    text += f" · left out, since others own it: {unread}" if unread else ""
    details = {
        "file": str(taken.dump),
        "rows": about.rows,
        "sha256": about.sha256,
        "proved": build.options.proves,
        "same_as": twin.name if twin else None,
        "needs_search_path": about.needs_search_path,
    }
    return Done(text + farewell, {**details, **gone}, _unloadable(taken))


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


def _plan_backup(build: Build) -> str:
    from backset.backups import restoration

    if build.options.proves:
        restoration.refuse_proof(build.server, build.databases)
    ending = ended(build) if build.is_in_place else ""
    if build.old_is_empty:
        return f"nothing to back up ({build.why_empty}){ending}"
    size = amount(build.old.size_bytes or 0) if build.old else ""
    folder = build.settings.shown(build.vault.folder)
    text = f"would dump {build.target.database} ({size}) into {folder}"
    if build.options.proves:
        text += f" · would restore that into {build.server.names.scratch}, compare, and drop it"
    if name := build.options.wish.name:
        build.vault.refuse_name(name)
        text += f" as {name}"
    return text + ending


def _load(build: Build, progress: Progress) -> Done:
    """Load a backup into the database beside the target, and compare it with the manifest."""
    from backset.backups import restoration
    from backset.inherit import inheritance
    from backset.runs import in_place

    chosen, by_path = build.chosen_backup, False
    progress(f"loading {chosen.name}")
    chosen.check()
    if build.is_in_place:
        build.writers.let_in()  # all of it comes in one transaction
        if gone := in_place.load(build, chosen, own=False):
            progress(gone, lasting=True)
    else:
        restoration.program(chosen, build.programs)  # or a refusal, before making it
        build.make_next(acts=False)
        build.inherit(inheritance.OF_DATABASE)

        def emptied() -> None:
            progress("the dump does not load by itself: once more, with the database's search_path")
            build.make_next_anew()
            build.inherit(inheritance.OF_DATABASE)

        where = build.subject, build.server.major, build.programs
        by_path |= restoration.load(chosen, *where, emptied=emptied)
        build.inheritance.repeat(build.session)  # the script of an extension may set search_path
    counts = chosen.manifest.rows
    text = f"{chosen.name} · {_rows(counts)}, as its manifest says"
    text += f" · {_WITH_PATH}" if by_path else ""
    return Done(text, {"rows": counts})


def _plan_load(build: Build) -> str:
    return f"would load {build.chosen_backup.name} into {build.subject.database}"


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
