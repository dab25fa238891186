"""Databases as wholes: created beside the target, swapped with it in one transaction, dropped."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import psycopg
from psycopg import sql

from backset.connections import activity
from backset.connections.session import Session, connect, explained, one_line, process_of
from backset.errors import StepFailedError
from backset.servers.server import MARK, Database, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_EVICT_EVERY_S = 0.005
_PATIENCE_S = 0.1  # for sessions that are just leaving: RENAME looks again only every 100 ms
_IMMOVABLE_S = 1.0  # for those that we may not end: RENAME would wait for 5 s, and then fail
_LOCK_TIMEOUT = "5s"  # as long as RENAME waits for sessions; signals have to wait meanwhile

# Nobody can connect to a database whose rename is not committed. Should we vanish in between (the
# network gone, the laptop asleep), the server would wait for us for hours.
_VANISHED = "SET LOCAL idle_in_transaction_session_timeout = '10s'"

# What was committed to `__next` did not wait for the disk, and is in the log before this commit.
_DURABLE = """
SELECT set_config('synchronous_commit', 'local', true)
 WHERE current_setting('synchronous_commit') = 'off'
"""


@dataclass(frozen=True, slots=True)
class Rename:
    """One rename of a swap, and the comment that the database has under its new name."""

    old: str
    new: str
    comment: str


def marked(mark: str, comment: str = "") -> str:
    """Return a database comment that says the database is ours, with the user's own after it."""
    return f"{MARK}{mark}" + (f"\n{comment}" if comment else "")


def create(server: Server, name: str, like: Database | None) -> None:
    """Create an empty database from template0, with owner, encoding and locale of `like`.

    And in its tablespace, unless the role may not create databases there.
    """
    parts = [sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))]
    if like is not None:
        parts += _likeness(like)
    _execute(server, sql.SQL(" ").join(parts))


def comment(server: Server, name: str, text: str) -> None:
    """Set the comment of a database; an empty text removes it."""
    _execute(server, comment_on(name, text))


def drop(server: Server, name: str) -> None:
    """Drop a database if it exists, ending the sessions on it."""
    _execute(server, _drop(name))


def drop_aside(server: Server, names: Sequence[str]) -> None:
    """Drop databases on a session of its own, whatever the server's is doing.

    Raises StepFailedError.
    """
    with explained(server.target), closing(connect(server.maintenance, "forget")) as session:
        session.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'".encode())
        for name in names:
            session.execute(_drop(name))


def _drop(name: str) -> sql.Composed:
    return sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))


def discard(server: Server) -> None:
    """Ask the server to drop what the swap set aside, without waiting for it.

    A drop waits for a checkpoint, longer than everything else here together. The server goes on
    after we hang up, on a session of its own, so the lock is free at once; should it never come to
    it, the next run drops the database with the other leftovers.
    """
    if server.names.discard in server.databases():
        with closing(connect(server.maintenance, "discard")) as session:
            session.pgconn.send_query(_drop(server.names.discard).as_bytes(session))
            session.pgconn.flush()


def nothing(_session: Session) -> None:
    """Do nothing."""


class Swap(Protocol):
    """Swaps the databases of a run, as swap() does."""

    def __call__(self, *, spare: int = 0, last: Callable[[Session], None] = nothing) -> None:
        """Swap; RENAME waits for the session of the pid `spare` to leave by itself."""


def swap(
    server: Server,
    renames: Sequence[Rename],
    last: Callable[[Session], None] = nothing,
    *,
    spare: int = 0,
) -> None:
    """Rename databases in one transaction, and do what `last` does: all of it, or none.

    RENAME takes the database's lock and then waits 5 s for the sessions on it to leave. New
    sessions queue behind that lock, so ending the old ones from a second session while RENAME
    waits always converges: a client that reconnects in a loop cannot stop it.
    spare: the pid of a session that is left alone, and leaves by itself while RENAME waits.
    Raises StepFailedError, with nothing renamed, when a session may not be ended.
    """
    names = [rename.old for rename in renames]
    _await_immovable(server, names)
    with evicting(server, names, spare=spare):
        try:
            with server.session.transaction():
                process_of(server.session)
                server.session.execute(_VANISHED)
                server.session.execute(_DURABLE)
                server.session.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'".encode())
                for rename in renames:
                    _rename(server.session, rename)
                last(server.session)
        except psycopg.Error as error:
            raise _cannot_swap(server, names, error) from None


def promote(
    server: Server,
    old: Database | None,
    previous: Database | None,
    *,
    old_is_empty: bool,
    backup: str = "",
    last: Callable[[Session], None] = nothing,
    spare: int = 0,
) -> None:
    """Make next the target; what it replaces becomes previous, an older previous discard.

    An empty target never displaces a previous one: the last good copy stays for `undo`.
    backup: the name of the backup of the target, which previous will bear in its comment.
    last, spare: see swap().
    """
    names, renames = server.names, []
    if old and previous and old_is_empty:
        renames.append(Rename(names.target, names.discard, marked("discard")))
    elif old:
        if previous:
            renames.append(Rename(names.previous, names.discard, marked("discard")))
        mark = marked(f"previous {backup}".rstrip(), old.comment)
        renames.append(Rename(names.target, names.previous, mark))
    renames.append(Rename(names.next, names.target, old.comment if old else ""))
    swap(server, renames, last, spare=spare)


def exchange(server: Server, old: Database | None, previous: Database) -> None:
    """Swap target and previous, through the name of next, which is free under the lock."""
    names, renames = server.names, []
    if old:
        renames.append(Rename(names.target, names.next, marked("next")))
    renames.append(Rename(names.previous, names.target, previous.comment))
    if old:
        renames.append(Rename(names.next, names.previous, marked("previous", old.comment)))
    swap(server, renames)


def _await_immovable(server: Server, names: Sequence[str]) -> None:
    """Give the sessions that our role may not end a moment to leave. Raises StepFailedError."""
    deadline = time.monotonic() + _IMMOVABLE_S
    while found := [each for each in server.immovable() if each[0].database in names]:
        if time.monotonic() > deadline:
            clients = [f"{client} on {client.database}" for client, _ in found]
            what = "the databases cannot be swapped while sessions are connected that "
            what += f"{server.session.info.user} may not end: {'; '.join(clients)}"
            raise StepFailedError(what, f"{found[0][1]}; then run this again")
        time.sleep(_PATIENCE_S)


@contextmanager
def evicting(
    server: Server, names: Sequence[str], *, spare: int = 0, whose: str = ""
) -> Iterator[None]:
    """End the sessions on `names`, but for the one of the pid `spare`, until the block is left.

    whose: a regular expression that the application's name must match.
    """
    over = threading.Event()
    with connect(server.maintenance, "swap") as session:

        def end() -> bool:
            return activity.end(session, names, whose, spare)

        thread = threading.Thread(target=_evict, args=(end, over), daemon=True)
        patience = time.monotonic() + _PATIENCE_S
        while end() and time.monotonic() < patience:
            over.wait(_EVICT_EVERY_S)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _evict(end: Callable[[], bool], over: threading.Event) -> None:
    with suppress(psycopg.OperationalError):  # the server went away: the swap says so itself
        while not over.is_set():
            end()
            over.wait(_EVICT_EVERY_S)


def _rename(session: Session, rename: Rename) -> None:
    if rename.comment == marked("discard"):  # a template could not be dropped
        plain = sql.SQL("ALTER DATABASE {} IS_TEMPLATE false")
        session.execute(plain.format(sql.Identifier(rename.old)))
    session.execute(
        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
            sql.Identifier(rename.old), sql.Identifier(rename.new)
        )
    )
    session.execute(comment_on(rename.new, rename.comment))


def comment_on(name: str, text: str) -> sql.Composed:
    """Return the statement that sets the comment of a database; an empty text removes it."""
    literal = sql.Literal(text or None)
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), literal)


def _cannot_swap(server: Server, names: Sequence[str], error: psycopg.Error) -> StepFailedError:
    busy = [f"{who} on {name}" for name in names for who in server.sessions(name)]
    still = f" (still connected: {'; '.join(busy)})" if busy else ""
    what = f"the databases cannot be swapped: {one_line(error, server.target)}{still}"
    return StepFailedError(what, "see the server's words, then run this again")


def _likeness(like: Database) -> list[sql.Composed]:
    options = [("OWNER", sql.Identifier(like.owner)), ("ENCODING", sql.Literal(like.encoding))]
    options += [("LC_COLLATE", sql.Literal(like.collate)), ("LC_CTYPE", sql.Literal(like.ctype))]
    if like.icu_rules:
        options += [("ICU_RULES", sql.Literal(like.icu_rules))]
    provider = {"c": "libc", "i": "icu", "b": "builtin"}.get(like.provider)
    if provider is not None:  # PostgreSQL 14 and earlier has libc alone, and no word for it
        options += [("LOCALE_PROVIDER", sql.Identifier(provider))]
    if like.locale is not None:
        options += [(f"{provider}_LOCALE", sql.Literal(like.locale))]
    if like.tablespace is not None:
        options += [("TABLESPACE", sql.Identifier(like.tablespace))]
    return [sql.SQL(name + " {}").format(value) for name, value in options]


def _execute(server: Server, statement: sql.Composed) -> None:
    try:
        process_of(server.session)
        server.session.execute(statement)
    except psycopg.Error as error:
        what = statement.as_string(server.session).split(" TEMPLATE ")[0]
        raise StepFailedError(
            f"{what}: {one_line(error, server.target)}", "see the server's words; then run again"
        ) from None
