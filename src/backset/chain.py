"""The only place that knows the order: which steps make up a task, run or planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from backset import steps
from backset.session import explained
from backset.steps import Done, backup, load, promote, reset, seed, undo, upgrade, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backset.activity import Client
    from backset.build import Build


class Watcher(Protocol):
    """What a run tells while it happens."""

    def begin(self, step: str) -> None:
        """Note that a step begins."""

    def progress(self, text: str) -> None:
        """Note what the step is doing."""

    def notice(self, text: str, clients: Sequence[Client] = ()) -> None:
        """Say what must not go unsaid, such as whom the run waits for; from any thread."""

    def end(self, step: str, done: Done) -> None:
        """Note what the step did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """An order of steps.

    beside: the steps work on `__next`, and the target may be replaced, if policy allows it.
    locks: no other run may touch the target meanwhile.
    """

    steps: tuple[Callable[..., Done], ...]
    beside: bool = False
    locks: bool = True


CHAINS = {
    "reset-db": Chain(steps=(backup, reset, upgrade, verify, seed, promote), beside=True),
    "reset": Chain(steps=(backup, reset, promote), beside=True),
    "restore": Chain(steps=(load, promote), beside=True),
    "undo": Chain(steps=(undo,), beside=True),
    "backup": Chain(steps=(backup,)),
    "upgrade": Chain(steps=(upgrade,)),
    "verify": Chain(steps=(verify,), locks=False),
    "seed": Chain(steps=(seed,)),
}


def run(
    build: Build,
    chain: Chain,
    watcher: Watcher,
    *,
    skip: frozenset[str],
    consent: bool,
    wait: bool = False,
) -> None:
    """Run the steps in their order. Raises BacksetError; a target beside is then as it was."""
    build.begin_worker()
    with build.waits(watcher.notice), explained(build.target):
        if chain.locks:
            build.server.lock(watcher.notice if wait else None)
            build.server.end_dead_runs()
        if chain.beside:
            for client, remedy in build.server.immovable():
                watcher.notice(_stands_in_the_way(client, remedy), [client])
            build.check_policy(consent=consent)
            build.clear_leftovers()
            if reset in chain.steps:
                build.begin_next()
        elif upgrade in chain.steps:
            build.make_target()
        for step in chain.steps:
            if step.__name__ not in skip:
                watcher.begin(step.__name__)
                watcher.end(step.__name__, step(build, watcher.progress))


def _stands_in_the_way(client: Client, remedy: str) -> str:
    return f"{client} on {client.database} would stop the swap, and may not be ended → {remedy}"


def plan(
    build: Build, chain: Chain, *, skip: frozenset[str], consent: bool
) -> list[tuple[str, str]]:
    """Return (step, what it would do). Nothing is changed. Raises RefusedError as run() would."""
    with explained(build.target):
        if chain.beside:
            build.check_policy(consent=consent)
        chosen = [step for step in chain.steps if step.__name__ not in skip]
        lines = [(step.__name__, steps.plan(step, build)) for step in chosen]
        if chain.beside:
            lines += [("!", _stands_in_the_way(*each)) for each in build.server.immovable()]
        return lines
