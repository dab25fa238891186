"""What state a database is in: gathers the facts, and lets states.py judge them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from backset.catalog import catalog, extension_rows, past, sharing, versions
from backset.catalog.catalog import RowCounts
from backset.checks import verification
from backset.checks.differences import ENUM_KINDS, LEFTOVER
from backset.checks.verification import Verdict
from backset.connections.session import explained
from backset.errors import AlembicError, Finding, UnreachableError
from backset.migrate import current, project_command
from backset.migrate.answers import Problem
from backset.revisions import orphans, replaced, script_files
from backset.status.facts import Facts, Restorable, script_effects
from backset.status.states import state

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from backset.connections.session import Session
    from backset.migrate.answers import Scripts
    from backset.revisions.history import Trace
    from backset.revisions.replaced import ReplacedPlace
    from backset.revisions.script_files import Revision
    from backset.runs.run import Run
    from backset.status.states import State

_NOTHING = Verdict((), 0, compared=False, findings=())
# The kinds of findings that models give.
_DIFFERENT = ENUM_KINDS | {"drift", "models not loaded", LEFTOVER}
_BEYOND_MODELS = "what Alembic does not compare (CHECK, triggers, functions, views, policies, …)"
_PROVE = ": `invoke status --prove`"
_MOST = 100  # tables of models: to compare 150 was a seventh of the work of a look
# Kinds that the state says in more words, or with another cure.
_JUDGED = frozenset({"no migrations", "behind", "orphaned revision", "squashed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of a target.

    where: its URL without password, and what says so. python: the project's interpreter.
    server: its version; empty where nobody answers. heads: of the scripts. passed_over: what of
    the scripts Alembic does not look at. rows: of each table. verdict: what verification found.
    previous: whether `undo` has something to go back to.
    protected: whether it may be replaced. branch: of git, whose own database it is.
    traces: where each missing revision went.
    """

    database: str
    where: str
    python: str = ""
    server: str = ""
    heads: tuple[str, ...] = ()
    passed_over: str = ""
    rows: RowCounts
    previous: bool = False
    protected: bool = False
    branch: str = ""
    verdict: Verdict = _NOTHING
    traces: tuple[Trace, ...] = ()
    facts: Facts

    @property
    def is_provable(self) -> bool:
        """Whether a scratch build of the chain would tell more than what was looked at."""
        facts = self.facts
        is_there = bool(self.server) and facts.exists and not facts.elsewhere
        is_whole = all(each.kind == "stale byte code" for each in facts.problems)
        return is_there and is_whole and bool(facts.tables or facts.recorded)

    @property
    def unlooked(self) -> tuple[str, ...]:
        """What was not compared, in words."""
        facts, verdict = self.facts, self.verdict
        if facts.proof is not None and facts.proof.is_built:
            return facts.proof.spare
        if not (self.server and facts.exists and facts.recorded):
            return ()
        why = f" ({'; '.join(verdict.uncompared)})" if verdict.uncompared else ""
        models = verdict.uncompared if verdict.compared else (f"the models{why}",)
        beyond = _BEYOND_MODELS + (_PROVE if facts.proof is None else "")
        return (*models, beyond)

    @property
    def state(self) -> State:
        """The state that the facts amount to."""
        return state(self.facts)

    @property
    def _is_beyond_models(self) -> bool:
        return bool(self.facts.proof and self.facts.proof.apart and not self.facts.differences)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The state, if it is not good, and what else was found."""
        found = self.state
        if found.is_good or (found.name == "drift" and not self.facts.is_untrue):
            shown = (found.finding,) if found.name == "drift" and self._is_beyond_models else ()
            return (*shown, *self.verdict.findings)
        covered = {
            found.name,
            *_JUDGED,
            *(("invalid index",) if found.name == "half applied" else ()),
        }
        others = (each for each in self.verdict.findings if each.kind not in covered)
        first = found.finding.remedy
        return (
            found.finding,
            *(replace(each, remedy=first) if each.kind in _DIFFERENT else each for each in others),
        )


def status(run: Run, *, reached: Callable[[], None] = lambda: None) -> Status:
    """Look at the target; nothing is changed. Raises StepFailedError.

    reached: is called once the server answers, before anything of the target is read.
    """
    with explained(run.target):
        found = _status(run, reached)
        found = replace(found, facts=_squashed(run, found.facts)) if found.server else found
        traces = _traces(run, found.facts) if found.server else ()
    fits = tuple(_restorable(each, run.work.scripts()) for each in traces)
    facts = replace(found.facts, restorable=fits)
    if found.server and facts.orphans and not facts.problems:
        below = _below(run.work.scripts(), facts.orphans)
        facts = replace(facts, problems=below, restorable=() if below else fits)
    return replace(found, facts=facts, traces=traces)


def _squashed(run: Run, facts: Facts) -> Facts:
    """Add where the orphans stand in what was squashed."""
    scripts = run.work.scripts().revisions
    by = {name: each[0].id for name, each in replaced.replacing(scripts).items()}
    found = replaced.followed(facts.orphans, scripts) if by else ()
    if by and facts.orphans and not found:
        found = _replaced_twice(run, facts.orphans, scripts)
    return replace(facts, replaced=by, squashed=found)


def _replaced_twice(
    run: Run, rows: Sequence[str], scripts: Sequence[Revision]
) -> tuple[ReplacedPlace, ...]:
    """Return where rows stand that were replaced by what was replaced itself."""

    def find(squash: Revision) -> list[Revision]:
        traced = (_traced(run, each) for each in squash.replaced_heads)
        return [script for trace in traced for script in trace.scripts]

    found = replaced.nested(rows, scripts, find)
    covered = {row for each in found for row in each.rows}
    return tuple(found) if covered == set(rows) else ()


def _passed_over(scripts: Scripts) -> str:
    return f"{scripts.passed_over}: see {current.RECURSIVE}" if scripts.below else ""


def _below(scripts: Scripts, orphans: Sequence[str]) -> tuple[Problem, ...]:
    """Return the scripts below as a problem where they make the chain whole, with such a row."""
    below = list(script_files.read(scripts.below))
    if not (
        {each.id for each in below} & set(orphans) and script_files.fits(below, scripts.revisions)
    ):
        return ()
    text = f"{scripts.passed_over}, of which the database names {', '.join(orphans)}"
    return (Problem(kind="scripts below", text=text, paths=scripts.locations),)


def _status(run: Run, reached: Callable[[], None]) -> Status:
    run.work.workers()  # they import Alembic while we ask the server
    target = run.target
    facts = Facts(root=run.settings.root, database=target.database, mended_in=target.mended_in)
    python = run.settings.shown_python
    found = Status(
        database=target.database,
        rows=RowCounts(),
        facts=facts,
        where=_where(run),
        python=python,
        branch=run.settings.branch,
    )
    try:
        run.open()
        reached()
        found = replace(
            found,
            server=run.server.session.info.parameter_status("server_version") or "",
            previous=run.current.previous is not None,
            protected=run.current.database is not None and run.current.database.protected,
            rows=catalog.readable_counts(run.work.session(), exact=run.options.exact)
            if run.current.database is not None
            else RowCounts(),
        )
    except UnreachableError as error:
        return replace(found, server="", facts=replace(facts, unreachable=error.words))
    scripts = run.work.scripts()
    chains = tuple((each.lineage, _ids(each.scripts)) for each in run.work.workers())
    has_door = any(each.has_door for each in run.work.workers())
    facts = replace(facts, chains=chains, has_door=has_door, problems=scripts.problems)
    facts = replace(facts, exists=run.current.database is not None)
    found = replace(
        found,
        heads=scripts.heads,
        passed_over=_passed_over(scripts),
        facts=replace(facts, **_goal(run)),
    )
    return _of_database(run, found) if run.current.database is not None else found


def _ids(scripts: Scripts) -> frozenset[str]:
    return frozenset(each.id for each in scripts.revisions)


def _where(run: Run) -> str:
    source = run.settings.sources.get("DATABASE_URL", "default")
    said = "DATABASE_URL is not set, so it is the embedded PostgreSQL"
    return f"{run.target.shown} ({said if source == 'default' else f'from {source}'})"


def _goal(run: Run) -> dict[str, Any]:
    """Return where `upgrade` ends, and whether several such ends are accepted."""
    ends = [head for each in run.work.workers() for head in each.scripts.goal or each.scripts.heads]
    several = len(run.work.workers()) > 1 or bool(run.work.scripts().goal)
    return {"goal": tuple(ends), "several": several}


def _of_database(run: Run, found: Status) -> Status:
    """Add what the database itself says, and what Alembic says of it."""
    session, scripts = run.work.session(), run.work.scripts()
    facts = replace(found.facts, **_recorded(run, session, scripts, found.rows))
    if any(each.kind != "stale byte code" for each in facts.problems):
        return replace(found, facts=facts, verdict=replace(_NOTHING, revisions=facts.recorded))
    if facts.outdated:  # Alembic refuses to say anything of these
        return replace(found, facts=facts, verdict=replace(_NOTHING, revisions=facts.recorded))
    also = project_command.unmet(run.settings, session, found.rows)
    try:
        verdict = verification.verify(
            *(run.settings, run.work.workers(), session),
            also=also,
            only_looks=True,
            others=run.current.sharing,
            most=None if run.options.drift else _MOST,
        )
    except AlembicError as error:
        if error.kind != "wrong target":
            raise
        facts = replace(facts, elsewhere=error.what, elsewhere_remedy=error.remedy)
        return replace(found, facts=facts)
    facts = _compared(run, facts, verdict, scripts)
    verdict = replace(verdict, findings=_half_built(run) + verdict.findings)
    return replace(found, facts=facts, verdict=verdict)


def _recorded(
    run: Run, session: Session, scripts: Scripts, rows: Mapping[str, int | None]
) -> dict[str, Any]:
    """Return what can be told without Alembic, which refuses a broken chain."""
    recorded = tuple(catalog.revisions(session))
    known = {each.id for each in scripts.revisions}
    tables = catalog.version_tables(session)
    names = set(catalog.tables(session)) - set(tables)
    if any(schema != "public" for schema, _ in names):  # else whose it is, is not in question
        names = {each for each in names if not run.current.sharing().has(each)}
    only: dict[str, Any] = {}
    if len(tables) == 1:  # rows of several cannot be told apart here
        outdated = script_files.outdated(recorded, scripts.revisions)
        only = {"version_table": catalog.shown(*tables[0]), "outdated": tuple(sorted(outdated))}
    return {
        **only,
        "recorded": recorded,
        "orphans": tuple(each for each in recorded if each not in known),
        "tables": frozenset(catalog.shown(*each) for each in names),
        "filled": (
            *sorted(catalog.shown(*each) for each in names if _has_rows(each, rows)),
            *_beside_tables(session),
        ),
    }


def _beside_tables(session: Session) -> list[str]:
    """Return what has content of people's and is no table of theirs: a rebuild would lose it."""
    found = [name for name, number in extension_rows.counts(session).items() if number]
    return found + [past.LARGE_OBJECTS] * bool(past.large_objects(session))


def _has_rows(table: tuple[str, str], rows: Mapping[str, int | None]) -> bool:
    """Tell whether a table has rows; one that cannot be read may have some."""
    return rows.get(catalog.shown(*table)) != 0


def _compared(run: Run, facts: Facts, verdict: Verdict, scripts: Scripts) -> Facts:
    """Add what models and scripts say of the database."""
    session = run.work.session()
    about = verdict.about
    recorded, models = tuple(about.revisions), about.columns
    begun = script_files.ancestors(recorded, scripts.revisions)
    # What Alembic itself would run tells of a tenant that is behind the others.
    wanted = script_files.ancestors(facts.goal, scripts.revisions) - begun | {*about.pending}
    done = begun - wanted
    pending = tuple(
        each.id for each in script_files.ordered(scripts.revisions) if each.id in wanted
    )
    differences = tuple(each.what for each in verdict.findings if each.kind in _DIFFERENT)
    facts = replace(
        facts,
        recorded=recorded,
        orphans=tuple(about.orphans),
        strays=about.strays,
        pending=pending,
        version_table=about.version_table,
        models=None if about.models is None else frozenset(models),
        differences=differences,
        enums_differ=any(each.kind in ENUM_KINDS for each in verdict.findings),
    )
    if not (differences or pending or facts.orphans) and facts.tables and recorded:
        return facts  # nothing to look into
    homes = {each.schema for each in run.settings.lineages} | catalog.homes(session)
    if homes - {"", "public"}:
        homes -= run.current.sharing().schemas

    def is_others(table: tuple[str, str]) -> bool:
        return run.current.sharing().has(table)  # looked at only where an index is not valid

    seen = script_effects(
        session,
        scripts.revisions,
        models,
        done=done,
        pending=wanted - begun,
        homes=homes,
        spare=is_others,
    )
    return replace(
        facts,
        **(_shared(run, facts, seen.ours) if facts.orphans else {}),
        ours=seen.ours,
        in_the_way=seen.in_the_way,
        unmade=seen.unmade,
        invalid=seen.invalid,
    )


def _shared(run: Run, facts: Facts, ours: Collection[str]) -> dict[str, Any]:
    """Return what is there that may be of another application, with its row in a version table."""
    spare = set(catalog.version_tables(run.work.session()))
    tables = [
        each
        for each in catalog.tables(run.work.session())
        if catalog.shown(*each) in facts.tables - set(ours) and each not in spare
    ]
    strange = (
        sharing.unnamed(tables, script_files.texts(run.work.scripts().folders)) if tables else []
    )
    orphans = set(facts.orphans)
    return {
        "strangers": tuple(catalog.shown(*each) for each in strange),
        "shared": tuple(
            each.shown
            for each in versions.tables(run.work.session())
            if orphans & set(each.revisions) and set(each.revisions) - orphans
        ),
    }


def _traces(run: Run, facts: Facts) -> tuple[Trace, ...]:
    """Search for each file that is missing, of a recorded revision or in the middle."""
    lost = () if facts.squashed else facts.orphans
    missing = dict.fromkeys([*lost, *(each.missing for each in facts.problems)])
    return tuple(_traced(run, each) for each in missing if each and each not in facts.replaced)


def _traced(run: Run, revision: str) -> Trace:
    folders = replace(run.work.worker().folders, locations=run.work.scripts().locations)
    return orphans.trace(revision, folders, run.settings.environ)


def _restorable(trace: Trace, scripts: Scripts) -> Restorable:
    return Restorable(
        revision=trace.revision,
        evidence=tuple(trace.lines()),
        recipe=trace.recipe,
        connects=script_files.fits(trace.scripts, scripts.revisions),
        others=tuple(f"{each}: {each.command}" for each in trace.generations if not each.is_meant),
    )


def _half_built(run: Run) -> tuple[Finding, ...]:
    if run.current.database is None or run.current.database.mark != "unfinished":
        return ()
    finding = Finding(
        kind="half built",
        what=f"a run in place on {run.current.database.name} was killed",
        why=f"what stood there is in the backup {run.current.database.label or 'of nothing'}",
        remedy="run `invoke reset-db` or `invoke restore` in the checkout where that was: either "
        "brings the backup back first",
    )
    return (finding,)
