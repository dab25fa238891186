"""Steps by which a database gets what it is to hold: its schema, its rows, the proof of both."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from backset.chain import Done, Planned, Step
from backset.text.quantities import count

if TYPE_CHECKING:
    from backset.carry.tables import CarrySides
    from backset.checks.deep import Catalogs
    from backset.checks.server_log import Look
    from backset.errors import Finding
    from backset.memory.builds import Recalled
    from backset.migrate.answers import Migrated
    from backset.migrate.upgrading import Progress
    from backset.runs.run import Run
    from backset.settings.rules import Rules


def _upgrade(run: Run, progress: Progress) -> Done:
    """Run the migrations up to head."""
    from backset.inherit import cluster_wide
    from backset.migrate import upgrading
    from backset.steps.details import MigratedChain, UpgradeDetails

    if run.clone.recalled is not None:
        run.work.inheritance.complete(run.work.session())
        return run.clone.recalled.told("upgrade")
    _work_on_target(run, "upgrade")
    before_all = cluster_wide.look(run.work.session())
    ground = upgrading.Ground(
        *(run.settings, run.work.session(), run.work.workers(), run.project_command())
    )
    told, doubts = upgrading.migrate(ground, progress)
    for each in told:
        run.in_place.writers.note(each.revoked, was_open=each.was_open)
    moved = run.settings.has_door or any(each.count for each in told)
    after_all = cluster_wide.look(run.work.session()) if moved else before_all
    run.clone.outside = before_all, after_all
    made = cluster_wide.made(before_all, after_all)
    run.work.inheritance.complete(run.work.session())
    findings = run.work.inheritance.findings(run.work.session()) if run.in_place.is_chosen else ()
    lineages = run.settings.lineages
    chains = [MigratedChain(each.name, done) for each, done in zip(lineages, told, strict=True)]
    details = UpgradeDetails(chains=chains, cluster_wide=[each.name for each in made])
    lines = [_migrated(each.label, done) for each, done in zip(lineages, told, strict=True)]
    return Done(" · ".join(lines), details, (*findings, *made, *doubts))


def _work_on_target(run: Run, step: str) -> None:
    """Note that a step begins to change the target itself, if nothing stands in for that."""
    from backset.runs import states

    if not (run.work.is_beside or run.in_place.is_chosen or run.purpose == "check"):
        run.outcome.worked = step, states.revisions(run.work.session())


def _migrated(label: str, done: Migrated) -> str:
    before, after = _revisions(done.before), _revisions(done.heads)
    if done.count:
        text = f"{before} → {after}, {count(done.count, 'revision')}"
        text += " after `init`" if done.init else ""
    elif done.init and before != after:
        text = f"{before} → {after} by `init`"
    elif done.moved:
        text = f"at {after}, by the project's command"
    else:
        text = f"already at {after}"
    made = [f" · made the schema {each} of the version table" for each in done.schemas]
    return label + text + "".join(made)


def _plan_upgrade(run: Run) -> str:
    if run.clone.recalled is not None:
        return _unchanged(run.clone.recalled)
    make = "" if run.work.is_beside or run.current.database else "make and "
    name, settings = run.work.target.database, run.settings
    ends = [
        f"{each.lineage.label}{', '.join(each.scripts.heads) or 'base'}"
        for each in run.work.workers()
    ]
    commands = [each for each in (settings.init, settings.upgrade) if each]
    ways = [settings.redact(run.target, " ".join(each)) for each in commands]
    by = f" by {' and '.join(ways)}" if ways else ""
    return f"would {make}migrate {name} to {' · '.join(ends)}{by}"


def set_aside(run: Run) -> str:
    """Say which tables with rows a rebuild would not make again; empty where there is none."""
    from backset.catalog import catalog, sharing
    from backset.revisions import script_files

    if run.current.database is None or run.clone.recalled is not None:
        return ""
    spare = {*catalog.version_tables(run.current.session()), *run.current.unreadable()}
    tables = [
        each
        for each in catalog.tables(run.current.session())
        if each not in spare and not run.current.sharing().has(each)
    ]
    strange = sharing.unnamed(tables, script_files.texts(run.work.scripts().folders))
    counts = {
        table: rows
        for table, rows in catalog.counts(run.current.session(), strange).items()
        if rows
    }
    if not counts:
        return ""
    rows = " · ".join(f"{table} {number}" for table, number in counts.items())
    where = run.server.names.previous if run.work.is_beside else "the backup"
    return f"no migration names {rows}: only {where} would have these rows"


def _verify(run: Run, progress: Progress) -> Done:
    """Hold models and expectations against the database. Raises FindingsError on the live one."""
    from backset.checks import server_log, verification
    from backset.errors import FindingsError, StepFailedError
    from backset.migrate import project_command
    from backset.steps.details import VerifyDetails

    if run.clone.recalled is not None:
        return run.clone.recalled.told("verify")
    progress("comparing models and database")
    settings, session = run.settings, run.work.session()
    fresh = run.work.is_beside or run.in_place.is_chosen
    rows = {} if fresh else project_command.expected_rows(settings, session)
    unmet = [] if fresh else [*project_command.unmet(settings, session, rows)]
    back = _taken_back(run, progress) if run.options.downgrades else []
    asked = run.options.asks_log and not fresh
    log = _swallowed(run, asked=asked)
    catalogs = partial(_catalogs, run, progress) if _is_deep(run) else None
    found = verification.verify(
        *(settings, run.work.workers(), session),
        also=[*unmet, *back, *log.findings()],
        fresh=fresh,
        accept=run.options.accepts,
        others=run.current.sharing,
        catalogs=catalogs,
    )
    details = VerifyDetails(
        tables=found.tables,
        accepted=found.accepted,
        silenced=found.silenced,
        server_log=log,
        deep=found.deep,
    )
    if found.findings:
        kind = StepFailedError if run.work.is_beside else FindingsError
        error = kind.of((*found.findings, *found.asides))
        error.details = details
        if log.unread and log is not server_log.NOT_ASKED:
            error.add_note(str(log))
        if found.deep and found.deep.objects:
            error.add_note(f"{count(found.deep.objects, 'object')} compared with create_all()")
        if fresh and found.is_failed_by_models:
            error.add_note(found.strictness)
        raise error
    text = " · base → head → base leaves nothing behind" if run.options.downgrades else ""
    text += f" · {log}" if asked and str(log) else ""
    return Done(str(found) + text, details, found.asides)


def _is_deep(run: Run) -> bool:
    """Tell whether the models are to make theirs; in place there is no database beside.

    On a throw-away server nobody waits for anything else, so that it is usual there.
    """
    said = (run.options.deep, run.settings.deep, run.settings.is_throw_away)
    return next(each for each in said if each is not None) and not run.in_place.is_chosen


def _catalogs(run: Run, progress: Progress) -> Catalogs:
    from backset.prove import models

    progress("comparing with what the models make by themselves")
    others = run.current.sharing()
    return models.catalogs(run, run.work.workers(), run.work.session(), others)


def _swallowed(run: Run, *, asked: bool) -> Look:
    """Look in the server's log for errors of this run that somebody swallowed, each told once.

    The log of the embedded PostgreSQL is a file of ours. Any other server has to be asked, which
    costs a round trip, and is done where somebody wants that.
    """
    from backset.checks import server_log
    from backset.servers import location

    cluster = location.project_cluster(run.settings.root)
    if location.is_embedded(run.target, cluster):
        found = server_log.of_file(cluster.log)
    elif asked or run.settings.server_log:
        found = server_log.of_server(run.work.session())
    else:
        return server_log.NOT_ASKED
    told = (run.settings.redact(run.target, each) for each in found.errors)
    new = tuple(each for each in told if each not in run.work.told)
    run.work.told |= set(new)
    return replace(found, errors=new)


def _taken_back(run: Run, progress: Progress) -> list[Finding]:
    from backset.prove import scratch

    return scratch.findings(run, progress)


def _plan_verify(run: Run) -> str:
    from backset.prove import scratch

    if run.clone.recalled is not None:
        return _unchanged(run.clone.recalled)
    text = f"would compare the models with {run.work.target.database}"
    accepts = f", and accept the differences in {run.settings.shown(run.settings.baseline)}"
    text += accepts if run.options.accepts else ""
    if _is_deep(run):
        text += f" · would let the models make theirs in {run.server.names.scratch}, and drop that"
    if run.options.downgrades:
        scratch.refuse(run)
        name = run.server.names.scratch
        text += f" · would migrate {name} up, down to base and up again, and drop it"
    return text


def carry_sides(run: Run) -> CarrySides:
    """Return the two databases of a carry, as the run has them."""
    from backset.carry.tables import CarrySides

    assert run.options.carries is not None  # noqa: S101  (else the step is left out)
    return CarrySides(
        server=run.server,
        old=run.current,
        new=run.work,
        rules=run.options.carries,
        origin=run.options.origin,
        backups=run.backups,
        in_place=run.in_place,
    )


def _carry(run: Run, progress: Progress) -> Done:
    """Copy the rows of the target, or of another origin, into the new one; prove that all came."""
    from backset.carry import carry as carrying
    from backset.carry import sources
    from backset.described import ABSENT
    from backset.migrate import project_command
    from backset.runs import in_place
    from backset.steps.details import CarryDetails

    sides, origin = carry_sides(run), run.options.origin
    if sources.is_empty(sides):
        nothing = CarryDetails(rows={}, left=())
        return Done(f"nothing to carry ({run.current.why_empty})", nothing)
    if run.in_place.is_chosen and (kept := in_place.keep_rows_of_others(run)):
        progress(f"what others may have written meanwhile is in {kept.name}", lasting=True)
    done = carrying.carry(sides, progress)
    text = " · ".join(f"{table} {rows}" for table, rows in done.rows.items()) or "no rows"
    text += "".join(f" · {each}" for each in done.notes)
    text += "".join(f" · left behind: {each}" for each in done.plan.left)
    text += f" · from {origin.shown}" if origin else ""
    run.outcome.is_carried = origin is None and not done.plan.left
    lagging = tuple(project_command.lagging(run.work.session()))
    details = CarryDetails(
        rows=done.rows,
        left=done.plan.left,
        through=done.through,
        origin=origin.shown if origin else ABSENT,
    )
    return Done(text, details, (*done.findings, *lagging), done)


def _plan_carry(run: Run) -> Planned:
    """Migrate a scratch database, say what a carry into it would do, and drop it again."""
    from backset.carry import plan as decision
    from backset.carry import sources, tables
    from backset.prove import scratch

    sides = carry_sides(run)
    if sources.is_empty(sides):
        return Planned([f"nothing to carry ({run.current.why_empty})"])
    if run.in_place.is_chosen:
        sources.refuse_in_place(sides)
        return Planned(_plan_carry_in_place(run, sides.rules))
    name, told = run.server.names.scratch, []

    def note(text: str, *, lasting: bool = False) -> None:
        told.extend([text] if lasting else [])

    scratch.prepare(run, [name], "plan a carry")
    with sources.opened(sides, note) as old, scratch.created(run, name) as made:
        made.upgrade()
        with tables.snapshot_of(old.session):
            found = decision.decide(old.session, made.session, sides.rules)
    whence = f" from {run.options.origin.shown}" if run.options.origin else ""
    first, *others = found.lines()
    return Planned([f"would carry {first}{whence}", *told, *others], found.problems)


def _plan_carry_in_place(run: Run, rules: Rules) -> list[str]:
    """Say which rows would come back; there is no database in which to try the new schema."""
    from backset.carry import sources
    from backset.catalog import catalog, columns

    tables = [
        each for each in columns.read(run.current.session()).values() if rules.carries(each.shown)
    ]
    counts = catalog.counts(run.current.session(), [each.key for each in tables])
    rows = " · ".join(f"{table} {number}" for table, number in counts.items())
    through = sources.files_of(run.in_place.pending)
    return [
        f"would bring back from the backup, by name: {rows or 'no rows'}",
        *([f"the old rows would go through {through} in a copy first"] if through else []),
        "what fits is known after the migrations; what does not, restores the backup (exit code 5)",
    ]


def _seed(run: Run, progress: Progress) -> Done:
    """Run the project's seed command."""
    from backset.checks import verification
    from backset.migrate import project_command
    from backset.steps.details import SeedDetails

    if not run.settings.seed:
        behind = tuple(project_command.lagging(run.work.session()))
        return Done("no seed command ([tool.backset] seed is not set)", findings=behind)
    if run.clone.recalled is not None and run.clone.recalled.has("seed"):
        return run.clone.recalled.told("seed")
    if not run.work.is_beside:
        run.current.demand_unprotected(run.server)
    _work_on_target(run, "seed")
    rows, doubts = project_command.seed(
        run.settings, run.project_command(), run.work.session(), progress
    )
    if run.options.seeds_twice:
        progress("a second time")
        where = run.settings, run.project_command(), run.work.session()
        doubts += project_command.seed_again(*where, rows, progress)
    first = [table for table in run.settings.rows if table in rows]
    shown = first or [table for table in rows if rows[table]]
    text = " · ".join(f"{table} {rows[table]}" for table in shown)
    text = text or "every table is empty"
    text += " · the same rows a second time" if run.options.seeds_twice else ""
    log = _swallowed(run, asked=False)
    doubts += verification.unsilenced(log.findings(), run.settings)
    details = SeedDetails(rows=rows, seeded_twice=run.options.seeds_twice, server_log=log)
    return Done(text, details, tuple(doubts))


def _plan_seed(run: Run) -> str:
    if run.clone.recalled is not None and run.clone.recalled.has("seed"):
        return _unchanged(run.clone.recalled)
    command = " ".join(run.settings.seed)
    twice = " twice" if command and run.options.seeds_twice else ""
    return run.settings.redact(run.target, f"would run {command or 'nothing'}{twice}")


def _unchanged(recalled: Recalled) -> str:
    return f"nothing: unchanged since {recalled.since}, cloned"


def _revisions(revisions: Any) -> str:  # noqa: ANN401  (a list or a tuple, from JSON)
    return ", ".join(revisions) or "base"


upgrade = Step(
    "upgrade",
    _upgrade,
    _plan_upgrade,
    does="alembic upgrade head",
    gives="schema",
    begin=lambda run: run.begin_seed(),
    migrates=True,
    is_kept=True,
)
verify = Step(
    "verify",
    _verify,
    _plan_verify,
    does="compare the models with the database",
    changes=False,
    writes=False,
    migrates=True,
    is_kept=True,
)
carry = Step(
    "carry",
    _carry,
    _plan_carry,
    does="COPY the old rows into the new tables",
    needs="schema",
    gives="carried",
    where="rebuilt",
)
seed = Step("seed", _seed, _plan_seed, does="run the mock-data script", is_kept=True)
