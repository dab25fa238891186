"""A trial, given by its number alone: a state, a run, a fault, and a look at everything after."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from tests.faults import checks
from tests.faults.faults import FAULTS, Fault
from tests.faults.making import learned
from tests.faults.run import Moment
from tests.faults.strikes import Scene
from tests.faults.world import (
    HOSTS,
    LINE,
    POOLER,
    PREVIOUS,
    PROXY,
    REBUILDS,
    RESET,
    SOCKET,
    TARGET,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.run import Run
    from tests.faults.world import State, World

_UNDISTURBED = {PROXY: SOCKET, POOLER: SOCKET, LINE: HOSTS}  # the way of the next run


@dataclass(slots=True)
class Trial:
    """What came of one trial.

    is_hit: whether the fault came in time. stood: which database the target was after it.
    broken: promises not kept. log: what one needs to understand it.
    """

    seed: int
    fault: Fault
    task: str = ""
    skipped: str = ""
    is_hit: bool = False
    stood: str = ""
    recovery_s: float = 0.0
    broken: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return one line."""
        outcome = self.skipped and f"skipped: {self.skipped}"
        outcome = outcome or ("BROKEN: " + "; ".join(self.broken) if self.broken else self.stood)
        return f"seed {self.seed} · {self.fault.name} · {outcome}"


def fault_of(seed: int) -> Fault:
    """Return the kind of a trial; as many seeds in a row as there are kinds have them all."""
    return FAULTS[seed % len(FAULTS)]


def perform(world: World, seed: int, fault: Fault | None = None) -> Trial:
    """Run one trial. The same seed means the same trial, as far as time can be repeated."""
    trial, rng = Trial(seed, fault or fault_of(seed)), Random(seed)
    if reason := trial.fault.why_not:
        trial.skipped = reason
        return trial
    trial.task = task = rng.choice(trial.fault.tasks)
    name = rng.choice(("broken", "rebuilt")) if task in REBUILDS else "rebuilt"
    state = learned(world, name, task)
    rhythm = world.rhythm[name, task]
    door, moment = rng.choice(trial.fault.doors), _moment(rhythm, rng, early=trial.fault.early)
    if trial.fault.steps:
        number = len(trial.fault.steps)
        moment = _inside(rhythm, rng, trial.fault.steps[seed // number % number])
    trial.log.append(f"{task} over {door}; strike {moment}")
    world.put(state)
    log_from = world.cluster.log.stat().st_size
    with trial.fault.around(world):
        run = world.start(task, door=door, project=trial.fault.project, mark=f"{seed}")
        scene = Scene(world, run, rng, trial.log, trial.broken)
        run.wait_until(moment)
        trial.is_hit = trial.fault.strike(scene)
        run.wait(trial.fault.hangs_s)
    world.heal()
    _judge(world, trial, run, state, door)
    if trial.broken:
        with world.cluster.log.open(errors="replace") as file:
            file.seek(log_from)
            trial.log += ["the server's log:", file.read()]
    return trial


def _moment(rhythm: Sequence[tuple[str | None, float]], rng: Random, *, early: bool) -> Moment:
    """Choose an instant of the whole run, or one at a step's line, or between it and the next."""
    if early:
        return Moment(None, rng.choice((0.0, rng.uniform(0, rhythm[1][1]))))
    if rng.random() < 1 / 3:
        return Moment(None, rng.uniform(0, rhythm[-1][1]))
    at = rng.randrange(len(rhythm) - 1)
    gap_s = rhythm[at + 1][1] - rhythm[at][1]
    return Moment(rhythm[at][0], rng.choice((0.0, rng.uniform(0, gap_s))))


def _inside(rhythm: Sequence[tuple[str | None, float]], rng: Random, step: str) -> Moment:
    """Choose an instant of a step; of another one, where the task does not have it."""
    names = [name for name, _ in rhythm]
    at = names.index(step) if step in names else rng.randrange(1, len(rhythm))
    return Moment(rhythm[at - 1][0], rng.uniform(0, rhythm[at][1] - rhythm[at - 1][1]))


def _judge(world: World, trial: Trial, run: Run, state: State, door: str) -> None:
    before = state.contents[TARGET]
    after = state.built.get(trial.task, state.contents.get(PREVIOUS, {}))
    stands = checks.stand(world, before, after)
    trial.stood = stands.word
    trial.broken += checks.ending(run, trial.fault, stands)
    trial.broken += checks.children(run)
    trial.broken += checks.backups(world)
    kept = {"the target": before}
    earlier = {"previous": state.contents[PREVIOUS]} if PREVIOUS in state.contents else {}
    trial.broken += checks.reachable(world, {**kept, **earlier})
    trial.log += [f"{trial.fault.name}: exit code {run.code}", *_said(run)]
    door = _UNDISTURBED.get(door, door)
    following = world.finish(RESET, door=door, mark=f"{trial.seed} next")
    trial.recovery_s = following.seconds
    trial.log += ["the next reset-db:", *_said(following)]
    trial.broken += checks.recovery(following, world)
    trial.broken += checks.folders(following, world)
    trial.broken += checks.backups(world)
    kept = {**earlier, "the old target": before} if trial.task in REBUILDS else {**earlier}
    if stands.content is not None and stands.word != "neither":  # what is half built is nobody's
        kept["the target"] = stands.content
    trial.broken += checks.reachable(world, kept)


def _said(run: Run) -> list[str]:
    return [f"{line.at_s:6.3f} {line.text}" for line in run.lines] + run.error.splitlines()
