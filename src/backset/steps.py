"""The steps of the chain: each does one thing to a Build and says in a line what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backset import backup as backups
from backset import (
    catalog,
    cluster_wide,
    companions,
    in_place,
    inheritance,
    migrating,
    objects,
    proof,
    refilling,
    restoration,
    reversal,
    seeding,
    server_log,
    signals,
    swallowed,
    swap,
    verification,
)
from backset.activity import listed
from backset.errors import Finding, FindingsError, StepFailedError
from backset.quantities import amount, count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from backset.build import Build
    from backset.migrating import Progress
    from backset.server import Database


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
        proof.refuse(build.server, build.databases)
    ended = build.server.sessions(build.target.database) if build.is_in_place else []
    if build.is_in_place:
        in_place.freeze(build)
    farewell = f" · ended {listed(ended)}" if ended else ""
    gone = {"ended": [each.content() for each in ended]} if build.is_in_place else {}
    if build.old_is_empty:
        return Done(f"nothing to back up (the database is new){farewell}", gone)

    def folders() -> tuple[Path, ...]:
        return build.scripts.folders  # asked for late: the worker is still importing

    above = build.settings.parallel_above
    taken = backups.take(build.vault, build.target, folders, build.programs, parallel_above=above)
    build.taken = taken
    if build.options.proves:
        progress(f"restoring it into {build.server.names.scratch}")
        proof.prove(taken, build.server, build.old, build.programs)
    about = taken.manifest
    stay = build.protected_backups | {taken.name}
    removed = build.vault.prune(build.settings.keep, about.server_id, stay)
    text = f"{_shown(taken.dump, build)} · {amount(about.size_bytes)}, {_rows(about.rows)}"
    text += " · proved: restored and compared" if build.options.proves else ""
    text += f" · {removed} older removed" if removed else ""
    details = {"file": str(taken.dump), "rows": about.rows, "sha256": about.sha256, **gone}
    return Done(text + farewell, {**details, "proved": build.options.proves, "removed": removed})


def reset(build: Build, _progress: Progress) -> Done:
    """Create the empty database beside the target, with what an administrator gave the old one."""
    build.make_next()
    build.inherit(inheritance.EVERYTHING)
    return Done(f"{build.subject.database} created")


def clear(build: Build, progress: Progress) -> Done:
    """Drop the objects of the target itself, where nothing can be built beside it."""
    ended = build.server.sessions(build.target.database)
    if ended:
        progress(f"ending {listed(ended)}")
    build.check_protection()
    build.inherit(inheritance.EVERYTHING)
    dropped = in_place.clear(build)
    text = f"{count(dropped, 'object')} dropped in {build.target.database}"
    text += f" · ended {listed(ended)}" if ended else ""
    return Done(text, {"dropped": dropped, "ended": [each.content() for each in ended]})


def upgrade(build: Build, progress: Progress) -> Done:
    """Run the migrations up to head."""
    before_all = cluster_wide.objects(build.session)
    told, doubts = migrating.migrate(build, progress)
    moved = any(each["count"] for each in told)
    made = cluster_wide.made(before_all, build.session) if moved else []
    build.inheritance.complete(build.session)
    findings = build.inheritance.findings(build.session) if build.is_in_place else ()
    chains = [
        {
            "from": done["before"],
            "to": done["heads"],
            "revisions": done["count"],
            "schemas": done["schemas"],
        }
        for done in told
    ]
    lineages = build.settings.lineages
    named = [{"name": each.name, **done} for each, done in zip(lineages, chains, strict=True)]
    details: dict[str, Any] = {"chains": named} if len(chains) > 1 else chains[0]
    details["cluster_wide"] = [each.name for each in made]
    lines = [_migrated(each.label, done) for each, done in zip(lineages, chains, strict=True)]
    return Done(" · ".join(lines), details, (*findings, *made, *doubts))


def _migrated(label: str, done: Mapping[str, Any]) -> str:
    before, after = _revisions(done["from"]), _revisions(done["to"])
    text = f"{before} → {after}, {count(done['revisions'], 'revision')}"
    text = text if done["revisions"] else f"already at {after}"
    made = [f" · made the schema {each} of the version table" for each in done["schemas"]]
    return label + text + "".join(made)


def verify(build: Build, progress: Progress) -> Done:
    """Hold models and expectations against the database. Raises FindingsError on the live one."""
    progress("comparing models and database")
    settings, session = build.settings, build.session
    fresh = build.is_beside or build.is_in_place
    rows = {} if fresh else seeding.expected_rows(settings, session)
    unmet = [] if fresh else [*seeding.unmet(settings, session, rows)]
    back = reversal.findings(build, progress) if build.options.downgrades else []
    log = swallowed.look(build, asked=not fresh)
    found = verification.verify(
        *(settings, build.workers, session),
        also=[*unmet, *back, *log.findings()],
        fresh=fresh,
        accept=build.options.accepts,
    )
    if found.findings:
        kind = StepFailedError if build.is_beside else FindingsError
        error = kind.of((*found.findings, *found.asides))
        if log.unread and log is not server_log.NOT_ASKED:
            error.add_note(str(log))
        raise error
    details = {"accepted": found.accepted, "silenced": found.silenced, "server_log": log.content()}
    text = " · base → head → base leaves nothing behind" if build.options.downgrades else ""
    text += f" · {log}" if str(log) and not fresh else ""
    return Done(str(found) + text, {"tables": found.tables, **details}, found.asides)


def seed(build: Build, progress: Progress) -> Done:
    """Run the project's seed command."""
    if not build.settings.seed:
        return Done("no seed command ([tool.backset] seed is not set)")
    if not build.is_beside:
        build.check_protection()
    rows, doubts = seeding.seed(build.settings, build.door, build.session, progress)
    if build.options.seeds_twice:
        progress("a second time")
        doubts += _seed_again(build, rows, progress)
    first = [table for table in build.settings.rows if table in rows]
    shown = first or [table for table in rows if rows[table]]
    text = " · ".join(f"{table} {rows[table]}" for table in shown)
    text = text or "every table is empty"
    text += " · the same rows a second time" if build.options.seeds_twice else ""
    details = {"rows": rows, "seeded_twice": build.options.seeds_twice}
    log = swallowed.look(build, asked=False)
    doubts += verification.unsilenced(log.findings(), build.settings)
    return Done(text, {**details, "server_log": log.content()}, tuple(doubts))


def _seed_again(build: Build, rows: dict[str, int], progress: Progress) -> list[Finding]:
    try:
        return seeding.seed_again(build.settings, build.door, build.session, rows, progress)
    except StepFailedError as error:
        if not (build.is_beside or build.is_in_place):
            error.add_note(f"{build.target.database} keeps what both runs have written")
        raise


def promote(build: Build, progress: Progress) -> Done:
    """Swap: next becomes the target, the target becomes previous, in one transaction."""
    names, old, old_is_empty = build.server.names, build.old, build.old_is_bare
    build.close_sessions()
    ended = build.server.sessions(names.target)
    if ended:
        progress(f"ending {listed(ended)}")
    with signals.deferred():  # so that an interruption knows whether the swap has happened
        build.check_protection()
        build.promoted = None
        swap.promote(
            *(build.server, old, build.previous),
            old_is_empty=old_is_empty,
            backup=build.taken.name if build.taken else "",
            last=build.inheritance.close,
        )
        build.promoted = True
        swap.discard(build.server)
    kept = None if old is None else names.previous
    findings = build.inheritance.findings(build.server.session)
    text = f"{names.target} is the new database" + (f" · ended {listed(ended)}" if ended else "")
    details = {"previous": kept, "ended": [each.content() for each in ended]}
    return Done(text, details, findings)


def undo(build: Build, progress: Progress) -> Done:
    """Swap the target with the database kept before it; doing it twice is redo."""
    names, previous = build.server.names, _previous(build)
    progress(f"swapping {names.target} and {names.previous}")
    ended = [each for name in (names.target, previous.name) for each in build.server.sessions(name)]
    with signals.deferred():
        build.check_protection()
        build.promoted = None
        swap.exchange(build.server, build.old, previous)
        build.promoted = True
    other = f" · {names.previous} holds the other one" if build.old else ""
    other += f" · ended {listed(ended)}" if ended else ""
    text = f"{names.target} is the database from before{other}"
    return Done(text, {"ended": [each.content() for each in ended]})


def _previous(build: Build) -> Database:
    if build.previous is None:
        what = f"there is no {build.server.names.previous} to go back to"
        if build.vault.list():
            raise StepFailedError(what, "choose a dump from `invoke backups` for `invoke restore`")
        raise StepFailedError(what, "a rebuild, such as `invoke reset-db`, keeps one")
    return build.previous


def load(build: Build, progress: Progress) -> Done:
    """Load a backup into the database beside the target, and compare it with the manifest."""
    chosen = build.chosen_backup
    progress(f"loading {chosen.name}")
    chosen.check()
    if build.is_in_place:
        refilling.load(build, chosen, own=False)
    else:
        build.programs.find("pg_restore", build.server.major)  # or a refusal, before making it
        build.make_next()
        build.inherit(inheritance.OF_DATABASE)
        restoration.load(chosen, build.subject, build.server.major, build.programs)
    counts = chosen.manifest.rows
    return Done(f"{chosen.name} · {_rows(counts)}, as its manifest says", {"rows": counts})


def plan(step: Callable[..., Done], build: Build) -> str:
    """Say what a step would do. Nothing is changed."""
    return _PLANS[step](build)


def _plan_backup(build: Build) -> str:
    if build.options.proves:
        proof.refuse(build.server, build.databases)
    ending = _ended(build) if build.is_in_place else ""
    if build.old_is_empty:
        return f"nothing to back up (the database is new){ending}"
    size = amount(build.old.size_bytes or 0) if build.old else ""
    text = f"would dump {build.target.database} ({size}) into {_shown(build.vault.folder, build)}"
    if build.options.proves:
        text += f" · would restore that into {build.server.names.scratch}, compare, and drop it"
    server_id = catalog.server_id(build.server.session)
    surplus = build.vault.surplus(build.settings.keep - 1, server_id, build.protected_backups)
    return text + (f" · would remove {len(surplus)} older" if surplus else "") + ending


def _plan_clear(build: Build) -> str:
    if build.old is None:
        return "nothing to drop"
    everything = objects.found(build.live)
    stay = [str(each) for each in everything if not each.ours]
    text = f"would drop {count(len(everything) - len(stay), 'object')} in {build.target.database}"
    return text + (f" · these stay: {', '.join(stay)}" if stay else "")


def _ended(build: Build) -> str:
    ended = build.server.sessions(build.target.database)
    return f" · would end {listed(ended)}" if ended else ""


def _plan_upgrade(build: Build) -> str:
    make = "" if build.is_beside or build.old else "make and "
    name, settings = build.subject.database, build.settings
    ends = [f"{each.lineage.label}{_revisions(each.scripts.heads)}" for each in build.workers]
    commands = [each for each in (settings.init, settings.upgrade) if each]
    ways = [settings.redact(build.target, " ".join(each)) for each in commands]
    by = f" by {' and '.join(ways)}" if ways else ""
    return f"would {make}migrate {name} to {' · '.join(ends)}{by}"


def _plan_verify(build: Build) -> str:
    text = f"would compare the models with {build.subject.database}"
    accepts = f", and accept the differences in {_shown(build.settings.baseline, build)}"
    text += accepts if build.options.accepts else ""
    if build.options.downgrades:
        reversal.refuse(build)
        scratch = build.server.names.scratch
        text += f" · would migrate {scratch} up, down to base and up again, and drop it"
    return text


def _plan_seed(build: Build) -> str:
    command = " ".join(build.settings.seed)
    twice = " twice" if command and build.options.seeds_twice else ""
    return build.settings.redact(build.target, f"would run {command or 'nothing'}{twice}")


def _plan_promote(build: Build) -> str:
    names = build.server.names
    text = f"would make {names.next} the new {names.target}"
    if build.old is not None:
        text += f", the old one {names.previous}"
    if build.previous is not None and not build.old_is_bare:
        text += f" · would drop the {names.previous} of before"
    return text + _ended(build)


_PLANS: Mapping[Callable[..., Done], Callable[[Build], str]] = {
    backup: _plan_backup,
    reset: lambda build: f"would create {build.subject.database}",
    clear: _plan_clear,
    upgrade: _plan_upgrade,
    verify: _plan_verify,
    seed: _plan_seed,
    promote: _plan_promote,
    undo: lambda build: f"would swap {build.server.names.target} and {_previous(build).name}",
    load: lambda build: f"would load {build.chosen_backup.name} into {build.subject.database}",
}


def _shown(path: Path, build: Build) -> str:
    root = build.settings.root
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _revisions(revisions: Any) -> str:  # noqa: ANN401  (a list or a tuple, from JSON)
    return ", ".join(revisions) or "base"


def _rows(rows: Mapping[str, int]) -> str:
    return f"{count(len(rows), 'table')}, {count(sum(rows.values()), 'row')}"
