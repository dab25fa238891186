"""A campaign: trial after trial, each given by its number alone, and the table of what came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from statistics import median
from typing import TYPE_CHECKING

from tests.faults import checks
from tests.faults.faults import FAULTS, Fault, Scene
from tests.faults.run import Moment
from tests.faults.world import IN_PLACE, PREVIOUS, PROXY, RESET, SOCKET, TARGET, UNDO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.run import Run
    from tests.faults.world import State, World

_HANGS_S = 60.0


@dataclass(slots=True)
class Trial:
    """What came of one trial. broken: promises not kept. log: what one needs to understand it."""

    seed: int
    fault: Fault
    task: str = ""
    skipped: str = ""
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
    state = world.states[
        rng.choice(("broken", "rebuilt")) if task in {RESET, IN_PLACE} else "rebuilt"
    ]
    door, moment = rng.choice(trial.fault.doors), _moment(world, task, rng, early=trial.fault.early)
    trial.log.append(f"{task} over {door}; strike {moment}")
    world.put(state)
    log_from = world.cluster.log.stat().st_size
    with trial.fault.around(world):
        run = world.start(task, door=door, project=trial.fault.project, mark=f"{seed}")
        scene = Scene(world, run, rng, trial.log, trial.broken)
        run.wait_until(moment)
        trial.fault.strike(scene)
        run.wait(_HANGS_S)
    world.heal()
    _judge(world, trial, run, state, door)
    if trial.broken:
        with world.cluster.log.open(errors="replace") as file:
            file.seek(log_from)
            trial.log += ["the server's log:", file.read()]
    return trial


def _moment(world: World, task: str, rng: Random, *, early: bool) -> Moment:
    """Choose an instant of the whole run, or one at a step's line, or between it and the next."""
    rhythm = world.rhythm[task]
    if early:
        return Moment(None, rng.uniform(0, rhythm[1][1]))
    if rng.random() < 1 / 3:
        return Moment(None, rng.uniform(0, rhythm[-1][1]))
    at = rng.randrange(len(rhythm) - 1)
    gap_s = rhythm[at + 1][1] - rhythm[at][1]
    return Moment(rhythm[at][0], rng.choice((0.0, rng.uniform(0, gap_s))))


def _judge(world: World, trial: Trial, run: Run, state: State, door: str) -> None:
    before = state.contents[TARGET]
    after = world.new if trial.task in {RESET, IN_PLACE} else state.contents[PREVIOUS]
    stands = checks.stand(world, before, after)
    trial.stood = stands.word
    trial.broken += checks.ending(run, trial.fault, stands)
    trial.broken += checks.children(run)
    trial.broken += checks.backups(world)
    kept = {"the target": before}
    if trial.task == UNDO:
        kept["previous"] = state.contents[PREVIOUS]
    trial.broken += checks.reachable(world, kept)
    trial.log += [f"{trial.fault.name}: exit code {run.code}", *_said(run)]
    door = SOCKET if door == PROXY else door
    following = world.finish(RESET, door=door, mark=f"{trial.seed} next")
    trial.recovery_s = following.seconds
    trial.log += ["the next reset-db:", *_said(following)]
    trial.broken += checks.recovery(following, world)
    trial.broken += checks.backups(world)
    kept = {"the old target": before} if trial.task in {RESET, IN_PLACE} else {}
    if stands.content is not None and stands.word != "neither":  # what is half built is nobody's
        kept["the target"] = stands.content
    trial.broken += checks.reachable(world, kept)


def _said(run: Run) -> list[str]:
    return [f"{line.at_s:6.3f} {line.text}" for line in run.lines] + run.error.splitlines()


def table(trials: Sequence[Trial]) -> list[str]:
    """Return the summary: a line for each kind, and what was skipped with its reason."""
    kinds = {fault.name: [t for t in trials if t.fault.name == fault.name] for fault in FAULTS}
    width = max(map(len, kinds))
    lines = [f"{'fault':<{width}}  trials  before  after  half built  broken  median recovery"]
    for name, all_of_it in kinds.items():
        done = [trial for trial in all_of_it if not trial.skipped]
        if done:
            lines.append(f"{name:<{width}}  {_figures(done)}")
        elif all_of_it:
            lines.append(f"{name:<{width}}  skipped: {all_of_it[0].skipped}")
    return [*lines, f"{'all':<{width}}  {_figures([t for t in trials if not t.skipped])}"]


def _figures(done: Sequence[Trial]) -> str:
    stood = [trial.stood for trial in done]
    broken = sum(bool(trial.broken) for trial in done)
    recovery = median([trial.recovery_s for trial in done] or [0.0])
    before, after = stood.count("before"), stood.count("after")
    half = len(done) - before - after  # in place only; elsewhere it is a broken promise
    return f"{len(done):>6}  {before:>6}  {after:>5}  {half:>10}  {broken:>6}  {recovery:>13.1f} s"
