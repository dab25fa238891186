"""The facts that a state is judged by: what was seen of a database, and of its scripts.

What the texts of the scripts say must, and must not yet, be in a database, is among them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backset.catalog import catalog
from backset.catalog.catalog import stored
from backset.revisions import operations, script_files
from backset.settings.values import Lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from backset.connections.session import Session
    from backset.migrate.answers import Problem
    from backset.revisions.operations import Operation
    from backset.revisions.replaced import ReplacedPlace
    from backset.revisions.restore import Recipe
    from backset.revisions.script_files import Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a scratch build of the chain has shown.

    same: the places at which it was identical to the live schema, the earliest first; each is the
    rows that the version table has there, with a space between.
    unbuilt: why there was no such run, and what to do; then nothing is proved.
    differences: in words, at the head.
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
        """Whether there was such a run, so that something is proved."""
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
    project that have rows, and what else a rebuild would lose. squashed: where the orphans stand in
    what a script replaces, if all of them do. replaced: the id of such a script, by each that it
    replaces. restored: what a scratch build has
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
    squashed: tuple[ReplacedPlace, ...] = ()
    replaced: Mapping[str, str] = field(default_factory=dict)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptEffects:
    """What was compared, in words; `ours` are the tables that models and scripts speak of.

    in_the_way: what exists though a pending revision makes it. unmade: what does not exist though
    a recorded revision made it. invalid: indexes.
    """

    ours: frozenset[str]
    in_the_way: tuple[str, ...]
    unmade: tuple[str, ...]
    invalid: tuple[str, ...]


def script_effects(
    session: Session,
    revisions: Sequence[Revision],
    models: Mapping[str, Collection[str]],
    *,
    done: Collection[str],
    pending: Collection[str],
    homes: Collection[str] = (),
    spare: Callable[[tuple[str, str]], bool] = lambda _: False,
) -> ScriptEffects:
    """Compare what the scripts make with what there is.

    models: columns by table. done, pending: the ids of revisions. homes: the schemas beside
    `public` that a name without a schema may mean. Such a name is in the way in one of these; it is
    made wherever it is found, since only a run tells in which schema that was. So is one in a
    schema that is not there at all: it may stand for those of tenants (schema_translate_map).
    spare: which tables are somebody else's, whose indexes are not ours to judge.
    """
    order = script_files.ordered(revisions)
    indexes = catalog.indexes(session)
    columns = catalog.columns(session)
    others = catalog.other_names(session)
    every = _read(order)
    standing = operations.standing(_of(every, done))
    made = {name for kind, name in operations.standing(_of(every)) if kind == "table"}
    ours = {*models, *made}
    schemas = {each.rpartition(".")[0] for each in columns}
    stand_ins = {each.rpartition(".")[0] for each in ours} - schemas | {""}
    existing = _existing(columns, indexes, others, homes, {""})
    anywhere = _existing(columns, indexes, others, schemas, stand_ins)
    return ScriptEffects(
        ours=frozenset(ours.union(each for each in columns if _meant(each, stand_ins) & ours)),
        in_the_way=tuple(
            f"{each.kind} {each.name} exists already, which {file}:{each.line} makes"
            for file, each in operations.in_the_way(_of(every, pending), existing)
        ),
        unmade=tuple(_unmade(standing, anywhere, models)),
        invalid=tuple(catalog.invalid_indexes(session, spare)),
    )


def _existing(
    columns: Mapping[str, set[str]],
    indexes: Mapping[str, bool],
    others: Sequence[tuple[str, str]],
    homes: Collection[str],
    stand_ins: Collection[str],
) -> dict[str, set[str]]:
    """Return the names of what there is, by kind; of what is in `homes`, all that may mean it."""
    tables = [*columns.items()]
    for name, own in columns.items():
        if name.rpartition(".")[0] in homes:
            tables += [(each, own) for each in _meant(name, stand_ins)]
    found: dict[str, set[str]] = defaultdict(set)
    for kind, name in others:
        schema, _, bare = name.partition(".")
        found[kind] |= {name, bare} if schema in homes else {name}
    return {
        **found,
        "table": {name for name, _ in tables},
        "column": {f"{name}.{each}" for name, own in tables for each in own},
        "index": {name.rpartition(".")[2] for name, valid in indexes.items() if valid},
    }


def _meant(table: str, stand_ins: Collection[str]) -> set[str]:
    """Return how a table may be named by a script; stand_ins: schemas, an empty one for none."""
    bare = table.rpartition(".")[2]
    return {f"{schema}.{bare}" if schema else bare for schema in stand_ins}


def _unmade(
    standing: Mapping[tuple[str, str], tuple[str, int]],
    existing: Mapping[str, set[str]],
    models: Mapping[str, Collection[str]],
) -> Iterator[str]:
    """Say what a recorded revision makes and the models have, but the database has not.

    Without models only where none of it exists: a script may drop in a way that its text hides.
    """
    wanted = {("table", each) for each in models}
    wanted |= {("column", f"{table}.{each}") for table, own in models.items() for each in own}
    made = {name for kind, name in standing if kind == "table"}
    gone = made - existing["table"]
    if not models and gone == made:
        wanted = {("table", each) for each in made}
    for (kind, name), (file, line) in standing.items():
        of_gone = kind == "column" and name.rpartition(".")[0] in gone
        if (kind, name) in wanted and name not in existing[kind] and not of_gone:
            yield f"{kind} {name} does not exist, which {file}:{line} makes"


def _read(revisions: Iterable[Revision]) -> list[tuple[Revision, list[Operation]]]:
    """Read the texts of scripts; one whose source is gone says nothing."""
    return [(each, list(_stored(each))) for each in revisions]


def _stored(revision: Revision) -> Iterator[Operation]:
    """Yield what a script does, by names as the server stores them."""
    for each in operations.read(operations.source_of(revision)):
        yield replace(each, name=stored(each.name), owner=stored(each.owner))


def _of(
    every: Sequence[tuple[Revision, list[Operation]]], ids: Collection[str] | None = None
) -> Iterator[tuple[str, Operation]]:
    """Yield what these revisions do, or all of them, each with the name of its file."""
    for revision, does in every:
        if ids is None or revision.id in ids:
            yield from ((revision.path.name, each) for each in does)
