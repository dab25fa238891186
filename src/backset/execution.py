"""Runs a chain, or says what it would do: who may, what is begun ahead, then step after step."""

from __future__ import annotations

import traceback
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from backset.backups.backup import Wish
from backset.chain import Done, Planned, flat
from backset.checks import differences
from backset.connections import primary
from backset.connections.activity import Waits
from backset.connections.session import explained, process_of
from backset.errors import BacksetError, FindingsError, Overdue, StepFailedError
from backset.inherit.extensions import Announced, lacking
from backset.memory import journal
from backset.migrate import current
from backset.process import signals
from backset.report import asking
from backset.report.report import WOULD_START
from backset.runs import clones, in_place, login
from backset.runs.clones import Keeping
from backset.runs.consent import Consent, admit, refuse_writing, settle, shown
from backset.runs.run import Options, Run
from backset.servers import derived, folders, location, readers, standbys, swap
from backset.servers.server import untried
from backset.servers.standbys import Expected
from backset.settings import rules
from backset.steps.content import carry_sides, set_aside
from backset.steps.databases import mark, pruned
from backset.text import explanations

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from backset.chain import Chain, Group, Step, Watcher
    from backset.connections.activity import Backend
    from backset.errors import Finding
    from backset.memory.builds import Memory
    from backset.migrate.worker import Worker
    from backset.report.report import Report
    from backset.servers.server import Database
    from backset.settings.rules import Origin, Rules
    from backset.settings.settings import Settings


class Opened(NamedTuple):
    """What is open before a chain runs: memory and worker where it may migrate."""

    settings: Settings
    told: Report
    memory: Memory | None
    worker: Worker | None


def run_chain(
    opened: Opened,
    chain: Chain,
    words: Sequence[str] = (),
    *,
    plan: bool,
    said: Mapping[str, Any] = MappingProxyType({}),
    skip: frozenset[str] = frozenset(),
    asked: Mapping[str, Any] = MappingProxyType({}),
    named: Mapping[str, Any] = MappingProxyType({}),
    backup: str = "",
    into: str = "",
    whence: str = "",
) -> None:
    """Run or plan a chain on the target. Raises BacksetError.

    words: more words for the seed command.
    said, asked: the fields of Consent and Options that the flags say. named: what is
    asked of a backup that is taken. backup, into, whence: which one is restored, see asking.
    """
    told, settings = opened.told, opened.settings.seeded_with(words)
    origin = _origin(settings, asked["origin"]) if "origin" in asked else None
    carries = rules.wanted(settings, **asked["carries"]) if "carries" in asked else None
    wish = Wish.of(**named)
    consent = Consent(**said, ask=asking.typed_name(told) if told.can_ask else None)
    target = location.peek(settings) if plan else location.locate(settings)
    if target is None:
        skip |= unwanted(carries)
        order = " → ".join(each.name for each in chain.steps if each.name not in skip)
        told.plan([("start", WOULD_START), ("then", order)])
        return
    options = Options(**{**asked, "carries": carries, "origin": origin, "wish": wish})
    if options.ends_readers:
        readers.demand(target.others, target.mended_in)
    choice = None
    if chain.has("load"):
        choice = asking.choose_backup(
            *(settings, told, target),
            name=backup,
            into=into,
            newest=consent.yes,
            whence=whence,
        )
        target = target.named(into) if into else target
    with Run(
        *(settings, target, "plan" if plan else chain.name),
        beside=chain.replaces,
        worker=opened.worker,
        choice=choice,
        options=options,
        memory=opened.memory,
    ) as run:
        told.note(database=target.database, url=target.shown)
        if origin and origin.is_exposed:
            told.notice(rules.EXPOSED)
        if plan:
            _tell_plan(run, chain, told, skip=skip, consent=consent)
            return
        perform(run, chain, told, skip=skip, consent=consent)
        lacking, words = _await_standbys(run, told)
        told.done(words + _farewell(chain, run))
        if lacking:
            raise FindingsError.of(lacking)


def _await_standbys(run: Run, told: Report) -> tuple[list[Finding], str]:
    """Wait for the standbys, where somebody asked for that; return what they lack, and have."""
    wait_s = run.options.standby_s
    if wait_s is None:
        return [], ""
    server, others = run.server, run.target.others
    with explained(run.target):
        expected = Expected.by(server)
        found = standbys.await_replay(server.session, expected, others, wait_s, told.notice)
        lacking = found.lacking
        if run.options.ends_readers and (old := _left(run)):
            lacking += _end_readers(run, told, old, {each.name for each in lacking})
    return lacking, f" · {found.words}" if found.words else ""


def _end_readers(run: Run, told: Report, old: Database, late: Collection[str]) -> list[Finding]:
    """End who is in the old database on the standbys that have the new one; return who stays."""
    others = [each for each in run.target.others if each.address not in late]
    ended, left = readers.end(others, old.oid, run.server.identifier())
    for each in ended:
        if each.clients:
            told.notice(f"ended on {each.address}: {each}", each.clients)
    return left


def _left(run: Run) -> Database | None:
    """Return the database that a swap has replaced, which is the previous one now."""
    old = run.current.database
    if not run.outcome.promoted or old is None:
        return None
    now = run.server.databases().get(run.server.names.previous)
    return now if now is not None and now.oid == old.oid else None


def _tell_readers(run: Run, watcher: Watcher) -> None:
    """Say who reads in the old database by now, since standbys end no session for a rename."""
    if not run.options.ends_readers and (old := _left(run)) is not None:
        for words, clients in readers.left(run.server, run.target.others, old):
            watcher.notice(words, clients)


def _origin(settings: Settings, text: str) -> Origin:
    """Return where rows come from: of several hosts one, for as long as the run lasts."""
    found = rules.read_origin(settings, text)
    if found.database is None:
        return found
    return replace(found, database=primary.pinned(found.database, is_read=True))


def _tell_plan(
    run: Run, chain: Chain, told: Report, *, skip: frozenset[str], consent: Consent
) -> None:
    run.open()
    with explained(run.target):
        told.note(sessions=run.server.sessions(run.target.database))
    planned = plan(run, chain, skip=skip, consent=consent)
    told.plan(planned.lines, planned.facts, planned.digest)
    if planned.problems:
        raise StepFailedError.of(planned.problems)


def _farewell(chain: Chain, run: Run) -> str:
    if chain.has("undo"):
        return " · `invoke undo` again is redo"
    if run.in_place.is_rebuilt:
        way = " --in-place" if run.in_place.is_asked else ""  # else a swap could be tried
        taken = f"`invoke restore {run.backups.taken.name}{way}`" if run.backups.taken else ""
        return f" · {taken} goes back" if taken else ""
    back = " · `invoke undo` swaps the old one back" if run.current.database is not None else ""
    return f"{back} · `invoke psql` opens it" if run.outcome.promoted else ""


def unwanted(carries: Rules | None) -> frozenset[str]:
    """Return the steps that are left out: mock data and rows of one's own exclude each other."""
    if carries is None:
        return frozenset({"carry"})
    return frozenset() if carries.seeds else frozenset({"seed"})


def perform(
    run: Run, chain: Chain, watcher: Watcher, *, skip: frozenset[str], consent: Consent
) -> None:
    """Run the steps in their order. Raises BacksetError; the target is then as it was."""
    with _noted(run, chain):
        _performed(run, chain, watcher, skip=skip, consent=consent)


def _noted(run: Run, chain: Chain) -> AbstractContextManager[None]:
    """Note a run that changes something, for `invoke runs`."""
    if not chain.locks or run.settings.is_throw_away:
        return nullcontext()

    def came_to() -> dict[str, str]:
        taken = run.backups.taken
        return {"backup": taken.name if taken else "", "digest": run.outcome.digest}

    about = {"database": run.target.database, "url": run.target.shown}
    return journal.noted(run.settings.backups, chain.name, about, came_to)


def _performed(
    run: Run, chain: Chain, watcher: Watcher, *, skip: frozenset[str], consent: Consent
) -> None:
    run.open()
    if words := untried(run.server.major):
        watcher.notice(words)
    names = [run.server.names.target, run.server.names.next]
    with explained(run.target):
        pid = process_of(run.server.session)
    with Waits(run.server.maintenance, names, pid, watcher.notice):
        with in_place.safety(run), explained(run.target):
            if chain.locks:
                _lock(run, chain, watcher, consent)
            chosen = _enter(run, chain, watcher, consent) if chain.replaces else chain.groups
            for words in folders.orphaned(run.server.session) if chain.replaces else ():
                watcher.notice(words)
            groups = _wanted(chosen, skip | unwanted(run.options.carries))
            if not chain.replaces:
                refuse_writing(run, flat(groups))
            for words in _beyond(run, groups):
                watcher.notice(words)
            _begin(run, groups, consent)
            keeps = frozenset(each for each in ("verify", "seed") if _is_kept(groups, each))
            with Keeping(run, keeps) as keeping:
                performer = _Performer(run, watcher, keeping, consent.timeout_s)
                for number, group in enumerate(groups):
                    performer.do(group, {each.name for each in flat(groups[number + 1 :])})
        if run.in_place.is_rebuilt:
            _, words = pruned(run)
            if words:
                watcher.notice(words.removeprefix(" · "))
            with explained(run.target):
                late = swap.lacking(run.server)
            if late:
                watcher.notice(late)
        with suppress(psycopg.Error):  # all is done
            _tell_readers(run, watcher)


def _lock(run: Run, chain: Chain, watcher: Watcher, consent: Consent) -> None:
    """Keep other runs out, and be done with what killed ones have left half built."""
    run.lock(watcher.notice if consent.wait else None)
    run.server.end_dead_runs()
    derived.clear_scratch(run.server, run.current.databases)
    if chain.has("verify"):
        differences.read(run.settings.baseline)  # or an error, before anything is done
    if chain.has("load"):
        run.backups.choose(run.server)  # before this run takes a newer one
    in_place.finish(run, watcher.notice, replaces=chain.replaces)


def _wanted(groups: Iterable[Group], skip: frozenset[str]) -> tuple[Group, ...]:
    left = (tuple(step for step in group if step.name not in skip) for group in groups)
    return tuple(filter(None, left))


_NOT_KEPT = "a step of the project's own comes before it is verified"


def _is_kept(groups: Iterable[Group], name: str) -> bool:
    """Tell whether a step is among these, and a kept build has all that is done until then."""
    for each in flat(groups):
        if not each.is_kept:
            return False
        if each.name == name:
            return True
    return False


def _begin(run: Run, groups: Sequence[Group], consent: Consent) -> None:
    """Begin what takes its time, before the first step; refuse what the last ones would."""
    names = {each.name for each in flat(groups)}
    if "backup" in names:
        mark(run.server)
    if {"reset", "upgrade"} <= names:
        if _is_kept(groups, "verify"):
            clones.recall(run, seeds=_is_kept(groups, "seed"))
        else:
            run.clone.uncloned = _NOT_KEPT
    _look_ahead(run, names)
    if run.clone.recalled is None:
        run.work.begin_worker()
        _import_ahead(names)
    else:
        run.begin_seed()
    if run.work.is_beside:
        derived.clear(run.server, run.current.databases)
    if (
        run.in_place.is_chosen
        and "carry" in names
        and run.options.carries
        and not run.current.is_empty()
    ):
        from backset.carry import sources

        sources.refuse_in_place(carry_sides(run))
    if run.in_place.is_chosen or "backup" not in names:  # else while the dump is written
        with signals.limited(consent.timeout_s):
            run.work.demand_scripts()
    if "upgrade" in names and not run.work.is_beside:
        _make_target(run)


def _import_ahead(names: set[str]) -> None:
    """Import what the first steps need, while Alembic's process reads the scripts."""
    if "upgrade" in names:
        from backset.migrate import upgrading  # noqa: F401
        from backset.steps import details  # noqa: F401
    if "follow" in names:
        from backset.squash import following  # noqa: F401


def _look_ahead(run: Run, names: set[str]) -> None:
    """Note what the run comes to; raise StepFailedError where a program for that is not there."""
    run.work.seeds = "seed" in names and not (run.clone.recalled and run.clone.recalled.has("seed"))
    run.work.migrates = "upgrade" in names and run.clone.recalled is None
    settings, wanted = run.settings, [run.settings.seed] if run.work.seeds else []
    if run.work.migrates:
        wanted += [settings.upgrade, *(each.upgrade for each in settings.lineages)]
    if run.work.migrates and (run.work.is_beside or run.in_place.is_chosen):
        wanted += [settings.init, *(each.init for each in settings.lineages)]
    for command in filter(None, wanted):
        run.project_command().demand(command)


def _beyond(run: Run, groups: Iterable[Group]) -> list[str]:
    """Return what the migrations name that the role may not make, each with what to do.

    As far as their usual folders tell it: it is said before anything is done, and stops nothing,
    since a migration may ask first, or be done without it.
    """
    role, name = run.server.role, run.target.database
    if role.is_superuser or "upgrade" not in {each.name for each in flat(groups)}:
        return []
    there = run.current.database is not None
    session = run.current.session() if there else run.server.session
    announced = Announced.by(login.usual_texts(run.settings.root))
    owns = run.work.is_beside or not there
    return [
        f"the migrations name the extension {each}, which the role {role.name} may not create in "
        f"{name} → {explanations.extension(each, has_files=has_files)}"
        for each, has_files in lacking(session, announced.names, owns=owns)
    ]


def _make_target(run: Run) -> None:
    """Create the target itself, if it does not exist."""
    if run.current.database is None:
        swap.create(run.server, run.target.database, None)
        run.current.refresh(run.server)


class _Performer:
    """Does the steps of a group, which go on at the same time, and tells of them as they end."""

    def __init__(self, run: Run, watcher: Watcher, keeping: Keeping, timeout_s: float) -> None:
        self._run = run
        self._watcher = watcher
        self._keeping = keeping
        self._timeout_s = timeout_s
        self._values: dict[str, object] = {}

    def do(self, group: Group, later: Collection[str] = ()) -> None:
        """Do the first step, and the others while it waits.

        later: the names of the steps that follow, one of which needs many modules.
        What goes wrong with one of the others is said when the first one is done: a backup that
        was begun is worth having.
        """
        first, *others = group
        for step in group:
            if step.begin is not None:
                step.begin(self._run)
        left, failed = [*others], list[Exception]()

        def meanwhile() -> None:
            while left and not failed:
                try:
                    self._perform(left[0])
                    left.pop(0)
                except (StepFailedError, psycopg.Error) as error:
                    failed.append(error)
            if "carry" in later:
                from backset.carry import carry  # noqa: F401  (pg_dump is at work)

        with signals.limited(0 if first.is_short else self._timeout_s):
            self._perform(first, *([meanwhile] if first.waits else []))
        if failed:
            self._watcher.begin(left[0].name)
            raise failed[0]
        for step in left:
            self.do((step,))

    def _perform(self, step: Step, *meanwhile: object) -> None:
        run, doing = self._run, ""

        def progress(text: str, *, lasting: bool = False) -> None:
            nonlocal doing
            doing = text
            self._watcher.progress(text, lasting=lasting)

        self._watcher.begin(step.name)
        self._keeping.before(step)
        if step.is_own and step.writes and not run.work.is_beside:
            run.current.demand_unprotected(run.server)
        try:
            used = (self._values.get(each) for each in step.uses)
            done = step.run(run, progress, *meanwhile, *used)
        except Overdue as error:
            error.doing = error.doing or doing
            raise
        except (BacksetError, psycopg.Error):
            raise
        except Exception as error:
            if not step.is_own:
                raise
            raise self._explained(error) from error
        if not isinstance(done, Done):
            done = Done(done if isinstance(done, str) else "done")
        self._values[step.gives] = done.value
        self._watcher.end(step.name, done)
        self._keeping.after(step.name, done)

    def _explained(self, error: Exception) -> StepFailedError:
        """Return what a function of the project has raised, with the line that raised it."""
        *_, (frame, line) = traceback.walk_tb(error.__traceback__)
        run = self._run
        where = run.settings.shown(Path(frame.f_code.co_filename))
        what = run.settings.redact(run.target, f"{type(error).__name__}: {error}")
        return StepFailedError(what, f"mend {where}:{line}, or what it needs")


def _enter(run: Run, chain: Chain, watcher: Watcher, consent: Consent) -> tuple[Group, ...]:
    """Settle strategy and consent, and choose; return the steps of that strategy."""
    admitted = admit(run, chain, consent)
    _check_origin(run)
    settle(run, admitted, consent)
    run.outcome.digest = admitted.digest
    run.choose(admitted.strategy)
    if run.work.is_beside:
        for client, remedy in run.server.immovable():
            watcher.notice(_stands_in_the_way(client, remedy), [client])
        return chain.groups
    watcher.notice(str(admitted.strategy))
    return chain.in_place


def _check_origin(run: Run) -> None:
    """Raise an error where rows cannot come from the origin that was asked for."""
    if run.options.origin is not None:
        from backset.carry import sources

        sources.check(carry_sides(run))


class Plan(NamedTuple):
    """What a run would do, (step, what) each; what consent to it is about, and its digest.

    problems: what would stop it.
    """

    lines: list[tuple[str, str]]
    facts: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    problems: tuple[Finding, ...] = ()


def plan(run: Run, chain: Chain, *, skip: frozenset[str], consent: Consent) -> Plan:
    """Return what would be done. Nothing is changed. Raises RefusedError as perform() would."""
    run.open()
    chosen, lines = chain.groups, []
    about: tuple[tuple[tuple[str, str], ...], str] = (), ""
    with explained(run.target):
        if chain.replaces:
            admitted = admit(run, chain, consent)
            run.choose(admitted.strategy)
            _check_origin(run)
            chosen = chain.groups if run.work.is_beside else chain.in_place
            lines, about = shown(admitted), (admitted.facts, admitted.digest)
            following = [str(each) for each in standbys.connected(run.server.session)]
            following += standbys.idle_slots(run.server.session)
            if run.work.is_beside and (old := run.current.database) is not None:
                where = (run.server, run.target.others, old)
                following += readers.planned(*where, are_ended=run.options.ends_readers)
            lines += [("standby", each) for each in following]
            lines += [("folder", each) for each in folders.orphaned(run.server.session)]
            if run.work.is_beside:  # in place waits for locks alone
                lines += [("!", _stands_in_the_way(*each)) for each in run.server.immovable()]
        groups = _wanted(chosen, skip | unwanted(run.options.carries))
        lines += [("!", words) for words in _beyond(run, groups)]
        names = {each.name for each in flat(groups)}
        if {"reset", "upgrade"} <= names:
            is_kept = _is_kept(groups, "verify")
            seeds = _is_kept(groups, "seed")
            run.clone.uncloned = clones.look(run, seeds=seeds) if is_kept else _NOT_KEPT
        _look_ahead(run, names)
        if "upgrade" in {each.name for each in flat(chosen)} and run.clone.recalled is None:
            current.demand_destination(run.work.workers())
        problems: tuple[Finding, ...] = ()
        for step in flat(groups):
            planned = _planned(step, run)
            problems += planned.problems
            lines += [(step.name, text) for text in planned.lines]
        if "upgrade" in names and chain.replaces and (aside := set_aside(run)):
            lines.append(("aside", aside))
        return Plan(lines, *about, problems)


def _planned(step: Step, run: Run) -> Planned:
    says = step.plan if isinstance(step.plan, str) else step.plan(run)
    return says if isinstance(says, Planned) else Planned([says])


def _stands_in_the_way(client: Backend, remedy: str) -> str:
    return f"{client} on {client.database} would stop this, and may not be ended → {remedy}"
