"""Steps by which a database gets what it is to hold: its schema, its rows, the proof of both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backset.chain import Done, Planned, Step
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backset.checks import server_log
    from backset.clones.memory import Recalled
    from backset.errors import Finding
    from backset.migrate.upgrading import Progress
    from backset.runs.build import Build
    from backset.settings.rules import Rules


def _upgrade(build: Build, progress: Progress) -> Done:
    """Run the migrations up to head."""
    from backset.inherit import cluster_wide
    from backset.migrate import upgrading

    if build.recalled is not None:
        build.inheritance.complete(build.session)
        return Done(*_told(build.recalled, "upgrade"))
    build.work_on_live("upgrade")
    before_all = cluster_wide.look(build.session)
    told, doubts = upgrading.migrate(build, progress)
    for each in told:
        build.writers.note(**{name: each[name] for name in ("revoked", "was_open") if name in each})
    moved = build.settings.has_door or any(each["count"] for each in told)
    after_all = cluster_wide.look(build.session) if moved else before_all
    build.outside = before_all, after_all
    made = cluster_wide.made(before_all, after_all)
    build.inheritance.complete(build.session)
    findings = build.inheritance.findings(build.session) if build.is_in_place else ()
    lineages = build.settings.lineages
    chains = [
        {
            "name": each.name,
            "from": done["before"],
            "to": done["heads"],
            "ran": done["count"],
            "schemas": done["schemas"],
        }
        for each, done in zip(lineages, told, strict=True)
    ]
    details = {"chains": chains, "cluster_wide": [each.name for each in made]}
    lines = [_migrated(each.label, done) for each, done in zip(lineages, told, strict=True)]
    return Done(" · ".join(lines), details, (*findings, *made, *doubts))


def _migrated(label: str, done: Mapping[str, Any]) -> str:
    before, after = _revisions(done["before"]), _revisions(done["heads"])
    if done["count"]:
        text = f"{before} → {after}, {count(done['count'], 'revision')}"
        text += " after `init`" if done.get("init") else ""
    elif done.get("init") and before != after:
        text = f"{before} → {after} by `init`"
    elif done.get("moved"):
        text = f"at {after}, by the project's command"
    else:
        text = f"already at {after}"
    made = [f" · made the schema {each} of the version table" for each in done["schemas"]]
    return label + text + "".join(made)


def _plan_upgrade(build: Build) -> str:
    if build.recalled is not None:
        return _unchanged(build.recalled)
    make = "" if build.is_beside or build.old else "make and "
    name, settings = build.subject.database, build.settings
    ends = [
        f"{each.lineage.label}{', '.join(each.scripts.heads) or 'base'}" for each in build.workers
    ]
    commands = [each for each in (settings.init, settings.upgrade) if each]
    ways = [settings.redact(build.target, " ".join(each)) for each in commands]
    by = f" by {' and '.join(ways)}" if ways else ""
    return f"would {make}migrate {name} to {' · '.join(ends)}{by}"


def set_aside(build: Build) -> str:
    """Say which tables with rows a rebuild would not make again; empty where there is none."""
    from backset.catalog import catalog, sharing
    from backset.revisions import sources

    if build.old is None or build.recalled is not None:
        return ""
    spare = {*catalog.version_tables(build.live), *build.unreadable}
    tables = [
        each
        for each in catalog.tables(build.live)
        if each not in spare and not build.sharing.has(each)
    ]
    strange = sharing.unnamed(tables, sources.texts(build.scripts.folders))
    counts = {table: rows for table, rows in catalog.counts(build.live, strange).items() if rows}
    if not counts:
        return ""
    rows = " · ".join(f"{table} {number}" for table, number in counts.items())
    where = build.server.names.previous if build.is_beside else "the backup"
    return f"no migration names {rows}: only {where} would have these rows"


def _verify(build: Build, progress: Progress) -> Done:
    """Hold models and expectations against the database. Raises FindingsError on the live one."""
    from backset.checks import server_log, verification
    from backset.errors import FindingsError, StepFailedError
    from backset.runs import seeding

    if build.recalled is not None:
        return Done(*_told(build.recalled, "verify"))
    progress("comparing models and database")
    settings, session = build.settings, build.session
    fresh = build.is_beside or build.is_in_place
    rows = {} if fresh else seeding.expected_rows(settings, session)
    unmet = [] if fresh else [*seeding.unmet(settings, session, rows)]
    back = _taken_back(build, progress) if build.options.downgrades else []
    asked = build.options.asks_log and not fresh
    log = _swallowed(build, asked=asked)
    found = verification.verify(
        *(settings, build.workers, session),
        also=[*unmet, *back, *log.findings()],
        fresh=fresh,
        accept=build.options.accepts,
        others=lambda: build.sharing,
    )
    if found.findings:
        kind = StepFailedError if build.is_beside else FindingsError
        error = kind.of((*found.findings, *found.asides))
        if log.unread and log is not server_log.NOT_ASKED:
            error.add_note(str(log))
        if fresh and found.is_failed_by_models:
            error.add_note(found.strictness)
        raise error
    details = {"accepted": found.accepted, "silenced": found.silenced, "server_log": log.content()}
    text = " · base → head → base leaves nothing behind" if build.options.downgrades else ""
    text += f" · {log}" if asked and str(log) else ""
    return Done(str(found) + text, {"tables": found.tables, **details}, found.asides)


def _swallowed(build: Build, *, asked: bool) -> server_log.Look:
    """Look in the server's log for errors of this run that somebody swallowed, each told once.

    The log of the embedded PostgreSQL is a file of ours. Any other server has to be asked, which
    costs a round trip, and is done where somebody wants that.
    """
    from backset.checks import server_log
    from backset.servers import clusters, location

    cluster = clusters.project_cluster(build.settings.root)
    if location.is_embedded(build.target, cluster):
        found = server_log.of_file(cluster.log)
    elif asked or build.settings.server_log:
        found = server_log.of_server(build.session)
    else:
        return server_log.NOT_ASKED
    told = (build.settings.redact(build.target, each) for each in found.errors)
    new = tuple(each for each in told if each not in build.heard)
    build.heard |= set(new)
    return replace(found, errors=new)


def _taken_back(build: Build, progress: Progress) -> list[Finding]:
    from backset.prove import downgrade

    return downgrade.findings(build, progress)


def _plan_verify(build: Build) -> str:
    from backset.prove import downgrade

    if build.recalled is not None:
        return _unchanged(build.recalled)
    text = f"would compare the models with {build.subject.database}"
    accepts = f", and accept the differences in {build.settings.shown(build.settings.baseline)}"
    text += accepts if build.options.accepts else ""
    if build.options.downgrades:
        downgrade.refuse(build)
        scratch = build.server.names.scratch
        text += f" · would migrate {scratch} up, down to base and up again, and drop it"
    return text


def _carry(build: Build, progress: Progress) -> Done:
    """Copy the rows of the target, or of another origin, into the new one; prove that all came."""
    from backset.carry import carry as carrying
    from backset.carry import sources
    from backset.runs import in_place, seeding

    rules, origin = build.options.carries, build.options.origin
    assert rules is not None  # noqa: S101  (else this step is left out)
    if sources.is_empty(build):
        return Done(f"nothing to carry ({build.why_empty})", {"rows": {}, "left": []})
    if build.is_in_place and (kept := in_place.keep_rows_of_others(build)):
        progress(f"what others may have written meanwhile is in {kept.name}", lasting=True)
    done = carrying.carry(build, rules, progress)
    left = [{"what": each.what, "name": each.name, "count": each.count} for each in done.plan.left]
    text = " · ".join(f"{table} {rows}" for table, rows in done.rows.items()) or "no rows"
    text += "".join(f" · {each}" for each in done.notes)
    text += "".join(f" · left behind: {each}" for each in done.plan.left)
    text += f" · from {origin.shown}" if origin else ""
    build.is_carried = origin is None and not left
    lagging = tuple(seeding.lagging(build.session))
    details = {"rows": done.rows, "left": left, "through": [*done.through]}
    more = {"origin": origin.shown} if origin else {}
    return Done(text, {**details, **more}, (*done.findings, *lagging))


def _plan_carry(build: Build) -> Planned:
    """Migrate a scratch database, say what a carry into it would do, and drop it again."""
    from backset.carry import plan as decision
    from backset.carry import sources, tables
    from backset.prove import scratch

    assert build.options.carries is not None  # noqa: S101  (else the step is left out)
    if sources.is_empty(build):
        return Planned([f"nothing to carry ({build.why_empty})"])
    if build.is_in_place:
        sources.refuse_in_place(build)
        return Planned(_plan_carry_in_place(build, build.options.carries))
    name, told = build.server.names.scratch, []

    def note(text: str, *, lasting: bool = False) -> None:
        told.extend([text] if lasting else [])

    scratch.prepare(build, [name], "plan a carry")
    with sources.opened(build, note) as old, scratch.made(build, name) as made:
        made.upgrade()
        with tables.snapshot_of(old.session):
            found = decision.decide(old.session, made.session, build.options.carries)
    whence = f" from {build.options.origin.shown}" if build.options.origin else ""
    first, *others = found.lines()
    return Planned([f"would carry {first}{whence}", *told, *others], found.problems)


def _plan_carry_in_place(build: Build, rules: Rules) -> list[str]:
    """Say which rows would come back; there is no database in which to try the new schema."""
    from backset.carry import sources
    from backset.catalog import catalog, columns

    tables = [each for each in columns.read(build.live).values() if rules.carries(each.shown)]
    counts = catalog.counts(build.live, [each.key for each in tables])
    rows = " · ".join(f"{table} {number}" for table, number in counts.items())
    through = sources.files_of(build.pending)
    return [
        f"would bring back from the backup, by name: {rows or 'no rows'}",
        *([f"the old rows would go through {through} in a copy first"] if through else []),
        "what fits is known after the migrations; what does not, restores the backup (exit code 5)",
    ]


def _seed(build: Build, progress: Progress) -> Done:
    """Run the project's seed command."""
    from backset.checks import verification
    from backset.runs import seeding

    if not build.settings.seed:
        behind = tuple(seeding.lagging(build.session))
        return Done("no seed command ([tool.backset] seed is not set)", findings=behind)
    if build.recalled is not None and build.recalled.has("seed"):
        return Done(*_told(build.recalled, "seed"))
    if not build.is_beside:
        build.check_protection()
    build.work_on_live("seed")
    rows, doubts = seeding.seed(build.settings, build.door, build.session, progress)
    if build.options.seeds_twice:
        progress("a second time")
        where = build.settings, build.door, build.session
        doubts += seeding.seed_again(*where, rows, progress)
    first = [table for table in build.settings.rows if table in rows]
    shown = first or [table for table in rows if rows[table]]
    text = " · ".join(f"{table} {rows[table]}" for table in shown)
    text = text or "every table is empty"
    text += " · the same rows a second time" if build.options.seeds_twice else ""
    details = {"rows": rows, "seeded_twice": build.options.seeds_twice}
    log = _swallowed(build, asked=False)
    doubts += verification.unsilenced(log.findings(), build.settings)
    return Done(text, {**details, "server_log": log.content()}, tuple(doubts))


def _plan_seed(build: Build) -> str:
    if build.recalled is not None and build.recalled.has("seed"):
        return _unchanged(build.recalled)
    command = " ".join(build.settings.seed)
    twice = " twice" if command and build.options.seeds_twice else ""
    return build.settings.redact(build.target, f"would run {command or 'nothing'}{twice}")


def _told(recalled: Recalled, step: str) -> tuple[str, Mapping[str, Any], tuple[Finding, ...]]:
    told = recalled.told(step)
    return told.text, told.details, told.findings


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
    begin=lambda build: build.begin_seed(),
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
    where="rebuilt",
)
seed = Step("seed", _seed, _plan_seed, does="run the mock-data script", is_kept=True)
