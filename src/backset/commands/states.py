"""The tasks about the state of the database: they tell it, do its smallest cure, try the chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backset.cli import WOULD_START, alembic_for_proof, opened
from backset.errors import FindingsError, StepFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backset.connections.target import Target
    from backset.report.report import Report
    from backset.servers.location import Service
    from backset.settings.settings import Settings

_ELSEWHERE = (
    "the throw-away server has only those of its package: rehearse the chain on one that has more, "
    "by migrate_session() of backset.nox and its DATABASE_URL; `invoke reset-db` builds it on yours"
)


def status(*, as_json: bool, plan: bool, proves: bool) -> None:
    """Report the state of the target; exit 6 when there are findings."""
    with (
        opened("status", as_json=as_json) as (settings, told),
        alembic_for_proof(settings, proves=proves and not plan) as (it, ahead),
    ):
        from backset.commands import repair
        from backset.servers import location

        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            told.plan([("start", WOULD_START)])
            return
        told.note(database=target.database, url=target.shown)
        found = repair.look(settings, target, told, proves=bool(ahead), worker=it, ahead=ahead)
        told.status(found)
        if found.findings:
            raise FindingsError.of(found.findings)


def repair(*, plan: bool, as_json: bool, said: Mapping[str, Any]) -> None:
    """Do the smallest cure, and report the state after it; exit 6 when something remains."""
    with (
        opened("repair", as_json=as_json) as (settings, told),
        alembic_for_proof(settings, proves=not plan) as (it, ahead),
    ):
        from backset import cli
        from backset.commands import repair as repairs
        from backset.runs.consent import Consent
        from backset.servers import location

        ask = cli.asking(told) if told.can_ask else None
        consent = Consent(**said, ask=ask, named=False)
        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            told.plan([("start", WOULD_START)])
            return
        told.note(database=target.database, url=target.shown)
        if plan:
            repairs.plan(settings, target, told, consent)
            return
        found = repairs.repair(settings, target, told, consent, it, ahead)
        told.status(found)
        if found.findings:
            raise FindingsError.of(found.findings)


def check(*, as_json: bool, plan: bool) -> None:
    """Build the chain on a throw-away server, and hold it against the models; exit 4 or 6."""
    with opened("check", as_json=as_json) as (settings, told):
        from backset.connections.target import Target
        from backset.migrate import discovery
        from backset.servers import location

        if plan:
            where, what = "on a throw-away server", "would compare that with the models"
            told.plan([("upgrade", f"would build the chain {where}"), ("verify", what)])
            return
        meant = discovery.own_target(settings)
        with location.throw_away(
            discovery.stand_in_names(settings, meant, settings.database)
        ) as server:
            target = Target.parse(server.url)
            _run(discovery.settled_on_stand_in(settings, meant, target), target, server, told)
        told.done("")


def _run(settings: Settings, target: Target, server: Service, told: Report) -> None:
    """Run the steps; from an empty database again for each role that migrations take for given."""
    from backset import execution
    from backset.chain import Chain
    from backset.runs.consent import Consent
    from backset.runs.run import Options, Run
    from backset.steps.content import upgrade, verify
    from backset.text import explanations

    chain = Chain("check", upgrade, verify)
    quiet = Options(asks_log=False)  # it is not this server's log that anyone would read
    while True:
        try:
            with Run(settings, target, "check", beside=False, options=quiet) as run:
                execution.perform(run, chain, told, skip=frozenset(), consent=Consent())
        except StepFailedError as error:
            if explanations.UNAVAILABLE.search(error.what):
                raise StepFailedError(error.what, _ELSEWHERE) from error
            if not server.has_made_roles():
                raise
            server.make()
        else:
            return
