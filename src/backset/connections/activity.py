"""Who else is connected to a server, who waits for whom, and whom this role may end."""

from __future__ import annotations

import math
import re
import threading
import time
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING, Any, Self

import psycopg

from backset.connections.session import connect
from backset.described import described, key
from backset.errors import StepFailedError
from backset.process import identity, signals
from backset.text.pasted import quoted
from backset.text.quantities import age

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from backset.connections.session import Session
    from backset.connections.target import Target


_FEW = 3  # sessions of one application that are listed one by one
_LOOK_EVERY_S = 1.0  # a run that is over sooner never pays for a look
_FRESH_S = 2.5  # a look may come between the end of a wait and that of its step


@described()
class Backend:
    """A connection of somebody else, in `sessions` and in the `ended` of a step.

    Where our role is no member of its role, the server shows user, database and pid alone.
    """

    pid: int = key("its process at the server; 0 for a prepared transaction or a standby")
    database: str | None = key("the database that it is connected to")
    user: str | None = key("its role")
    application: str = key("its `application_name`; may be empty")
    address: str | None = key(
        "of a TCP client; `socket` on a Unix socket; null where the server hides it"
    )
    state: str | None = key(
        "as in `pg_stat_activity`: `idle`, `active`, …; null where that is hidden"
    )
    connected_s: float | None = key("seconds since it connected; null where the server hides that")
    state_s: float | None = key("seconds since its state began; null where the server hides that")
    may_end: bool = key("whether our role may end it")
    is_superuser: bool = key("whether only a superuser may end it")

    @property
    def who(self) -> str:
        """Application and address, as far as they are known: `psql@socket`."""
        name = self.application or self.user or "a prepared transaction"
        return f"{name}@{self.address}" if self.address else name

    def __str__(self) -> str:
        """Say who it is and since when: `psql@socket, pid 123, idle in transaction for 3 min`."""
        pid = [f"pid {self.pid}"] if self.pid else []
        return ", ".join([self.who, *pid, *self._since()])

    def _since(self) -> list[str]:
        if self.state_s is not None and self.state not in {None, "idle"}:
            return [f"{self.state} for {age(self.state_s)}"]
        return [] if self.connected_s is None else [f"connected for {age(self.connected_s)}"]

    def remedy(self, role: str) -> str:
        """Say how a session that `role` may not end can be ended."""
        grant = "" if self.is_superuser else f", or GRANT pg_signal_backend TO {quoted(role)}"
        administrator = f"as an administrator: SELECT pg_terminate_backend({self.pid}){grant}"
        return f"ask its owner to close it, or {administrator}"


def listed(clients: Iterable[Backend]) -> str:
    """Return sessions in one line; many of one application and address are counted."""
    texts = []
    for who, group in groupby(sorted(clients, key=lambda each: each.who), lambda each: each.who):
        same = list(group)
        oldest = max(each.connected_s or 0 for each in same)
        many = f"{who} ({len(same)} sessions, the oldest connected for {age(oldest)})"
        texts += [many] if len(same) > _FEW else [str(each) for each in same]
    return "; ".join(texts)


def clients(
    session: psycopg.Connection[Any],
    databases: Sequence[str] = (),
    names: str = "",
    *,
    oids: Sequence[int] = (),
) -> list[Backend]:
    """Return who else is connected to databases, the oldest first.

    databases, names, oids: as end() has them.
    """
    values = {"databases": list(databases), "oids": list(oids), "names": names}
    return [Backend(*row) for row in session.execute(_CLIENTS, values).fetchall()]


def runs(session: psycopg.Connection[Any]) -> dict[str, str]:
    """Return the other runs that may be at work on the server: the name of a session by token.

    Each has a session of its own from its first to its last moment. Of a process that ended where
    we cannot see it, the server notices that by itself, after a minute at the latest.
    """
    names = (name for (name,) in session.execute(_NAMES).fetchall())
    found = {identity.works(name): name for name in names}
    return {token: found[token] for token in found.keys() - {"", identity.token()}}


def not_of_runs(session: psycopg.Connection[Any]) -> str:
    """Return the regular expression of names of sessions that are no run's at work, nor ours.

    Another run may wait for the lock, or have lost it: it is not ours to end.
    """
    marks = [identity.run_mark(), *(f" #{each}" for each in runs(session))]
    return f"^(?!.*({'|'.join(map(re.escape, marks))}))"


def end(
    session: psycopg.Connection[Any],
    databases: Sequence[str] = (),
    names: str = "",
    spare: int = 0,
    *,
    oids: Sequence[int] = (),
) -> bool:
    """End the sessions on databases that our role may end; tell whether there was one.

    databases, oids: by their names, or by what they are. names: a regular expression that the
    application's name must match. spare: a pid to leave alone.
    """
    values = {"databases": list(databases), "oids": list(oids), "names": names, "spare": spare}
    ended = session.execute(_END, values).fetchall()
    if session.execute("SELECT current_user <> session_user").fetchone() == (True,):
        with session.transaction():  # what the login may end, the role that it has set may not
            session.execute("SET LOCAL ROLE NONE")
            ended += session.execute(_END, values).fetchall()
    return bool(ended)


def end_login(session: psycopg.Connection[Any], database: str, names: str) -> None:
    """End the sessions that our own login has on a database by now, and whose names match."""
    values = {"database": database, "names": names}
    with session.transaction():  # what the login may end, the role that it has set may not
        session.execute("SET LOCAL ROLE NONE")
        session.execute(_END_LOGIN, values)


def waits(
    session: psycopg.Connection[Any], databases: Sequence[str], run: str, began: int
) -> list[tuple[str | None, Backend]]:
    """Return who waits for whom: a name, None for a session of this run, and who blocks it.

    The waiting ones are the sessions of this run (their name has `run` in it), and those on
    databases that came after the session with the pid `began`: a child of ours may have a driver
    that gives its sessions no name. Whoever else waits for us is not told, nor that one of ours
    waits for what another one does beside on the maintenance database, such as a DROP. A commit
    may wait for a standby, too, which has no session.
    """
    values = {"databases": list(databases), "run": run, "began": began}
    rows = session.execute(_WAITS, values).fetchall()
    return [(waiting, Backend(*blocking)) for waiting, *blocking in rows]


class Waits:
    """For as long as the block lasts, tells `notice` whom this run waits for, once each.

    A thread looks over a session of its own on `maintenance`, since ours are the ones that wait.
    databases: those that the run works on; on them Alembic and the seed command are watched too.
    began: the server's pid of a session that is older than they are.
    A step that fails while it is held up says by whom.
    """

    def __init__(
        self,
        maintenance: Target,
        databases: Sequence[str],
        began: int,
        notice: Callable[[str, Sequence[Backend]], None],
    ) -> None:
        self._maintenance = maintenance
        self._databases = databases
        self._began = began
        self._notice = notice
        self._told: set[tuple[str | None, int]] = set()
        self._last: list[Backend] = []
        self._last_at = -math.inf
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        with signals.deferred():
            self._thread.start()
        return self

    def __exit__(self, _type: object, error: object, _trace: object) -> None:
        self._over.set()
        self._thread.join(_LOOK_EVERY_S)  # a server that is gone would keep it busy for longer
        is_fresh = time.monotonic() - self._last_at < _FRESH_S
        if isinstance(error, StepFailedError) and is_fresh:
            error.what += f" (it waited for {listed(self._last)})"

    def _watch(self) -> None:
        if self._over.wait(_LOOK_EVERY_S):
            return
        # Without the server the run itself fails, and says so.
        with (
            suppress(StepFailedError, psycopg.Error),
            connect(self._maintenance, "waits") as session,
        ):
            self._look(session)
            while not self._over.wait(_LOOK_EVERY_S):
                self._look(session)

    def _look(self, session: Session) -> None:
        found = waits(session, self._databases, identity.run_mark(), self._began)
        if found:
            self._last = list({client.pid: client for _, client in found}.values())
            self._last_at = time.monotonic()
        for waiting in dict.fromkeys(name for name, _ in found):
            blocking = {client.pid: client for name, client in found if name == waiting}
            new = [blocking[pid] for pid in blocking if (waiting, pid) not in self._told]
            self._told |= {(waiting, pid) for pid in blocking}
            if new and not self._over.is_set():
                whose = "" if waiting is None else f"{waiting} "
                self._notice(f"{whose}waits for {listed(new)}", new)


# A background process such as an autovacuum worker leaves by itself when somebody waits for it.
_IS_CLIENT = "coalesce(a.backend_type, 'client backend') = 'client backend'"
_MAY = """
       (me.rolsuper OR NOT coalesce(r.rolsuper, true)
        AND (pg_has_role(r.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')
             {also}))
"""
_MAY_END = _MAY.format(also="")
_MAY_END_OR_LOGIN = _MAY.format(
    also="OR pg_has_role(session_user, r.oid, 'USAGE')"
    " OR pg_has_role(session_user, 'pg_signal_backend', 'USAGE')"
)
_COLUMNS = f"""
       a.pid, a.datname, a.usename, coalesce(a.application_name, ''),
       CASE WHEN a.backend_type IS NOT NULL THEN coalesce(host(a.client_addr), 'socket') END,
       a.state, extract(epoch FROM clock_timestamp() - a.backend_start)::float8,
       extract(epoch FROM clock_timestamp() - a.state_change)::float8,
       {_MAY_END_OR_LOGIN}, coalesce(r.rolsuper, true)
"""
_ROLES = """
     LEFT JOIN pg_roles r ON r.oid = a.usesysid
     JOIN pg_roles me ON me.rolname = current_user
"""
_CLIENTS = f"""
SELECT {_COLUMNS} FROM pg_stat_activity a {_ROLES}
WHERE (a.datname = ANY(%(databases)s) OR a.datid = ANY(%(oids)s::oid[]))
  AND {_IS_CLIENT} AND a.pid <> pg_backend_pid()
  AND coalesce(a.application_name, '') ~ %(names)s
ORDER BY a.backend_start, a.pid
"""
_NAMES = (
    "SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name ~ '^backset '"
)
_END = f"""
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a {_ROLES}
WHERE (a.datname = ANY(%(databases)s) OR a.datid = ANY(%(oids)s::oid[]))
  AND {_IS_CLIENT} AND {_MAY_END}
  AND a.pid NOT IN (pg_backend_pid(), %(spare)s) AND coalesce(a.application_name, '') ~ %(names)s
"""
_END_LOGIN = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = %(database)s AND usename = session_user AND pid <> pg_backend_pid()
  AND backend_start <= transaction_timestamp() AND coalesce(application_name, '') ~ %(names)s
"""
# Whom pg_blocking_pids names 0 is a prepared transaction, which has no session.
_WAITS = f"""
WITH waiting AS (
    SELECT w.pid, coalesce(nullif(w.application_name, ''), w.usename) AS name,
           strpos(w.application_name, %(run)s) > 0 AS is_ours,
           w.wait_event = 'SyncRep' AS is_for_a_standby
    FROM pg_stat_activity w
    WHERE (coalesce(w.wait_event_type, 'Lock') = 'Lock' OR w.wait_event = 'SyncRep') AND (
          strpos(w.application_name, %(run)s) > 0
          OR w.datname = ANY(%(databases)s) AND coalesce(w.backend_start, 'infinity') >=
             (SELECT backend_start FROM pg_stat_activity WHERE pid = %(began)s)))
SELECT CASE WHEN NOT waiting.is_ours THEN waiting.name END, {_COLUMNS.replace("a.pid", "held.pid")}
FROM waiting CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS held (pid)
     LEFT JOIN pg_stat_activity a ON a.pid = held.pid {_ROLES}
WHERE strpos(coalesce(a.application_name, ''), %(run)s) = 0
   OR waiting.is_ours AND a.datname = ANY(%(databases)s)
UNION ALL
SELECT CASE WHEN NOT waiting.is_ours THEN waiting.name END, 0, NULL, NULL,
       'a standby (synchronous_standby_names: ' || current_setting('synchronous_standby_names')
       || ')', NULL, NULL, NULL, NULL, false, true
FROM waiting WHERE is_for_a_standby
"""
