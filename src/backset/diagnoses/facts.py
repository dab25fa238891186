"""The facts that a state is judged by: what was seen of a database, and of its scripts. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from backset.configuration.lineage import Lineage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from backset.migrations.worker import Problem
    from backset.scripts.restore import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a scratch build of the chain has shown.

    same: the places at which it was identical to the live schema, the earliest first; each is the
    rows that the version table has there, with a space between.
    unbuilt: why there was no such build, and what to do; then nothing is proved.
    differences: in words, at the head. lacks: whether something that the chain makes is missing
    there, or is another one; else the database has more than that.
    apart: how it differs from what the recorded revisions make. reached: whether that was built.
    early: what of that is as it is at the head. stands: whether all that the recorded revisions
    make is there, and nothing of what follows them. agrees: whether models and chain agree at the
    head.
    unseen: files of the revisions between these places, which do something that no schema shows.
    filling: files of the revisions before them that speak of rows. unrun: those that do nothing
    else, and have not run by the version table. spare: what was not compared.
    """

    same: tuple[str, ...] = ()
    unbuilt: str = ""
    differences: tuple[str, ...] = ()
    lacks: bool = True
    apart: tuple[str, ...] = ()
    early: tuple[str, ...] = ()
    reached: bool = True
    stands: bool = False
    agrees: bool = True
    unseen: tuple[str, ...] = ()
    filling: tuple[str, ...] = ()
    unrun: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()

    @property
    def is_built(self) -> bool:
        """Whether there was such a build, so that something is proved."""
        return not self.unbuilt


@dataclass(frozen=True, slots=True, kw_only=True)
class Restorable:
    """A missing file that can be brought back: what is known of it, and the recipe for that.

    connects: whether it makes one whole chain with today's scripts, with no head more. others: the
    other scripts that have had that id, each with the command that brings it back.
    """

    revision: str
    evidence: tuple[str, ...]
    recipe: Recipe | None
    connects: bool
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was seen of a database and of the scripts.

    mended_in: what a person corrects where it is the wrong one.
    unreachable: libpq's words, where there is no connection. elsewhere: what is said of the
    other database that env.py opened.
    strays: the orphans by version table, with its chain before it where there are several.
    strangers: tables that no model and no revision knows, looked for where there are orphans.
    shared: the version tables that have such a row beside one of the project's.
    outdated: rows of the only version table that others in it come after.
    pending: revisions that are to be run. goal: where `upgrade` ends; several where these are
    accepted, which `several` says. enums_differ: in values, which Alembic's autogenerate does not
    see. tables: without the version table. models: tables that they
    have; None where env.py names none. ours: tables that models and scripts speak of.
    chains: the chains of the database, each with the ids of its scripts. has_door: whether a
    command of the project migrates one of them.
    in_the_way: what exists though a pending revision makes it. unmade: what does not exist though
    a recorded revision made it. invalid: indexes, as SQL spells them. filled: tables of the
    project that have rows, and what else a rebuild would lose. restored: what a scratch build has
    shown of the chain with its missing files.
    """

    root: Path = field(default_factory=Path)
    database: str
    mended_in: str = "DATABASE_URL"
    unreachable: str = ""
    elsewhere: str = ""
    elsewhere_remedy: str = ""
    exists: bool = True
    chains: tuple[tuple[Lineage, frozenset[str]], ...] = ()
    has_door: bool = False
    problems: tuple[Problem, ...] = ()
    goal: tuple[str, ...] = ()
    several: bool = False
    recorded: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    strays: Mapping[str, Sequence[str]] = field(default_factory=dict)
    strangers: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    version_table: str = "alembic_version"
    tables: frozenset[str] = frozenset()
    models: frozenset[str] | None = None
    ours: frozenset[str] = frozenset()
    differences: tuple[str, ...] = ()
    enums_differ: bool = False
    in_the_way: tuple[str, ...] = ()
    unmade: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    restorable: tuple[Restorable, ...] = ()
    proof: Proof | None = None
    restored: Proof | None = None

    @property
    def is_uneven(self) -> bool:
        """Whether a version table is behind another one that is at the end, as of two tenants.

        No place of the chain is where such a database stands.
        """
        return bool(self.pending) and set(self.goal) <= set(self.recorded)

    @property
    def is_true(self) -> bool:
        """Whether it is proved that the live schema is what the recorded revisions make.

        It may have something more, which no later revision makes.
        """
        proof = self.proof
        return (
            not self.is_uneven
            and proof is not None
            and (proof.stands or " ".join(sorted(self.recorded)) in proof.same)
        )

    @property
    def is_untrue(self) -> bool:
        """Whether that is disproved."""
        proof = self.proof
        tells = proof is not None and proof.is_built and (proof.reached or bool(proof.same))
        return tells and not (self.is_true or self.is_uneven)

    def alembic(self, words: str, revisions: Iterable[str]) -> str:
        """Return the command line with these words and revisions; of several chains, one of each.

        A revision goes to the chain that has it.
        """
        named = list(revisions)
        if len(self.chains) < 2:  # noqa: PLR2004  (one is not several)
            lineage = self.chains[0][0] if self.chains else Lineage()
            return " ".join([lineage.alembic, words, *named])
        own = ((lineage, [each for each in named if each in ids]) for lineage, ids in self.chains)
        return " && ".join(" ".join([each.alembic, words, *some]) for each, some in own if some)

    def alembic_each(self, words: str, texts: Collection[str]) -> list[str]:
        """Return the command lines for the chains that some of the texts begin with."""
        chains = [lineage for lineage, _ in self.chains] or [Lineage()]
        meant = [each for each in chains if any(text.startswith(each.label) for text in texts)]
        return [f"{each.alembic} {words}" for each in meant or chains]

    def shown(self, path: Path) -> Path:
        """Return a path as seen from the project's folder."""
        return path.relative_to(self.root) if path.is_relative_to(self.root) else path
