"""Where the target is: on the server of DATABASE_URL, else on the embedded PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset import embedded, swap
from backset.server import Server
from backset.target import Target

if TYPE_CHECKING:
    from backset.settings import Settings


def locate(settings: Settings) -> Target:
    """Return the target; start the embedded server, and make its database, where that is ours."""
    if settings.target is not None:
        return settings.target
    cluster = embedded.project_cluster(settings.root)
    target = Target.parse(cluster.url(settings.database))
    if cluster.start():
        with Server(target, "start") as server:
            if server.names.target not in server.databases():
                swap.create(server, server.names.target, None)
    return target


def peek(settings: Settings) -> Target | None:
    """Return the target without starting anything; None where that would be needed."""
    if settings.target is not None:
        return settings.target
    cluster = embedded.project_cluster(settings.root)
    return Target.parse(cluster.url(settings.database)) if cluster.is_running() else None
