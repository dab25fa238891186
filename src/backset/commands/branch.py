"""The task `branch`: databases that follow git's branches."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.branches import databases
from backset.branches.databases import Family
from backset.branches.entries import Entries
from backset.branches.hook import Hook
from backset.branches.place import BranchChain
from backset.cli import opened, pinned
from backset.connections.session import explained
from backset.errors import RefusedError, SettingsError, StepFailedError
from backset.memory import journal, whereabouts
from backset.migrate.discovery import Discovery
from backset.process import streams
from backset.report.report import WOULD_START
from backset.servers import location
from backset.servers.server import Server
from backset.text.quantities import amount, count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from backset.branches.databases import BranchDatabase
    from backset.report.report import Report
    from backset.settings.settings import Settings

ACTIONS = ("list", "create", "switch", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchFlags:
    """What the command line says. source: the branch of `--from`; hook: `install`, `remove`."""

    name: str = ""
    source: str = ""
    empty: bool = False
    hook: str = ""
    plan: bool = False
    as_json: bool = False
    wait: bool = False
    yes: bool = False


def branch(action: str, flags: BranchFlags) -> None:
    """Do one of the actions."""
    with opened("branch", as_json=flags.as_json) as (read, told):
        _demand_sense(action, flags)
        found = _found(read, asks=action != "switch")
        settings = _aimed(found.settings)
        entries = Entries(settings)
        if (other := entries.bases.get(entries.base, entries.base)) != entries.base:
            what = f"{entries.base} is itself the database of a branch, beside {other}"
            raise SettingsError([(what, f"let DATABASE_URL name {other}")])
        if flags.hook:
            _hook(entries, told, flags)
            whereabouts.remember(found)
            return
        with _opened(settings, entries, told, plan=flags.plan) as family:
            if family is None:
                return
            _DO[action](family, told, flags)
        whereabouts.remember(found)  # for `switch`, once there is a folder for that


def _found(settings: Settings, *, asks: bool) -> Discovery:
    """Return which database is the base. asks: whether env.py is run, if nothing else says it.

    After a checkout nobody has looked yet at what that would run.
    """
    if settings.target or settings.is_embedded:
        return Discovery(settings, is_remembered=True)
    found = whereabouts.find(settings) if asks else whereabouts.recalled(settings)
    if found is None:
        what = "which database is meant, only env.py says, which `branch switch` does not run"
        raise SettingsError([(what, "set DATABASE_URL in .env, or run `invoke branch create`")])
    return found


def _aimed(settings: Settings) -> Settings:
    """Return the settings with the base, whose passwords are in no output from now on."""
    streams.conceal(settings.secrets(settings.target))
    return pinned(settings)


def _demand_sense(action: str, flags: BranchFlags) -> None:
    problems = []
    if action not in ACTIONS:
        problems.append((f"there is no action {action!r}", f"one of {', '.join(ACTIONS)}"))
    if action not in {"create", "switch"} and (flags.source or flags.empty):
        problems.append((f"{action} takes neither --from nor --empty", "leave them out"))
    if flags.source and flags.empty:
        problems.append(("--from and --empty say the opposite", "leave one of them out"))
    if action == "delete" and not flags.name:
        problems.append(("delete was not told which", "`invoke branch list` shows them"))
    if problems:
        raise SettingsError(problems)


@contextmanager
def _opened(
    settings: Settings, entries: Entries, told: Report, *, plan: bool
) -> Iterator[Family | None]:
    """Give the databases of the branches; None where a plan would have to start the server."""
    target = location.peek(settings) if plan else location.locate(settings)
    if target is None:
        told.plan([("start", WOULD_START)])
        yield None
        return
    told.note(database=target.database, url=target.shown)
    with explained(target), Server(target, "plan" if plan else "branch") as server:
        yield Family(settings, target, server, entries)


def _hook(entries: Entries, told: Report, flags: BranchFlags) -> None:
    hook, installs = Hook(entries.git), flags.hook == "install"
    told.note(hook=str(hook.path))
    if flags.plan:
        done = "would be put into" if installs else "would be taken out of"
        told.plan([("hook", f"our lines {done} {hook.path}")])
        return
    if not installs:
        told.say(f"{hook.path} {'has' if hook.is_there else 'had'} no lines of backset")
        hook.remove()
        return
    hook.install([sys.executable, "-m", "backset"])
    told.say(f"{hook.path} runs `backset branch switch` after each checkout of a branch")
    here = entries.git.branch()
    if here and not entries.databases:
        entries.write(here, entries.base)
        told.say(f"{here} has {entries.base}")


def _list(family: Family, told: Report, _flags: BranchFlags) -> None:
    """Tell every database."""
    found = family.look(BranchChain.of_checkout(family.settings))
    told.note(branches=found)
    for each in found:
        sign = "*" if each.is_here else " "
        gone = f" · its branch is gone → `{each.command}`" if each.is_gone else ""
        told.say(f"{sign} {each.branch or 'any other branch'}  {_shown(each)}{gone}")


def _shown(each: BranchDatabase) -> str:
    """Return a database, its size and where it stands, in words."""
    if each.place == "missing":
        what = "upgrade` makes it" if each.is_base else "branch switch` makes it again"
        return f"{each.database}, which is not there → `invoke {what}"
    at = ", ".join(each.revisions) or "no revision"
    where = {
        "behind": f"{count(each.left, 'revision')} behind → `invoke upgrade`",
        "aside": "aside: the scripts here lack it",
        "unknown": "no script was found here",
    }
    return (
        f"{each.database}  {amount(each.size_bytes)}  at {at}: {where.get(each.place, each.place)}"
    )


def _create(family: Family, told: Report, flags: BranchFlags, *, again: bool = False) -> None:
    """Make the database of a branch."""
    entries, git = family.entries, family.entries.git
    here, name = git.branch(), flags.name or git.branch()
    there = [*git.branches(), *([here] if here else [])]
    _demand_branch(name, flags, there)
    origin = git.origin(name)
    chain = BranchChain.of_checkout(family.settings)
    if name != here:
        chain = BranchChain.of_branch(family.settings, git, name)
    for is_held in (False, True):
        _begin(entries, (origin, "main", "master", here), there, writes=is_held)
        found = family.look(chain)
        own = next((each for each in found if each.branch == name and not each.is_gone), None)
        if own is not None and (own.is_base or not again or own.place != "missing"):
            _demand_none(own, again=again)
            _tell(told, name, own)
            return
        if not is_held and not flags.plan:
            family.hold(told.notice if flags.wait else None)  # and another run may have made it
    source = _source(found, flags, name, origin, chain)
    if reasons := family.refusals(source, yes=flags.yes):
        raise RefusedError(reasons)
    what = "an empty database" if flags.empty else f"a copy of {source.database}"
    if flags.plan:
        ends = family.server.sessions(source.database)
        lines = [("create", f"{family.free_name(name)}: {what}, for {name}")]
        lines += [("sessions", f"would end {each} on {source.database}") for each in ends]
        told.plan(lines)
        return
    made, waiting = family.free_name(name), told.notice if flags.wait else None
    with _noted(family, "branch create", made):
        unsaid = family.make(name, made, source, is_empty=flags.empty, waiting=waiting)
    for each in unsaid:
        told.notice(each)
    (new,) = family.look(chain, only=name)  # read back, as all that counts
    _tell(told, name, new, f" · {what}")


def _begin(entries: Entries, holders: Sequence[str], there: Sequence[str], *, writes: bool) -> None:
    """Let the database that there is stay with the branch whose it was, the first time."""
    if not entries.databases and (found := next((each for each in holders if each in there), "")):
        entries.databases[found] = entries.base
        if writes:
            entries.write(found, entries.base)


def _demand_none(own: BranchDatabase, *, again: bool) -> None:
    if not again:
        remedy = f"`invoke branch delete {own.branch}` drops it, if nobody needs it"
        what = f"{own.branch} has {own.database} already"
        raise StepFailedError(what, "that is the base, which stays" if own.is_base else remedy)


def _demand_branch(name: str, flags: BranchFlags, there: Sequence[str]) -> None:
    if not name:
        raise StepFailedError("HEAD is detached, so that no branch is meant", "name one")
    wanted = {"": name, "--from": flags.source}
    for word, each in wanted.items():
        if each and each not in there:
            what = f"{word} {each!r} is no branch of this repository".strip()
            raise SettingsError([(what, "`git branch` shows them")])


def _source(
    found: Sequence[BranchDatabase],
    flags: BranchFlags,
    name: str,
    origin: str,
    chain: BranchChain,
) -> BranchDatabase:
    """Return which database is copied. Raises StepFailedError where none is the nearest."""
    there = [each for each in found if each.found is not None and not each.is_gone]
    base = next((each for each in there if each.is_base), None)
    if flags.empty and (like := base or next(iter(there), None)):
        return like
    if flags.source:
        own = [each for each in found if each.branch == flags.source and not each.is_gone]
        named = own[0] if own else base
        if named is not None and named.found is not None:
            return named
        what = f"the database of {flags.source} is not there"
        raise StepFailedError(what, "`invoke branch list` shows those that are")
    if not chain.known and base is not None:
        return base
    if nearest := databases.nearest(there, origin):
        return nearest
    at = "; ".join(f"{each.database} is {each.place}" for each in there) or "there is none yet"
    what = f"no database is in the chain of {name}: {at}"
    remedy = f"`invoke branch create {name} --from BRANCH` copies that one as it is, --empty makes "
    raise StepFailedError(what, f"{remedy}an empty one for `invoke reset-db`")


def _noted(family: Family, task: str, database: str) -> AbstractContextManager[None]:
    """Note for `invoke runs` that the database of a branch is made, or dropped."""
    about = {"database": database, "url": family.target.named(database).shown}
    return journal.noted(family.settings.backups, task, about, dict)


def _tell(told: Report, name: str, own: BranchDatabase, how: str = "") -> None:
    told.note(branches=[own])
    told.say(f"{name} has {_shown(own)}{how}")


def _switch(family: Family, told: Report, flags: BranchFlags) -> None:
    """Make the database of a branch that has none; else say how it stands."""
    if not (flags.name or family.entries.git.branch()):
        told.say(f"HEAD is detached: the database is {family.entries.base}")
        return
    _create(family, told, flags, again=True)


def _delete(family: Family, told: Report, flags: BranchFlags) -> None:
    """Drop the database of a branch, with what backset has made beside it."""
    from backset.report import asking  # it knows of backups, too, which takes a while

    if not flags.plan:
        family.hold(told.notice if flags.wait else None)
    found = family.look(BranchChain.of_checkout(family.settings))
    meant = [each for each in found if each.branch == flags.name and not each.is_gone]
    meant = meant or [each for each in found if flags.name in {each.database, each.branch}]
    if len(meant) != 1:
        what = f"{flags.name} has no database" if not meant else f"{flags.name} had several"
        raise StepFailedError(what, "`invoke branch list` shows them, each with its name")
    (own,) = meant
    name = own.database
    if own.is_base:
        what = f"{name} is the base, which the settings name"
        raise RefusedError([(what, "drop it by hand, if nobody needs it")])
    if own.found is not None:
        family.demand_droppable(name, own.found)
    facts = [("database", _shown(own))]
    facts += [("with it", each) for each in family.beside(name)]
    facts += [("connected", str(each)) for each in family.server.sessions(name)]
    if flags.plan:
        told.plan(facts)
        return
    if own.found is not None and not flags.yes:
        typed = asking.typed_name(told)(facts) if told.can_ask else ""
        if typed != name:
            remedy = "type its name, where you are asked; or add --yes"
            raise RefusedError([(f"{name} would be dropped, with its rows", remedy)])
    waiting = told.notice if flags.wait else None
    with _noted(family, "branch delete", name):
        family.drop("" if own.is_gone else own.branch, name, waiting)
    told.note(branches=[own])
    told.say(f"dropped {name}")


_DO: dict[str, Callable[[Family, Report, BranchFlags], None]] = {
    "list": _list,
    "create": _create,
    "switch": _switch,
    "delete": _delete,
}
