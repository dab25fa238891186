"""The states of a database, and their cures, from the smallest on. Pure: facts in, a state out."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Literal

from backset.catalog.schema import shown
from backset.checks.drift import LOAD_MODELS
from backset.described import described, key
from backset.errors import Finding
from backset.migrate.current import RECURSIVE
from backset.revisions import restore
from backset.text import explanations
from backset.text.quantities import count, few

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backset.migrate.answers import Problem
    from backset.revisions.restore import Recipe
    from backset.status.facts import Facts, Proof

KEPT = "the backup keeps what was there, and where it swaps, `invoke undo` too"
_STAMP = "stamp --purge"
ACCEPT = "`invoke verify --accept`"
_UNPROVED = f"then `invoke repair`; {{}} rebuilds it without a proof ({KEPT})"
PROVE = (
    "it builds the chain beside the database: where the schema is identical it stamps the version, "
    f"else it rebuilds the database and carries its rows, or does nothing ({KEPT})"
)


@described(kw_only=True)
class Cure:
    """The smallest repair of a state, in `cure`.

    revision: which one is stamped. recipe: the files that come back.
    """

    way: Literal[
        "none",
        "upgrade",
        "restore file",
        "merge heads",
        "drop index",
        "prove",
        "stamp",
        "reset",
        "carry",
        "by hand",
    ] = key(
        "what is done; `prove` finds out whether it is `stamp`, `reset` or `carry`, which is a "
        "reset that carries the rows"
    )
    command: str = key(
        "what does it; null where a person has to, or nothing is wrong", null=True, default=""
    )
    why: str = key(
        "why that helps; of `by hand` what to do; empty where nothing is wrong", default=""
    )
    revision: str = ""
    recipe: Recipe | None = None


def restoring(facts: Facts) -> Cure | None:
    """Return the cure that brings files back; None where that does not make a whole chain."""
    fitting = [each for each in facts.restorable if each.connects and each.recipe]
    if not fitting or len(fitting) < len(facts.restorable):
        return None
    if facts.restored is not None and not facts.restored.is_built:
        return None
    others = [line for each in fitting for line in each.others]
    if others and facts.restored is not None and not facts.restored.stands:
        return by_hand(
            f"{facts.database} does not have what the script that fits here makes; others have had "
            f"that id, choose one by its command: {'; '.join(others)}; or `invoke reset-db --carry`"
        )
    names = ", ".join(each.revision for each in fitting)
    recipe = restore.joined(each.recipe for each in fitting if each.recipe)
    why = f"with the file of {names} the chain is whole again; then `invoke upgrade`"
    if facts.restored is None:
        why += f". `invoke repair` does the same, once that chain was built beside {facts.database}"
    return Cure(way="restore file", command=recipe.command, why=why, recipe=recipe)


def parting(facts: Facts) -> Cure | None:
    """Return what a person has to do where two applications may share a version table."""
    if not (facts.shared and facts.strangers):
        return None
    own = " ".join(each for each in facts.recorded if each not in facts.orphans)
    return by_hand(
        f"if {', '.join(facts.orphans)} is of another application, give one of the two a version "
        "table of its own: version_table in context.configure() of env.py, with its row moved "
        f"there; if it is an old one of this project's: `{_stamp(facts, own)}`; nothing is "
        "replaced without being asked: `invoke reset-db --plan` says what it would set aside"
    )


def by_file(facts: Facts) -> Cure:
    """Return what a person has to do about the worst file of a broken chain."""
    worst = facts.problems[0]
    paths = [shlex.quote(str(facts.shown(each))) for each in worst.paths]
    if worst.kind == "missing file":
        why = f"bring the file of {worst.missing} back, or correct down_revision in {paths[0]}"
        if squash := facts.replaced.get(worst.missing):
            why = f"it was started before {squash} replaced that; {explanations.REBASE}"
    elif worst.kind == "duplicate id":
        why = f"give one of {' and '.join(paths)} an id of its own, or delete it if it is a copy"
    elif worst.kind == "stale byte code":
        why = f"bring its source back, or let `invoke archive` put {', '.join(paths)} away"
    elif worst.kind == "scripts below":
        why = f"with them the chain is whole: {RECURSIVE}, or in [tool.backset.ini]"
    elif worst.kind == "no migrations":
        first = facts.alembic("revision --autogenerate -m initial", [])
        why = f"bring the files of {paths[0]} back"
        if "folders" in worst.text:
            why += ", or name the folder below it that is meant: [tool.backset.ini] "
            why += f"version_locations; or all of them: {RECURSIVE}"
        elif not facts.recorded:
            return Cure(way="by hand", command=first, why="it writes the first revision")
    else:
        why = "mend that file, or set what it asks for"
    return by_hand(why)


def proving(facts: Facts) -> Cure:
    """Return `stamp` where a scratch build proves it, `reset` where that disproves it."""
    if facts.proof is None:
        return Cure(way="prove", command="invoke repair", why=PROVE)
    if facts.proof.unbuilt:
        unproved = _UNPROVED.format(rebuilding_cure(facts))
        return by_hand(f"nothing is proved: {facts.proof.unbuilt}; {unproved}")
    if not facts.proof.same:
        return reset(facts)
    if facts.proof.unseen:
        return _choosing(facts, facts.proof)
    if facts.proof.unrun:
        return _passing_over(facts, facts.proof)
    *others, latest = facts.proof.same
    why = f"a scratch build at {latest} is identical to the live schema"
    why += f" (as it is at {', '.join(others)})" if others else ""
    filling = ", ".join(facts.proof.filling)
    why += f"; rows are not compared: see whether those of {filling} are there" if filling else ""
    return _stamped_cure(facts, latest, why)


def _stamped_cure(facts: Facts, place: str, why: str) -> Cure:
    # Where env.py runs only behind a command of the project, Alembic's own command line does not.
    command = "invoke repair" if facts.has_door else _stamp(facts, place)
    return Cure(way="stamp", command=command, why=why, revision=place)


def _stamp(facts: Facts, place: str) -> str:
    return facts.alembic(_STAMP, place.split())


def _choosing(facts: Facts, proof: Proof) -> Cure:
    """Return what a person has to decide where revisions leave no trace in the schema."""
    first, latest = proof.same[0], proof.same[-1]
    return by_hand(
        f"the schema is that of {first} and of {latest} alike, and does not show whether "
        f"{', '.join(proof.unseen)} has run here: see whether its rows are there; if so: "
        f"`{_stamp(facts, latest)}`, if not: `{_stamp(facts, first)}`; then `invoke upgrade`"
    )


def _passing_over(facts: Facts, proof: Proof) -> Cure:
    """Return what a person has to do where a stamp would leave out a change of rows."""
    latest, unrun = proof.same[-1], ", ".join(proof.unrun)
    return by_hand(
        f"the schema is that of {latest}; but by the version table {unrun} has not run here, and "
        "no schema shows that: see whether its rows are there, and do by hand what it does to them "
        f"where they are not; then `{_stamp(facts, latest)}`"
    )


def keeping(facts: Facts, revisions: Sequence[str]) -> Cure:
    """Return the cure of a version table that has rows too many: these stay."""
    latest = " ".join(revisions)
    why = "Alembic refuses rows of which one comes after another, and the later one says it all"
    return _stamped_cure(facts, latest, why)


def rebuilding_cure(facts: Facts) -> str:
    """Return the command that rebuilds the database, as people write it: rows come along."""
    return f"`invoke reset-db{' --carry' if facts.filled else ''}`"


def reset(facts: Facts) -> Cure:
    """Return the cure that is left when nothing smaller helps: with rows it carries them."""
    first = f": {facts.proof.differences[0]}" if facts.proof and facts.proof.differences else ""
    why = f"the schema differs from what the chain makes{first}"
    if not facts.filled:
        return Cure(way="reset", command="invoke reset-db", why=f"{why}; {KEPT}")
    filled = few(facts.filled)
    why += f"; the rows of {filled} come along, or nothing is done; {KEPT}"
    return Cure(way="carry", command="invoke reset-db --carry", why=why)


def migration(facts: Facts) -> str:
    """Return the command that writes what the models have and the chain lacks."""
    rest = " (the values of enums by hand)" if facts.enums_differ else ""
    lines = facts.alembic_each("revision --autogenerate -m '…'", facts.differences)
    return f"{', '.join(f'`{each}`' for each in lines)}{rest}"


def by_hand(why: str) -> Cure:
    """Return a cure that only a person can make."""
    return Cure(way="by hand", why=why)


def drop_indexes(names: Sequence[str]) -> Cure:
    """Return the cure of a CREATE INDEX CONCURRENTLY that failed."""
    statements = [f"-c {shlex.quote(f'DROP INDEX CONCURRENTLY {each}')}" for each in names]
    why = "an invalid index serves no query; then `invoke upgrade` makes it anew"
    return Cure(way="drop index", command=f"invoke psql -- {' '.join(statements)}", why=why)


def upgrade(why: str) -> Cure:
    """Return the smallest cure."""
    return Cure(way="upgrade", command="invoke upgrade", why=why)


_SHOWN = 5  # of each kind of evidence; the rest is counted


@described(kw_only=True)
class State:
    """One cure that `repair` did, in `repairs`, in their order."""

    name: str = key("the state that was cured", "state")
    evidence: tuple[str, ...] = key("what proved that state, a line each")
    cure: Cure = key("what was done")

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
        line = f"{self} → {remedy if self.cure.command else 'by hand: see the cure'}"
        return Finding(kind=self.name, what=self.evidence[0], why=why, remedy=remedy, line=line)


def state(facts: Facts) -> State:
    """Return the state: the first that applies, from what hides all others to what hides none."""
    return next(found for rule in _RULES if (found := rule(facts)))


def _no_server(facts: Facts) -> State | None:
    if not facts.unreachable:
        return None
    why = explanations.unreached(facts.unreachable, facts.mended_in)
    name = "not admitted" if explanations.is_answer(facts.unreachable) else "no server"
    return _state(name, [facts.unreachable], by_hand(why))


def _broken_chain(facts: Facts) -> State | None:
    if not facts.problems:
        return None
    evidence = [f"{_folder(facts, each)}{each.text}" for each in facts.problems]
    evidence += _traced(facts)
    cure = restoring(facts) or by_file(facts)
    is_new = cure.way == "by hand" and bool(cure.command)  # there is nothing that could be broken
    return _state("no migrations" if is_new else "broken chain", evidence, cure)


def _wrong_database(facts: Facts) -> State | None:
    if facts.elsewhere:
        return _state("wrong database", [facts.elsewhere], by_hand(facts.elsewhere_remedy))
    foreign = facts.tables and facts.ours and not facts.tables & facts.ours
    if not foreign or facts.squashed or (facts.recorded and not facts.orphans):
        return None
    has, ours = _some(sorted(facts.tables)), _some(sorted(facts.ours))
    evidence = [f"{facts.database} has {has}, and none of the project's tables ({ours})"]
    if facts.orphans:
        evidence.append(f"{facts.version_table} names {_some(facts.orphans)}, which no file has")
    why = f"correct {facts.mended_in}; if it is right, `invoke reset-db` replaces what is there"
    return _state("wrong database", evidence, by_hand(why))


def _squashed(facts: Facts) -> State | None:
    if not facts.squashed:
        return None
    evidence = [f"{facts.version_table} names {each}" for each in facts.squashed]
    why = "it compares the schema, and writes the new id; no row changes"
    if not all(each.is_at_end for each in facts.squashed):
        why = "after a backup it runs what is left of the old revisions, and then writes the new id"
    return _state("squashed", evidence, upgrade(why))


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
    cure = parting(facts) or (None if is_stamp else restoring(facts))
    return _state("orphaned revision", evidence, cure or proving(facts))


def _overlapping(facts: Facts) -> State | None:
    if not facts.outdated:
        return None
    kept = [each for each in facts.recorded if each not in facts.outdated]
    evidence = f"{facts.version_table} names {_some(facts.outdated)} beside {_some(kept)}"
    return _state("half applied", [f"{evidence}, which comes after it"], keeping(facts, kept))


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
    return _state("no database", [f"{facts.database} does not exist"], upgrade(why))


def _empty(facts: Facts) -> State | None:
    if facts.recorded or facts.tables:
        return None
    evidence = [f"{facts.database} has no table and no version"]
    return _state("empty", evidence, upgrade("every migration is waiting"))


def _ahead(facts: Facts) -> State | None:
    if facts.recorded:
        return None
    tables = f"{facts.database} has {_some(sorted(facts.tables))}"
    evidence = f"{tables}, but {facts.version_table} names no revision"
    return _state("ahead", [evidence], proving(facts))


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
    cure = proving(facts) if told else drop_indexes(facts.invalid)
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
    return _state("stamped but not migrated", evidence, proving(facts))


def _unlike(facts: Facts) -> State | None:
    """Say how the database differs from what the chain makes, where that was shown."""
    proof = facts.proof
    if proof is None or not facts.is_untrue or (facts.differences and not proof.agrees):
        return None
    told = proof.apart or proof.differences
    recorded = ", ".join(facts.recorded)
    evidence = [f"at {recorded} the chain and the database differ: {told[0]}", *_few(told[1:])]
    return _state("drift", evidence, reset(facts))


def _more(facts: Facts) -> State | None:
    """Say what the database has beside what the chain makes."""
    if facts.proof is None or facts.pending or not (facts.is_true and facts.proof.apart):
        return None
    rebuilding = rebuilding_cure(facts)
    why = f"drop it, or write a migration that makes it; {rebuilding} would leave it out"
    return _state("drift", _few(facts.proof.apart), by_hand(why))


def _behind(facts: Facts) -> State | None:
    if not facts.pending:
        return None
    at, goal = ", ".join(facts.recorded), ", ".join(facts.goal)
    evidence = (
        f"the database is at {at}, head is {goal}: {count(len(facts.pending), 'revision')} to run"
    )
    return _state("behind", [evidence], upgrade("migrations are waiting"))


def _models_not_loaded(facts: Facts) -> State | None:
    if not facts.differences or facts.models is None or facts.models:
        return None
    evidence = f"env.py's target_metadata has no table, the database has {len(facts.tables)}"
    return _state("models not loaded", [evidence], by_hand(LOAD_MODELS))


def _drift(facts: Facts) -> State | None:
    if not facts.differences:
        return None
    cure = by_hand(
        f"if the models are right: {migration(facts)}; if the database is not: "
        f"{rebuilding_cure(facts)}; if both are to stay: {ACCEPT}"
    )
    if facts.is_true:
        cure = by_hand(
            f"the database is what the chain makes: {migration(facts)}, "
            f"then `invoke upgrade`; or accept it: {ACCEPT}"
        )
    return _state("drift", _few(facts.differences), cure)


def _at_head(facts: Facts) -> State:
    proved = ", and its schema is what the chain makes: proved" if facts.is_true else ""
    evidence = [f"the database is at {', '.join(facts.recorded)}{proved}"]
    # `alembic current --check-heads` fails there for ever.
    if unrecorded := sorted(set(facts.goal) - set(facts.recorded)):
        names, verb = ", ".join(unrecorded), "have" if unrecorded[1:] else "has"
        evidence.append(f"{names} {verb} run and no row, since another head depends on it")
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
    *(_no_server, _broken_chain, _wrong_database, _squashed, _orphaned, _overlapping),
    *(_several_heads, _no_database, _empty, _ahead, _half_applied, _stamped, _unlike, _behind),
    *(_models_not_loaded, _more, _drift, _at_head),
)
