"""The steps of the chain: each does one thing to a Build and says in a line what it did."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from backset.backups import backup as backups
from backset.backups import restoration
from backset.catalogs import past
from backset.checks import server_log, verification
from backset.connections.activity import listed
from backset.errors import BacksetError, Finding, FindingsError, StepFailedError
from backset.migrations import migrating
from backset.processes import signals
from backset.properties import cluster_wide, inheritance
from backset.runs import in_place, notes, ownership, refilling, seeding
from backset.servers import companions, embedded, location, read_only, swap
from backset.wording.quantities import amount, count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from backset.backups.manifest import Backup
    from backset.connections.session import Session
    from backset.migrations.migrating import Progress
    from backset.runs.build import Build
    from backset.templates.memory import Recalled


LOADS_WITH_PATH = "loads only with the database's search_path"


@dataclass(frozen=True, slots=True)
class Done:
    """What a step did: one line for people, `details` for programs, and what it could not do."""

    text: str
    details: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def backup(build: Build, progress: Progress) -> Done:
    """Dump the target with its manifest and scripts; prove that, where it is asked for."""
    companions.clear_scratch(build.server, build.databases)
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
        build.prepare_ahead()  # asked for late: the worker is still importing
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
    text += f" · {LOADS_WITH_PATH}" if about.needs_search_path else ""
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


def reset(build: Build, _progress: Progress) -> Done:
    """Create the empty database beside the target, with what an administrator gave the old one."""
    build.prepare()
    if build.recalled is not None:
        template = build.recalled.template.name
        details = {"cloned": template, "why": None}
        return Done(f"{build.subject.database} cloned from {template}", details)
    why = f" · {build.uncloned}" if build.remembers else ""
    details = {"cloned": None, "why": build.uncloned or None}
    return Done(f"{build.subject.database} created{why}", details)


def clear(build: Build, progress: Progress) -> Done:
    """Drop the objects of the target itself, where nothing can be built beside it."""
    ended = build.server.endable(build.target.database)
    if ended:
        progress(f"ending {listed(ended)}")
    build.check_protection()
    build.inherit(inheritance.EVERYTHING)
    if build.options.carries and build.taken is not None:
        build.past = past.read(build.live)
    if build.taken is not None:
        progress("loading the backup, to see that it can be")
    dropped = in_place.clear(build)
    build.inheritance.renew(build.live, lambda: build.scripts.folders)
    text = f"{count(dropped, 'object')} dropped in {build.target.database}"
    text += f" · ended {listed(ended)}" if ended else ""
    return Done(text, {"dropped": dropped, "ended": [each.content() for each in ended]})


def upgrade(build: Build, progress: Progress) -> Done:
    """Run the migrations up to head."""
    if build.recalled is not None:
        build.inheritance.complete(build.session)
        return Done(*_told(build.recalled, "upgrade"))
    build.work_on_live("upgrade")
    before_all = cluster_wide.look(build.session)
    told, doubts = migrating.migrate(build, progress)
    for each in told:
        build.writers.note(**{name: each[name] for name in ("revoked", "was_open") if name in each})
    moved = build.settings.has_door or any(each["count"] for each in told)
    after_all = cluster_wide.look(build.session) if moved else before_all
    build.outside = before_all, after_all
    made = cluster_wide.made(before_all, after_all)
    build.inheritance.complete(build.session)
    findings = build.inheritance.findings(build.session) if build.is_in_place else ()
    lineages = build.settings.lineages
    chains = [
        {
            "name": each.name,
            "from": done["before"],
            "to": done["heads"],
            "ran": done["count"],
            "schemas": done["schemas"],
        }
        for each, done in zip(lineages, told, strict=True)
    ]
    details = {"chains": chains, "cluster_wide": [each.name for each in made]}
    lines = [_migrated(each.label, done) for each, done in zip(lineages, told, strict=True)]
    return Done(" · ".join(lines), details, (*findings, *made, *doubts))


def _migrated(label: str, done: Mapping[str, Any]) -> str:
    before, after = _revisions(done["before"]), _revisions(done["heads"])
    if done["count"]:
        text = f"{before} → {after}, {count(done['count'], 'revision')}"
        text += " after `init`" if done.get("init") else ""
    elif done.get("init") and before != after:
        text = f"{before} → {after} by `init`"
    elif done.get("moved"):
        text = f"at {after}, by the project's command"
    else:
        text = f"already at {after}"
    made = [f" · made the schema {each} of the version table" for each in done["schemas"]]
    return label + text + "".join(made)


def verify(build: Build, progress: Progress) -> Done:
    """Hold models and expectations against the database. Raises FindingsError on the live one."""
    if build.recalled is not None:
        return Done(*_told(build.recalled, "verify"))
    progress("comparing models and database")
    settings, session = build.settings, build.session
    fresh = build.is_beside or build.is_in_place
    rows = {} if fresh else seeding.expected_rows(settings, session)
    unmet = [] if fresh else [*seeding.unmet(settings, session, rows)]
    back = _taken_back(build, progress) if build.options.downgrades else []
    asked = build.options.asks_log and not fresh
    log = _swallowed(build, asked=asked)
    found = verification.verify(
        *(settings, build.workers, session),
        also=[*unmet, *back, *log.findings()],
        fresh=fresh,
        accept=build.options.accepts,
        others=lambda: build.sharing,
    )
    if found.findings:
        kind = StepFailedError if build.is_beside else FindingsError
        error = kind.of((*found.findings, *found.asides))
        if log.unread and log is not server_log.NOT_ASKED:
            error.add_note(str(log))
        if fresh and found.is_failed_by_models:
            error.add_note(found.strictness)
        raise error
    details = {"accepted": found.accepted, "silenced": found.silenced, "server_log": log.content()}
    text = " · base → head → base leaves nothing behind" if build.options.downgrades else ""
    text += f" · {log}" if asked and str(log) else ""
    return Done(str(found) + text, {"tables": found.tables, **details}, found.asides)


def _swallowed(build: Build, *, asked: bool) -> server_log.Look:
    """Look in the server's log for errors of this run that somebody swallowed, each told once.

    The log of the embedded PostgreSQL is a file of ours. Any other server has to be asked, which
    costs a round trip, and is done where somebody wants that.
    """
    cluster = embedded.project_cluster(build.settings.root)
    if location.is_embedded(build.target, cluster):
        found = server_log.of_file(cluster.log)
    elif asked or build.settings.server_log:
        found = server_log.of_server(build.session)
    else:
        return server_log.NOT_ASKED
    told = (build.settings.redact(build.target, each) for each in found.errors)
    new = tuple(each for each in told if each not in build.heard)
    build.heard |= set(new)
    return replace(found, errors=new)


def _taken_back(build: Build, progress: Progress) -> list[Finding]:
    from backset.proofs import reversal

    return reversal.findings(build, progress)


def carry(build: Build, progress: Progress) -> Done:
    """Copy the rows of the target, or of another origin, into the new one; prove that all came."""
    from backset.carrying import carry as carrying
    from backset.carrying import origins

    rules, origin = build.options.carries, build.options.origin
    assert rules is not None  # noqa: S101  (else this step is left out)
    if origins.is_empty(build):
        return Done(f"nothing to carry ({build.why_empty})", {"rows": {}, "left": []})
    if build.is_in_place and (kept := in_place.keep_rows_of_others(build)):
        progress(f"what others may have written meanwhile is in {kept.name}", lasting=True)
    done = carrying.carry(build, rules, progress)
    left = [{"what": each.what, "name": each.name, "count": each.count} for each in done.plan.left]
    text = " · ".join(f"{table} {rows}" for table, rows in done.rows.items()) or "no rows"
    text += "".join(f" · {each}" for each in done.notes)
    text += "".join(f" · left behind: {each}" for each in done.plan.left)
    text += f" · from {origin.shown}" if origin else ""
    build.is_carried = origin is None and not left
    lagging = tuple(seeding.lagging(build.session))
    details = {"rows": done.rows, "left": left, "through": [*done.through]}
    more = {"origin": origin.shown} if origin else {}
    return Done(text, {**details, **more}, (*done.findings, *lagging))


def seed(build: Build, progress: Progress) -> Done:
    """Run the project's seed command."""
    if not build.settings.seed:
        behind = tuple(seeding.lagging(build.session))
        return Done("no seed command ([tool.backset] seed is not set)", findings=behind)
    if build.recalled is not None and build.recalled.has("seed"):
        return Done(*_told(build.recalled, "seed"))
    if not build.is_beside:
        build.check_protection()
    build.work_on_live("seed")
    rows, doubts = seeding.seed(build.settings, build.door, build.session, progress)
    if build.options.seeds_twice:
        progress("a second time")
        where = build.settings, build.door, build.session
        doubts += seeding.seed_again(*where, rows, progress)
    first = [table for table in build.settings.rows if table in rows]
    shown = first or [table for table in rows if rows[table]]
    text = " · ".join(f"{table} {rows[table]}" for table in shown)
    text = text or "every table is empty"
    text += " · the same rows a second time" if build.options.seeds_twice else ""
    details = {"rows": rows, "seeded_twice": build.options.seeds_twice}
    log = _swallowed(build, asked=False)
    doubts += verification.unsilenced(log.findings(), build.settings)
    return Done(text, {**details, "server_log": log.content()}, tuple(doubts))


def promote(build: Build, progress: Progress) -> Done:
    """Swap: next becomes the target, the target becomes previous, in one transaction."""
    names, old, old_is_empty = build.server.names, build.old, build.old_is_bare
    _ = build.ownership  # while the target can be looked at
    build.close_sessions()
    ended = build.server.endable(names.target)
    if ended:
        progress(f"ending {listed(ended)}")

    def swap_them(*, spare: int = 0, last: Callable[[Session], None] = swap.nothing) -> None:
        def at_last(session: Session) -> None:
            last(session)
            read_only.restore(session, names.target)
            if build.ownership.role:
                ownership.end(session, names.target)
            build.inheritance.close(session)

        with signals.deferred():  # so that an interruption knows whether the swap has happened
            build.promoted = None
            swap.promote(
                *(build.server, old, build.previous),
                old_is_empty=old_is_empty,
                backup=build.taken.name if build.taken else "",
                last=at_last,
                spare=spare,
            )
            build.promoted = True
            swap.discard(build.server)

    horizon = notes.horizon(build)
    notes.give_up(build)  # before: it may be killed right after
    build.handover(swap_them, progress)
    notes.note_made(build, horizon)
    kept = None if old is None else names.previous
    findings = build.inheritance.findings(build.server.session)
    text = f"{names.target} is the new database" + (f" · ended {listed(ended)}" if ended else "")
    text += f" · {late}" if (late := build.confirmed()) else ""
    if build.unkept and build.outside:  # it has been built, and the next run will build it again
        text += f" · nothing kept to clone: {build.unkept}"
    removed, words = pruned(build)
    text += words
    details = {"previous": kept, "ended": [each.content() for each in ended], "removed": removed}
    told = {"kept": build.keeps, "unkept": build.unkept or None}
    return Done(text, {**details, **told}, findings)


def pruned(build: Build) -> tuple[int, str]:
    """Remove the backups that may go; return how many, and words for people.

    At the end of a run that has replaced the target, which cannot fail any more: what one that
    fails would have removed may be all that is left of some rows.
    """
    if build.taken is None:
        return 0, ""
    settings, stay = build.settings, build.protected_backups | {build.taken.name}
    where = settings.keep, build.taken.manifest.server_id
    try:
        removed = build.vault.prune(*where, stay, keep_days=settings.keep_days)
    except (BacksetError, OSError) as error:
        return 0, f" · no older backup removed: {error}"
    return removed, f" · {count(removed, 'older backup')} removed" if removed else ""


def undo(build: Build, progress: Progress) -> Done:
    """Swap the target with the database kept before it; doing it twice is redo."""
    names, previous = build.server.names, build.kept
    progress(f"swapping {names.target} and {names.previous}")
    ended = [each for name in (names.target, previous.name) for each in build.server.endable(name)]
    with signals.deferred():
        build.promoted = None
        swap.exchange(build.server, build.old, previous)
        build.promoted = True
    other = f" · {names.previous} holds the other one" if build.old else ""
    other += f" · ended {listed(ended)}" if ended else ""
    other += f" · {late}" if (late := build.confirmed()) else ""
    text = f"{names.target} is the database from before{other}"
    return Done(text, {"ended": [each.content() for each in ended]})


def load(build: Build, progress: Progress) -> Done:
    """Load a backup into the database beside the target, and compare it with the manifest."""
    chosen, by_path = build.chosen_backup, False
    progress(f"loading {chosen.name}")
    chosen.check()
    if build.is_in_place:
        build.writers.let_in()  # all of it comes in one transaction
        if gone := refilling.load(build, chosen, own=False):
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
    text += f" · {LOADS_WITH_PATH}" if by_path else ""
    return Done(text, {"rows": counts})


def _told(recalled: Recalled, step: str) -> tuple[str, Mapping[str, Any], tuple[Finding, ...]]:
    told = recalled.told(step)
    return told.text, told.details, told.findings


def _revisions(revisions: Any) -> str:  # noqa: ANN401  (a list or a tuple, from JSON)
    return ", ".join(revisions) or "base"


def _rows(rows: Mapping[str, int]) -> str:
    return f"{count(len(rows), 'table')}, {count(sum(rows.values()), 'row')}"
