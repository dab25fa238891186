"""The only place that knows the order: which steps make up a task, run or planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from backset import mending
from backset.checks import baseline, heads
from backset.connections.session import explained
from backset.errors import Overdue
from backset.mending import bring_back, drop_indexes, merge, stamp
from backset.processes import signals
from backset.runs import clones, guard, in_place
from backset.runs.clones import Keeping
from backset.servers import companions
from backset.steps import (
    Done,
    backup,
    carry,
    clear,
    load,
    promote,
    pruned,
    reset,
    seed,
    undo,
    upgrade,
    verify,
)
from backset.templates.memory import Told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backset.configuration.rules import Rules
    from backset.connections.activity import Client
    from backset.errors import Finding
    from backset.runs.build import Build
    from backset.runs.guard import Answer

    Step = Callable[..., Done]


class Watcher(Protocol):
    """What a run tells while it happens."""

    def begin(self, step: str) -> None:
        """Note that a step begins."""

    def progress(self, text: str, *, lasting: bool = False) -> None:
        """Note what the step is doing; lasting: people want to see it afterwards, too."""

    def notice(self, text: str, clients: Sequence[Client] = ()) -> None:
        """Say what must not go unsaid, such as whom the run waits for; from any thread."""

    def end(self, step: str, done: Done) -> None:
        """Note what the step did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """An order of steps.

    beside: the steps work on `__next`, and the target may be replaced, if policy allows it.
    in_place: the same task on the target itself, for roles that cannot build beside it.
    locks: no other run may touch the target meanwhile.
    """

    steps: tuple[Step, ...]
    beside: bool = False
    in_place: tuple[Step, ...] = ()
    locks: bool = True


CHAINS = {
    "reset-db": Chain(
        steps=(backup, reset, upgrade, verify, carry, seed, promote),
        in_place=(backup, clear, upgrade, verify, carry, seed),
        beside=True,
    ),
    "carry": Chain(steps=(backup, reset, upgrade, verify, carry, seed, promote), beside=True),
    "reset": Chain(steps=(backup, reset, promote), in_place=(backup, clear), beside=True),
    "restore": Chain(steps=(load, promote), in_place=(backup, clear, load), beside=True),
    "undo": Chain(steps=(undo,), beside=True),
    "backup": Chain(steps=(backup,)),
    "upgrade": Chain(steps=(upgrade,)),
    "verify": Chain(steps=(verify,), locks=False),
    "check": Chain(steps=(upgrade, verify)),
    "seed": Chain(steps=(seed,)),
    "stamp": Chain(steps=(backup, stamp)),
    "drop-indexes": Chain(steps=(backup, drop_indexes)),
    "merge": Chain(steps=(merge,)),
    "bring-back": Chain(steps=(bring_back,), locks=False),
}


def unwanted(carries: Rules | None) -> frozenset[str]:
    """Return the steps that are left out: mock data and rows of one's own exclude each other."""
    if carries is None:
        return frozenset({"carry"})
    return frozenset() if carries.seeds else frozenset({"seed"})


_SHORT = frozenset({promote, undo})  # these give up by themselves after seconds


def run(build: Build, task: str, watcher: Watcher, *, skip: frozenset[str], answer: Answer) -> None:
    """Run the steps in their order. Raises BacksetError; the target is then as it was."""
    with build.waits(watcher.notice):
        _run(build, task, watcher, skip=skip, answer=answer)
        if build.is_rebuilt and (late := build.confirmed()):
            watcher.notice(late)


def _run(
    build: Build, task: str, watcher: Watcher, *, skip: frozenset[str], answer: Answer
) -> None:
    chain = CHAINS[task]
    with in_place.safety(build), explained(build.target):
        if chain.locks:
            build.lock(watcher.notice if answer.wait else None)
            build.server.end_dead_runs()
            if verify in chain.steps:
                _ = baseline.read(build.settings.baseline)  # or an error, before anything is done
            if load in chain.steps:
                build.choose_backup()  # before this run takes a newer one
            in_place.finish(build, watcher.notice, replaces=chain.beside)
        chosen = _enter(build, task, watcher, answer) if chain.beside else chain.steps
        skip |= unwanted(build.options.carries)
        wanted = [step for step in chosen if step.__name__ not in skip]
        if not chain.beside:
            guard.refuse_writing(build, [step.__name__ for step in wanted])
        _begin(build, wanted, answer)
        with Keeping(build) as keeping:
            for step in wanted:
                if step is upgrade:
                    build.begin_seed()  # Alembic's process is busy from here on, and we are not
                keeping.before(step.__name__)
                watcher.begin(step.__name__)
                done = _done(step, build, watcher, answer.timeout_s)
                watcher.end(step.__name__, done)
                keeping.after(step.__name__, Told(done.text, done.details, done.findings))
    if build.is_rebuilt:
        _, words = pruned(build)
        if words:
            watcher.notice(words.removeprefix(" · "))


def _begin(build: Build, wanted: Sequence[Step], answer: Answer) -> None:
    """Begin what takes its time, before the first step; refuse what the last ones would."""
    if backup in wanted:
        build.mark_server()
    if reset in wanted and upgrade in wanted:
        clones.recall(build, seeds=seed in wanted)
    _look_ahead(build, wanted)
    if build.recalled is None:
        build.begin_worker()
    else:
        build.begin_seed()
    if build.is_beside:
        companions.clear(build.server, build.databases)
        if reset in wanted:
            build.begin_next()
    if build.is_in_place and carry in wanted and build.options.carries and not build.old_is_empty:
        from backset.carrying import pending

        pending.refuse_in_place(build)
    if build.is_in_place or backup not in wanted:  # else while the dump is written
        with signals.limited(answer.timeout_s):
            build.demand_destination()
    if upgrade in wanted and not build.is_beside:
        build.make_target()


def _look_ahead(build: Build, wanted: Sequence[Step]) -> None:
    """Note what the run comes to; raise StepFailedError where a program for that is not there."""
    build.seeds = seed in wanted and not (build.recalled and build.recalled.has("seed"))
    build.migrates = upgrade in wanted and build.recalled is None
    build.demand_commands()


def _done(step: Step, build: Build, watcher: Watcher, timeout_s: float) -> Done:
    """Let a step do its work, for so many seconds; a swap is never stopped half way."""
    doing = ""

    def progress(text: str, *, lasting: bool = False) -> None:
        nonlocal doing
        doing = text
        watcher.progress(text, lasting=lasting)

    try:
        with signals.limited(0 if step in _SHORT else timeout_s):
            return step(build, progress)
    except Overdue as error:
        error.doing = doing
        raise


def _enter(build: Build, task: str, watcher: Watcher, answer: Answer) -> tuple[Step, ...]:
    """Pass the gate; return the steps of the rung that was chosen there."""
    chain = CHAINS[task]
    admission = guard.admit(build, task, answer, in_place=bool(chain.in_place))
    _check_origin(build)
    guard.settle(build, admission, answer)
    build.choose(admission.rung)
    if build.is_beside:
        for client, remedy in build.server.immovable():
            watcher.notice(_stands_in_the_way(client, remedy), [client])
        return chain.steps
    watcher.notice(str(admission.rung))
    return chain.in_place


def _check_origin(build: Build) -> None:
    """Raise an error where rows cannot come from the origin that was asked for."""
    if build.options.origin is not None:
        from backset.carrying import origins

        origins.check(build)


class Plan(NamedTuple):
    """What a run would do, (step, what) each; what consent to it is about, and its digest.

    problems: what would stop it.
    """

    lines: list[tuple[str, str]]
    facts: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    problems: tuple[Finding, ...] = ()


def plan(build: Build, task: str, *, skip: frozenset[str], answer: Answer) -> Plan:
    """Return what would be done. Nothing is changed. Raises RefusedError as run() would."""
    from backset import plans

    chain, chosen, lines = CHAINS[task], CHAINS[task].steps, []
    consent: tuple[tuple[tuple[str, str], ...], str] = (), ""
    with explained(build.target):
        if chain.beside:
            admission = guard.admit(build, task, answer, in_place=bool(chain.in_place))
            build.choose(admission.rung)
            _check_origin(build)
            chosen = chain.steps if build.is_beside else chain.in_place
            lines, consent = guard.shown(admission), (admission.facts, admission.digest)
            if build.is_beside:  # in place waits for locks alone
                lines += [("!", _stands_in_the_way(*each)) for each in build.server.immovable()]
        skip |= unwanted(build.options.carries)
        wanted = [step for step in chosen if step.__name__ not in skip]
        problems: tuple[Finding, ...] = ()
        if reset in wanted and upgrade in wanted:
            build.uncloned = clones.look(build, seeds=seed in wanted)
        _look_ahead(build, wanted)
        if upgrade in chosen and build.recalled is None:
            heads.demand_destination(build.workers)
        for step in wanted:
            if step is carry:
                told, problems = plans.plan_carry(build)
                lines += [(step.__name__, text) for text in told]
            else:
                smaller = mending.PLANS.get(step)
                text = smaller(build) if smaller else plans.plan(step, build)
                lines.append((step.__name__, text))
        if upgrade in wanted and chain.beside and (aside := plans.set_aside(build)):
            lines.append(("aside", aside))
        return Plan(lines, *consent, problems)


def _stands_in_the_way(client: Client, remedy: str) -> str:
    return f"{client} on {client.database} would stop this, and may not be ended → {remedy}"
