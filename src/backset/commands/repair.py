"""Repairs a database: the smallest cure of its state, a look at what came of it, and so on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backset import chain
from backset.diagnoses import diagnosis
from backset.processes import signals
from backset.proofs import placement
from backset.runs.build import Build
from backset.runs.options import Options
from backset.steps import Done

if TYPE_CHECKING:
    from backset.configuration.settings import Settings
    from backset.connections.target import Target
    from backset.diagnoses.diagnosis import Status
    from backset.diagnoses.facts import Facts, Proof
    from backset.diagnoses.states import State
    from backset.migrations.worker import Worker
    from backset.reports.report import Report
    from backset.runs.guard import Answer

# What the ways of a cure are done by.
_CHAINS = {
    "upgrade": "upgrade",
    "restore file": "bring-back",
    "merge heads": "merge",
    "drop index": "drop-indexes",
    "stamp": "stamp",
    "reset": "reset-db",
}


def look(
    settings: Settings,
    target: Target,
    told: Report,
    *,
    proves: bool = False,
    answer: Answer | None = None,
    worker: Worker | None = None,
) -> Status:
    """Diagnose the target; prove what only a scratch build can tell, if that is asked for.

    answer: whether the proof waits for the lock, and for how long it may go on.
    """
    with Build(settings, target, "status", beside=False, worker=worker) as build:
        found = diagnosis.status(build)
    if not proves or not _is_open(found.state):
        return found
    told.begin("prove")
    with Build(settings, target, "repair", beside=False) as build:
        notice = told.notice if answer and answer.wait else None
        with signals.limited(answer.timeout_s if answer else 0):
            proof = placement.find(build, told.progress, notice)
    told.end("prove", Done(_shown(proof), {"same": proof.same, "not_compared": proof.spare}))
    return replace(found, facts=replace(found.facts, proof=proof))


def _is_open(state: State) -> bool:
    """Tell whether a proof would decide which cure it is."""
    return state.cure.way == "prove" or state.name == "drift"


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
    settings: Settings, target: Target, told: Report, answer: Answer, worker: Worker | None
) -> Status:
    """Do cure after cure; return what stands at the end. Raises BacksetError where a cure fails.

    No cure is done twice: what remains after it is for a person.
    """
    done: list[State] = []
    told.note(repairs=[])
    while True:
        found = look(settings, target, told, proves=True, answer=answer, worker=worker)
        worker = None
        cure = found.state.cure
        if cure.way not in _CHAINS or cure in [each.cure for each in done]:
            return found
        told.state(found.state)
        done.append(found.state)
        told.note(repairs=[each.content() for each in done])
        name = _CHAINS[cure.way]
        with _build(settings, target, "repair", name, found) as build:
            chain.run(build, name, told, skip=frozenset(), answer=answer)


def plan(settings: Settings, target: Target, told: Report, answer: Answer) -> None:
    """Tell the state, its evidence, its cure, and the steps of that; nothing is changed."""
    found = look(settings, target, told)
    state, cure = found.state, found.state.cure
    told.state(state)
    planned = chain.Plan([])
    if cure.way in _CHAINS:
        name = _CHAINS[cure.way]
        with _build(settings, target, "plan", name, found) as build:
            planned = chain.plan(build, name, skip=frozenset(), answer=answer)
    elif _is_open(state):
        where = f"would build the chain beside {target.database}, and compare every revision"
        asks = "" if answer.yes else ", after asking"
        otherwise = "would stamp the one that is identical; if there is none"
        if state.name == "drift":
            otherwise += ", and the models agree with the chain"
        planned = chain.Plan([("prove", where), ("then", f"{otherwise}: reset-db{asks}")])
    elif not state.is_good:
        planned = chain.Plan([("by hand", cure.why)])
    told.plan(planned.lines, planned.facts, planned.digest)


def _build(settings: Settings, target: Target, purpose: str, name: str, found: Status) -> Build:
    options = _options(found.state, found.facts)
    beside = chain.CHAINS[name].beside
    return Build(settings, target, purpose, beside=beside, options=options)


def _options(state: State, facts: Facts) -> Options:
    cure = state.cure
    stamps = tuple(cure.revision.split())
    drops = facts.invalid if cure.way == "drop index" else ()
    return Options(stamps=stamps, drops=drops, recipe=cure.recipe)
