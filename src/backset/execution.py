"""Runs a chain, or says what it would do: who may, what is begun ahead, then step after step."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import psycopg

from backset.chain import Done, Planned, flat
from backset.checks import baseline, heads
from backset.clones.memory import StepRecord
from backset.connections.session import explained
from backset.errors import BacksetError, Overdue, StepFailedError
from backset.process import signals
from backset.runs import clones, guard, in_place
from backset.runs.clones import Keeping
from backset.servers import derived
from backset.steps.content import set_aside
from backset.steps.databases import pruned

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backset.chain import Chain, Group, Step
    from backset.connections.activity import Backend
    from backset.errors import Finding
    from backset.runs.build import Build
    from backset.runs.guard import Consent
    from backset.settings.rules import Rules


class Watcher(Protocol):
    """What a run tells while it happens."""

    def begin(self, step: str) -> None:
        """Note that a step begins; others may go on."""

    def progress(self, text: str, *, lasting: bool = False) -> None:
        """Note what the step is doing; lasting: people want to see it afterwards, too."""

    def notice(self, text: str, clients: Sequence[Backend] = ()) -> None:
        """Say what must not go unsaid, such as whom the run waits for; from any thread."""

    def end(self, step: str, done: Done) -> None:
        """Note what the step did."""


def unwanted(carries: Rules | None) -> frozenset[str]:
    """Return the steps that are left out: mock data and rows of one's own exclude each other."""
    if carries is None:
        return frozenset({"carry"})
    return frozenset() if carries.seeds else frozenset({"seed"})


def run(
    build: Build, chain: Chain, watcher: Watcher, *, skip: frozenset[str], answer: Consent
) -> None:
    """Run the steps in their order. Raises BacksetError; the target is then as it was."""
    with build.waits(watcher.notice):
        _run(build, chain, watcher, skip=skip, answer=answer)
        if build.is_rebuilt and (late := build.confirmed()):
            watcher.notice(late)


def _run(
    build: Build, chain: Chain, watcher: Watcher, *, skip: frozenset[str], answer: Consent
) -> None:
    with in_place.safety(build), explained(build.target):
        if chain.locks:
            build.lock(watcher.notice if answer.wait else None)
            build.server.end_dead_runs()
            if chain.has("verify"):
                _ = baseline.read(build.settings.baseline)  # or an error, before anything is done
            if chain.has("load"):
                build.choose_backup()  # before this run takes a newer one
            in_place.finish(build, watcher.notice, replaces=chain.replaces)
        chosen = _enter(build, chain, watcher, answer) if chain.replaces else chain.groups
        groups = _wanted(chosen, skip | unwanted(build.options.carries))
        if not chain.replaces:
            guard.refuse_writing(build, flat(groups))
        _begin(build, groups, answer)
        keeps = frozenset(each for each in ("verify", "seed") if _is_kept(groups, each))
        with Keeping(build, keeps) as keeping:
            performer = _Performer(build, watcher, keeping, answer.timeout_s)
            for group in groups:
                performer.do(group)
    if build.is_rebuilt:
        _, words = pruned(build)
        if words:
            watcher.notice(words.removeprefix(" · "))


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


def _begin(build: Build, groups: Sequence[Group], answer: Consent) -> None:
    """Begin what takes its time, before the first step; refuse what the last ones would."""
    names = {each.name for each in flat(groups)}
    if "backup" in names:
        build.mark_server()
    if {"reset", "upgrade"} <= names:
        if _is_kept(groups, "verify"):
            clones.recall(build, seeds=_is_kept(groups, "seed"))
        else:
            build.uncloned = _NOT_KEPT
    _look_ahead(build, names)
    if build.recalled is None:
        build.begin_worker()
    else:
        build.begin_seed()
    if build.is_beside:
        derived.clear(build.server, build.databases)
    if build.is_in_place and "carry" in names and build.options.carries and not build.old_is_empty:
        from backset.carry import sources

        sources.refuse_in_place(build)
    if build.is_in_place or "backup" not in names:  # else while the dump is written
        with signals.limited(answer.timeout_s):
            build.demand_destination()
    if "upgrade" in names and not build.is_beside:
        build.make_target()


def _look_ahead(build: Build, names: set[str]) -> None:
    """Note what the run comes to; raise StepFailedError where a program for that is not there."""
    build.seeds = "seed" in names and not (build.recalled and build.recalled.has("seed"))
    build.migrates = "upgrade" in names and build.recalled is None
    build.demand_commands()


class _Performer:
    """Does the steps of a group, which go on at the same time, and tells of them as they end."""

    def __init__(self, build: Build, watcher: Watcher, keeping: Keeping, timeout_s: float) -> None:
        self._build = build
        self._watcher = watcher
        self._keeping = keeping
        self._timeout_s = timeout_s

    def do(self, group: Group) -> None:
        """Do the first step, and the others while it waits.

        What goes wrong with one of the others is said when the first one is done: a backup that
        was begun is worth having.
        """
        first, *others = group
        for step in group:
            if step.begin is not None:
                step.begin(self._build)
        left, failed = [*others], list[Exception]()

        def meanwhile() -> None:
            while left and not failed:
                try:
                    self._tell(left[0])
                    left.pop(0)
                except (StepFailedError, psycopg.Error) as error:
                    failed.append(error)

        with signals.limited(0 if first.is_short else self._timeout_s):
            self._tell(first, *([meanwhile] if first.waits else []))
        if failed:
            self._watcher.begin(left[0].name)
            raise failed[0]
        for step in left:
            self.do((step,))

    def _tell(self, step: Step, *meanwhile: object) -> None:
        self._keeping.before(step.name)
        self._watcher.begin(step.name)
        done = self._done(step, *meanwhile)
        self._watcher.end(step.name, done)
        self._keeping.after(step.name, StepRecord(done.text, done.details, done.findings))

    def _done(self, step: Step, *meanwhile: object) -> Done:
        doing = ""

        def progress(text: str, *, lasting: bool = False) -> None:
            nonlocal doing
            doing = text
            self._watcher.progress(text, lasting=lasting)

        if step.is_own and step.writes and not self._build.is_beside:
            self._build.check_protection()
        try:
            done = step.run(self._build, progress, *meanwhile)
        except Overdue as error:
            error.doing = error.doing or doing
            raise
        except (BacksetError, psycopg.Error):
            raise
        except Exception as error:
            if not step.is_own:
                raise
            raise self._explained(error) from error
        return done if isinstance(done, Done) else Done(done if isinstance(done, str) else "done")

    def _explained(self, error: Exception) -> StepFailedError:
        """Return what a function of the project has raised, with the line that raised it."""
        *_, (frame, line) = traceback.walk_tb(error.__traceback__)
        build = self._build
        where = build.settings.shown(Path(frame.f_code.co_filename))
        what = build.settings.redact(build.target, f"{type(error).__name__}: {error}")
        return StepFailedError(what, f"mend {where}:{line}, or what it needs")


def _enter(build: Build, chain: Chain, watcher: Watcher, answer: Consent) -> tuple[Group, ...]:
    """Pass the gate; return the steps of the rung that was chosen there."""
    admission = guard.admit(build, chain, answer)
    _check_origin(build)
    guard.settle(build, admission, answer)
    build.choose(admission.rung)
    if build.is_beside:
        for client, remedy in build.server.immovable():
            watcher.notice(_stands_in_the_way(client, remedy), [client])
        return chain.groups
    watcher.notice(str(admission.rung))
    return chain.in_place


def _check_origin(build: Build) -> None:
    """Raise an error where rows cannot come from the origin that was asked for."""
    if build.options.origin is not None:
        from backset.carry import sources

        sources.check(build)


class Plan(NamedTuple):
    """What a run would do, (step, what) each; what consent to it is about, and its digest.

    problems: what would stop it.
    """

    lines: list[tuple[str, str]]
    facts: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    problems: tuple[Finding, ...] = ()


def plan(build: Build, chain: Chain, *, skip: frozenset[str], answer: Consent) -> Plan:
    """Return what would be done. Nothing is changed. Raises RefusedError as run() would."""
    chosen, lines = chain.groups, []
    consent: tuple[tuple[tuple[str, str], ...], str] = (), ""
    with explained(build.target):
        if chain.replaces:
            admission = guard.admit(build, chain, answer)
            build.choose(admission.rung)
            _check_origin(build)
            chosen = chain.groups if build.is_beside else chain.in_place
            lines, consent = guard.shown(admission), (admission.facts, admission.digest)
            if build.is_beside:  # in place waits for locks alone
                lines += [("!", _stands_in_the_way(*each)) for each in build.server.immovable()]
        groups = _wanted(chosen, skip | unwanted(build.options.carries))
        names = {each.name for each in flat(groups)}
        if {"reset", "upgrade"} <= names:
            is_kept = _is_kept(groups, "verify")
            seeds = _is_kept(groups, "seed")
            build.uncloned = clones.look(build, seeds=seeds) if is_kept else _NOT_KEPT
        _look_ahead(build, names)
        if "upgrade" in {each.name for each in flat(chosen)} and build.recalled is None:
            heads.demand_destination(build.workers)
        problems: tuple[Finding, ...] = ()
        for step in flat(groups):
            planned = _planned(step, build)
            problems += planned.problems
            lines += [(step.name, text) for text in planned.lines]
        if "upgrade" in names and chain.replaces and (aside := set_aside(build)):
            lines.append(("aside", aside))
        return Plan(lines, *consent, problems)


def _planned(step: Step, build: Build) -> Planned:
    says = step.plan if isinstance(step.plan, str) else step.plan(build)
    return says if isinstance(says, Planned) else Planned([says])


def _stands_in_the_way(client: Backend, remedy: str) -> str:
    return f"{client} on {client.database} would stop this, and may not be ended → {remedy}"
