"""The tasks that print what is there: the backups, the URL."""

from __future__ import annotations

from backset.cli import WOULD_START, opened
from backset.processes.streams import tell


def backups(*, as_json: bool) -> None:
    """List the target's backups, the oldest first."""
    with opened("backups", as_json=as_json) as (settings, told):
        from backset.backups.vault import Vault

        target = settings.target
        vault = Vault.of(settings.backups, target.database if target else settings.database)
        found, unreadable = vault.read()
        told.backups(found, vault.folder, unreadable)


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
