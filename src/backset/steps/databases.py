"""Steps about databases as wholes: dumped, made, emptied, loaded, swapped."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backset.chain import Done, Step
from backset.text.quantities import amount, count, few

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backset.backups.manifest import Backup
    from backset.carry.carry import Carried
    from backset.connections.session import Session
    from backset.errors import Finding
    from backset.migrate.upgrading import Progress
    from backset.runs.run import Run
    from backset.servers.server import Server

_SHOWN = 5  # objects that stay, in one line


def _reset(run: Run, _progress: Progress) -> Done:
    """Create the empty database beside the target, with what an administrator gave the old one."""
    from backset.inherit import inheritance
    from backset.steps.details import ResetDetails

    run.next.make()
    run.work.inherit(inheritance.EVERYTHING)
    if run.clone.recalled is not None:
        template = run.clone.recalled.template.name
        details = ResetDetails(cloned=template)
        return Done(f"{run.work.target.database} cloned from {template}", details)
    why = f" · {run.clone.uncloned}" if run.clone.remembers else ""
    details = ResetDetails(cloned=None, why=run.clone.uncloned)
    return Done(f"{run.work.target.database} created{why}", details)


def _plan_reset(run: Run) -> str:
    if run.clone.recalled is not None:
        return f"would clone {run.clone.recalled.template.name} as {run.work.target.database}"
    why = f" · {run.clone.uncloned}" if run.clone.remembers else ""
    return f"would create {run.work.target.database}{_as_whom(run)}{why}"


def _clear(run: Run, progress: Progress) -> Done:
    """Drop the objects of the target itself, where nothing can be built beside it."""
    from backset.catalog import past
    from backset.connections.activity import listed
    from backset.inherit import inheritance
    from backset.runs import in_place
    from backset.steps.details import ClearDetails

    ended = run.server.endable(run.target.database)
    if ended:
        progress(f"ending {listed(ended)}")
    run.current.demand_unprotected(run.server)
    run.work.inherit(inheritance.EVERYTHING)
    if run.options.carries and run.backups.taken is not None:
        run.in_place.past = past.read(run.current.session())
    if run.backups.taken is not None:
        progress("loading the backup, to see that it can be")
    dropped = in_place.clear(run)
    run.work.inheritance.renew(run.current.session(), lambda: run.work.scripts().folders)
    text = f"{count(dropped, 'object')} dropped in {run.target.database}"
    text += f" · ended {listed(ended)}" if ended else ""
    return Done(text, ClearDetails(dropped=dropped, ended=ended))


def _plan_clear(run: Run) -> str:
    from backset.catalog import objects

    if run.current.database is None:
        return "nothing to drop"
    everything = objects.found(run.current.session(), run.current.sharing().keeps)
    stay = [str(each) for each in everything if not each.ours]
    text = f"would drop {count(len(everything) - len(stay), 'object')} in {run.target.database}"
    text += f" · would go on{_as_whom(run)}" if run.current.ownership().role else ""
    shown = stay if len(stay) <= _SHOWN else [f"{len(stay)} objects: {run.current.sharing().whose}"]
    text += " · other sessions of this login could only read until it is done"
    return text + (f" · these stay: {', '.join(shown)}" if stay else "")


def _as_whom(run: Run) -> str:
    role = run.current.ownership().role
    return f", as {role}, whose tables these are" if role else ""


def _promote(run: Run, progress: Progress, carried: Carried | None) -> Done:
    """Swap: next becomes the target, the target becomes previous, in one transaction."""
    from backset.connections.activity import listed
    from backset.process import signals
    from backset.runs import notes
    from backset.servers import swap
    from backset.steps.details import PromoteDetails

    names, old, old_is_empty = run.server.names, run.current.database, run.current.is_bare()
    run.current.ownership()  # while the target can be looked at
    run.close_sessions()
    ended = run.server.endable(names.target)
    if ended:
        progress(f"ending {listed(ended)}")

    def swap_them(*, spare: int = 0, last: Callable[[Session], None] = swap.nothing) -> None:
        def at_last(session: Session) -> None:
            last(session)
            run.next.give_back(session)
            run.work.inheritance.close(session)

        with signals.deferred():  # so that an interruption knows whether the swap has happened
            run.outcome.promoted = None
            swap.promote(
                *(run.server, old, run.current.previous),
                old_is_empty=old_is_empty,
                backup=run.backups.taken.name if run.backups.taken else "",
                last=at_last,
                spare=spare,
            )
            run.outcome.promoted = True
            swap.discard(run.server)

    horizon = notes.horizon(run)
    notes.give_up(run)  # before: it may be killed right after
    if carried is not None and carried.promote is not None:
        carried.promote(swap_them, progress)
    else:
        swap_them()
    notes.note_made(run, horizon)
    kept = None if old is None else names.previous
    findings = (*run.work.inheritance.findings(run.server.session), *map(_idle, run.clone.idle))
    text = f"{names.target} is the new database" + (f" · ended {listed(ended)}" if ended else "")
    text += f" · {late}" if (late := swap.durable(run.server)) else ""
    if run.clone.unkept and run.clone.outside:  # the next run will build it again
        text += f" · nothing kept to clone: {run.clone.unkept}"
    removed, words = pruned(run)
    text += words
    details = PromoteDetails(
        previous=kept,
        ended=ended,
        removed=removed,
        kept=run.clone.keeps,
        unkept=run.clone.unkept,
    )
    return Done(text, details, findings)


def _idle(pattern: str) -> Finding:
    from backset.errors import Finding

    return Finding(
        kind="unused ignore",
        name=pattern,
        what=f"[tool.backset] ignore_inputs: {pattern} matches nothing",
        why="it could hide something new",
        remedy="remove the pattern, or correct it",
    )


def pruned(run: Run) -> tuple[int, str]:
    """Remove the backups that may go; return how many, and words for people.

    At the end of a run that has replaced the target, which cannot fail any more: what one that
    fails would have removed may be all that is left of some rows.
    """
    from backset.errors import BacksetError

    if run.backups.taken is None:
        return 0, ""
    settings, stay = run.settings, _protected(run) | {run.backups.taken.name}
    where = settings.keep, run.backups.taken.manifest.server_id
    try:
        removed = run.backups.store.prune(*where, stay, keep_days=settings.keep_days)
    except (BacksetError, OSError) as error:
        return 0, f" · no older backup removed: {error}"
    return removed, f" · {count(removed, 'older backup')} removed" if removed else ""


def _plan_promote(run: Run) -> str:
    names = run.server.names
    text = f"would make {names.next} the new {names.target}"
    if run.current.database is not None:
        text += f", the old one {names.previous}"
    if run.current.previous is not None and not run.current.is_bare():
        text += f" · would drop the {names.previous} of before"
    return text + _surplus(run) + ended(run) + _durable(run)


def _protected(run: Run) -> frozenset[str]:
    """Return the backups that stay: the one in the comment of `__previous`, and the chosen one."""
    from backset.backups import manifest

    names = {run.current.previous.label} if run.current.previous else set()
    if run.options.origin:
        names.add(run.options.origin.backup)
    names |= {manifest.stem(each) for each in run.backups.found.values()}
    if run.backups.choice:
        names.add(run.backups.chosen(run.server).name)
    return frozenset(names)


def _durable(run: Run) -> str:
    """Say that a swap does not wait for standbys while it keeps everybody out."""
    from backset.servers import swap

    names = swap.awaited(run.server.session)
    limit = f"{swap.LIMIT_S:.0f} s"
    how = f"would commit to the server's own disk, then wait up to {limit} for a standby ({names})"
    return f" · {how}" if names else ""


def _surplus(run: Run) -> str:
    """Say how many backups would go; the one that the run takes is not there yet."""
    if run.current.is_empty():
        return ""
    surplus = run.backups.store.surplus(
        run.server.identifier(),
        keep=run.settings.keep - 1,
        keep_days=run.settings.keep_days,
        protected=_protected(run),
    )
    return f" · would remove {count(len(surplus), 'older backup')}" if surplus else ""


def _undo(run: Run, progress: Progress) -> Done:
    """Swap the target with the database kept before it; doing it twice is redo."""
    from backset.connections.activity import listed
    from backset.process import signals
    from backset.servers import swap
    from backset.steps.details import EndedDetails

    names = run.server.names
    previous = run.current.demand_previous(run.backups.store, names.previous)
    progress(f"swapping {names.target} and {names.previous}")
    ended = [each for name in (names.target, previous.name) for each in run.server.endable(name)]
    with signals.deferred():
        run.outcome.promoted = None
        swap.exchange(run.server, run.current.database, previous)
        run.outcome.promoted = True
    other = f" · {names.previous} holds the other one" if run.current.database else ""
    other += f" · ended {listed(ended)}" if ended else ""
    other += f" · {late}" if (late := swap.durable(run.server)) else ""
    text = f"{names.target} is the database from before{other}"
    return Done(text, EndedDetails(ended=ended))


def _plan_undo(run: Run) -> str:
    names = run.server.names
    run.current.demand_previous(run.backups.store, names.previous)
    return f"would swap {names.target} and {names.previous}{_durable(run)}"


def ended(run: Run) -> str:
    """Say whose sessions on the target would be ended."""
    from backset.connections.activity import listed

    ended = run.server.endable(run.target.database)
    return f" · would end {listed(ended)}" if ended else ""


reset = Step(
    "reset",
    _reset,
    _plan_reset,
    does="CREATE DATABASE NAME__next",
    gives="next",
    begin=lambda run: run.next.begin(),
    where="beside",
    migrates=True,
    is_kept=True,
)
clear = Step(
    "clear",
    _clear,
    _plan_clear,
    does="DROP what is in the target itself",
    needs="backup",
    where="in place",
)
promote = Step(
    "promote",
    _promote,
    _plan_promote,
    does="swap NAME__next in, by two renames",
    needs="next",
    uses=("carried",),
    where="beside",
    is_last=True,
    is_short=True,
)
undo = Step(
    "undo",
    _undo,
    _plan_undo,
    does="swap NAME__previous back in",
    where="beside",
    is_last=True,
    is_short=True,
)


def mark(server: Server) -> None:
    """Mark a server that does not say which one it is, before something is kept of it."""
    from backset.runs import login
    from backset.servers.server import MAINTENANCE

    if not server.identifier() and server.names.target not in MAINTENANCE:
        login.mark_server(server.session)
        server.identifier(anew=True)


_WITH_PATH = "loads only with the database's search_path"


def _backup(run: Run, progress: Progress, meanwhile: Callable[[], None]) -> Done:
    """Dump the target with its manifest and scripts; prove that, where it is asked for."""
    from backset.backups import backup as backups
    from backset.backups import restoration
    from backset.connections.activity import listed
    from backset.described import ABSENT
    from backset.runs import in_place, notes
    from backset.servers import derived, replica
    from backset.servers.standbys import WAIT_S
    from backset.steps.details import BackupDetails, EndedDetails

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
        run.work.demand_scripts()
        return run.work.scripts().folders

    above, source = run.settings.zstd_above, run.target
    why = _from_primary(run)
    if why is None:
        waiting = partial(progress, lasting=True)
        source = replica.caught_up(run.server, run.target.others, WAIT_S, waiting)
        why = f" · from the standby {source.address}"
    with replica.dumping(source) if source is not run.target else nullcontext():
        taken = backups.take(
            *(run.backups.store, source, folders, run.backups.programs),
            zstd_above=above,
            left_out=run.current.left_out(),
            wish=run.options.wish,
            is_remade=lambda session: notes.is_remade(run, session),
            server_id=run.server.identifier(),
            meanwhile=meanwhile,
        )
    run.backups.taken = taken
    if run.options.proves:
        progress(f"restoring it into {run.server.names.scratch}")
        needs_path = restoration.prove(
            *(taken, run.server, run.current.database, run.backups.programs),
            notice=partial(progress, lasting=True),
        )
        if needs_path or taken.manifest.obstacle:
            taken = run.backups.taken = backups.noted(taken, needs_search_path=needs_path)
    about, twin = taken.manifest, run.backups.store.twin(taken)
    text = f"{_shown(run, taken.dump)} · {amount(about.size_bytes)}, {_rows(about.rows)}"
    text += why
    text += f" · the same state as {twin.name}, one file" if twin else ""
    text += " · proved: restored and compared" if run.options.proves else ""
    text += f" · {_WITH_PATH}" if about.needs_search_path else ""
    unread = ", ".join(".".join(each) for each in about.left_out)
    text += f" · left out, since others own it: {unread}" if unread else ""
    details = BackupDetails(
        file=str(taken.dump),
        rows=about.rows,
        sha256=about.sha256,
        proved=run.options.proves,
        same_as=twin.name if twin else None,
        needs_search_path=about.needs_search_path,
        ended=gone.ended,
    )
    return Done(text + farewell, details, _unloadable(taken))


def _from_primary(run: Run) -> str | None:
    """Say why the primary is dumped; None where a standby is. Empty where nobody asked for one."""
    from backset.catalog import catalog

    if run.settings.backup_from == "primary":
        return ""
    if run.in_place.is_chosen:
        return " · from the primary: in place, the backup is all that is left of the rows"
    if not run.target.others:
        return f" · from the primary: {run.target.mended_in} names no standby"
    spare = run.current.left_out().has
    found = [each for each in catalog.unlogged(run.current.session()) if not spare(each)]
    if names := few(catalog.shown(*each) for each in found):
        return f" · from the primary: no standby has the rows of {names} (UNLOGGED)"
    return None


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


def _shown(run: Run, place: object) -> str:
    """Return a path as people read it, or the address of what is in a bucket."""
    return run.settings.shown(place) if isinstance(place, Path) else str(place)


def _plan_backup(run: Run) -> str:
    from backset.backups import restoration
    from backset.catalog import catalog

    if run.options.proves:
        restoration.refuse_proof(run.server, run.current.databases)
    ending = ended(run) if run.in_place.is_chosen else ""
    if run.current.is_empty():
        return f"nothing to back up ({run.current.why_empty}){ending}"
    size = amount(catalog.size_bytes(run.current.session())) if run.current.database else ""
    folder = _shown(run, run.backups.store.place)
    text = f"would dump {run.target.database} ({size}) into {folder}"
    if run.options.proves:
        text += f" · would restore that into {run.server.names.scratch}, compare, and drop it"
    if name := run.options.wish.name:
        run.backups.store.refuse_name(name)
        text += f" as {name}"
    text += " · from a standby" if (why := _from_primary(run)) is None else why
    return text + ending


def _load(run: Run, progress: Progress) -> Done:
    """Load a backup into the database beside the target, and compare it with the manifest."""
    from backset.backups import restoration
    from backset.inherit import inheritance
    from backset.runs import in_place
    from backset.steps.details import LoadDetails

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
        notice = partial(progress, lasting=True)
        by_path |= restoration.load(chosen, *where, emptied=emptied, notice=notice)
        # The script of an extension may set search_path.
        run.work.inheritance.repeat(run.work.session())
    counts = chosen.manifest.rows
    text = f"{chosen.name} · {_rows(counts)}, as its manifest says"
    text += f" · {_WITH_PATH}" if by_path else ""
    return Done(text, LoadDetails(rows=counts))


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
