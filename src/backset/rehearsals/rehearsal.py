"""The order in which everything is tried: broken, repaired, undone, restored, down and up again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backset.rehearsals.checks import Check, criteria, error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Run = Callable[[Sequence[str]], Mapping[str, Any]]
    Errors = Callable[[int], tuple[int, list[str] | None]]

ORPHANED = "orphaned revision"
UP_AND_DOWN = ("downgrade base", "upgrade head")


def rehearse(
    run: Run, break_it: Callable[[], None], errors: Errors, *, downgrades: bool
) -> Iterator[Check]:
    """Yield each check as it is made; a rebuild that fails is the last one.

    run: runs a task of backset on the service, and returns what it says in JSON.
    break_it: leaves a database there whose version no file has.
    errors: returns the size of the server's log and the errors in it from a size on, as far as it
    can be read.
    downgrades: whether the migrations can go back to base.
    """
    yield from _orphaned(run, break_it)
    size, _ = errors(0)
    rebuilt = run(["reset-db"])
    _, found = errors(size)
    yield from criteria(rebuilt, run(["status"]), found)
    if rebuilt["exit_code"]:
        return
    yield _done("the seed can be run again", run(["seed"]))
    yield _state("undo goes back", run(["undo"]), run(["status"]), ORPHANED)
    yield _state("a second undo comes forth again", run(["undo"]), run(["status"]), "at head")
    yield _state("the dump is restored and compared", run(["restore"]), run(["status"]), ORPHANED)
    yield _state("undo of that", run(["undo"]), run(["status"]), "at head")
    if downgrades:
        yield from _down_and_up(run)


def _orphaned(run: Run, break_it: Callable[[], None]) -> Iterator[Check]:
    yield _done("the server answers twice", run(["wait"]))
    made = run(["reset-db"])
    yield _done("a database is made", made)
    if made["exit_code"]:
        return
    break_it()
    yield _state("the broken one is recognized", made, run(["status"]), ORPHANED)


def _down_and_up(run: Run) -> Iterator[Check]:
    """Go from head to base and back, twice: a downgrade must leave nothing that stops the next."""
    words = 2 * [each.split() for each in UP_AND_DOWN]
    ends = [run(["alembic", "--", *each]) for each in words]
    failed = next((each for each in ends if each["exit_code"]), ends[-1])
    yield _done("head → base → head → base → head", failed)
    yield _state("at head again", failed, run(["status"]), "at head")


def _done(name: str, content: Mapping[str, Any]) -> Check:
    return Check(name, content["exit_code"] == 0, error(content))


def _state(name: str, content: Mapping[str, Any], after: Mapping[str, Any], wanted: str) -> Check:
    """Judge a task, and the state in which it leaves the database."""
    if content["exit_code"]:
        return _done(name, content)
    found = after.get("state", error(after))
    return Check(name, found == wanted, str(found))
