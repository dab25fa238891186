"""What state a database is in: gathers the facts, and lets states.py judge them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from backset import catalog, graph, operations, seeding, verification
from backset.errors import AlembicError, Finding, UnreachableError
from backset.facts import Facts
from backset.lineage import ALL_HEADS
from backset.session import explained
from backset.states import state
from backset.verification import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from backset.build import Build
    from backset.facts import Proof
    from backset.migrations import Revision, Scripts
    from backset.operations import Operation
    from backset.session import Session
    from backset.states import State

_NOTHING = Verdict((), 0, compared=False, findings=())
_DIFFERENT = frozenset({"drift", "models not loaded"})  # kinds of findings that models give
_JUDGED = frozenset({"no migrations"})  # kinds that the state says in more words


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of a target.

    server: its version; empty where nobody answers. heads: of the scripts. rows: exact counts by
    table. verdict: what verification found. previous: whether `undo` has something to go back to.
    protected: whether it may be replaced.
    """

    database: str
    server: str = ""
    heads: tuple[str, ...] = ()
    rows: Mapping[str, int]
    previous: bool = False
    protected: bool = False
    verdict: Verdict = _NOTHING
    facts: Facts

    @property
    def state(self) -> State:
        """The state that the facts amount to."""
        return state(self.facts)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The state, if it is not good, and what else was found."""
        found = self.state
        if found.is_good or found.name == "drift":
            return self.verdict.findings
        covered = {found.name, *_JUDGED}
        return (
            found.finding,
            *(each for each in self.verdict.findings if each.kind not in covered),
        )


def status(build: Build, proof: Proof | None = None) -> Status:
    """Look at the target; nothing is changed. Raises StepFailedError."""
    with explained(build.target):
        found = _status(build)
    return replace(found, facts=replace(found.facts, proof=proof))


def _status(build: Build) -> Status:
    _ = build.worker  # it imports Alembic while we ask the server
    facts = Facts(root=build.settings.root, database=build.target.database)
    found = Status(database=build.target.database, rows={}, facts=facts)
    try:
        found = replace(
            found,
            server=build.server.session.info.parameter_status("server_version") or "",
            previous=build.previous is not None,
            protected=build.old is not None and build.old.protected,
        )
        if build.old is not None:
            found = replace(found, rows=catalog.row_counts(build.session))
    except UnreachableError as error:
        return replace(found, facts=replace(facts, unreachable=error.words))
    scripts = build.worker.scripts
    facts = replace(facts, problems=scripts.problems, **_goal(build, scripts))
    found = replace(found, heads=scripts.heads, facts=replace(facts, exists=build.old is not None))
    return _of_database(build, found) if build.old is not None else found


def _goal(build: Build, scripts: Scripts) -> dict[str, Any]:
    """Return where `upgrade` ends, and whether several such ends are accepted."""
    accepted = build.worker.lineage.heads
    goal = accepted if accepted and accepted != ALL_HEADS else scripts.heads
    return {"goal": tuple(goal), "several": bool(accepted)}


def _of_database(build: Build, found: Status) -> Status:
    """Add what the database itself says, and what Alembic says of it."""
    session, scripts = build.session, build.worker.scripts
    facts = replace(found.facts, **_recorded(session, scripts))
    if any(each.kind != "stale byte code" for each in facts.problems):
        return replace(found, facts=facts, verdict=replace(_NOTHING, revisions=facts.recorded))
    try:
        about = build.worker.ask("describe", session)
        verdict = verification.verify(build.settings, build.worker, session)
    except AlembicError as error:
        if error.kind != "wrong target":
            raise
        facts = replace(facts, elsewhere=error.what, elsewhere_remedy=error.remedy)
        return replace(found, facts=facts)
    facts = _compared(facts, about, verdict, scripts, session)
    lagging = tuple(seeding.lagging(session))
    findings = _half_built(build) + verdict.findings + lagging
    return replace(found, facts=facts, verdict=replace(verdict, findings=findings))


def _recorded(session: Session, scripts: Scripts) -> dict[str, Any]:
    """Return what can be told without Alembic, which refuses a broken chain."""
    recorded = tuple(catalog.revisions(session))
    known = {each.id for each in scripts.revisions}
    names = {catalog.shown(*each) for each in catalog.tables(session)}
    return {
        "recorded": recorded,
        "orphans": tuple(each for each in recorded if each not in known),
        "tables": frozenset(names - catalog.version_tables(session)),
    }


def _compared(
    facts: Facts, about: Mapping[str, Any], verdict: Verdict, scripts: Scripts, session: Session
) -> Facts:
    """Add what models and scripts say of the database."""
    recorded = tuple(about["revisions"])
    done = graph.ancestors(recorded, scripts.revisions)
    wanted = graph.ancestors(facts.goal, scripts.revisions)
    differences = tuple(each.what for each in verdict.findings if each.kind in _DIFFERENT)
    facts = replace(
        facts,
        recorded=recorded,
        orphans=tuple(about["orphans"]),
        pending=tuple(
            each.id for each in graph.ordered(scripts.revisions) if each.id in wanted - done
        ),
        version_table=about["version_table"],
        models=None if about["models"] is None else frozenset(about["columns"]),
        differences=differences,
    )
    suspicious = differences or facts.pending or facts.orphans or not facts.tables or not recorded
    return _by_scripts(facts, about["columns"], scripts, session, done) if suspicious else facts


def _by_scripts(
    facts: Facts,
    models: Mapping[str, list[str]],
    scripts: Scripts,
    session: Session,
    done: set[str],
) -> Facts:
    """Add what the texts of the scripts say that must, and must not yet, exist."""
    revisions = graph.ordered(scripts.revisions)
    columns, indexes = catalog.columns(session), catalog.indexes(session)
    existing = {
        "table": set(columns),
        "column": {f"{table}.{each}" for table, own in columns.items() for each in own},
        "index": {name.rpartition(".")[2] for name, valid in indexes.items() if valid},
    }
    pending = _operations(each for each in revisions if each.id in facts.pending)
    standing = operations.standing(_operations(each for each in revisions if each.id in done))
    made = {name for kind, name in operations.standing(_operations(revisions)) if kind == "table"}
    return replace(
        facts,
        ours=frozenset({*models, *made}),
        invalid=tuple(sorted(name for name, valid in indexes.items() if not valid)),
        in_the_way=tuple(
            f"{each.kind} {each.name} exists already, which {file}:{each.line} makes"
            for file, each in operations.in_the_way(pending, existing)
        ),
        unmade=tuple(_unmade(standing, existing, models)),
    )


def _unmade(
    standing: Mapping[tuple[str, str], tuple[str, int]],
    existing: Mapping[str, set[str]],
    models: Mapping[str, list[str]],
) -> Iterator[str]:
    """Say what a recorded revision makes and the models have, but the database has not.

    Without models only where none of it exists: a script may drop in a way that its text hides.
    """
    wanted = {("table", each) for each in models}
    wanted |= {("column", f"{table}.{each}") for table, own in models.items() for each in own}
    gone = {key for key in standing if key[0] == "table" and key[1] not in existing["table"]}
    if not models and len(gone) == len([key for key in standing if key[0] == "table"]):
        wanted = set(standing)
    for (kind, name), (file, line) in standing.items():
        of_gone = kind == "column" and ("table", name.rpartition(".")[0]) in gone
        if (kind, name) in wanted and name not in existing[kind] and not of_gone:
            yield f"{kind} {name} does not exist, which {file}:{line} makes"


def _operations(revisions: Iterable[Revision]) -> list[tuple[str, Operation]]:
    """Read the texts of scripts; one whose source is gone says nothing."""
    return [
        (each.path.name, operation)
        for each in revisions
        if each.path.suffix == ".py"
        for operation in operations.read(each.path.read_text(encoding="utf-8", errors="replace"))
    ]


def _half_built(build: Build) -> tuple[Finding, ...]:
    if build.old is None or build.old.mark != "unfinished":
        return ()
    finding = Finding(
        kind="half built",
        what=f"a run in place on {build.old.name} was killed",
        why=f"what stood there is in the backup {build.old.backup or 'of nothing'}",
        remedy="run any other task in the checkout where that was: it brings the backup back first",
    )
    return (finding,)
