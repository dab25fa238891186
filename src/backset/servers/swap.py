"""Databases as wholes: created beside the target, swapped with it in one transaction, dropped.

None of that waits for a standby; confirm() does, when the target is another one.
"""

from __future__ import annotations

import json
import threading
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import psycopg
from psycopg import sql

from backset.connections import activity
from backset.connections.session import Session, connect, explained, one_line, process_of
from backset.errors import RefusedError, StepFailedError
from backset.process import signals
from backset.process.identity import token
from backset.servers import standbys
from backset.servers.server import (
    LOCALLY,
    MARK,
    Database,
    Names,
    Server,
    foreign,
    protection,
    tied_by,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_EVICT_EVERY_S = 0.005
_PATIENCE_S = 0.1  # for sessions that are just leaving: RENAME looks again only every 100 ms
_IMMOVABLE_S = 1.0  # for those that we may not end: RENAME would wait for 5 s, and then fail
_LOCK_TIMEOUT = "5s"  # as long as RENAME waits for sessions; signals have to wait meanwhile
_OF_A_RUN = frozenset({"next", "discard", "scratch", "scratch_old", "clone"})  # what nobody keeps
_CLOSED = frozenset({"discard", "clean"})
_AGAIN = "look at it, then run this again"

# Nobody can connect to a database whose rename is not committed. Should we vanish in between (the
# network gone, the laptop asleep), the server would wait for us for hours. For the same reason no
# standby is waited for here: one that is away would keep everybody out for as long. What was
# committed to `__next` did not wait for the disk. The log is one for the whole server, and a COMMIT
# that waits has all of it on disk that was written before (xact.c: RecordTransactionCommit,
# XLogFlush): so this one waits for that, whatever the role prefers.
_SHORTLY = f"""
SET LOCAL idle_in_transaction_session_timeout = '10s';
SET LOCAL synchronous_commit = local;
SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'
""".encode()


# PostgreSQL keeps the word as it was given: spelled as nobody else would, it is known as ours.
_OFF = "oFf"
_AT_ONCE = sql.SQL("ALTER DATABASE {} SET synchronous_commit TO {}")
_IS_AT_ONCE = """
SELECT true FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
WHERE d.datname = %s AND s.setrole = 0 AND 'synchronous_commit=' || %s = ANY(s.setconfig)
"""


@dataclass(frozen=True, slots=True)
class Rename:
    """One rename of a swap: a database as it was seen, and what it is called, and says, then.

    word, label: of its mark; without a word it is the target. heir_of: whose comment it gets, if
    not its own.
    """

    seen: Database
    new: str
    word: str = ""
    label: str = ""
    heir_of: Database | None = None


def marked(mark: str, comment: str = "") -> str:
    """Return a database comment that says the database is ours, with the user's own after it."""
    return f"{MARK}{mark}" + (f"\n{comment}" if comment else "")


def mark(names: Names, word: str, label: str = "", comment: str = "") -> str:
    """Return the comment of a database beside a target: which one, and of which run it is."""
    said = {"of": names.target, "label": label, "run": token() if word in _OF_A_RUN else ""}
    about = json.dumps({key: value for key, value in said.items() if value}, separators=(",", ":"))
    return marked(f"{word} {about}", comment)


def create(server: Server, name: str, like: Database | None, *, is_closed: bool = False) -> None:
    """Create an empty database from template0, with owner, encoding and locale of `like`.

    And in its tablespace, unless the role may not create databases there.
    is_closed: whether nobody may connect to it yet.
    """
    closed = sql.SQL(" ALLOW_CONNECTIONS false" if is_closed else "")
    _execute(server, _creation(name, like) + closed)


def make(server: Server, name: str, word: str, like: Database | None) -> None:
    """Create a database beside the target, which has its mark before anybody can connect to it."""
    create(server, name, like, is_closed=True)
    show(server, name, word)


def show(server: Server, name: str, word: str) -> None:
    """Give a closed database that was just made its mark, and let others connect to it.

    Until it is the target, no commit there waits for the disk or for a standby, whoever makes it.
    """
    server.made.add(name)
    database = sql.Identifier(name)
    with server.session.transaction():
        _execute(server, comment_on(name, mark(server.names, word)))
        _execute(server, _AT_ONCE.format(database, sql.Literal(_OFF)))
        _execute(server, sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database))


def comment(server: Server, name: str, text: str) -> None:
    """Set the comment of a database; an empty text removes it."""
    _execute(server, comment_on(name, text))


def drop(server: Server, name: str, *, is_own: bool = False) -> None:
    """Drop a derived database if it exists, ending the sessions on it.

    is_own: only if this run has made it. Raises RefusedError or LockedError where it is not to be
    dropped: see demand_droppable().
    """
    with explained(server.target):
        is_there = _is_there(server, server.session, name, is_own=is_own)
    if is_there:
        _execute(server, _drop(name))


def drop_aside(server: Server, names: Sequence[str], *, is_own: bool = False) -> None:
    """Do that on a session of its own, whatever the server's is doing. Raises BacksetError."""
    with explained(server.target), closing(connect(server.maintenance, "forget")) as session:
        session.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'; {LOCALLY}".encode())
        for name in names:
            drop_by(server, session, name, is_own=is_own)


def drop_by(server: Server, session: Session, name: str, *, is_own: bool = False) -> None:
    """Do what drop() does by a session of the caller's. Raises BacksetError or psycopg.Error."""
    if _is_there(server, session, name, is_own=is_own):
        session.execute(_drop(name))


def _is_there(server: Server, session: Session, name: str, *, is_own: bool) -> bool:
    """Tell whether there is something to drop, which may be dropped."""
    found = next((each for each in server.look(session).values() if each.name == name), None)
    if found is None or (is_own and not server.has_made(found)):
        return False
    server.demand_droppable(found, session)
    return True


def _drop(name: str) -> sql.Composed:
    return sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))


def discard(server: Server) -> None:
    """Ask the server to drop what the swap set aside, without waiting for it.

    A drop waits for a checkpoint, longer than everything else here together. The server goes on
    after we hang up, on a session of its own, so the lock is free at once; should it never come to
    it, the next run drops the database with the other leftovers. Each has a name of its own, so
    that the next run need not wait for the drop of this one. Where the server is at several
    already, as during a fleet's run, it is waited for: they would take all of its connections.
    """
    for found in server.look().values():
        if found.mark == "discard" and not server.is_being_dropped(found):
            with closing(connect(server.maintenance, "discard")) as session:
                session.execute(LOCALLY.encode())
                (others,) = session.execute(_DISCARDS).fetchone() or (0,)
                if others >= _LEFT_ALONE:
                    with suppress(psycopg.Error):  # the next run does it
                        session.execute(_drop(found.name))
                    continue
                session.pgconn.send_query(_drop(found.name).as_bytes(session))
                session.pgconn.flush()


_LEFT_ALONE = 4  # drops that nobody waits for
_DISCARDS = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name ~ '^backset discard ' AND pid <> pg_backend_pid()
"""


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
    waits always converges: a client that reconnects in a loop cannot stop it. With all these locks
    nobody can connect to the databases or change what they are, and they are looked at again.
    spare: the pid of a session that is left alone, and leaves by itself while RENAME waits.
    Raises StepFailedError, with nothing renamed, when a session may not be ended, and RefusedError
    when one of them is not any more what was seen.
    """
    names = [rename.seen.name for rename in renames]
    oids = [rename.seen.oid for rename in renames]
    _demand_same(server, renames, {each.seen.oid: each.seen.name for each in renames})
    _await_immovable(server, names)
    with evicting(server, oids=oids, spare=spare):
        try:
            with server.session.transaction():
                process_of(server.session)
                server.session.execute(_SHORTLY)
                called = _rename(server.session, renames)
                comments = _demand_same(server, renames, called)
                for rename in {each.seen.oid: each for each in renames}.values():
                    server.session.execute(_comment(server.names, rename, comments))
                _be_durable(server)
                last(server.session)
        except psycopg.Error as error:
            raise _cannot_swap(server, names, error) from None


def _be_durable(server: Server) -> None:
    """Let commits in the new target wait as they do elsewhere, unless the old one had it so."""
    given = [server.names.target, _OFF]
    if server.session.execute(_IS_AT_ONCE, given).fetchone() == (True,):
        target = sql.Identifier(server.names.target)
        server.session.execute(sql.SQL("ALTER DATABASE {} RESET synchronous_commit").format(target))


def _rename(session: Session, renames: Sequence[Rename]) -> dict[int, str]:
    """Rename databases; return what each is called in the end, by oid."""
    called = {each.seen.oid: each.seen.name for each in renames}
    rename_to = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    for each in renames:
        if each.word in _CLOSED:  # no template can be dropped, and nobody is to come any more
            plain = sql.SQL("ALTER DATABASE {} IS_TEMPLATE false ALLOW_CONNECTIONS false")
            session.execute(plain.format(sql.Identifier(each.seen.name)))
        names = (called[each.seen.oid], each.new)
        session.execute(rename_to.format(*map(sql.Identifier, names)))
        called[each.seen.oid] = each.new
    return called


def _demand_same(
    server: Server, renames: Sequence[Rename], called: Mapping[int, str]
) -> Mapping[int, str]:
    """Raise RefusedError unless the databases are what was seen of them, and nothing is tied.

    called: their names by now, by oid. Returns the comments that the user has given them, by oid.
    """
    reasons, there = [], server.look(oids=[*called])
    seen = {each.seen.oid: each.seen for each in renames}
    for oid, each in seen.items():
        now = there.get(oid)
        if now is None or now.name != called[oid]:
            reasons.append((f"{each.name} is another database by now", _AGAIN))
        elif now.is_invalid:
            reasons.append(
                (f"a DROP of {each.name} was interrupted", "drop it, then run this again")
            )
        elif now.protected:
            reasons.append(protection(each.name))
        elif each.name != server.names.target and _says(now) != _says(each):
            reasons.append((f"the comment of {each.name} does not say any more what it is", _AGAIN))
    known = {called[oid]: each.name for oid, each in seen.items()}
    if reasons := [*reasons, *tied_by(server.session, list(known), known)]:
        raise RefusedError(reasons)
    return {oid: there[oid].comment for oid in seen}


def _says(found: Database) -> tuple[str, str, str]:
    return found.mark, found.run, found.label


def _comment(names: Names, rename: Rename, comments: Mapping[int, str]) -> sql.Composed:
    """Return what sets the comment of a database under its new name.

    What the user says of the target stays with it, also where a new one takes its place.
    """
    text = comments[(rename.heir_of or rename.seen).oid]
    if rename.word:
        text = mark(names, rename.word, rename.label, text)
    return comment_on(rename.new, text)


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
    """Make next the target; what it replaces becomes previous, an older previous is set aside.

    An empty target never displaces a previous one: the last good copy stays for `undo`.
    old, previous: as they were seen when the run began. backup: the name of the backup of the
    target, which previous will bear in its comment. last, spare: see swap().
    """
    names, renames = server.names, []
    there = {each.name: each for each in server.look().values()}
    if previous is None and names.previous in there:
        raise RefusedError([foreign(names.previous, names.target)])
    if old and previous and old_is_empty:
        renames.append(Rename(old, names.set_aside(old.oid), "discard"))
    elif old:
        if previous:
            renames.append(Rename(previous, names.set_aside(previous.oid), "discard"))
        renames.append(Rename(old, names.previous, "previous", backup))
    built = _built(server, there.get(names.next))
    renames.append(Rename(built, names.target, heir_of=old))
    swap(server, renames, last, spare=spare)


def _built(server: Server, found: Database | None) -> Database:
    """Return `__next`, if it is what this run has made. Raises RefusedError if not."""
    if found is None or (found.mark, found.run) != ("next", token()):
        raise RefusedError([(f"{server.names.next} is not what this run has built", _AGAIN)])
    return found


def exchange(server: Server, old: Database | None, previous: Database) -> None:
    """Swap target and previous, through the name of next, which is free under the lock.

    old, previous: as they were seen when the run began.
    """
    names, renames = server.names, []
    if old:
        renames.append(Rename(old, names.next, "next"))
    renames.append(Rename(previous, names.target))
    if old:
        renames.append(Rename(old, names.previous, "previous"))
    swap(server, renames)


def _await_immovable(server: Server, names: Sequence[str]) -> None:
    """Give the sessions that our role may not end a moment to leave. Raises StepFailedError."""
    if found := signals.wait_while(
        lambda: [each for each in server.immovable() if each[0].database in names],
        _IMMOVABLE_S,
        _PATIENCE_S,
    ):
        clients = [f"{client} on {client.database}" for client, _ in found]
        what = "the databases cannot be swapped while sessions are connected that "
        what += f"{server.session.info.user} may not end: {'; '.join(clients)}"
        raise StepFailedError(what, f"{found[0][1]}; then run this again")


@contextmanager
def evicting(
    server: Server,
    names: Sequence[str] = (),
    *,
    oids: Sequence[int] = (),
    spare: int = 0,
    whose: str = "",
) -> Iterator[None]:
    """End the sessions on databases, but for the one of the pid `spare`, until the block is left.

    names, oids: of the databases. whose: a regular expression that the application's name must
    match.
    """
    over = threading.Event()
    with connect(server.maintenance, "swap") as session:

        def end() -> bool:
            return activity.end(session, names, whose, spare, oids=oids)

        thread = threading.Thread(target=_evict, args=(end, over), daemon=True)
        signals.wait_while(end, _PATIENCE_S, _EVICT_EVERY_S)
        with signals.deferred():
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


def comment_on(name: str, text: str) -> sql.Composed:
    """Return the statement that sets the comment of a database; an empty text removes it."""
    literal = sql.Literal(text or None)
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), literal)


def _cannot_swap(server: Server, names: Sequence[str], error: psycopg.Error) -> StepFailedError:
    busy = [f"{who} on {name}" for name in names for who in server.sessions(name)]
    still = f" (still connected: {'; '.join(busy)})" if busy else ""
    what = f"the databases cannot be swapped: {one_line(error, server.target)}{still}"
    return StepFailedError(what, "see the server's words, then run this again")


def _creation(name: str, like: Database | None) -> sql.Composed:
    parts = [sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))]
    if like is not None:
        parts += _likeness(like)
    return sql.SQL(" ").join(parts)


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


LIMIT_S = 10.0


def awaited(session: Session) -> str:
    """Return the server's `synchronous_standby_names`, where a commit of our login waits for them.

    session: what it has set itself, such as Server.session, does not count.
    """
    row = session.execute(_AWAITED).fetchone()
    return str(row[0]) if row else ""


def confirm(server: Server) -> str:
    """Wait until the standbys have all that was committed; return in words what is not known.

    It commits something that means nothing, as every application would: whatever was committed
    before is in the log before it. The wait is seen by activity.Waits, and ends after LIMIT_S: a
    standby that is away may never come back.
    """
    late, names = threading.Event(), ""
    try:
        if not (names := awaited(server.session)):
            return ""
        with closing(connect(server.maintenance, "standbys")) as session:
            session.execute("RESET synchronous_commit")  # as an application has it
            session.add_notice_handler(lambda _: late.set())  # the server warns of what is given up
            timer = threading.Timer(LIMIT_S, _give_up, [session, late])
            timer.daemon = True
            timer.start()
            try:
                session.execute(_COMMIT)
            finally:
                timer.cancel()
                timer.join()
    except (psycopg.Error, StepFailedError):  # it is done, and durable on the server itself
        late.set()
    if not late.is_set():
        return ""
    whom = f" ({names})" if names else ""  # it was gone before it could say
    return f"on the server's own disk, and not yet on a standby{whom} as far as is known"


def lacking(server: Server) -> str:
    """Return in words what the standbys may not have of a target that is another one by now."""
    missing = confirm(server)
    return f"{server.names.target} is {missing}" if missing else ""


def durable(server: Server) -> str:
    """Say on which servers a target that is another one by now is, where commits wait for some."""
    if missing := lacking(server):
        return missing
    try:
        row = server.session.execute(_AWAITED).fetchone()
        found = [each.name for each in standbys.connected(server.session) if each.is_waited_for]
    except psycopg.Error:  # it is done, and whatever comes next says what happened
        return ""
    if not row:
        return ""
    who = f"{found[0]} (synchronous)" if len(found) == 1 else f"the standbys ({row[0]})"
    has = "has" if len(found) == 1 else "have"
    return f"{server.names.target} is on the server's own disk, and {who} {has} {_IT[row[1]]}"


def _give_up(session: Session, late: threading.Event) -> None:
    late.set()
    with suppress(psycopg.Error):  # the server is gone, and the wait with it
        session.cancel_safe(timeout=LIMIT_S)


# What a standby has done before a commit is over, by synchronous_commit.
_IT = {"on": "it on disk", "remote_write": "received it", "remote_apply": "replayed it"}
_AWAITED = """
SELECT current_setting('synchronous_standby_names'),
       (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit')
WHERE current_setting('synchronous_standby_names') <> ''
  AND (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit') NOT IN ('off', 'local')
"""
_COMMIT = "SELECT pg_logical_emit_message(true, 'backset', 'swapped')"
