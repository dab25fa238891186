"""The facts that a state is judged by: what was seen of a database, and of its scripts. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.migrations.worker import Problem
    from backset.scripts.recipes import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a scratch build of the chain has shown.

    same: the places at which it was identical to the live schema, the earliest first; each is the
    rows that the version table has there, with a space between.
    unbuilt: why there was no such build, and what to do; then nothing is proved.
    differences: in words, at the head. agrees: whether models and chain agree at the head.
    unseen: files of the revisions between these places, which do something that no schema shows.
    filling: files of the revisions before them that speak of rows. spare: what was not compared.
    """

    same: tuple[str, ...] = ()
    unbuilt: str = ""
    differences: tuple[str, ...] = ()
    agrees: bool = True
    unseen: tuple[str, ...] = ()
    filling: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Restorable:
    """A missing file that can be brought back: what is known of it, and the recipe for that.

    connects: whether it makes one whole chain with today's scripts, with no head more.
    """

    revision: str
    evidence: tuple[str, ...]
    recipe: Recipe | None
    connects: bool


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
    in_the_way: what exists though a pending revision makes it. unmade: what does not exist though
    a recorded revision made it. invalid: indexes.
    """

    root: Path = field(default_factory=Path)
    database: str
    mended_in: str = "DATABASE_URL"
    unreachable: str = ""
    elsewhere: str = ""
    elsewhere_remedy: str = ""
    exists: bool = True
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
    restorable: tuple[Restorable, ...] = ()
    proof: Proof | None = None

    @property
    def is_true(self) -> bool:
        """Whether it is proved that the live schema is what the recorded revision makes."""
        return self.proof is not None and " ".join(sorted(self.recorded)) in self.proof.same

    def shown(self, path: Path) -> Path:
        """Return a path as seen from the project's folder."""
        return path.relative_to(self.root) if path.is_relative_to(self.root) else path
