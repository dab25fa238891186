"""The databases beside the target, under names that backset derives from its own."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from backset.errors import BacksetError, RefusedError
from backset.processes import signals
from backset.servers import read_only, swap
from backset.servers.server import foreign as in_the_way

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from backset.connections.target import Target
    from backset.servers.server import Database, Server

    Databases = Mapping[str, Database]  # of Server.databases()


def foreign(server: Server, databases: Databases) -> tuple[str, ...]:
    """Return those whose names a run needs, though backset did not make them."""
    next_, previous = (databases.get(each) for each in (server.names.next, server.names.previous))
    strange = [next_] if next_ and not next_.is_ours else []
    strange += [previous] if previous and previous.mark != "previous" else []
    return tuple(each.name for each in strange)


def shielded(server: Server, databases: Databases) -> tuple[str, ...]:
    """Return those that are protected."""
    beside = sorted(set(databases) - {server.names.target})
    return tuple(name for name in beside if databases[name].protected)


def clear(server: Server, databases: Databases) -> None:
    """Drop what a killed run left behind; guard.admit() has refused what is not ours.

    What the run before has set aside the server may be dropping just now; that is not waited for.
    """
    if server.names.next in databases:
        drop(server, server.names.next)
    for found in databases.values():
        if found.mark == "discard" and not server.is_being_dropped(found):
            drop(server, found.name)
    clear_scratch(server, databases)


def clear_scratch(server: Server, databases: Databases) -> None:
    """Drop what a killed proof left behind; what is not ours stays."""
    for name in server.names.scratches:
        if name in databases and databases[name].is_ours:
            drop(server, name)


def refuse_scratch(server: Server, names: Iterable[str], databases: Databases, what: str) -> None:
    """Raise RefusedError with every reason why scratch databases cannot be made under `names`.

    what: what they are needed for, such as `prove a backup`.
    """
    role, reasons = server.role, []
    if not role.may_create:
        grant = sql.SQL("ALTER ROLE {} CREATEDB").format(sql.Identifier(role.name))
        needs = f"the role {role.name} may not create databases, so it cannot {what}"
        reasons.append((needs, f"as an administrator: {grant.as_string(server.session)}"))
    strange = (each for each in names if each in databases and not databases[each].is_ours)
    reasons += [in_the_way(each, server.names.target) for each in strange]
    if reasons:
        raise RefusedError(reasons)


@contextmanager
def scratch(server: Server, name: str, like: Database | None) -> Iterator[Target]:
    """Make an empty scratch database for the block, under the lock; drop it whatever happens.

    like: the database whose owner, encoding and locale it gets. refuse_scratch() comes before.
    """
    drop(server, name)
    try:
        make_scratch(server, name, like)
        yield server.target.named(name)
        drop(server, name)
    except BaseException as error:
        _drop_after(server, name, error)
        raise


def make_scratch(server: Server, name: str, like: Database | None) -> None:
    """Make an empty scratch database, with its mark."""
    with signals.deferred():
        swap.make(server, name, "scratch", _ours(server, like))
        read_only.lift(server.session, name)


def _ours(server: Server, like: Database | None) -> Database | None:
    """Return `like` with ourselves as the owner, where we may not make a database for its own."""
    return like if like is None or like.owned else replace(like, owner=server.role.name)


def _drop_after(server: Server, name: str, error: BaseException) -> None:
    try:
        drop(server, name)
    except (BacksetError, OSError) as second:
        error.add_note(f"{second}; the next run removes {name}")


def drop(server: Server, name: str) -> None:
    """Drop a database, undisturbed: an interrupted DROP would leave an invalid one behind."""
    with signals.deferred():
        swap.drop(server, name)
