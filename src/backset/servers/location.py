"""Where the target is: on the server of DATABASE_URL, else on the embedded PostgreSQL."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from backset.configuration import drivers
from backset.connections.session import explained
from backset.connections.target import Target, respelled
from backset.errors import StepFailedError
from backset.servers import embedded, swap
from backset.servers.server import Server

if TYPE_CHECKING:
    from backset.configuration.settings import Settings
    from backset.servers.cluster import Cluster


def named(settings: Settings) -> Target:
    """Return the target, whether its server runs or not."""
    cluster = embedded.project_cluster(settings.root)
    return settings.target or on(cluster, settings)


def locate(settings: Settings) -> Target:
    """Return the target; start the embedded server, and make its database, where that is ours."""
    cluster, target = embedded.project_cluster(settings.root), named(settings)
    if is_embedded(target, cluster) and cluster.start():
        with explained(target), Server(target, "start") as server:
            if server.names.target not in server.databases():
                with suppress(StepFailedError):  # another run that waited for us was faster
                    swap.create(server, server.names.target, None)
    return target


def peek(settings: Settings) -> Target | None:
    """Return the target without starting anything; None where that would be needed."""
    cluster, target = embedded.project_cluster(settings.root), named(settings)
    return None if is_embedded(target, cluster) and not cluster.is_running() else target


def on(cluster: Cluster, settings: Settings) -> Target:
    """Return the project's database on the embedded server, as its driver wants it."""
    url, driver = cluster.url(settings.database), drivers.needed(settings)
    return Target.parse(respelled(url, driver) if driver else url)


def is_embedded(target: Target, cluster: Cluster) -> bool:
    """Tell whether a target is on the embedded server, as also the URL of `invoke url` is."""
    return target.params.get("host") == str(cluster.socket_folder)
