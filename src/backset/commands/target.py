"""The tasks about the target: its server, its URL, what protects it, its state and its cure."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.cli import alembic_for_proof, opened
from backset.errors import BacksetError, Finding, FindingsError, RefusedError, StepFailedError
from backset.process.streams import tell
from backset.report.report import WOULD_START
from backset.settings.reader import load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backset.connections.target import Target
    from backset.report.report import Report
    from backset.servers.location import Service
    from backset.settings.settings import Settings
    from backset.status.diagnosis import Status

_ELSEWHERE = (
    "the throw-away server has only those of its package: rehearse the chain on one that has more, "
    "by migrate_session() of backset.nox and its DATABASE_URL; `invoke reset-db` builds it on yours"
)

_LAST = 20  # runs that are shown


def start(*, plan: bool) -> None:
    """Start the embedded PostgreSQL; its database is made when that starts it."""
    with opened("start") as (settings, told):
        from backset.servers import location

        cluster = location.project_cluster(settings.root)
        if plan:
            told.say("it is running" if cluster.is_running() else WOULD_START)
            return
        running = cluster.is_running()
        target = location.locate(replace(settings, target=None))
        told.say(f"{'was running' if running else 'started'} · {target.shown}")
        if settings.target and not location.is_embedded(settings.target, cluster):
            source = settings.sources["DATABASE_URL"]
            told.say(f"the tasks use {settings.target.shown} (DATABASE_URL in {source})")


def stop(*, plan: bool) -> None:
    """Stop the embedded PostgreSQL."""
    with opened("stop") as (settings, told):
        from backset.servers import location

        cluster = location.project_cluster(settings.root)
        if plan:
            told.say("would stop it" if cluster.is_running() else "it is not running")
        else:
            told.say("stopped" if cluster.stop() else "it was not running")


def wait(*, timeout: str, plan: bool) -> None:
    """Return when the target's server serves; exit 4 when it does not in time."""
    with opened("wait") as (settings, told):
        from backset.servers import location
        from backset.settings import values

        limit_s = values.of_flag("--timeout", timeout, values.seconds)
        target = location.peek(settings) if plan else location.locate(settings)
        if plan or target is None:
            told.say(f"would wait for {target.shown}" if target else WOULD_START)
            return
        major = location.wait(target, limit_s, lambda words: told.say(f"waiting: {words}"))
        told.say(f"PostgreSQL {major} serves · {target.shown}")


def backups(*, as_json: bool) -> None:
    """List the target's backups, the oldest first."""
    with opened("backups", as_json=as_json) as (settings, told):
        from backset.backups import shared

        target = settings.target
        store = shared.store_of(settings, target.database if target else settings.database)
        found, unreadable = store.read()
        told.backups(found, store.place, unreadable)


def backup_names() -> list[str]:
    """Return the names of the target's backups for a shell that completes them; it asks nobody.

    Those in a bucket are not among them.
    """
    from backset.backups.store import BackupStore
    from backset.branches import entries

    try:
        settings = entries.followed(load(Path.cwd()))
        if settings.bucket:
            return []
        database = settings.target.database if settings.target else settings.database
        return [each.name for each in BackupStore.of(settings.backups, database).list()]
    except (BacksetError, OSError):  # the task itself will say it
        return []


def runs(*, as_json: bool, is_all: bool) -> None:
    """List the runs that are noted, the oldest first."""
    with opened("runs", as_json=as_json) as (settings, told):
        from backset.memory import journal

        told.runs(journal.read(settings.backups), None if is_all or as_json else _LAST)


def url(*, reveal: bool, plan: bool) -> None:
    """Print the target's URL, for the application; its password only when that is asked for."""
    with opened("url") as (settings, told):
        from backset.servers import location

        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            told.plan([("start", WOULD_START)])
            return
        tell(target.url if reveal else target.shown, reveals=reveal)
        if not reveal and target.shown != target.url:
            tell("the password is left out → --reveal", is_error=True)


def protect(*, plan: bool) -> None:
    """Set the marker that keeps every run from replacing the target."""
    with opened("protect") as (settings, told):
        from backset.connections.session import explained
        from backset.servers import location
        from backset.servers.safeguards import protect
        from backset.servers.server import Server

        target = location.peek(settings) if plan else location.locate(settings)
        if plan or target is None:
            told.say(f"would protect {target.database if target else settings.database}")
            return
        with explained(target), Server(target, "protect") as server:
            told.say(f"{target.database} is protected: {protect(server)}")


def unprotect(*, confirm: str, plan: bool) -> None:
    """Remove the marker, when the user has typed the database's name."""
    with opened("unprotect") as (settings, told):
        from backset.connections.session import explained
        from backset.report import asking
        from backset.servers import location
        from backset.servers.safeguards import unprotect
        from backset.servers.server import Server

        target = location.peek(settings) if plan else location.locate(settings)
        if plan or target is None:
            told.say(f"would unprotect {target.database if target else settings.database}")
            return
        name = confirm
        if not name and told.can_ask:
            name = asking.typed_name(told)([("database", f"{target.shown} loses its protection")])
        if name != target.database:
            what = f"unprotecting {target.database} wants its name"
            raise RefusedError(
                [(what, f"invoke unprotect --confirm {shlex.quote(target.database)}")]
            )
        with explained(target), Server(target, "unprotect") as server:
            unprotect(server)
            told.say(f"{target.database} is not protected")


def status(*, as_json: bool, plan: bool, proves: bool, exact: bool, drift: bool) -> None:
    """Report the state of the target; exit 6 when there are findings."""
    with (
        opened("status", as_json=as_json) as (settings, told),
        alembic_for_proof(settings, proves=proves and not plan) as (it, ahead),
    ):
        from backset.commands import repair
        from backset.runs.run import Options
        from backset.servers import location

        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            told.plan([("start", WOULD_START)])
            return
        told.note(database=target.database, url=target.shown)
        options = Options(exact=exact, drift=drift or proves)
        found = repair.look(
            settings, target, told, proves=bool(ahead), options=options, worker=it, ahead=ahead
        )
        told.status(found)
        if findings := [*found.findings, *_unproved(found)]:
            raise FindingsError.of(findings)


def _unproved(found: Status) -> list[Finding]:
    """Return that a proof was asked for, and could not be made."""
    proof = found.facts.proof
    if proof is None or proof.is_built:
        return []
    what, _, remedy = proof.unbuilt.partition(" → ")
    return [
        Finding(
            kind="not proved",
            what=f"nothing is proved: {what}",
            why="no scratch build of the chain was compared with the database",
            remedy=remedy or "mend that, then `invoke status --prove`",
        )
    ]


def repair(*, plan: bool, as_json: bool, said: Mapping[str, Any]) -> None:
    """Do the smallest cure, and report the state after it; exit 6 when something remains."""
    with (
        opened("repair", as_json=as_json, changes=not plan) as (settings, told),
        alembic_for_proof(settings, proves=not plan) as (it, ahead),
    ):
        from backset.commands import repair as repairs
        from backset.report import asking
        from backset.runs.consent import Consent
        from backset.servers import location

        ask = asking.typed_name(told) if told.can_ask else None
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


def check(*, as_json: bool, plan: bool, deep: bool) -> None:
    """Build the chain on a throw-away server, and hold it against the models; exit 4 or 6.

    deep: whether the models make theirs beside it, unless the settings say otherwise.
    """
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
            settled = discovery.settled_on_stand_in(settings, meant, target)
            _run(settled, target, server, told, deep=deep)
        told.done("")


def _run(settings: Settings, target: Target, server: Service, told: Report, *, deep: bool) -> None:
    """Run the steps; again for what migrations take for given, from a new database."""
    from backset import execution
    from backset.chain import Chain
    from backset.runs.consent import Consent
    from backset.runs.run import Options, Run
    from backset.steps.content import upgrade, verify
    from backset.text import explanations

    chain = Chain("check", upgrade, verify)
    # It is not this server's log that anyone would read.
    quiet = Options(asks_log=False, deep=None if deep else False)
    while True:
        try:
            with Run(settings, target, "check", beside=False, options=quiet) as run:
                execution.perform(run, chain, told, skip=frozenset(), consent=Consent())
        except StepFailedError as error:
            if explanations.UNAVAILABLE.search(error.what):
                raise StepFailedError(error.what, _ELSEWHERE) from error
            if not server.has_more():
                raise
            server.make()
        else:
            return
