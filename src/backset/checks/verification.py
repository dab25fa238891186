"""Findings about one database: at head, like the models, sound, as expected; and which count."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from backset.catalog import catalog, sharing
from backset.catalog.catalog import is_users, shown, stored
from backset.checks import deep, differences, server_log
from backset.checks.deep import DeepComparison
from backset.checks.differences import LEFTOVER, Judged, drift, enums, judge
from backset.errors import Finding, RefusedError, StepFailedError
from backset.migrate import current
from backset.migrate.worker import UNKNOWN
from backset.revisions import script_files
from backset.revisions.history import ToldChain
from backset.text.pasted import quoted_if_needed
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from backset.catalog.sharing import Sharing
    from backset.connections.session import Session
    from backset.migrate.worker import Description, Worker
    from backset.settings.settings import Settings

ACCEPT = "invoke verify --accept"
ACCEPT_FRESH = "invoke reset-db --accept"

LOAD_MODELS = (
    "import the modules of the models in env.py; or, where a command of the project loads them, "
    'name that: [tool.backset] upgrade = ["COMMAND", "ARGUMENT"]; or silence it: '
    '[[tool.backset.ignore]] kind = "models not loaded", name = "*", reason = "…", until = a day'
)

_OF_THE_PROJECT = (differences.DIFFERENCES - {deep.BEYOND}) | {"models not loaded"}
# What a rebuild says without failing where it is not to be strict: models and migrations differ
# upstream in many projects, and the database that they make is what was asked for.
_TOLERATED = _OF_THE_PROJECT | {server_log.KIND}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found: `compared` tells whether there were models to compare the tables with.

    orphans: the rows of the version table that no migration file has.
    asides: findings that are said, but are no failure.
    accepted, silenced: how many differences the baseline has, and how many findings the settings
    silence. recorded: what was written into the baseline, where that was asked for.
    uncompared: why the models of a chain could not be asked for. chains: `revisions` and `heads`
    of each, by its name; empty where the database has only one.
    about: what current.describe() says of them all.
    strictness: whether differences of the models fail a rebuild, since what, and what changes it.
    deep: what the comparison with create_all() came to; None where it was not asked for.
    """

    revisions: tuple[str, ...]
    tables: int
    compared: bool
    findings: tuple[Finding, ...]
    orphans: tuple[str, ...] = ()
    asides: tuple[Finding, ...] = ()
    accepted: int = 0
    silenced: int = 0
    recorded: str = ""
    uncompared: tuple[str, ...] = ()
    chains: tuple[ToldChain, ...] = ()
    about: Description = field(default=UNKNOWN, compare=False)
    strictness: str = ""
    deep: DeepComparison | None = None

    def __str__(self) -> str:
        agree = "models and database agree" if self.compared else "env.py has no models to compare"
        if self.uncompared:
            some = "some models" if self.compared else "models"
            agree = f"{some} were not compared: {'; '.join(self.uncompared)}"
        if self.accepted:
            agree = f"{count(self.accepted, 'accepted difference')}, no other"
        if self.tolerated:
            agree = f"{count(self.tolerated, 'difference')} of the models from the migrations"
            agree += f" ({self.strictness})"
        agree += self._deeply
        silenced = f" · {count(self.silenced, 'finding')} silenced" if self.silenced else ""
        recorded = f" · {self.recorded}" if self.recorded else ""
        return f"{count(self.tables, 'table')}, {agree}{silenced}{recorded}"

    @property
    def _deeply(self) -> str:
        if self.deep is None:
            return ""
        if self.deep.problem:
            return " as far as Alembic compares them"
        but = f" but for {len(self.deep.unmade)}" if self.deep.unmade else ""
        return f", {count(self.deep.objects, 'object')} compared with create_all(){but}"

    @property
    def is_failed_by_models(self) -> bool:
        """Whether there are findings that fail a strict rebuild only."""
        return any(each.kind in _OF_THE_PROJECT for each in self.findings)

    @property
    def tolerated(self) -> int:
        """How many differences are said and are no failure."""
        return sum(each.kind in _OF_THE_PROJECT for each in self.asides)


@dataclass(frozen=True, slots=True)
class View:
    """One chain of revisions as its process describes it on a database."""

    worker: Worker
    about: Description

    @property
    def names(self) -> list[str]:
        """The tables that are its own; `schema.*` stands for all of a schema."""
        lineage = self.worker.lineage
        own = [*self.about.columns, *self.about.version_table.split(", ")]
        own += [lineage.version_table] if lineage.version_table else []
        return [*own, f"{lineage.schema}.*"] if lineage.schema else own

    @property
    def uncompared(self) -> str:
        """Why its models could not be asked for."""
        why = self.about.uncompared
        return f"{self.worker.lineage.label}{why}" if why else ""

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


def verify(
    settings: Settings,
    workers: Sequence[Worker],
    session: Session,
    *,
    also: Sequence[Finding] = (),
    fresh: bool = False,
    accept: bool = False,
    only_looks: bool = False,
    others: Callable[[], Sharing] = lambda: sharing.NOBODY,
    catalogs: Callable[[], deep.Catalogs] | None = None,
) -> Verdict:
    """Hold versions, models and expectations against one database, and judge what is found.

    also: findings of the caller that are judged with them.
    fresh: the database was just built, and what was there before is not.
    accept: the differences become the baseline, unless they cannot be known. Raises OSError.
    only_looks: an env.py that fails is a finding. others: what belongs to others in it, asked for
    where there are tables that no model has. catalogs: makes what the models make, where they are
    compared with that, too; it may raise RefusedError and StepFailedError.
    """
    command = ACCEPT_FRESH if fresh else ACCEPT
    deep_command = command if fresh else f"{command} --deep"  # a rebuild is deep by its setting
    views = [View(each, current.describe(each, session, only_looks=only_looks)) for each in workers]
    versions = [each for view in views for each in view.version_findings]
    told: list[Compared] = []
    found = _compared(views, session, others, told) if not versions else []
    models = [view.about.models for view in views]
    found += [each for view in views for each in view.failures]
    found += findings(session)
    found += missing_columns(settings, catalog.columns(session))
    deeply = _compared_deeply(views, catalogs, told, found) if catalogs and told else None
    found += deeply.findings if deeply else ()
    is_deep = deeply is not None and deeply.is_whole
    uncompared = tuple(view.uncompared for view in views if view.uncompared)
    is_complete = not (versions or uncompared or 0 in models)
    if accept and not is_complete:
        versions = [_INCOMPARABLE, *versions]
    found = [
        _acceptable(each, deep_command if each.kind in deep.KINDS else command)
        for each in (*found, *also)
    ]
    unasked = frozenset() if is_deep else deep.KINDS
    accepting = deep_command if is_deep else command
    judge_by = partial(_judge, found, settings, accepting, unasked=unasked)
    known, recorded = differences.read(settings.baseline), ""
    if accept and is_complete:
        old = known
        every = judge_by(differences.Baseline(old.path, {})).findings
        known = differences.write(old, every, unasked)
        recorded = differences.changes(old, known)
    judged = judge_by(known)
    beyond = [each for each in judged.findings if each.kind == deep.BEYOND]
    left = [each for each in judged.findings if each not in beyond]
    is_strict = bool(known.reasons) if settings.strict is None else settings.strict
    quiet = {server_log.KIND} if is_strict else _TOLERATED
    swallowed = [each for each in left if fresh and each.kind in quiet]
    loud = [each for each in left if each not in swallowed]
    stale = judged.expired + (judged.vanished if is_complete else ())
    unused = judged.unused if is_complete and not fresh else ()
    return Verdict(
        revisions=tuple(row for view in views for row in view.about.revisions),
        tables=len(catalog.tables(session)),
        compared=any(models),
        findings=(*versions, *loud, *(() if fresh else stale)),
        orphans=tuple(row for view in views for row in view.about.orphans),
        asides=(
            *(*swallowed, *(stale if fresh else unused), *current.passed_over(workers)),
            *(_told_deeply(deeply, beyond, deep_command) if deeply else ()),
        ),
        accepted=judged.accepted,
        silenced=judged.silenced,
        recorded=recorded,
        about=current.together(
            [view.about for view in views], [view.worker.lineage.label for view in views]
        ),
        strictness=_strictness(settings, is_strict=is_strict) if fresh else "",
        uncompared=(*uncompared, *_unloaded(views)),
        deep=DeepComparison(
            objects=deeply.objects,
            beyond=tuple(each.what for each in beyond),
            problem=deeply.problem,
            unmade=tuple(f"{name}: {why}" for name, why in deeply.unmade),
        )
        if deeply
        else None,
        chains=tuple(
            ToldChain(
                name=view.worker.lineage.name,
                revisions=view.about.revisions,
                heads=view.about.heads,
            )
            for view in views
            if view.worker.lineage.name
        ),
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


def _told_deeply(
    deeply: deep.DeepFindings, beyond: Sequence[Finding], command: str
) -> tuple[Finding, ...]:
    """Say what was not compared with create_all(), and why."""
    told = deep.summary(deeply, beyond, command)
    if deeply.problem:
        what = f"the models could not be made: {deeply.problem}"
        told.append(_uncompared_deeply(what, deeply.remedy))
    if deeply.unmade:
        (first, why), *others = deeply.unmade
        more = f", nor {', '.join(name for name, _ in others)}" if others else ""
        told.append(_uncompared_deeply(f"create_all() cannot make {first} ({why}){more}", _CORRECT))
    return tuple(told)


_CORRECT = "correct the model"


def _uncompared_deeply(what: str, remedy: str) -> Finding:
    return Finding(
        kind="not compared deeply",
        what=what,
        why="only Alembic's comparison counts there",
        remedy=f"{remedy}, or leave the scratch database out: --no-deep",
    )


def _compared_deeply(
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
        return deep.DeepFindings(problem=error.what, remedy=_CORRECT)
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


def _compared(
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
        for each in comparison(view, foreign, session, others, said):
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
    views = [View(each, current.describe(each, session, only_looks=True)) for each in workers]
    told: list[Compared] = []
    found = _compared(views, session, lambda: sharing.NOBODY, told)
    deeply = (
        _compared_deeply(views, catalogs, told, found) if catalogs and told else deep.DeepFindings()
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


def _unloaded(views: Sequence[View]) -> list[str]:
    """Say which of several chains have no models to compare."""
    return [
        f"{view.worker.lineage.label}env.py has no models to compare"
        for view in views
        if len(views) > 1 and view.about.models is None and not view.uncompared
    ]


def _strictness(settings: Settings, *, is_strict: bool) -> str:
    """Say whether differences of the models fail a rebuild, and what makes that otherwise."""
    if settings.strict is None:
        why = f"there is {'a' if is_strict else 'no'} baseline"
        other = str(not is_strict).lower()
        word = "strict" if is_strict else "not strict"
        return f"{word}, since {why}; otherwise with [tool.backset] strict = {other}"
    return f"[tool.backset] strict = {str(is_strict).lower()}"


def unsilenced(findings: Sequence[Finding], settings: Settings) -> list[Finding]:
    """Return the findings that the settings do not silence."""
    nothing = differences.Baseline(settings.baseline, {})
    return list(_judge(findings, settings, ACCEPT, nothing).findings)


def _acceptable(finding: Finding, command: str) -> Finding:
    """Let the remedy of a difference say that it can also be accepted."""
    if finding.kind not in differences.DIFFERENCES:
        return finding
    return replace(finding, remedy=f"{finding.remedy}, or accept it: {command}")


def _judge(
    findings: Sequence[Finding],
    settings: Settings,
    command: str,
    known: differences.Baseline,
    unasked: frozenset[str] = deep.KINDS,
) -> Judged:
    today = datetime.now().astimezone().date()
    return judge(findings, settings.ignore, known, today=today, accept=command, unasked=unasked)


def comparison(
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
    if about.models is None:
        return []
    answer = view.worker.differences(session)
    told = answer["differences"]
    said += [Compared(view, told, answer["excluded"], answer["tables"])] if about.models else []
    if any(each["kind"] == LEFTOVER for each in told):
        foreign = [*foreign, *_of(others())]
    differences = [each for each in told if not _is_foreign(each, foreign)]
    if differences and not about.models:
        return [
            _finding(
                "models not loaded",
                "env.py's target_metadata has no table",
                "models and database cannot be compared",
                LOAD_MODELS,
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


def missing_columns(settings: Settings, columns: Mapping[str, set[str]]) -> list[Finding]:
    """Judge the columns against [tool.backset.expect]."""
    missing = [
        f"{table}.{column}"
        for table, expected in settings.expect.items()
        for column in expected
        if stored(column) not in (columns.get(stored(table)) or _anywhere(stored(table), columns))
    ]
    return [
        _finding(
            "missing column",
            f"{name} does not exist",
            "[tool.backset.expect] names it",
            "add it in a migration, or correct [tool.backset.expect]",
            name,
        )
        for name in missing
    ]


def _anywhere(table: str, columns: Mapping[str, set[str]]) -> set[str]:
    """Return the columns of a table that is named without a schema, and is not in `public`."""
    there = (own for name, own in columns.items() if name.endswith(f".{table}"))
    return set().union(*there)


def _finding(kind: str, what: str, why: str, remedy: str, name: str = "") -> Finding:
    return Finding(kind=kind, what=what, why=why, remedy=remedy, name=name)


_INCOMPARABLE = Finding(
    kind="nothing to accept",
    what="the differences of this database cannot be known, for the reasons that follow",
    why="a baseline has those of a database that is at head",
    remedy=f"`{ACCEPT_FRESH}` accepts those of a rebuilt one",
)


def findings(session: Session) -> list[Finding]:
    """Return a finding for each, from one query."""
    return [_invalid(*row) for row in session.execute(_QUERY).fetchall()]


def _invalid(kind: str, schema: str, table: str, name: str) -> Finding:
    words, what, why, remedy = _WORDS[kind]
    home = () if schema == "public" else (schema,)
    return Finding(
        kind=words,
        name=name,
        what=what.format(name=name, table=shown(schema, table)),
        why=why,
        remedy=remedy.format(
            name=quoted_if_needed(name),
            table=quoted_if_needed(*home, table),
            schema=quoted_if_needed(schema),
        ),
    )


# kind in the query: the finding's kind, what, why, remedy
_WORDS = {
    "index": (
        "invalid index",
        "index {name} of {table} is not valid",
        "no query uses it, yet every write pays for it; its CREATE INDEX CONCURRENTLY had failed",
        "REINDEX INDEX CONCURRENTLY {schema}.{name}, or drop it and let a migration make it again",
    ),
    "partitioned index": (
        "invalid index",
        "index {name} of the partitioned table {table} is not valid",
        "a partition has no index attached to it",
        "CREATE INDEX on each partition and ALTER INDEX {schema}.{name} ATTACH PARTITION",
    ),
    "not valid": (
        "not valid constraint",
        "constraint {name} of {table} is NOT VALID",
        "rows from before it may break it",
        "ALTER TABLE {table} VALIDATE CONSTRAINT {name}, in a migration",
    ),
    "not enforced": (
        "not valid constraint",
        "constraint {name} of {table} is NOT ENFORCED",
        "no row is held against it",
        "ALTER TABLE {table} ALTER CONSTRAINT {name} ENFORCED, in a migration",
    ),
    "trigger": (
        "disabled trigger",
        "trigger {name} of {table} is disabled",
        "what it keeps in order is not kept so",
        "ALTER TABLE {table} ENABLE TRIGGER {name}",
    ),
    "replica trigger": (
        "disabled trigger",
        "trigger {name} of {table} fires in replicas only",
        "what it keeps in order is not kept so",
        "ALTER TABLE {table} ENABLE TRIGGER {name}",
    ),
    "foreign key": (
        "disabled trigger",
        "the triggers of the foreign key {name} are disabled on {table}",
        "rows that break it can be written",
        "ALTER TABLE {table} ENABLE TRIGGER ALL, once the rows are right",
    ),
}
_OF_AN_EXTENSION = """(SELECT FROM pg_depend x
    WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e')"""
# `conenforced` came with PostgreSQL 18. A part of a partitioned table has what its parent has.
_QUERY = f"""
WITH ours AS (
    SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {is_users("n.nspname")} AND c.relkind IN ('r', 'p', 'm')
      AND NOT EXISTS {_OF_AN_EXTENSION})
SELECT CASE o.relkind WHEN 'p' THEN 'partitioned index' ELSE 'index' END, o.schema, o.name,
       x.relname
FROM pg_index i JOIN ours o ON o.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
WHERE NOT (i.indisvalid AND i.indisready AND i.indislive)
UNION ALL
SELECT CASE to_jsonb(k) ->> 'conenforced' WHEN 'false' THEN 'not enforced' ELSE 'not valid' END,
       o.schema, o.name, k.conname
FROM pg_constraint k JOIN ours o ON o.oid = k.conrelid WHERE NOT k.convalidated AND k.conislocal
UNION ALL
SELECT CASE t.tgenabled WHEN 'D' THEN 'trigger' ELSE 'replica trigger' END, o.schema, o.name,
       t.tgname
FROM pg_trigger t JOIN ours o ON o.oid = t.tgrelid
WHERE t.tgenabled IN ('D', 'R') AND NOT t.tgisinternal AND NOT EXISTS
    (SELECT FROM pg_trigger p WHERE p.oid = t.tgparentid AND p.tgenabled = t.tgenabled)
UNION ALL
SELECT DISTINCT 'foreign key', o.schema, o.name, k.conname
FROM pg_trigger t JOIN ours o ON o.oid = t.tgrelid JOIN pg_constraint k ON k.oid = t.tgconstraint
WHERE t.tgenabled IN ('D', 'R') AND t.tgisinternal AND k.contype = 'f'
ORDER BY 1, 2, 3, 4
"""
