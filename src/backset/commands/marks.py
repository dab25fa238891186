"""The tasks that set and remove the marker of a protected database."""

from __future__ import annotations

import shlex

from backset.cli import opened
from backset.errors import RefusedError


def protect(*, plan: bool) -> None:
    """Set the marker that keeps every run from replacing the target."""
    with opened("protect") as (settings, told):
        from backset.connections.session import explained
        from backset.runs.protection import protect
        from backset.servers import location
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
        from backset.reports.dialogue import asking
        from backset.runs.protection import unprotect
        from backset.servers import location
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
