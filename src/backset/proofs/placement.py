"""Finds where in its chain the live schema really is: by a scratch build, revision by revision."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from backset.checks.drift import LEFTOVER
from backset.connections.session import explained
from backset.diagnoses.facts import Proof
from backset.errors import RefusedError, StepFailedError
from backset.migrations import standing
from backset.proofs import scratch, walk
from backset.proofs.walk import Live, Reached, place
from backset.scripts import graph, operations, restore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from backset.catalogs.difference import Difference
    from backset.migrations.worker import Worker
    from backset.proofs.scratch import Scratch
    from backset.proofs.walk import Walk
    from backset.runs.build import Build
    from backset.scripts.restore import Recipe
    from backset.scripts.revisions import Revision

    Progress = Callable[[str], None]

# Ours on two databases, Alembic's on two more, and one for what env.py may open beside.
_SESSIONS = 6


class Placement:
    """A proof: the chain is built in a scratch database, and held against the target on its way.

    Alembic itself runs it, in its own order and with the project's own commands, as a rebuild does;
    it is looked at from inside of the migrations' own transaction.
    What belongs to others is not compared, nor an extension that the role could not make there: the
    proof names it. The target is only read.
    notice: is told for whom we wait, if we may wait. recipe: missing files that the chain is built
    with, without bringing them back. ahead: processes of Alembic that were started for it already.
    """

    def __init__(
        self,
        build: Build,
        progress: Progress,
        notice: Callable[[str], None] | None = None,
        recipe: Recipe | None = None,
        *,
        ahead: Sequence[Worker] = (),
    ) -> None:
        self._build = build
        self._progress = progress
        self._notice = notice
        self._recipe = recipe
        self._ahead = ahead
        self._unbuilt = ""
        self._is_crowded = False
        self._first: Walk | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(error_type, error, trace)

    def begin(self) -> None:
        """Take the lock of the target; where sessions are not few, begin to build the chain.

        The end of that is not waited for: the target can be looked at meanwhile.
        Raises LockedError.
        """
        self._attempt(self._begin)

    def proof(self, *, differ: bool = True) -> Proof:
        """Build the chain to its end, compare, and return what that proves.

        A chain that cannot be built proves nothing, and the proof says so.
        differ: whether the models differ from the target, so that those are held against the chain
        as well. Raises LockedError.
        """
        proof = None if self._unbuilt else self._attempt(partial(self._proof, differ=differ))
        return proof or Proof(unbuilt=self._unbuilt)

    def _attempt(self, work: Callable[[], Proof | None]) -> Proof | None:
        try:
            with explained(self._build.target):
                return work()
        except StepFailedError as error:
            self._unbuilt = f"the chain cannot be built: {error.what} → {error.remedy}"
        except RefusedError as error:
            self._unbuilt = f"{error.what} → {error.remedy}"
        return None

    def _begin(self) -> None:
        if self._build.old is None:
            return
        self._prepare()
        self._is_crowded = self._build.server.free_sessions()[0] < _SESSIONS
        if not self._is_crowded:
            self._first = self._begun()

    def _prepare(self) -> None:
        names = [self._build.server.names.scratch]
        scratch.prepare(self._build, names, "build the chain to compare it", self._notice)

    def _begun(self) -> Walk:
        begun = walk.begun(self._build, self._live, self._versions, ahead=self._ahead)
        return self._building.enter_context(begun)

    @cached_property
    def _building(self) -> ExitStack:
        _ = self._versions  # which is there for longer
        return self._open.enter_context(ExitStack())

    @cached_property
    def _live(self) -> Live:
        return Live(self._build)

    @cached_property
    def _versions(self) -> Path | None:
        return self._open.enter_context(_versions(self._build, self._recipe))

    def _proof(self, *, differ: bool) -> Proof:
        build, progress = self._build, self._progress
        if self._is_crowded:
            build.leave()  # what has looked at the target makes room
        if self._first is None:
            self._prepare()
        first, live = self._first or self._begun(), self._live
        uncreatable = {f"extension {each}" for each in first.made.inheritance.uncreatable}
        live.uncreatable = frozenset(uncreatable)
        _ = live.items  # while the chain is built
        reached = first.places(progress)
        agrees = not differ or _agrees(first.made)
        is_aside, is_plain, scripts = first.is_aside(reached), first.is_plain, first.scripts
        self._building.close()
        if first.is_short and not _stands(reached, live):  # so that every place is of interest
            with walk.begun(build, live, self._versions, everywhere=True) as again:
                reached = again.places(progress)
        if is_aside:  # Alembic has taken the branches in another order than this database did
            reached.insert(0, walk.straight(build, live, self._versions, progress))
        same = [each.rows for each in reached if each.is_same]
        if same and not is_plain:  # the places on its way were not looked at
            same = list(dict.fromkeys([_before(same[-1], scripts), *same]))
        unseen: tuple[str, ...] = ()
        filling, unrun = unseen, unseen
        if live.rows not in same:  # else there is nothing to stamp
            unseen, filling = _traceless(scripts, same)
            unrun = _unrun(scripts, same, live.rows)
        at_head = _major(reached[-1].differences)
        recorded = next((each for each in reached if each.rows == live.rows), None)
        apart = _major(recorded.differences) if recorded else []
        open_ends = {each.subject for each in at_head}
        of_head = reached[-1].items or {}
        early = [
            each
            for each in apart
            if (each.subject not in open_ends or (each.what == "added" and each.subject in of_head))
            and not live.is_invalid(each.subject)
        ]
        whose = build.sharing.whose
        return Proof(
            same=tuple(same),
            differences=_texts(at_head),
            lacks=any(each.what != "added" for each in at_head),
            apart=_texts(apart),
            early=_texts(early),
            reached=recorded is not None,
            stands=recorded is not None
            and all(each.what == "added" and each not in early for each in apart),
            agrees=agrees,
            unseen=unseen,
            filling=filling,
            unrun=unrun,
            spare=(*sorted(uncreatable), *([whose] if whose else [])),
        )


def _stands(reached: Sequence[Reached], live: Live) -> bool:
    """Tell whether the target is what the revisions that it names make."""
    return any(each.rows == live.rows and each.is_same for each in reached)


def _major(found: Sequence[Difference]) -> list[Difference]:
    return [each for each in found if not each.minor]


def _texts(found: Sequence[Difference]) -> tuple[str, ...]:
    return tuple(each.text for each in found)


@contextmanager
def _versions(build: Build, recipe: Recipe | None) -> Iterator[Path | None]:
    """Give a folder with today's migrations and those of a recipe; None where there is no recipe.

    Raises StepFailedError where a file cannot be had.
    """
    if recipe is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="backset-chain-") as folder:
        for each in build.scripts.revisions:
            shutil.copy(each.path, folder)
        for item, content in restore.contents(recipe, build.settings.plain_env):
            Path(folder, item.home.name).write_bytes(content)
        yield Path(folder)


def _traceless(
    known: Sequence[Revision], same: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files of what may have run or not, and of what has filled tables before that."""
    if not same:
        return (), ()
    first, latest = (graph.ancestors(each.split(), known) for each in (same[0], same[-1]))
    texts = {each: _text(each) for each in graph.ordered(known)}
    return (
        tuple(
            each.path.name
            for each, text in texts.items()
            if each.id in latest - first and not operations.is_idle(text)
        ),
        tuple(
            each.path.name
            for each, text in texts.items()
            if each.id in first and operations.speaks_of_rows(text)
        ),
    )


def _unrun(known: Sequence[Revision], same: Sequence[str], recorded: str) -> tuple[str, ...]:
    """Return the files of what only changes rows, and has not run by what the target records."""
    begun = graph.ancestors(recorded.split(), known)
    if not (same and begun.issuperset(recorded.split())):
        return ()  # an orphaned row, or none, tells nothing of what has run
    passed = graph.ancestors(same[0].split(), known) - begun
    texts = {each: _text(each) for each in graph.ordered(known) if each.id in passed}
    return tuple(
        each.path.name
        for each, text in texts.items()
        if not (operations.is_idle(text) or operations.shapes(text))
    )


def _before(at: str, known: Sequence[Revision]) -> str:
    """Return the earliest place whose schema, by the texts of what follows, is that of this one."""
    scripts = {each.id: each for each in known}

    def earliest(row: str) -> str:
        each = scripts.get(row)
        if each is None or len(each.needs) != 1 or operations.shapes(_text(each)):
            return row
        return earliest(each.needs[0])

    return place({earliest(each) for each in at.split()})


def _text(script: Revision) -> str:
    """Return the text of a script; nothing of one whose source is gone."""
    is_source = script.path.suffix == ".py"
    return script.path.read_text(encoding="utf-8", errors="replace") if is_source else ""


def _agrees(made: Scratch) -> bool:
    """Tell whether the models agree with what the chain makes, but for tables without a model."""
    for worker in made.workers:
        about = standing.describe(worker, made.session)  # a command may be env.py's only door
        found = worker.ask("check", made.session)["differences"] if about["models"] else ()
        if any(each["kind"] != LEFTOVER for each in found):
            return False
    return True
