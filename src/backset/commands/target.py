"""The tasks about the target itself: its server, its URL, its backups, and what protects it."""

from __future__ import annotations

import shlex
from dataclasses import replace

from backset.cli import WOULD_START, opened
from backset.errors import RefusedError, SettingsError
from backset.process.streams import tell


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
        from backset.runs.consent import LONGEST_S
        from backset.servers import location

        if not timeout.isdecimal() or int(timeout) > LONGEST_S:
            what = f"--timeout is {timeout!r}"
            raise SettingsError([(what, "say it in seconds, such as --timeout 60")])
        target = location.peek(settings) if plan else location.locate(settings)
        if plan or target is None:
            told.say(f"would wait for {target.shown}" if target else WOULD_START)
            return
        major = location.wait(target, int(timeout), lambda words: told.say(f"waiting: {words}"))
        told.say(f"PostgreSQL {major} serves · {target.shown}")


def backups(*, as_json: bool) -> None:
    """List the target's backups, the oldest first."""
    with opened("backups", as_json=as_json) as (settings, told):
        from backset.backups.store import BackupStore

        target = settings.target
        store = BackupStore.of(settings.backups, target.database if target else settings.database)
        found, unreadable = store.read()
        told.backups(found, store.folder, unreadable)


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
        from backset.cli import asking
        from backset.connections.session import explained
        from backset.servers import location
        from backset.servers.safeguards import unprotect
        from backset.servers.server import Server

        target = location.peek(settings) if plan else location.locate(settings)
        if plan or target is None:
            told.say(f"would unprotect {target.database if target else settings.database}")
            return
        name = confirm
        if not name and told.can_ask:
            name = asking(told)([("database", f"{target.shown} loses its protection")])
        if name != target.database:
            what = f"unprotecting {target.database} wants its name"
            raise RefusedError(
                [(what, f"invoke unprotect --confirm {shlex.quote(target.database)}")]
            )
        with explained(target), Server(target, "unprotect") as server:
            unprotect(server)
            told.say(f"{target.database} is not protected")
