"""The databases beside the target, under names that backset derives from its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset import catalog, signals, swap
from backset.session import connect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backset.server import Database, Server

    Databases = Mapping[str, Database]  # of Server.databases()


def is_foreign(server: Server, found: Database) -> bool:
    """Tell whether a database has no mark of ours, and something in it.

    Empty and unmarked is also how a run leaves one that was killed between two statements.
    """
    if found.mark or found.is_invalid:
        return False
    with connect(server.target.named(found.name), server.purpose) as session:
        return not catalog.is_empty(session)


def foreign(server: Server, databases: Databases) -> tuple[str, ...]:
    """Return those whose names a run needs, though backset did not make them."""
    wanted = (server.names.next, server.names.previous, server.names.discard)
    there = (databases[name] for name in wanted if name in databases)
    return tuple(each.name for each in there if is_foreign(server, each))


def shielded(server: Server, databases: Databases) -> tuple[str, ...]:
    """Return those that are protected."""
    beside = sorted(set(databases) - {server.names.target})
    return tuple(name for name in beside if databases[name].protected)


def clear(server: Server, databases: Databases) -> None:
    """Drop what a killed run left behind; guard.admit() has refused what is not ours."""
    for name in (server.names.next, server.names.discard):
        if name in databases:
            drop(server, name)
    clear_scratch(server, databases)


def clear_scratch(server: Server, databases: Databases) -> None:
    """Drop what a killed proof left behind."""
    scratch = databases.get(server.names.scratch)
    if scratch and (scratch.mark or scratch.is_invalid):
        drop(server, scratch.name)


def drop(server: Server, name: str) -> None:
    """Drop a database, undisturbed: an interrupted DROP would leave an invalid one behind."""
    with signals.deferred():
        swap.drop(server, name)
