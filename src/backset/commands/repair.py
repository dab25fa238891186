"""Repairs a database: the smallest cure of its state, a look at what came of it, and so on."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from backset import execution
from backset.chain import CHAINS, Chain, Details, Done, Step
from backset.cli import alembic_for_proof
from backset.described import described, key
from backset.errors import AlembicError, StepFailedError
from backset.process import signals
from backset.prove.placement import Placement
from backset.runs.run import Options, Run
from backset.settings import rules
from backset.status import diagnosis, states
from backset.steps.databases import backup
from backset.text.quantities import few

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backset.connections.target import Target
    from backset.migrate.worker import Worker
    from backset.report.report import Report
    from backset.revisions.restore import Recipe
    from backset.runs.consent import Consent
    from backset.settings.settings import Settings
    from backset.status.diagnosis import Status
    from backset.status.facts import Facts, Proof
    from backset.status.states import State

    Progress = Callable[[str], None]

_TASKS = {"upgrade": "upgrade", "reset": "reset-db", "carry": "reset-db"}
_REBUILDS = frozenset({"reset", "carry"})
_WRONG = (
    "this diagnosis is wrong, and nothing more is done: `invoke status` says what stands there; "
    "where the database was rebuilt, `invoke undo` goes back"
)


@described()
class _StampDetails(Details):
    revisions: Sequence[str] = key("`stamp`: what the version table says now")


@described()
class _IndexDetails(Details):
    indexes: Sequence[str] = key("`drop_indexes`: the names of those dropped")


@described()
class _BringBackDetails(Details):
    command: str = key("`bring_back`: the command line that does the same as the step did")


@described(kw_only=True)
class _ProofDetails(Details):
    same: Sequence[str] = key(
        "`prove` of `repair` and `status`: the revisions at which the chain makes this schema"
    )
    not_compared: Sequence[str] = key("`prove`: what belongs to others, and extensions that stay")


def look(
    settings: Settings,
    target: Target,
    told: Report,
    *,
    proves: bool = False,
    options: Options | None = None,
    consent: Consent | None = None,
    worker: Worker | None = None,
    ahead: Sequence[Worker] = (),
) -> Status:
    """Diagnose the target; prove what only a scratch build can tell, if that is asked for.

    options: which looks are asked for that take their time.
    consent: whether the proof waits for the lock, and for how long all of it may go on. worker,
    ahead: processes of Alembic that were started already, for the target and for the proof.
    """
    options = options or Options()
    if not proves:
        with Run(settings, target, "status", beside=False, worker=worker, options=options) as run:
            return diagnosis.status(run)
    with ExitStack() as stack:
        stack.enter_context(signals.limited(consent.timeout_s if consent else 0))
        if not ahead:
            worker, ahead = stack.enter_context(alembic_for_proof(settings, proves=True))
        run = stack.enter_context(
            Run(settings, target, "repair", beside=False, worker=worker, options=options)
        )
        where = run, told.progress, told.notice if consent and consent.wait else None
        proof = restored = None
        with Placement(*where, ahead=ahead) as placement:
            found = diagnosis.status(run, reached=partial(_begin, placement, told))
            restoring = states.restoring(found.facts)
            if found.is_provable or restoring:
                told.begin("prove")
            if found.is_provable:
                proof = placement.proof(differ=bool(found.facts.differences))
        if restoring and not (proof and proof.same):
            with Placement(*where, restoring.recipe) as placement:
                restored = placement.proof()
    if last := restored or proof:
        told.end(
            "prove", Done(_shown(last), _ProofDetails(same=last.same, not_compared=last.spare))
        )
    return replace(found, facts=replace(found.facts, proof=proof, restored=restored))


def _begin(placement: Placement, told: Report) -> None:
    told.begin("prove")
    placement.begin()
    told.pause("prove")  # what fails next is not the proof: the target is looked at meanwhile


def _shown(proof: Proof) -> str:
    spare = f" · not compared: {', '.join(proof.spare)}" if proof.spare else ""
    return _outcome(proof) + spare


def _outcome(proof: Proof) -> str:
    if proof.same:
        return f"the chain was built beside it: identical at {', '.join(proof.same)}"
    if proof.unbuilt:
        return f"nothing is proved: {proof.unbuilt}"
    first = proof.differences[0] if proof.differences else "it differs at every revision"
    return f"no revision of the chain makes this schema: {first}"


def repair(
    settings: Settings,
    target: Target,
    told: Report,
    consent: Consent,
    worker: Worker | None,
    ahead: Sequence[Worker],
) -> Status:
    """Do cure after cure; return what stands at the end. Raises BacksetError where a cure fails.

    worker, ahead: as look() has them, for the first look. After each cure the state is looked at
    afresh. The same one again, or a second rebuild, means that the diagnosis is wrong, and raises
    StepFailedError.
    """
    done: list[State] = []
    told.note(repairs=[])
    while True:
        found = look(
            settings, target, told, proves=True, consent=consent, worker=worker, ahead=ahead
        )
        worker, ahead = None, ()
        state = found.state
        chain = _chain(state)
        if chain is None:
            return found
        if _repeats(state, done):
            raise StepFailedError(f"after {done[-1].cure.command} the state is: {state}", _WRONG)
        told.state(state)
        done.append(state)
        told.note(repairs=tuple(done))
        with _build(settings, target, "repair", chain, found) as run:
            execution.perform(run, chain, told, skip=_skipped(run), consent=consent)


def _repeats(state: State, done: Sequence[State]) -> bool:
    way = state.cure.way
    rebuilt = any(each.cure.way in _REBUILDS for each in done)
    return (state.name, way) in {(each.name, each.cure.way) for each in done} or (
        rebuilt and way in _REBUILDS
    )


def _skipped(run: Run) -> frozenset[str]:
    carries = run.options.carries
    return execution.unwanted(carries) if carries else frozenset({"carry"})


def _chain(state: State) -> Chain | None:
    """Return what does the cure of a state; None where a person has to."""
    way = state.cure.way
    return CHAINS[_TASKS[way]] if way in _TASKS else _CHAINS.get(way)


def plan(settings: Settings, target: Target, told: Report, consent: Consent) -> None:
    """Tell the state, its evidence, its cure, and the steps of that; nothing is changed."""
    found = look(settings, target, told)
    state, cure = found.state, found.state.cure
    told.state(state)
    planned = execution.Plan([])
    if chain := _chain(state):
        with _build(settings, target, "plan", chain, found) as run:
            planned = execution.plan(run, chain, skip=_skipped(run), consent=consent)
    elif state.cure.way == "prove":
        where = f"would build the chain beside {target.database}, and compare every revision"
        asks = "" if consent.yes else ", after asking"
        otherwise = "would stamp the one that is identical; if there is none: "
        otherwise += f"reset-db{' --carry' if found.facts.filled else ''}{asks}"
        planned = execution.Plan([("prove", where), ("then", otherwise)])
    elif not state.is_good:
        planned = execution.Plan([("by hand", cure.why)])
    if found.is_provable and cure.way != "prove":
        first = f"would build the chain beside {target.database}; where that shows another state, "
        lines = [("prove", f"{first}its cure is taken instead"), *planned.lines]
        planned = planned._replace(lines=lines)
    told.plan(planned.lines, planned.facts, planned.digest)


def _build(settings: Settings, target: Target, purpose: str, chain: Chain, found: Status) -> Run:
    options = _options(settings, found.state, found.facts)
    return Run(settings, target, purpose, beside=chain.replaces, options=options)


def _options(settings: Settings, state: State, facts: Facts) -> Options:
    cure = state.cure
    carries = cure.way == "carry"
    stamps = tuple(cure.revision.split())
    drops = facts.invalid if cure.way == "drop index" else ()
    return Options(
        stamps=stamps,
        drops=drops,
        recipe=cure.recipe,
        carries=rules.wanted(settings, said="all", drops=False, seeds=False) if carries else None,
    )


def _stamp(run: Run, _progress: Progress) -> Done:
    """Write the revisions that a scratch build has proved into the version table."""
    from backset.catalog import versions
    from backset.migrate import current

    wanted = list(run.options.stamps)
    for worker in run.work.workers():
        own = {"base", *(each.id for each in worker.scripts.revisions)}
        revisions = [each for each in wanted if each in own]
        try:
            worker.stamp(run.work.session(), revisions)
        except AlembicError:
            tables = current.place(worker, run.work.session()).tables if worker.has_door else ()
            if not tables or not all(each.has_nothing_else for each in tables):
                raise  # rows that say more than a revision are not ours to replace
            for table in tables:  # env.py runs only behind the project's own command
                versions.write(
                    run.work.session(), table, [each for each in revisions if each != "base"]
                )
    return Done(f"the version is {', '.join(wanted)}", _StampDetails(wanted))


def _plan_stamp(run: Run) -> str:
    return f"would set the version to {', '.join(run.options.stamps)}"


def _drop_indexes(run: Run, progress: Progress) -> Done:
    """Drop the invalid indexes that a CREATE INDEX CONCURRENTLY has left behind."""
    from psycopg import sql

    names, there = run.options.drops, _invalid(run)
    for name in names:
        if name not in there:
            what = f"{name} is no invalid index any more"
            raise StepFailedError(what, "run `invoke status` again")
        progress(f"dropping {name}")
        statement = sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(*there[name]))
        run.work.session().execute(statement)
    if left := sorted({*names} & {*_invalid(run)}):
        raise StepFailedError(f"{', '.join(left)}: still there", "look at it with `invoke psql`")
    return Done(f"{', '.join(names)} dropped", _IndexDetails(names))


def _invalid(run: Run) -> dict[str, tuple[str, str]]:
    from backset.catalog import catalog

    def is_others(table: tuple[str, str]) -> bool:
        return run.current.sharing().has(table)  # looked at only where there is such an index

    return catalog.invalid_indexes(run.work.session(), is_others)


def _plan_drop_indexes(run: Run) -> str:
    return f"would drop {', '.join(run.options.drops)}"


def _merge(run: Run, _progress: Progress) -> Done:
    """Make the revision that joins all heads; it is a new file of the project."""
    session = None if run.current.database is None else run.work.session()
    made = run.work.worker().merge(session)
    path, root = made.path, run.settings.root
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return Done(f"{shown} joins {', '.join(made.down)}; commit it", made)


def _plan_merge(run: Run) -> str:
    return f"would add a file that joins {', '.join(run.work.worker().scripts.heads)}"


def _bring_back(run: Run, _progress: Progress) -> Done:
    """Bring the missing files back, as the command that is shown does."""
    from backset.revisions import restore

    recipe = _recipe(run)
    restore.retrieve(recipe, run.settings.plain_env)
    return Done(f"{_files(recipe)}: back", _BringBackDetails(recipe.command))


def _plan_bring_back(run: Run) -> str:
    return f"would bring back {_files(_recipe(run))}"


def _recipe(run: Run) -> Recipe:
    assert run.options.recipe is not None  # noqa: S101  (the cure has it)
    return run.options.recipe


def _files(recipe: Recipe) -> str:

    return few(recipe.shown(each.home) for each in recipe.items)


stamp = Step("stamp", _stamp, _plan_stamp, needs="backup", migrates=True)
drop_indexes = Step("drop_indexes", _drop_indexes, _plan_drop_indexes, needs="backup")
merge = Step("merge", _merge, _plan_merge, writes=False, migrates=True)
bring_back = Step(
    "bring_back", _bring_back, _plan_bring_back, changes=False, writes=False, migrates=True
)
# What the ways of a cure are done by: chains of their own, and those of tasks.
_CHAINS = {
    "restore file": Chain("bring-back", bring_back),
    "merge heads": Chain("merge", merge),
    "drop index": Chain("drop-indexes", backup, drop_indexes),
    "stamp": Chain("stamp", backup, stamp),
}
