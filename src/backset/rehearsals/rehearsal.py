"""The order in which everything is tried: broken, repaired, undone, restored, down and up again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from backset.rehearsals.checks import Check, criteria, error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ORPHANED = "orphaned revision"
AT_HEAD = "at head"
RESTORED = ("restore", "the dump is restored and compared", ORPHANED)
SWAPPED = (
    ("undo", "undo goes back", ORPHANED),
    ("undo", "a second undo comes forth again", AT_HEAD),
    RESTORED,
    ("undo", "undo of that", AT_HEAD),
)
IN_PLACE = (RESTORED, ("reset-db", "a rebuild of that", AT_HEAD))
COLD = ("reset-db", "--cold")  # every migration is to run
UP_AND_DOWN = ("downgrade base", "upgrade head")


class Stage(Protocol):
    """The server on which it happens."""

    def task(self, words: Sequence[str]) -> Mapping[str, Any]:
        """Run a task of backset, and return what it says in JSON."""

    def break_database(self) -> Mapping[str, Any]:
        """Leave a database whose version no file has; return how that ended."""

    def errors(self, since: int = 0) -> tuple[int, list[str] | None]:
        """Return the size of the server's log, and its errors from there on; None: unreadable."""


def rehearse(stage: Stage, *, downgrades: bool, wait_s: int) -> Iterator[Check]:
    """Yield each check as it is made; one that leaves nothing to go on with is the last.

    downgrades: whether the migrations can go back to base. wait_s: seconds for the server to come.
    """
    waited = _done("the server answers twice", stage.task(["wait", "--timeout", str(wait_s)]))
    yield waited
    made = _done("a database is made", stage.task(COLD)) if waited.passed else waited
    if made is not waited:
        yield made
    if not made.passed:
        return
    broken = stage.break_database()
    if broken["exit_code"]:
        yield _done("a database is broken", broken)
        return
    yield _state("the broken one is recognized", stage.task(["status"]), ORPHANED)
    size, _ = stage.errors()
    rebuilt = stage.task(COLD)
    _, errors = stage.errors(size)
    yield from criteria(rebuilt, stage.task(["status"]), errors)
    if not rebuilt["exit_code"]:
        swapped = any(step["step"] == "promote" for step in rebuilt["steps"])
        yield from _back_and_forth(stage, swapped=swapped)
        yield from _down_and_up(stage) if downgrades else ()


def _back_and_forth(stage: Stage, *, swapped: bool) -> Iterator[Check]:
    """Go back to the broken database and forth again, by the swap and by the dump.

    swapped: whether the rebuild was; one in place has nothing that could be swapped back.
    """
    yield _done("the seed can be run again", stage.task(["seed"]))
    if not swapped:
        yield Check("undo", passed=True, text="none: what is rebuilt in place has only its dump")
    for task, name, state in SWAPPED if swapped else IN_PLACE:
        done = stage.task([task])
        after = stage.task(["status"])
        yield _done(name, done) if done["exit_code"] else _state(name, after, state)


def _down_and_up(stage: Stage) -> Iterator[Check]:
    """Go from head to base and back, twice: a downgrade must leave nothing that stops the next."""
    ends = [stage.task(["alembic", "--", *each.split()]) for each in 2 * UP_AND_DOWN]
    failed = next((each for each in ends if each["exit_code"]), ends[-1])
    yield _done("head → base → head → base → head", failed)
    yield _state("at head again", stage.task(["status"]), AT_HEAD)


def _done(name: str, content: Mapping[str, Any]) -> Check:
    return Check(name, content["exit_code"] == 0, error(content))


def _state(name: str, status: Mapping[str, Any], wanted: str) -> Check:
    found = str(status.get("state") or error(status))
    return Check(name, found == wanted, found)
