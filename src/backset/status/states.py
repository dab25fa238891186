"""Which state a database is in, by which evidence. Pure: facts in, words out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backset.catalog.difference import shown
from backset.checks.verification import LOAD_MODELS
from backset.errors import Finding
from backset.status import cures
from backset.status.cures import Cure
from backset.text import explanations
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backset.migrate.worker import Problem
    from backset.status.facts import Facts

_SHOWN = 5  # of each kind of evidence; the rest is counted


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The name of a state, a stable word, with what proves it and what cures it."""

    name: str
    evidence: tuple[str, ...]
    cure: Cure

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence[0]}"

    @property
    def is_good(self) -> bool:
        """Whether there is nothing to repair."""
        return self.cure.way == "none"

    def content(self) -> dict[str, Any]:
        """Return it as plain values."""
        cure = {"way": self.cure.way, "command": self.cure.command or None, "why": self.cure.why}
        return {"state": self.name, "evidence": list(self.evidence), "cure": cure}

    @property
    def finding(self) -> Finding:
        """What `status` has to say of it."""
        remedy = f"`{self.cure.command}`" if self.cure.command else self.cure.why
        why = self.cure.why if self.cure.command else "a person has to mend this"
        line = f"{self} → {remedy if self.cure.command else 'by hand: see the cure'}"
        return Finding(kind=self.name, what=self.evidence[0], why=why, remedy=remedy, line=line)


def state(facts: Facts) -> State:
    """Return the state: the first that applies, from what hides all others to what hides none."""
    return next(found for rule in _RULES if (found := rule(facts)))


def _no_server(facts: Facts) -> State | None:
    if not facts.unreachable:
        return None
    why = explanations.unreached(facts.unreachable, facts.mended_in)
    return _state("no server", [facts.unreachable], cures.by_hand(why))


def _broken_chain(facts: Facts) -> State | None:
    if not facts.problems:
        return None
    evidence = [f"{_folder(facts, each)}{each.text}" for each in facts.problems]
    evidence += _traced(facts)
    return _state("broken chain", evidence, cures.restoring(facts) or cures.by_file(facts))


def _wrong_database(facts: Facts) -> State | None:
    if facts.elsewhere:
        return _state("wrong database", [facts.elsewhere], cures.by_hand(facts.elsewhere_remedy))
    foreign = facts.tables and facts.ours and not facts.tables & facts.ours
    if not foreign or (facts.recorded and not facts.orphans):
        return None
    has, ours = _some(sorted(facts.tables)), _some(sorted(facts.ours))
    evidence = [f"{facts.database} has {has}, and none of the project's tables ({ours})"]
    if facts.orphans:
        evidence.append(f"{facts.version_table} names {_some(facts.orphans)}, which no file has")
    why = f"correct {facts.mended_in}; if it is right, `invoke reset-db` replaces what is there"
    return _state("wrong database", evidence, cures.by_hand(why))


def _orphaned(facts: Facts) -> State | None:
    if not facts.orphans:
        return None
    strays = facts.strays or {facts.version_table: facts.orphans}
    evidence = [
        f"{table} names {_some(rows)}, which no migration file has"
        for table, rows in strays.items()
    ]
    if facts.strangers:
        evidence.append(f"no model and no revision here knows {_some(facts.strangers)}")
    evidence += _traced(facts)
    is_stamp = facts.proof is not None and facts.proof.same
    cure = cures.parting(facts) or (None if is_stamp else cures.restoring(facts))
    return _state("orphaned revision", evidence, cure or cures.proving(facts))


def _overlapping(facts: Facts) -> State | None:
    if not facts.outdated:
        return None
    kept = [each for each in facts.recorded if each not in facts.outdated]
    evidence = f"{facts.version_table} names {_some(facts.outdated)} beside {_some(kept)}"
    return _state("half applied", [f"{evidence}, which comes after it"], cures.keeping(facts, kept))


def _several_heads(facts: Facts) -> State | None:
    if len(facts.goal) < 2 or facts.several:  # noqa: PLR2004  (one is not several)
        return None
    evidence = [f"the scripts have the heads {', '.join(facts.goal)}"]
    command = facts.alembic("merge -m merge", facts.goal)
    why = "`alembic upgrade head` refuses; a merge makes one head of them, then `invoke upgrade`; "
    why += 'if they are to stay apart: heads = "all" in [tool.backset]'
    return _state("several heads", evidence, Cure(way="merge heads", command=command, why=why))


def _no_database(facts: Facts) -> State | None:
    if facts.exists:
        return None
    why = "it creates the database and migrates it; `invoke reset-db` adds the mock data"
    return _state("no database", [f"{facts.database} does not exist"], cures.upgrade(why))


def _empty(facts: Facts) -> State | None:
    if facts.recorded or facts.tables:
        return None
    evidence = [f"{facts.database} has no table and no version"]
    return _state("empty", evidence, cures.upgrade("every migration is waiting"))


def _ahead(facts: Facts) -> State | None:
    if facts.recorded:
        return None
    tables = f"{facts.database} has {_some(sorted(facts.tables))}"
    evidence = f"{tables}, but {facts.version_table} names no revision"
    return _state("ahead", [evidence], cures.proving(facts))


def _half_applied(facts: Facts) -> State | None:
    proof = facts.proof
    if not facts.pending or (facts.is_true and not facts.invalid):
        return None
    told = [*facts.in_the_way]
    if (facts.is_untrue or facts.is_uneven) and proof:
        early = () if facts.is_uneven else proof.early
        told = [*early] or [f"the schema is that of {each}" for each in proof.same[-1:]]
    if not (told or facts.invalid):
        return None
    failed = "is invalid: its CREATE INDEX CONCURRENTLY failed"
    evidence = [*_few(told), *(f"index {shown(each)} {failed}" for each in facts.invalid)]
    evidence.append(f"the version is {', '.join(facts.recorded) or 'none'}")
    cure = cures.proving(facts) if told else cures.drop_indexes(facts.invalid)
    return _state("half applied", evidence, cure)


def _stamped(facts: Facts) -> State | None:
    proof = facts.proof
    proved = proof.same if proof and not facts.pending else ()
    if facts.is_true or not (facts.unmade or proved):
        return None
    told = [*facts.unmade] or [f"the schema is that of {proved[-1]}"]
    if facts.is_untrue and proof and not proof.same:
        told = [*(proof.apart or proof.differences)]
    evidence = [f"the version says {', '.join(facts.recorded)}, but {told[0]}", *_few(told[1:])]
    return _state("stamped but not migrated", evidence, cures.proving(facts))


def _unlike(facts: Facts) -> State | None:
    """Say how the database differs from what the chain makes, where that was shown."""
    proof = facts.proof
    if proof is None or not facts.is_untrue or (facts.differences and not proof.agrees):
        return None
    told = proof.apart or proof.differences
    recorded = ", ".join(facts.recorded)
    evidence = [f"at {recorded} the chain and the database differ: {told[0]}", *_few(told[1:])]
    return _state("drift", evidence, cures.reset(facts))


def _more(facts: Facts) -> State | None:
    """Say what the database has beside what the chain makes."""
    if facts.proof is None or facts.pending or not (facts.is_true and facts.proof.apart):
        return None
    rebuilding = cures.rebuilding(facts)
    why = f"drop it, or write a migration that makes it; {rebuilding} would leave it out"
    return _state("drift", _few(facts.proof.apart), cures.by_hand(why))


def _behind(facts: Facts) -> State | None:
    if not facts.pending:
        return None
    at, goal = ", ".join(facts.recorded), ", ".join(facts.goal)
    evidence = (
        f"the database is at {at}, head is {goal}: {count(len(facts.pending), 'revision')} to run"
    )
    return _state("behind", [evidence], cures.upgrade("migrations are waiting"))


def _models_not_loaded(facts: Facts) -> State | None:
    if not facts.differences or facts.models is None or facts.models:
        return None
    evidence = f"env.py's target_metadata has no table, the database has {len(facts.tables)}"
    return _state("models not loaded", [evidence], cures.by_hand(LOAD_MODELS))


def _drift(facts: Facts) -> State | None:
    if not facts.differences:
        return None
    cure = cures.by_hand(
        f"if the models are right: {cures.migration(facts)}; if the database is not: "
        f"{cures.rebuilding(facts)}; if both are to stay: {cures.ACCEPT}"
    )
    if facts.is_true:
        cure = cures.by_hand(
            f"the database is what the chain makes: {cures.migration(facts)}, "
            f"then `invoke upgrade`; or accept it: {cures.ACCEPT}"
        )
    return _state("drift", _few(facts.differences), cure)


def _at_head(facts: Facts) -> State:
    proved = ", and its schema is what the chain makes: proved" if facts.is_true else ""
    evidence = [f"the database is at {', '.join(facts.recorded)}{proved}"]
    return _state("at head", evidence, Cure(way="none"))


def _state(name: str, evidence: Sequence[str], cure: Cure) -> State:
    return State(name=name, evidence=tuple(evidence), cure=cure)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _few(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"and {rest} more"] if rest > 0 else [])]


def _traced(facts: Facts) -> list[str]:
    """Say where missing files went, and what would bring back those that do not fit today."""
    lines = [f"{each.revision}: {line}" for each in facts.restorable for line in each.evidence]
    return lines + [
        f"{each.revision}: its file comes back with: {each.recipe.command}; "
        "it does not fit today's chain"
        for each in facts.restorable
        if each.recipe and not each.connects
    ]


def _folder(facts: Facts, problem: Problem) -> str:
    if not problem.paths:
        return ""
    first = facts.shown(problem.paths[0])
    return f"{first if problem.kind == 'no migrations' else first.parent}: "


_RULES: tuple[Callable[[Facts], State | None], ...] = (
    *(_no_server, _broken_chain, _wrong_database, _orphaned, _overlapping, _several_heads),
    *(_no_database, _empty, _ahead, _half_applied, _stamped, _unlike, _behind),
    *(_models_not_loaded, _more, _drift, _at_head),
)
