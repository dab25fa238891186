"""Steps and chains: what a task is made of, and in which order. Nothing heavy is imported here.

A chain is checked when it is made: each of its steps finds what it needs. `CHAINS` is the only
registry; `backset.tasks.collection` fills it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain as flattened
from typing import TYPE_CHECKING, Any, Literal, Protocol

from invoke.exceptions import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from backset.errors import Finding

_WRONG = 2  # the exit code of settings that are wrong


@dataclass(frozen=True, slots=True)
class Details:
    """What programs get of a step beside its line: a class for each step, with its keys."""


@dataclass(frozen=True, slots=True)
class FoundDetails(Details):
    """Those that an error has, too: of a step that looks, and fails by what it finds."""


NO_DETAILS = FoundDetails()


@dataclass(frozen=True, slots=True)
class Done:
    """What a step did: one line for people, `details` for programs, and what it could not do.

    text: empty where there was nothing to do, and nothing is told of it. details: Details, or
    JSON. value: what it gives to the steps that use it.
    """

    text: str
    details: Details | Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    value: object = None


@dataclass(frozen=True, slots=True)
class Planned:
    """What a step would do, a line each, and what would stop it."""

    lines: Sequence[str]
    problems: tuple[Finding, ...] = ()


class Watcher(Protocol):
    """What a run tells while it happens."""

    def begin(self, step: str) -> None:
        """Note that a step begins; others may go on."""

    def progress(self, text: str, *, lasting: bool = False) -> None:
        """Note what the step is doing; lasting: people want to see it afterwards, too."""

    def notice(self, text: str, clients: Sequence[Any] = ()) -> None:
        """Say what must not go unsaid, such as whom the run waits for; from any thread.

        clients: the sessions that it is about, as connections.activity has them.
        """

    def end(self, step: str, done: Done) -> None:
        """Note what the step did."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step of a chain; the run that it works in is a runs.run.Run.

    name: as it is printed. does: the same in a few words.
    run: does it, given the run and a function that takes the words of its progress; returns Done,
    its text, or nothing. One that waits takes a third, which is called while it does, for what goes
    on beside it.
    plan: what it would do, as a line or as Planned, or a function of the run that says it and
    changes nothing.
    gives: what later steps may need. needs: what earlier steps have given. uses: what of that it
    is called with, behind the others: the value, or None where no step has given it.
    begin: a function of the run, for what takes its time; called when the steps that go on beside
    this one begin, too.
    where: `rebuilt`, only in a chain that replaces the target; of these `beside` it, or `in place`.
    changes: whether it changes a database, so that no other run may. writes: whether it does so to
    a target that stays. migrates: whether Alembic's process is started ahead for it. is_last:
    whether nothing is left to work on after it.
    is_short: whether it gives up by itself after seconds, and is never stopped half way.
    is_kept: whether a build that is cloned has what it does, so that the next run need not do it.
    """

    name: str
    run: Callable[..., Done | str | None]
    plan: str | Callable[[Any], str | Planned]
    does: str = ""
    gives: str = ""
    needs: str = ""
    uses: tuple[str, ...] = ()
    begin: Callable[[Any], None] | None = None
    where: Literal["", "rebuilt", "beside", "in place"] = ""
    changes: bool = True
    writes: bool = True
    migrates: bool = False
    waits: bool = False
    is_last: bool = False
    is_short: bool = False
    is_kept: bool = False

    @property
    def is_own(self) -> bool:
        """Whether a project has made it."""
        return self.run.__module__.partition(".")[0] != __name__.partition(".")[0]


Group = tuple[Step, ...]


def parallel(*steps: Step) -> Group:
    """Return steps that go on at the same time: the first one waits for a program meanwhile."""
    return steps


class Chain:
    """An order of steps, checked when it is made.

    groups: what goes on at the same time, each group after the one before.
    in_place: the same task on the target itself, for roles that cannot build beside it.
    """

    def __init__(
        self, name: str, *steps: Step | Group, in_place: Sequence[Step | Group] = ()
    ) -> None:
        """Raise invoke's Exit where a step lacks what it needs, or cannot stand where it does."""
        self.name = name
        self.groups = _grouped(steps)
        self.in_place = _grouped(in_place)
        problems = (
            _disorder(self.groups),
            _disorder(self.in_place),
            _astray_beside(self.steps, replaces=self.replaces),
            _astray_in_place(flat(self.in_place), replaces=self.replaces),
        )
        for each in filter(None, problems):
            raise _wrong(name, each)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps, one after the other."""
        return flat(self.groups)

    @property
    def replaces(self) -> bool:
        """Whether another database becomes the target, if policy allows it."""
        return any(each.is_last for each in self.steps)

    @property
    def locks(self) -> bool:
        """Whether no other run may touch the target meanwhile."""
        return any(each.changes for each in self.steps)

    @property
    def migrates(self) -> bool:
        """Whether Alembic's process is started ahead."""
        return any(each.migrates for each in self.steps)

    def has(self, *names: str) -> bool:
        """Tell whether all steps of these names are among its own."""
        return {*names} <= {each.name for each in self.steps}

    def named(self, name: str, *, after: str, step: Step) -> Chain:
        """Return a chain of another name that has one step more, in place as well."""
        groups, in_place = (_with(name, each, after, step) for each in (self.groups, self.in_place))
        return Chain(name, *groups, in_place=in_place)


CHAINS: dict[str, Chain] = {}


def flat(groups: Iterable[Group]) -> tuple[Step, ...]:
    """Return the steps of groups, one after the other."""
    return tuple(flattened.from_iterable(groups))


def _grouped(steps: Iterable[Step | Group]) -> tuple[Group, ...]:
    return tuple(each if isinstance(each, tuple) else (each,) for each in steps)


def _with(name: str, groups: Sequence[Group], after: str, step: Step) -> list[Group]:
    at = [number for number, each in enumerate(groups, 1) if after in {one.name for one in each}]
    if groups and not at:
        raise _wrong(name, f"there is no step {after} that {step.name} could come after")
    return [*groups[: at[0]], (step,), *groups[at[0] :]] if groups else []


def _disorder(groups: Sequence[Group]) -> str:
    """Return what is wrong with the order of steps; empty where nothing is."""
    given: set[str] = set()
    names: set[str] = set()
    ended = ""
    for group in groups:
        first, *others = group
        if others and not first.waits:
            return f"nothing can go on beside {first.name}, which waits for no program"
        for each in group:
            if ended:
                return f"{each.name} comes after {ended}, which is the last"
            if each.name in names:
                return f"there are two steps of the name {each.name}"
            if each.needs and each.needs not in given:
                return f"{each.name} needs {each.needs}, and no step before gives that"
            names.add(each.name)
        ended = next((each.name for each in group if each.is_last), "")
        given |= {each.gives for each in group}
    return ""


def _astray_beside(steps: Group, *, replaces: bool) -> str:
    """Return which step would do harm beside a target; empty where none would.

    What empties a target, or fills another one, wants a consent: only a chain that replaces asks.
    """
    for each in steps:
        if each.where and not replaces:
            return f"{each.name} is for a target that is replaced, and no promote does that here"
        if each.where == "in place":
            return f"{each.name} can only be in place"
    made, used = ({getattr(each, name) for each in steps} for name in ("gives", "needs"))
    if "next" in made - used:
        return "a database is made beside the target, and no promote swaps it in"
    return ""


def _astray_in_place(steps: Group, *, replaces: bool) -> str:
    """Return which step would do harm to a target itself; empty where none would.

    All that a failure restores is what the backup before `clear` has.
    """
    for each in steps:
        if each.where == "beside":
            return f"{each.name} cannot be in place"
    if steps and not replaces:
        return "it has an order in place, and does not replace its target"
    if steps and [each.name for each in steps[:2]] != ["backup", "clear"]:
        return "in place the first steps are backup and clear"
    return ""


def _wrong(name: str, what: str) -> Exit:
    return Exit(f" ✘ the chain {name}: {what} → see its order in tasks.py", code=_WRONG)
