"""The cures of states, from the smallest on. Pure: facts in, a command and its reason out."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.checks.heads import RECURSIVE
from backset.revisions import restore
from backset.revisions.history import few

if TYPE_CHECKING:
    from collections.abc import Sequence

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Cure:
    """The least destructive repair.

    way: `none`, `upgrade`, `restore file`, `merge heads`, `drop index`, `prove` (which finds out
    which it is), `stamp`, `reset` of a database without rows, `carry`, which is a reset that
    carries them, or `by hand`. command: what does it.
    revision: which one is stamped. recipe: the files that come back.
    """

    way: str
    command: str = ""
    why: str = ""
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
    elif worst.kind == "duplicate id":
        why = f"give one of {' and '.join(paths)} an id of its own, or delete it if it is a copy"
    elif worst.kind == "stale byte code":
        why = f"bring its source back, or let `invoke archive` put {', '.join(paths)} away"
    elif worst.kind == "scripts below":
        why = f"with them the chain is whole: {RECURSIVE}, or in [tool.backset.ini]"
    elif worst.kind == "no migrations":
        why = f"bring the files of {paths[0]} back, or name the folder below it that is meant: "
        why += f"[tool.backset.ini] version_locations; or all of them: {RECURSIVE}; "
        why += "a new project makes its first one by "
        why += f"`{facts.alembic('revision --autogenerate -m initial', [])}`"
    else:
        why = "mend that file, or set what it asks for"
    return by_hand(why)


def proving(facts: Facts) -> Cure:
    """Return `stamp` where a scratch build proves it, `reset` where that disproves it."""
    if facts.proof is None:
        return Cure(way="prove", command="invoke repair", why=PROVE)
    if facts.proof.unbuilt:
        unproved = _UNPROVED.format(rebuilding(facts))
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
    return _stamped(facts, latest, why)


def _stamped(facts: Facts, place: str, why: str) -> Cure:
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
    return _stamped(facts, latest, why)


def rebuilding(facts: Facts) -> str:
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
