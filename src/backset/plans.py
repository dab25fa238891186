"""What each step would do, in a line: nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.backups import restoration
from backset.carrying import origins, pending, sessions
from backset.carrying import plan as decision
from backset.catalogs import catalog, columns, objects, sharing
from backset.connections.activity import listed
from backset.proofs import reversal, scratch
from backset.revisions import sources
from backset.servers import standbys
from backset.steps import (
    Done,
    backup,
    clear,
    load,
    promote,
    reset,
    seed,
    undo,
    upgrade,
    verify,
)
from backset.wording.quantities import amount, count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backset.configuration.rules import Rules
    from backset.errors import Finding
    from backset.runs.build import Build
    from backset.templates.memory import Recalled

_SHOWN = 5  # objects that stay, in one line


def plan(step: Callable[..., Done], build: Build) -> str:
    """Say what a step would do. Nothing is changed."""
    return _PLANS[step](build)


def _plan_backup(build: Build) -> str:
    if build.options.proves:
        restoration.refuse_proof(build.server, build.databases)
    ending = _ended(build) if build.is_in_place else ""
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


def _plan_reset(build: Build) -> str:
    if build.recalled is not None:
        return f"would clone {build.recalled.template.name} as {build.subject.database}"
    why = f" · {build.uncloned}" if build.remembers else ""
    return f"would create {build.subject.database}{_as_whom(build)}{why}"


def _as_whom(build: Build) -> str:
    role = build.ownership.role
    return f", as {role}, whose tables these are" if role else ""


def set_aside(build: Build) -> str:
    """Say which tables with rows a rebuild would not make again; empty where there is none."""
    if build.old is None or build.recalled is not None:
        return ""
    spare = {*catalog.version_tables(build.live), *build.unreadable}
    tables = [
        each
        for each in catalog.tables(build.live)
        if each not in spare and not build.sharing.has(each)
    ]
    strange = sharing.unnamed(tables, sources.texts(build.scripts.folders))
    counts = {table: rows for table, rows in catalog.counts(build.live, strange).items() if rows}
    if not counts:
        return ""
    rows = " · ".join(f"{table} {number}" for table, number in counts.items())
    where = build.server.names.previous if build.is_beside else "the backup"
    return f"no migration names {rows}: only {where} would have these rows"


def _plan_clear(build: Build) -> str:
    if build.old is None:
        return "nothing to drop"
    everything = objects.found(build.live, build.sharing.keeps)
    stay = [str(each) for each in everything if not each.ours]
    text = f"would drop {count(len(everything) - len(stay), 'object')} in {build.target.database}"
    text += f" · would go on{_as_whom(build)}" if build.ownership.role else ""
    shown = stay if len(stay) <= _SHOWN else [f"{len(stay)} objects: {build.sharing.whose}"]
    text += " · other sessions of this login could only read until it is done"
    return text + (f" · these stay: {', '.join(shown)}" if stay else "")


def _ended(build: Build) -> str:
    ended = build.server.endable(build.target.database)
    return f" · would end {listed(ended)}" if ended else ""


def _plan_upgrade(build: Build) -> str:
    if build.recalled is not None:
        return _unchanged(build.recalled)
    make = "" if build.is_beside or build.old else "make and "
    name, settings = build.subject.database, build.settings
    ends = [
        f"{each.lineage.label}{', '.join(each.scripts.heads) or 'base'}" for each in build.workers
    ]
    commands = [each for each in (settings.init, settings.upgrade) if each]
    ways = [settings.redact(build.target, " ".join(each)) for each in commands]
    by = f" by {' and '.join(ways)}" if ways else ""
    return f"would {make}migrate {name} to {' · '.join(ends)}{by}"


def _unchanged(recalled: Recalled) -> str:
    return f"nothing: unchanged since {recalled.since}, cloned"


def _plan_verify(build: Build) -> str:
    if build.recalled is not None:
        return _unchanged(build.recalled)
    text = f"would compare the models with {build.subject.database}"
    accepts = f", and accept the differences in {build.settings.shown(build.settings.baseline)}"
    text += accepts if build.options.accepts else ""
    if build.options.downgrades:
        reversal.refuse(build)
        scratch = build.server.names.scratch
        text += f" · would migrate {scratch} up, down to base and up again, and drop it"
    return text


def _plan_seed(build: Build) -> str:
    if build.recalled is not None and build.recalled.has("seed"):
        return _unchanged(build.recalled)
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
    return text + _surplus(build) + _ended(build) + _durable(build)


def _durable(build: Build) -> str:
    """Say that a swap does not wait for standbys while it keeps everybody out."""
    names = standbys.awaited(build.server.session)
    limit = f"{standbys.LIMIT_S:.0f} s"
    how = f"would commit to the server's own disk, then wait up to {limit} for a standby ({names})"
    return f" · {how}" if names else ""


def _surplus(build: Build) -> str:
    """Say how many backups would go; the one that the run takes is not there yet."""
    if build.old_is_empty:
        return ""
    surplus = build.vault.surplus(
        build.server_id,
        keep=build.settings.keep - 1,
        keep_days=build.settings.keep_days,
        protected=build.protected_backups,
    )
    return f" · would remove {count(len(surplus), 'older backup')}" if surplus else ""


def plan_carry(build: Build) -> tuple[Sequence[str], tuple[Finding, ...]]:
    """Migrate a scratch database, say what a carry into it would do, and drop it again."""
    assert build.options.carries is not None  # noqa: S101  (else the step is left out)
    if origins.is_empty(build):
        return [f"nothing to carry ({build.why_empty})"], ()
    if build.is_in_place:
        pending.refuse_in_place(build)
        return _plan_carry_in_place(build, build.options.carries), ()
    name, told = build.server.names.scratch, []

    def note(text: str, *, lasting: bool = False) -> None:
        told.extend([text] if lasting else [])

    scratch.prepare(build, [name], "plan a carry")
    with origins.opened(build, note) as old, scratch.made(build, name) as made:
        made.upgrade()
        with sessions.snapshot_of(old.session):
            found = decision.decide(old.session, made.session, build.options.carries)
    whence = f" from {build.options.origin.shown}" if build.options.origin else ""
    first, *others = found.lines()
    return [f"would carry {first}{whence}", *told, *others], found.problems


def _plan_carry_in_place(build: Build, rules: Rules) -> list[str]:
    """Say which rows would come back; there is no database in which to try the new schema."""
    tables = [each for each in columns.read(build.live).values() if rules.carries(each.shown)]
    counts = catalog.counts(build.live, [each.key for each in tables])
    rows = " · ".join(f"{table} {number}" for table, number in counts.items())
    through = pending.files(build.pending)
    return [
        f"would bring back from the backup, by name: {rows or 'no rows'}",
        *([f"the old rows would go through {through} in a copy first"] if through else []),
        "what fits is known after the migrations; what does not, restores the backup (exit code 5)",
    ]


_PLANS: Mapping[Callable[..., Done], Callable[[Build], str]] = {
    backup: _plan_backup,
    reset: _plan_reset,
    clear: _plan_clear,
    upgrade: _plan_upgrade,
    verify: _plan_verify,
    seed: _plan_seed,
    promote: _plan_promote,
    undo: lambda build: (
        f"would swap {build.server.names.target} and {build.kept.name}{_durable(build)}"
    ),
    load: lambda build: f"would load {build.chosen_backup.name} into {build.subject.database}",
}
