"""Steps by which another database becomes the target, or the target becomes empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.chain import Done, Step
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.connections.session import Session
    from backset.migrate.upgrading import Progress
    from backset.runs.build import Build


_SHOWN = 5  # objects that stay, in one line


def _reset(build: Build, _progress: Progress) -> Done:
    """Create the empty database beside the target, with what an administrator gave the old one."""
    from backset.inherit import inheritance

    build.make_next()
    build.inherit(inheritance.EVERYTHING)
    build.begin_seed()
    if build.recalled is not None:
        template = build.recalled.template.name
        details = {"cloned": template, "why": None}
        return Done(f"{build.subject.database} cloned from {template}", details)
    why = f" · {build.uncloned}" if build.remembers else ""
    details = {"cloned": None, "why": build.uncloned or None}
    return Done(f"{build.subject.database} created{why}", details)


def _plan_reset(build: Build) -> str:
    if build.recalled is not None:
        return f"would clone {build.recalled.template.name} as {build.subject.database}"
    why = f" · {build.uncloned}" if build.remembers else ""
    return f"would create {build.subject.database}{_as_whom(build)}{why}"


def _clear(build: Build, progress: Progress) -> Done:
    """Drop the objects of the target itself, where nothing can be built beside it."""
    from backset.catalog import past
    from backset.connections.activity import listed
    from backset.inherit import inheritance
    from backset.runs import in_place

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


def _plan_clear(build: Build) -> str:
    from backset.catalog import objects

    if build.old is None:
        return "nothing to drop"
    everything = objects.found(build.live, build.sharing.keeps)
    stay = [str(each) for each in everything if not each.ours]
    text = f"would drop {count(len(everything) - len(stay), 'object')} in {build.target.database}"
    text += f" · would go on{_as_whom(build)}" if build.ownership.role else ""
    shown = stay if len(stay) <= _SHOWN else [f"{len(stay)} objects: {build.sharing.whose}"]
    text += " · other sessions of this login could only read until it is done"
    return text + (f" · these stay: {', '.join(shown)}" if stay else "")


def _as_whom(build: Build) -> str:
    role = build.ownership.role
    return f", as {role}, whose tables these are" if role else ""


def _promote(build: Build, progress: Progress) -> Done:
    """Swap: next becomes the target, the target becomes previous, in one transaction."""
    from backset.connections.activity import listed
    from backset.process import signals
    from backset.runs import notes, ownership
    from backset.servers import read_only, swap

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
    from backset.errors import BacksetError

    if build.taken is None:
        return 0, ""
    settings, stay = build.settings, build.protected_backups | {build.taken.name}
    where = settings.keep, build.taken.manifest.server_id
    try:
        removed = build.vault.prune(*where, stay, keep_days=settings.keep_days)
    except (BacksetError, OSError) as error:
        return 0, f" · no older backup removed: {error}"
    return removed, f" · {count(removed, 'older backup')} removed" if removed else ""


def _plan_promote(build: Build) -> str:
    names = build.server.names
    text = f"would make {names.next} the new {names.target}"
    if build.old is not None:
        text += f", the old one {names.previous}"
    if build.previous is not None and not build.old_is_bare:
        text += f" · would drop the {names.previous} of before"
    return text + _surplus(build) + ended(build) + _durable(build)


def _durable(build: Build) -> str:
    """Say that a swap does not wait for standbys while it keeps everybody out."""
    from backset.servers import standbys

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


def _undo(build: Build, progress: Progress) -> Done:
    """Swap the target with the database kept before it; doing it twice is redo."""
    from backset.connections.activity import listed
    from backset.process import signals
    from backset.servers import swap

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


def _plan_undo(build: Build) -> str:
    return f"would swap {build.server.names.target} and {build.kept.name}{_durable(build)}"


def ended(build: Build) -> str:
    """Say whose sessions on the target would be ended."""
    from backset.connections.activity import listed

    ended = build.server.endable(build.target.database)
    return f" · would end {listed(ended)}" if ended else ""


reset = Step(
    "reset",
    _reset,
    _plan_reset,
    does="CREATE DATABASE NAME__next",
    gives="next",
    begin=lambda build: build.begin_next(),
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
