"""Findings about one database: at head, like the models, sound, as expected; and which count."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from backset.catalog import catalog, sharing
from backset.catalog.catalog import stored
from backset.checks import deep, differences, drift, server_log, soundness
from backset.checks.differences import Judged, judge
from backset.errors import Finding
from backset.migrate import current
from backset.migrate.answers import UNKNOWN
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backset.catalog.sharing import Sharing
    from backset.checks.deep import DeepComparison
    from backset.connections.session import Session
    from backset.migrate.answers import Description
    from backset.migrate.worker import Worker
    from backset.revisions.history import ToldChain
    from backset.settings.settings import Settings

ACCEPT = "invoke verify --accept"
ACCEPT_FRESH = "invoke reset-db --accept"


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
    most: int | None = None,
) -> Verdict:
    """Hold versions, models and expectations against one database, and judge what is found.

    also: findings of the caller that are judged with them.
    fresh: the database was just built, and what was there before is not.
    accept: the differences become the baseline, unless they cannot be known. Raises OSError.
    only_looks: an env.py that fails is a finding. others: what belongs to others in it, asked for
    where there are tables that no model has. catalogs: makes what the models make, where they are
    compared with that, too; it may raise RefusedError and StepFailedError.
    most: how many tables models may have to be compared; None: any number.
    """
    command = ACCEPT_FRESH if fresh else ACCEPT
    deep_command = command if fresh else f"{command} --deep"  # a rebuild is deep by its setting
    views = drift.views(workers, session, only_looks=only_looks, most=most)
    look = _look(settings, views, session, others, catalogs)
    found = [
        _acceptable(each, deep_command if each.kind in deep.KINDS else command)
        for each in (*look.found, *also)
    ]
    accepting = command if look.unasked else deep_command
    judge_by = partial(_judge, found, settings, accepting, unasked=look.unasked)
    known, recorded = differences.read(settings.baseline), ""
    if accept and look.is_complete:
        known, recorded = _accepted(known, judge_by, look.unasked)
    judged = judge_by(known)
    is_strict = bool(known.reasons) if settings.strict is None else settings.strict
    beyond = [each for each in judged.findings if each.kind == deep.BEYOND]
    loud, quiet = _weighed(judged, fresh=fresh, is_strict=is_strict, is_complete=look.is_complete)
    incomparable = [_INCOMPARABLE] if accept and not look.is_complete else []
    told = _told_deeply(look.deeply, beyond, deep_command) if look.deeply else ()
    return Verdict(
        revisions=tuple(row for view in views for row in view.about.revisions),
        tables=len(catalog.tables(session)),
        compared=any(view.about.models and not view.is_passed for view in views),
        findings=(*incomparable, *look.versions, *loud),
        orphans=tuple(row for view in views for row in view.about.orphans),
        asides=(*quiet, *current.passed_over(workers), *told),
        accepted=judged.accepted,
        silenced=judged.silenced,
        recorded=recorded,
        about=drift.together(views),
        strictness=_strictness(settings, is_strict=is_strict) if fresh else "",
        uncompared=(*look.uncompared, *drift.unloaded(views)),
        deep=look.deeply.told(beyond) if look.deeply else None,
        chains=drift.chains(views),
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """What was found, before anything is judged.

    versions: what is wrong with the rows of the version tables; then models are not compared.
    deeply: what create_all() told; None where it was not asked for.
    """

    views: Sequence[drift.View]
    versions: list[Finding]
    found: list[Finding]
    deeply: deep.DeepFindings | None

    @property
    def uncompared(self) -> list[str]:
        """Why the models of a chain were not compared."""
        return [view.uncompared for view in self.views if view.uncompared]

    @property
    def is_complete(self) -> bool:
        """Whether every difference of the models is known, so that a baseline may be made of it."""
        are_loaded = all(view.about.models != 0 for view in self.views)
        return are_loaded and not (self.versions or self.uncompared)

    @property
    def unasked(self) -> frozenset[str]:
        """The kinds of differences that nobody has looked for."""
        is_whole = self.deeply is not None and self.deeply.is_whole
        return frozenset() if is_whole else deep.KINDS


def _look(
    settings: Settings,
    views: Sequence[drift.View],
    session: Session,
    others: Callable[[], Sharing],
    catalogs: Callable[[], deep.Catalogs] | None,
) -> _Look:
    """Compare versions, models and expectations with the database."""
    versions = [each for view in views for each in view.version_findings]
    told: list[drift.Compared] = []
    found = [] if versions else drift.compared(views, session, others, told)
    found += [each for view in views for each in view.failures]
    found += soundness.findings(session)
    found += missing_columns(settings, catalog.columns(session))
    deeply = drift.compared_deeply(views, catalogs, told, found) if catalogs and told else None
    return _Look(views, versions, [*found, *(deeply.findings if deeply else ())], deeply)


def _accepted(
    old: differences.Baseline,
    judge_by: Callable[[differences.Baseline], Judged],
    unasked: frozenset[str],
) -> tuple[differences.Baseline, str]:
    """Make a baseline of all differences; return it, and in words what is new in it."""
    every = judge_by(differences.Baseline(old.path, {})).findings
    known = differences.write(old, every, unasked)
    return known, differences.changes(old, known)


def _weighed(
    judged: Judged, *, fresh: bool, is_strict: bool, is_complete: bool
) -> tuple[list[Finding], list[Finding]]:
    """Return the findings that count, and those that are only said."""
    left = [each for each in judged.findings if each.kind != deep.BEYOND]
    stale = [*judged.expired, *(judged.vanished if is_complete else ())]
    if not fresh:
        return [*left, *stale], [*(judged.unused if is_complete else ())]
    tolerated = {server_log.KIND} if is_strict else _TOLERATED
    loud = [each for each in left if each.kind not in tolerated]
    return loud, [*(each for each in left if each.kind in tolerated), *stale]


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
        told.append(
            _uncompared_deeply(
                f"create_all() cannot make {first} ({why}){more}", drift.CORRECT_MODEL
            )
        )
    return tuple(told)


def _uncompared_deeply(what: str, remedy: str) -> Finding:
    return Finding(
        kind="not compared deeply",
        what=what,
        why="only Alembic's comparison counts there",
        remedy=f"{remedy}, or leave the scratch database out: --no-deep",
    )


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


def missing_columns(settings: Settings, columns: Mapping[str, set[str]]) -> list[Finding]:
    """Judge the columns against [tool.backset.expect]."""
    missing = [
        f"{table}.{column}"
        for table, expected in settings.expect.items()
        for column in expected
        if stored(column) not in (columns.get(stored(table)) or _anywhere(stored(table), columns))
    ]
    return [
        Finding(
            kind="missing column",
            name=name,
            what=f"{name} does not exist",
            why="[tool.backset.expect] names it",
            remedy="add it in a migration, or correct [tool.backset.expect]",
        )
        for name in missing
    ]


def _anywhere(table: str, columns: Mapping[str, set[str]]) -> set[str]:
    """Return the columns of a table that is named without a schema, and is not in `public`."""
    there = (own for name, own in columns.items() if name.endswith(f".{table}"))
    return set().union(*there)


_INCOMPARABLE = Finding(
    kind="nothing to accept",
    what="the differences of this database cannot be known, for the reasons that follow",
    why="a baseline has those of a database that is at head",
    remedy=f"`{ACCEPT_FRESH}` accepts those of a rebuilt one",
)
