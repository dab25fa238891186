"""Where the target is: on the server of DATABASE_URL, else on the embedded PostgreSQL."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from backset.connections.session import explained
from backset.connections.target import Target, respelled
from backset.errors import StepFailedError
from backset.process import process
from backset.servers import clusters, swap
from backset.servers.server import Server

if TYPE_CHECKING:
    from backset.servers.cluster import Cluster
    from backset.settings.settings import Settings


# The newest ones first; the one that needs an asynchronous env.py comes last.
_SYNCHRONOUS = ("psycopg", "psycopg2", "pg8000")
_LOOK = """
import importlib.metadata, importlib.util
print(importlib.metadata.version("sqlalchemy"), end=" ")
print(*(n for n in ("psycopg", "psycopg2", "pg8000", "asyncpg") if importlib.util.find_spec(n)))
"""


def named(settings: Settings) -> Target:
    """Return the target, whether its server runs or not."""
    cluster = clusters.project_cluster(settings.root)
    return settings.target or on(cluster, settings)


def locate(settings: Settings) -> Target:
    """Return the target; start the embedded server, and make its database, where that is ours."""
    cluster, target = clusters.project_cluster(settings.root), named(settings)
    if is_embedded(target, cluster) and cluster.start():
        with explained(target), Server(target, "start") as server:
            if server.names.target not in server.databases():
                with suppress(StepFailedError):  # another run that waited for us was faster
                    swap.create(server, server.names.target, None)
    return target


def peek(settings: Settings) -> Target | None:
    """Return the target without starting anything; None where that would be needed."""
    cluster, target = clusters.project_cluster(settings.root), named(settings)
    return None if is_embedded(target, cluster) and not cluster.is_running() else target


def on(cluster: Cluster, settings: Settings) -> Target:
    """Return the project's database on the embedded server, as its driver wants it."""
    url, driver = cluster.url(settings.database), needed_driver(settings)
    return Target.parse(respelled(url, driver) if driver else url)


def is_embedded(target: Target, cluster: Cluster) -> bool:
    """Tell whether a target is on the embedded server, as also the URL of `invoke url` is."""
    return target.params.get("host") == str(cluster.socket_folder)


def needed_driver(settings: Settings) -> str:
    """Return the driver that a URL must name in the project's interpreter; empty where none need.

    `postgresql://` alone is psycopg 3 for SQLAlchemy 2.1 and psycopg2 for those before. It stays as
    it is where that one is installed, or nothing is known: programs with libpq take no other.
    """
    known = _ours() if settings.python == sys.executable else _asked(settings)
    return chosen_driver(*known) if known else ""


def chosen_driver(sqlalchemy: str, installed: tuple[str, ...]) -> str:
    """Return the driver for a version of SQLAlchemy, of those that are installed.

    Empty where its own choice is among them, or none is there.
    """
    major, minor = (*map(int, sqlalchemy.split(".")[:2]), 0)[:2]
    if ("psycopg" if (major, minor) >= (2, 1) else "psycopg2") in installed:
        return ""
    fit = [each for each in _SYNCHRONOUS if each != "psycopg" or major > 1]  # 1.4 does not know it
    return next((each for each in (*fit, "asyncpg") if each in installed), "")


def _ours() -> tuple[str, tuple[str, ...]] | None:
    names = (*_SYNCHRONOUS, "asyncpg")
    try:
        return version("sqlalchemy"), tuple(each for each in names if find_spec(each))
    except PackageNotFoundError:
        return None


def _asked(settings: Settings) -> tuple[str, tuple[str, ...]] | None:
    """Ask the interpreter; what it lacks altogether, Alembic's process will say."""
    argv = [settings.python, "-c", _LOOK]
    try:
        status, said = process.run(argv, env=settings.plain_env, cwd=settings.root)
    except StepFailedError:
        return None
    known = said[-1].split() if said and not status else []
    return (known[0], tuple(known[1:])) if known else None
