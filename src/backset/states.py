"""Which state a database is in, by which evidence, and the smallest cure. Pure: facts in, words out."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from backset.errors import Finding
from backset.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backset.migrations import Problem

_SHOWN = 5  # of each kind of evidence; the rest is counted
KEPT = "`invoke undo` and the backup keep the rows"
PROVE = (
    "it builds the chain beside the database: where the schema is identical it stamps the version, "
    f"else `invoke reset-db` rebuilds it ({KEPT})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a scratch build of the chain has shown.

    same: the revisions at which it was identical to the live schema, the earliest first.
    differences: in words, at the head. agrees: whether models and chain agree at the head.
    """

    same: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    agrees: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Restorable:
    """A missing file that can be brought back: what is known of it, and the command for that.

    connects: whether it makes one whole chain with today's scripts, with one head.
    """

    revision: str
    evidence: str
    command: str
    connects: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was seen of a database and of the scripts.

    unreachable: libpq's words, where there is no connection. elsewhere: what env.py opened instead.
    pending: revisions that are to be run. goal: where `upgrade` ends; several where these are
    accepted, which `several` says. tables: without the version table. models: tables that they
    have; None where env.py names none. ours: tables that models and scripts speak of.
    in_the_way: what exists though a pending revision makes it. unmade: what does not exist though
    a recorded revision made it. invalid: indexes.
    """

    root: Path = field(default_factory=Path)
    database: str
    unreachable: str = ""
    elsewhere: str = ""
    exists: bool = True
    problems: tuple[Problem, ...] = ()
    goal: tuple[str, ...] = ()
    several: bool = False
    recorded: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    version_table: str = "alembic_version"
    tables: frozenset[str] = frozenset()
    models: frozenset[str] | None = None
    ours: frozenset[str] = frozenset()
    differences: tuple[str, ...] = ()
    in_the_way: tuple[str, ...] = ()
    unmade: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    restorable: tuple[Restorable, ...] = ()
    proof: Proof | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cure:
    """The least destructive repair.

    way: `none`, `upgrade`, `restore file`, `merge heads`, `drop index`, `prove` (which finds out
    whether `stamp` or `reset` it is), `stamp`, `reset`, or `by hand`. command: what does it.
    revision: which one is stamped.
    """

    way: str
    command: str = ""
    why: str = ""
    revision: str = ""


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

    @property
    def finding(self) -> Finding:
        """What `status` has to say of it."""
        remedy = f"`{self.cure.command}`" if self.cure.command else self.cure.why
        why = self.cure.why if self.cure.command else "a person has to mend this"
        return Finding(kind=self.name, what="; ".join(self.evidence), why=why, remedy=remedy)


def state(facts: Facts) -> State:
    """Return the state: the first that applies, from what hides all others to what hides none."""
    return next(found for rule in _RULES if (found := rule(facts)))


def _no_server(facts: Facts) -> State | None:
    if not facts.unreachable:
        return None
    why = "start the server, or correct DATABASE_URL; the embedded one: invoke start"
    return _state("no server", [facts.unreachable], by_hand(why))


def _broken_chain(facts: Facts) -> State | None:
    if not facts.problems:
        return None
    evidence = [f"{_folder(facts, each)}{each.text}" for each in facts.problems]
    return _state("broken chain", evidence, _restoring(facts) or _by_file(facts))


def _restoring(facts: Facts) -> Cure | None:
    """Return the cure that brings files back; None where that does not make a whole chain."""
    for each in facts.restorable:
        if each.connects:
            return Cure(way="restore file", command=each.command, why=each.evidence)
    return None


def _by_file(facts: Facts) -> Cure:
    worst = facts.problems[0]
    paths = [shlex.quote(str(_shown(facts, each))) for each in worst.paths]
    if worst.kind == "missing file":
        why = f"bring the file of {worst.missing} back, or correct down_revision in {paths[0]}"
    elif worst.kind == "duplicate id":
        why = f"give one of {' and '.join(paths)} an id of its own, or delete it if it is a copy"
    elif worst.kind == "stale byte code":
        why = f"bring its source back, or delete {', '.join(paths)}"
    elif worst.kind == "no migrations":
        why = f"bring the files of {paths[0]} back; a new project makes its first one by "
        why += "`invoke alembic -- revision --autogenerate -m initial`"
    else:
        why = "mend that file"
    return by_hand(why)


def _wrong_database(facts: Facts) -> State | None:
    if facts.elsewhere:
        remedy = "let env.py take its URL from DATABASE_URL, or say in [tool.backset.env] where it looks"
        text = f"env.py connected to {facts.elsewhere}, not to {facts.database}; nothing was executed"
        return _state("wrong database", [text], by_hand(remedy))
    foreign = facts.tables and facts.ours and not facts.tables & facts.ours
    if not foreign or (facts.recorded and not facts.orphans):
        return None
    evidence = [
        f"{facts.database} has {_some(sorted(facts.tables))}, and none of the project's tables "
        f"({_some(sorted(facts.ours))})"
    ]
    if facts.orphans:
        evidence.append(f"{facts.version_table} names {_some(facts.orphans)}, which no file has")
    why = "correct DATABASE_URL; if it is right, `invoke reset-db` replaces what is there"
    return _state("wrong database", evidence, by_hand(why))


def _orphaned(facts: Facts) -> State | None:
    if not facts.orphans:
        return None
    evidence = [f"{facts.version_table} names {_some(facts.orphans)}, which no migration file has"]
    evidence += [each.evidence for each in facts.restorable]
    return _state("orphaned revision", evidence, _restoring(facts) or _proving(facts))


def _several_heads(facts: Facts) -> State | None:
    if len(facts.goal) < 2 or facts.several:  # noqa: PLR2004  (one is not several)
        return None
    evidence = [f"the scripts have the heads {', '.join(facts.goal)}"]
    command = "invoke alembic -- merge heads -m merge"
    why = "`alembic upgrade head` refuses; a merge makes one head of them, then `invoke upgrade`"
    return _state("several heads", evidence, Cure(way="merge heads", command=command, why=why))


def _no_database(facts: Facts) -> State | None:
    if facts.exists:
        return None
    why = "it creates the database and migrates it; `invoke reset-db` adds the mock data"
    return _state("no database", [f"{facts.database} does not exist"], _upgrade(why))


def _empty(facts: Facts) -> State | None:
    if facts.recorded or facts.tables:
        return None
    evidence = [f"{facts.database} has no table and no version"]
    return _state("empty", evidence, _upgrade("every migration is waiting"))


def _ahead(facts: Facts) -> State | None:
    if facts.recorded:
        return None
    has = f"{facts.database} has {_some(sorted(facts.tables))}, but {facts.version_table} names no revision"
    return _state("ahead", [has], _proving(facts))


def _half_applied(facts: Facts) -> State | None:
    if not facts.pending or not (facts.in_the_way or facts.invalid):
        return None
    evidence = [f"the version is {', '.join(facts.recorded)}", *_few(facts.in_the_way)]
    evidence += [f"index {each} is invalid: its CREATE INDEX CONCURRENTLY failed" for each in facts.invalid]
    evidence.insert(0, evidence.pop(1))
    cure = _proving(facts)
    if facts.invalid and not facts.in_the_way and not (facts.proof and facts.proof.same):
        names = ", ".join(facts.invalid)
        why = "an invalid index holds nothing; the pending revision makes it anew by `invoke upgrade`"
        command = f'invoke psql -- -c "DROP INDEX CONCURRENTLY {names}"'
        cure = Cure(way="drop index", command=command, why=why)
    return _state("half applied", evidence, cure)


def _stamped(facts: Facts) -> State | None:
    if not facts.unmade or (facts.proof and _is_true(facts)):
        return None
    evidence = [f"the version says {', '.join(facts.recorded)}, but {facts.unmade[0]}"]
    return _state("stamped but not migrated", [*evidence, *_few(facts.unmade[1:])], _proving(facts))


def _behind(facts: Facts) -> State | None:
    if not facts.pending:
        return None
    at, goal = ", ".join(facts.recorded), ", ".join(facts.goal)
    evidence = f"the database is at {at}, head is {goal}: {count(len(facts.pending), 'revision')} to run"
    return _state("behind", [evidence], _upgrade("migrations are waiting"))


def _models_not_loaded(facts: Facts) -> State | None:
    if not facts.differences or facts.models is None or facts.models:
        return None
    evidence = f"env.py's target_metadata has no table, the database has {len(facts.tables)}"
    return _state(
        "models not loaded", [evidence], by_hand("import the modules of the models in env.py")
    )


def _drift(facts: Facts) -> State | None:
    if not facts.differences:
        return None
    autogenerate = "invoke alembic -- revision --autogenerate -m '…'"
    cure = by_hand(f"if the models are right: {autogenerate}; if the database is not: invoke reset-db")
    if facts.proof and _is_true(facts):
        cure = by_hand(f"the database is what the chain makes: {autogenerate}, then invoke upgrade")
    elif facts.proof and facts.proof.agrees:
        cure = _reset(facts.proof)
    return _state("drift", _few(facts.differences), cure)


def _at_head(facts: Facts) -> State:
    return _state("at head", [f"the database is at {', '.join(facts.recorded)}"], Cure(way="none"))


def _proving(facts: Facts) -> Cure:
    """Return `stamp` where a scratch build proves it, `reset` where that disproves it."""
    if facts.proof is None:
        return Cure(way="prove", command="invoke repair", why=PROVE)
    if not facts.proof.same:
        return _reset(facts.proof)
    *others, latest = facts.proof.same
    why = f"a scratch build at {latest} is identical to the live schema"
    why += f" (as it is at {', '.join(others)})" if others else ""
    command = f"invoke alembic -- stamp --purge {latest}"
    return Cure(way="stamp", command=command, why=why, revision=latest)


def _reset(proof: Proof) -> Cure:
    first = f": {proof.differences[0]}" if proof.differences else ""
    differs = f"the schema differs from what the chain makes{first}"
    return Cure(way="reset", command="invoke reset-db", why=f"{differs}; {KEPT}")


def _is_true(facts: Facts) -> bool:
    """Tell whether the live schema is what the recorded revision makes."""
    return facts.proof is not None and bool(set(facts.recorded) & set(facts.proof.same))


def by_hand(why: str) -> Cure:
    """Return a cure that only a person can make."""
    return Cure(way="by hand", why=why)


def _upgrade(why: str) -> Cure:
    return Cure(way="upgrade", command="invoke upgrade", why=why)


def _state(name: str, evidence: Sequence[str], cure: Cure) -> State:
    return State(name=name, evidence=tuple(evidence), cure=cure)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _few(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"and {rest} more"] if rest > 0 else [])]


def _folder(facts: Facts, problem: Problem) -> str:
    if not problem.paths:
        return ""
    first = _shown(facts, problem.paths[0])
    return f"{first if problem.kind == 'no migrations' else first.parent}: "


def _shown(facts: Facts, path: Path) -> Path:
    return path.relative_to(facts.root) if path.is_relative_to(facts.root) else path


_RULES: tuple[Callable[[Facts], State | None], ...] = (
    *(_no_server, _broken_chain, _wrong_database, _orphaned, _several_heads),
    *(_no_database, _empty, _ahead, _half_applied, _stamped, _behind),
    *(_models_not_loaded, _drift, _at_head),
)
