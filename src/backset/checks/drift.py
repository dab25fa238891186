"""Models beside a database: what Alembic compares, chain by chain, and what create_all() makes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from backset.catalog import catalog, sharing
from backset.checks import deep
from backset.checks.differences import LEFTOVER, drift, enums
from backset.errors import Finding, RefusedError, StepFailedError
from backset.migrate import current
from backset.revisions import script_files
from backset.revisions.history import ToldChain

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from backset.catalog.sharing import Sharing
    from backset.connections.session import Session
    from backset.migrate.answers import Description
    from backset.migrate.worker import Worker


LOAD_MODELS = (
    "import the modules of the models in env.py; or, where a command of the project loads them, "
    'name that: [tool.backset] upgrade = ["COMMAND", "ARGUMENT"]; or silence it: '
    '[[tool.backset.ignore]] kind = "models not loaded", name = "*", reason = "…", until = a day'
)

_TOO_MANY = "they have {} tables: `invoke status --drift`"


@dataclass(frozen=True, slots=True)
class View:
    """One chain of revisions as its process describes it on a database.

    most: how many tables its models may have to be compared; None: any number.
    """

    worker: Worker
    about: Description
    most: int | None = None

    @property
    def names(self) -> list[str]:
        """The tables that are its own; `schema.*` stands for all of a schema."""
        lineage = self.worker.lineage
        own = [*self.about.columns, *self.about.version_table.split(", ")]
        own += [lineage.version_table] if lineage.version_table else []
        return [*own, f"{lineage.schema}.*"] if lineage.schema else own

    @property
    def uncompared(self) -> str:
        """Why its models are not compared."""
        why = self.about.uncompared or (self.is_passed and _TOO_MANY.format(self.about.models))
        return f"{self.worker.lineage.label}{why}" if why else ""

    @property
    def is_passed(self) -> bool:
        """Whether its models have too many tables to be compared."""
        return self.most is not None and (self.about.models or 0) > self.most

    @property
    def failures(self) -> list[Finding]:
        """What its env.py failed with, where that stops nothing."""
        failure = self.about.failure
        return self.named([failure]) if failure else []

    @property
    def version_findings(self) -> list[Finding]:
        """What is wrong with the rows of its version table."""
        return self.named(
            current.version_findings(
                *(self.about, self.worker.scripts.goal),
                alembic=self.worker.lineage.alembic,
                scripts=self.worker.scripts.revisions,
            )
        )

    def mentions(self, table: str) -> bool:
        """Tell whether one of its migrations names a table."""
        schema, _, name = table.rpartition(".")
        texts = script_files.texts(self.worker.scripts.folders)
        return not sharing.unnamed([(schema, name)], texts)

    def named(self, findings: Sequence[Finding]) -> list[Finding]:
        """Return findings that begin with the chain's name."""
        label = self.worker.lineage.label
        return [replace(each, what=f"{label}{each.what}") for each in findings]


def views(
    workers: Sequence[Worker], session: Session, *, only_looks: bool, most: int | None = None
) -> list[View]:
    """Return each chain as its process describes it; only_looks: its failure is a finding."""
    return [
        View(each, current.describe(each, session, only_looks=only_looks), most) for each in workers
    ]


def together(views: Sequence[View]) -> Description:
    """Return what the processes of all chains say, as if it was one."""
    labels = [view.worker.lineage.label for view in views]
    return current.together([view.about for view in views], labels)


def chains(views: Sequence[View]) -> tuple[ToldChain, ...]:
    """Return where each chain is that has a name: of one alone the database itself is told."""
    return tuple(
        ToldChain(
            name=view.worker.lineage.name, revisions=view.about.revisions, heads=view.about.heads
        )
        for view in views
        if view.worker.lineage.name
    )


@dataclass(frozen=True, slots=True)
class Compared:
    """What the process of a chain says of its models, as alembic_worker.compare has it."""

    view: View
    differences: Sequence[Mapping[str, Any]]
    excluded: Sequence[Sequence[Any]]
    tables: Sequence[Sequence[str]]

    @property
    def compares(self) -> set[tuple[str, ...]]:
        """The tables of its models that its hooks do not leave out."""
        left_out = {tuple(each[1:3]) for each in self.excluded if each[0] == "table"}
        return {*map(tuple, self.tables)} - left_out


def _excluded(told: Sequence[Compared]) -> list[Sequence[Any]]:
    """Return what hooks leave out, but for what one chain leaves to another, which compares it."""
    compared = {table for one in told for table in one.compares}
    return [
        each
        for one in told
        for each in one.excluded
        if tuple(each[1:3]) not in compared - one.compares
    ]


CORRECT_MODEL = "correct the model"


def compared_deeply(
    views: Sequence[View],
    catalogs: Callable[[], deep.Catalogs],
    told: Sequence[Compared],
    found: Sequence[Finding],
) -> deep.DeepFindings:
    """Compare what the models make with the database; a model that cannot be made is a problem."""
    try:
        both = catalogs()
    except RefusedError as error:
        return deep.DeepFindings(problem=error.what, remedy=error.remedy)
    except StepFailedError as error:
        return deep.DeepFindings(problem=error.what, remedy=CORRECT_MODEL)
    said = deep.Said(
        about=[each["about"] for one in told for each in one.differences],
        excluded=_excluded(told),
        findings=found,
    )
    return deep.compare(both, said, partial(_places, views))


def _places(
    views: Sequence[View], parts: Collection[tuple[str, str, str]]
) -> dict[tuple[str, str, str], str]:
    """Say where the models of tables are, and of their parts which revision names them last."""
    where: dict[tuple[str, str], str] = {}
    scripts: dict[str, str] = {}
    for view in views:
        worker = view.worker
        for each in worker.models({(schema, table) for schema, table, _ in parts}):
            line = f":{each['line']}" if each["line"] else ""
            named = f"{each['class']} in " if each["class"] else ""
            where[each["schema"], each["table"]] = f"{named}{worker.shown(each['file'])}{line}"
        for script in script_files.ordered(worker.scripts.revisions):
            scripts[script.id] = script.path.read_text(encoding="utf-8", errors="replace")
    return {
        (schema, table, name): where.get((schema, table), "the models")
        + _named_by(scripts, table, name)
        for schema, table, name in parts
    }


def _named_by(scripts: Mapping[str, str], table: str, name: str) -> str:
    """Say which revision is the last one that names both; nothing where none does."""
    word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    found = [
        revision
        for revision, text in scripts.items()
        if word.search(text) and sharing.mentions(text, table)
    ]
    return f"; revision {found[-1]} names it last" if found and name else ""


def compared(
    views: Sequence[View],
    session: Session,
    others: Callable[[], Sharing],
    said: list[Compared] | None = None,
) -> list[Finding]:
    """Compare models and database for each chain; what no chain's models have is said once.

    said: gets what the process of each chain has said.
    """
    said = [] if said is None else said
    found: list[Finding] = []
    leftovers: dict[str, Finding] = {}
    for view in views:
        foreign = [name for other in views if other is not view for name in other.names]
        for each in _comparison(view, foreign, session, others, said):
            if each.kind == LEFTOVER:
                leftovers.setdefault(each.name.removeprefix("public."), each)
            else:
                found += view.named([each])
    strange = _strange_tables(views, session) if leftovers else ""
    for name, each in leftovers.items():
        makers = [view for view in views if view.mentions(name)]
        if any(not view.about.models for view in makers):
            continue  # that chain's own, whose models nobody has loaded
        told = replace(each, why=f"{each.why}{strange}")
        found.append(_unimported(each) if makers else told)
    return found


def differences_of_models(
    workers: Sequence[Worker],
    session: Session,
    catalogs: Callable[[], deep.Catalogs] | None = None,
) -> list[Finding]:
    """Return how models differ from a database that nobody shares, and that is at all heads.

    catalogs: as verify() has it; where the models cannot be made, Alembic's comparison counts.
    """
    chains = views(workers, session, only_looks=True)
    told: list[Compared] = []
    found = compared(chains, session, lambda: sharing.NOBODY, told)
    deeply = (
        compared_deeply(chains, catalogs, told, found) if catalogs and told else deep.DeepFindings()
    )
    return found + [each for each in deeply.findings if each.kind == deep.KIND]


def _strange_tables(views: Sequence[View], session: Session) -> str:
    """Say that there are chains of others, whose models nobody has loaded, after a leftover."""
    own = {name for view in views for name in view.names}
    names = (catalog.shown(*each) for each in catalog.version_tables(session))
    strange = [each for each in names if each not in own]
    if not strange:
        return ""
    return f"; {', '.join(strange)} is of another chain, whose models were not loaded"


def _unimported(leftover: Finding) -> Finding:
    """Say of a table that a migration makes that its model may be one that was not loaded."""
    rows = leftover.why.partition("; ")[2]
    return replace(
        leftover,
        why=f"no model that env.py imports has it, though a migration names it; {rows}",
        remedy=f"import its model in env.py, if it has one; else {leftover.remedy}",
    )


def unloaded(views: Sequence[View]) -> list[str]:
    """Say which of several chains have no models to compare."""
    return [
        f"{view.worker.lineage.label}env.py has no models to compare"
        for view in views
        if len(views) > 1 and view.about.models is None and not view.uncompared
    ]


def _comparison(
    view: View,
    foreign: Sequence[str],
    session: Session,
    others: Callable[[], Sharing],
    said: list[Compared],
) -> list[Finding]:
    """Compare models and database, which is at head; without models there is nothing to say.

    foreign: the tables of the other chains, which are not this one's to have. others: what is
    somebody else's altogether. said: gets what the process of the chain has said.
    """
    about = view.about
    if about.models is None or view.is_passed:
        return []
    answer = view.worker.differences(session)
    told = answer["differences"]
    said += [Compared(view, told, answer["excluded"], answer["tables"])] if about.models else []
    if any(each["kind"] == LEFTOVER for each in told):
        foreign = [*foreign, *_of(others())]
    differences = [each for each in told if not _is_foreign(each, foreign)]
    if differences and not about.models:
        return [
            Finding(
                kind="models not loaded",
                what="env.py's target_metadata has no table",
                why="models and database cannot be compared",
                remedy=LOAD_MODELS,
            )
        ]
    found = drift(differences, session, view.worker.lineage.alembic)
    typed = [each["name"] for each in differences if ": type " in each["text"]]
    schema = view.worker.lineage.schema
    return found + enums(about.enums, session, schema, typed)


def _of(others: Sharing) -> list[str]:
    return [
        *(catalog.shown(*each) for each in others.relations),
        *(f"{each}.*" for each in others.schemas),
    ]


def _is_foreign(difference: Mapping[str, str], foreign: Sequence[str]) -> bool:
    """Tell whether a table that no model of one chain has belongs to another chain."""
    name = difference["name"].removeprefix("public.")
    schema = name.rpartition(".")[0]
    return difference["kind"] == LEFTOVER and (name in foreign or f"{schema}.*" in foreign)
