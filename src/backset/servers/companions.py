"""The databases beside the target, under names that backset derives from its own."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from backset.catalogs import catalog
from backset.connections.session import connect
from backset.errors import RefusedError, StepFailedError
from backset.processes import signals
from backset.servers import swap

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from backset.connections.target import Target
    from backset.servers.server import Database, Server

    Databases = Mapping[str, Database]  # of Server.databases()


def is_foreign(server: Server, found: Database) -> bool:
    """Tell whether a database has no mark of ours, and something in it.

    Unmarked, and empty or, as `__next`, a closed copy, is also how a run leaves one that was killed
    between two statements.
    """
    if found.mark or found.is_invalid:
        return False
    if found.name == server.names.next and found.is_half_copied:
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
    """Drop what a killed proof left behind; what is not ours stays."""
    there = (databases[name] for name in server.names.scratches if name in databases)
    for scratch in there:
        if not is_foreign(server, scratch):
            drop(server, scratch.name)


def refuse_scratch(server: Server, names: Iterable[str], databases: Databases, what: str) -> None:
    """Raise RefusedError with every reason why scratch databases cannot be made under `names`.

    what: what they are needed for, such as `prove a backup`.
    """
    role, reasons = server.role, []
    if not role.may_create:
        grant = sql.SQL("ALTER ROLE {} CREATEDB").format(sql.Identifier(role.name))
        needs = f"the role {role.name} may not create databases, so it cannot {what}"
        reasons.append((needs, f"as an administrator: {grant.as_string(server.session)}"))
    for name in names:
        if name in databases and is_foreign(server, databases[name]):
            foreign = f"the database {name} exists and backset did not make it"
            reasons.append((foreign, "rename or drop it, if nobody needs it"))
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
        swap.create(server, name, _ours(server, like))
        swap.comment(server, name, swap.marked("scratch"))


def _ours(server: Server, like: Database | None) -> Database | None:
    """Return `like` with ourselves as the owner, where we may not make a database for its own."""
    return like if like is None or like.owned else replace(like, owner=server.role.name)


def _drop_after(server: Server, name: str, error: BaseException) -> None:
    try:
        drop(server, name)
    except (StepFailedError, OSError) as second:
        error.add_note(f"{second}; the next run removes {name}")


def drop(server: Server, name: str) -> None:
    """Drop a database, undisturbed: an interrupted DROP would leave an invalid one behind."""
    with signals.deferred():
        swap.drop(server, name)
