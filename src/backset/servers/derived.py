"""The databases beside the target, under names derived from its own: made, copied, dropped."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Event, Thread
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.catalog import catalog
from backset.connections.session import connect, one_line, process_of
from backset.errors import BacksetError, RefusedError
from backset.process import signals
from backset.servers import safeguards, swap
from backset.servers.server import BRANCH, LOCALLY, MARK
from backset.servers.server import foreign as in_the_way

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.servers.server import Database, Server

    Databases = Mapping[str, Database]  # of Server.databases()

# Measured: the server copies 8 MB page by page, through its log, in 0.03 s, and as files in 0.1 s,
# since that wants two checkpoints; 500 MB take it 1.2 s and 0.4 s. For each file it waits for the
# disk, before the copy and after it: the 6,300 files of 1,000 tables, 43 MB, take it four times as
# long as files.
_AS_FILES_ABOVE = 70_000_000  # bytes
_ABOVE_PER_FILE = 120_000
_LEAVING_S = 0.2  # for sessions that have just been closed
_LOOK_EVERY_S = 0.001
_FAILING_S = 0.1  # a copy that fails is seen as late as that


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
    """Drop what a killed run left behind; consent.admit() has refused what is not ours.

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
def scratch(
    server: Server, name: str, like: Database | None, *, is_made: bool = False
) -> Iterator[Target]:
    """Make an empty scratch database for the block, under the lock; drop it whatever happens.

    like: the database whose owner, encoding and locale it gets. refuse_scratch() comes before.
    is_made: whether make_scratch() has made it already.
    """
    try:
        if not is_made:
            make_scratch(server, name, like)
        try:
            yield server.target.named(name)
        finally:
            _mark_again(server, name)
        drop(server, name)
    except BaseException as error:
        drop_after(server, name, error)
        raise


def make_scratch(server: Server, name: str, like: Database | None) -> None:
    """Make an empty scratch database, with its mark, in the place of one of ours."""
    drop(server, name)
    with signals.deferred():
        swap.make(server, name, "scratch", _ours(server, like))
        safeguards.lift(server.session, name)


def has_made_scratch(server: Server, name: str, like: Database | None) -> bool:
    """Make it ahead, and tell whether it is there; else make_scratch() is to say why not."""
    try:
        make_scratch(server, name, like)
    except (psycopg.Error, BacksetError, OSError):
        return False
    return True


def _mark_again(server: Server, name: str) -> None:
    """Give a scratch database its mark again: a migration may have commented on its database."""
    with suppress(psycopg.Error, BacksetError, OSError), signals.deferred():
        for found in server.look().values():
            if found.name == name and not found.mark and not found.is_closed:
                swap.comment(server, name, swap.mark(server.names, "scratch"))


def _ours(server: Server, like: Database | None) -> Database | None:
    """Return `like` with ourselves as the owner, where we may not make a database for its own."""
    return like if like is None or like.owned else replace(like, owner=server.role.name)


def drop_after(server: Server, name: str, error: BaseException) -> None:
    """Drop what this run has made; what keeps us from that is added to the error.

    A loaded server can take longer over a session than DROP waits, and a signal can leave our own
    in the middle of a statement.
    """
    attempts: tuple[Callable[[], None], ...] = (
        lambda: swap.drop(server, name, is_own=True),
        lambda: swap.drop_aside(server, [name], is_own=True),
    )
    for attempt in attempts:
        try:
            with signals.deferred():
                attempt()
        except (BacksetError, OSError) as second:
            problem = second
        else:
            return
    error.add_note(f"{problem}; the next run removes {name}")


def drop(server: Server, name: str) -> None:
    """Drop a database, undisturbed: an interrupted DROP would leave an invalid one behind."""
    with signals.deferred():
        swap.drop(server, name)


def is_copied_as_files(size_bytes: int, files: int) -> bool:
    """Tell whether that takes less time than page by page."""
    return size_bytes > _AS_FILES_ABOVE + files * _ABOVE_PER_FILE


def wants_files(session: Session, source: Database, files: int) -> bool:
    """Tell whether the server is to copy a database as files. files: how many it has, about."""
    return is_copied_as_files(catalog.size_bytes(session, source.name), files)


def copy(
    session: Session,
    source: Database,
    name: str,
    like: Database,
    *,
    as_files: bool,
    shares: bool = True,
) -> None:
    """Create the database `name` as a copy of `source`, which nobody may be connected to.

    like: the one whose owner and tablespace it gets. as_files: see wants_files(). shares: whether
    the file system is asked to let both have the same blocks, which takes a moment where it cannot.
    Nobody may connect to it, not even a superuser, from its beginning. Raises psycopg.Error.
    """
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
        *map(sql.Identifier, (name, source.name, like.owner))
    )
    if like.tablespace is not None:
        statement += sql.SQL(" TABLESPACE {}").format(sql.Identifier(like.tablespace))
    statement += sql.SQL(" ALLOW_CONNECTIONS false")
    major = session.info.server_version // 10000
    is_asked = major >= 15  # noqa: PLR2004  (before, all are)
    if is_asked and as_files:
        statement += sql.SQL(" STRATEGY file_copy")
        if shares and major >= 18 and _has_shared_blocks(session, statement):  # noqa: PLR2004  (file_copy_method)
            return
    session.execute(statement)


def _has_shared_blocks(session: Session, statement: sql.Composed) -> bool:
    """Try to let the file system share the blocks of both; tell whether it could."""
    try:
        session.execute("SET file_copy_method = clone")
        session.execute(statement)
    except psycopg.errors.QueryCanceled:
        raise
    except psycopg.Error:
        session.execute("RESET file_copy_method")
        return False
    return True


class Copying:
    """A closed copy that the server makes of a database while we go on.

    files: how many the source has, about.
    then: what is done when it is there, on the session that made it, in a thread.
    """

    def __init__(
        self,
        server: Server,
        source: Database,
        name: str,
        files: int,
        then: Callable[[Session], None],
    ) -> None:
        self._server = server
        self._source = source
        self._name = name
        self._files = files
        self._then = then
        self._session = connect(server.maintenance, "keep")
        self._pid = process_of(self._session)
        self._session.execute(LOCALLY.encode())
        self._thread = Thread(target=self._run, daemon=True)
        self._is_copied = Event()
        self.problem = ""

    def begin(self) -> None:
        """Begin when our own sessions have left the source; return when it cannot change any more.

        From then on a new session on it waits until it is copied, as does wait().
        With a session of somebody else on it there is no copy.
        """
        if signals.wait_while(lambda: self._asked(_CONNECTED), _LEAVING_S, _LOOK_EVERY_S):
            self.problem = f"somebody else is connected to {self._source.name}"
            return
        with signals.deferred():
            self._thread.start()
        while self._thread.is_alive() and not self._asked(_HELD):
            time.sleep(_LOOK_EVERY_S)

    def wait(self) -> None:
        """Wait until the source can be used again."""
        while self._thread.is_alive() and not self._is_copied.wait(_FAILING_S):
            pass

    def finish(self) -> None:
        """Wait until it is made; `problem` says what kept it from that."""
        if self._thread.ident is not None:
            self._thread.join()
        self._session.close()

    def stop(self) -> None:
        """Let the server give it up."""
        if self._thread.is_alive():
            self._session.cancel_safe(timeout=5)
        self.finish()

    def _asked(self, query: str) -> bool:
        given = {"name": self._source.name, "pid": self._pid}
        return self._server.session.execute(query, given).fetchone() == (True,)

    def _run(self) -> None:
        try:
            swap.drop_by(self._server, self._session, self._name)
            as_files = wants_files(self._session, self._source, self._files)
            where = self._session, self._source, self._name, self._source
            copy(*where, as_files=as_files)
            self._is_copied.set()
            self._then(self._session)
        except (psycopg.Error, BacksetError, OSError) as error:
            self.problem = one_line(error, self._server.target)


def copy_as_next(server: Server, template: Database, files: int, old: Database) -> None:
    """Create `__next` as a copy of `template`, with the owner and the tablespace of `old`.

    files: how many the template has, about.
    """
    name = server.names.next
    # Closed until it has its mark: one that has content and no mark would be somebody else's.
    as_files = wants_files(server.session, template, files)
    copy(server.session, template, name, old, as_files=as_files)
    swap.show(server, name, "next")


def copy_for_branch(server: Server, source: Database, name: str, files: int) -> None:
    """Create a closed copy of a database on the server's own session, which has the lock.

    So a server that goes on after we were killed keeps the lock, and the next run ends it first.
    The sessions on the source are ended until it is copied. Raises psycopg.Error.
    """
    as_files = wants_files(server.session, source, files)
    with swap.evicting(server, [source.name]):
        copy(server.session, source, name, source, as_files=as_files)


def make_closed(server: Server, name: str, like: Database) -> None:
    """Create an empty database for a branch, to which nobody may connect yet."""
    swap.create(server, name, _ours(server, like), is_closed=True)


def show_for_branch(server: Server, name: str, branch: str, comment: str) -> None:
    """Give a closed database the mark of a branch, and let people connect to it, at once."""
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name))
    with server.session.transaction():
        swap.comment(server, name, swap.mark(server.names, BRANCH, branch, comment))
        server.session.execute(allow)


def branch_of(found: Database, base: str) -> tuple[str, str] | None:
    """Return for which branch a database was made in the place of `base`, and its own comment.

    None where it was not.
    """
    begin, (first, _, rest) = f"{MARK}{BRANCH} ", found.comment.partition("\n")
    try:
        said = json.loads(first.removeprefix(begin)) if first.startswith(begin) else {}
        return (str(said["label"]), rest) if said["of"] == base else None
    except (ValueError, KeyError, TypeError):
        return None


def of_branches(server: Server, names: Iterable[str]) -> dict[str, Database]:
    """Return the databases of these names, and those beside the target that may be branches'."""
    given = {"names": [*names], "like": f"{MARK}{BRANCH} {{"}
    rows = server.session.execute(_OF_BRANCHES, given).fetchall()
    found = server.look(oids=[oid for (oid,) in rows])
    return {found[oid].name: found[oid] for (oid,) in rows if oid in found}


def drop_of_branch(server: Server, name: str) -> None:
    """Drop it, and end the sessions on it; the caller has looked whose it is. Raises BacksetError.

    Not interrupted: that would leave an invalid one behind.
    """
    words = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with signals.deferred():
        server.session.execute(words)


def give_up_branch(server: Server, name: str, error: BaseException) -> None:
    """Drop what was not finished; what keeps us from that is added to the error."""
    try:
        server.recover()
        drop_of_branch(server, name)
    except (psycopg.Error, OSError) as second:
        error.add_note(f"{one_line(second, server.target)}; the next run removes {name}")


_OF_BRANCHES = """
SELECT oid FROM pg_database WHERE datname = ANY(%(names)s) OR strpos(datname, '__branch_') > 0
   OR strpos(shobj_description(oid, 'pg_database'), %(like)s) > 0 ORDER BY datname
"""
_CONNECTED = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = %(name)s
               AND backend_type <> 'autovacuum worker')
"""
_HELD = """
SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.objid
               WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass
                 AND l.mode = 'ShareLock' AND l.granted AND l.pid = %(pid)s
                 AND d.datname = %(name)s)
"""
