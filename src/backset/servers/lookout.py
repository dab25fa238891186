"""Who comes to which database while a command of the project runs, as the server shows it.

A session is the command's own when it bears the name that the command was given (PGAPPNAME: every
driver on libpq), or when it comes from a TCP port that a process of the command has (the others,
on Linux, without a container between). What is over before it was looked at is counted by the
server all the same, from PostgreSQL 15 on.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.processes.identity import run_mark
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg


_WAITS = 140000  # the first server that can wait, in ms, for the end of a session
_COUNTS = 150000  # the first server that has a session counted before it is gone from the activity
_PROC = Path("/proc")
_SESSION_FIELD = 3  # of /proc/PID/stat, after the name in brackets: state ppid pgrp session


@dataclass(frozen=True, slots=True)
class Visitor:
    """A session that came while the command ran."""

    pid: int
    database: str
    user: str
    application: str
    port: int


@dataclass(frozen=True, slots=True)
class Counters:
    """What the server has counted of a database: sessions, and rows written."""

    sessions: int = 0
    written: int = 0


@dataclass
class Lookout:
    """Looks from a session on the maintenance database, which nobody else uses meanwhile.

    subject: the database that the command is given. target: the live one; it may be the same.
    name: the command's PGAPPNAME. own: the command's sessions by pid, others: everybody else's.
    """

    session: psycopg.Connection[Any]
    subject: str
    target: str
    name: str
    own: dict[int, Visitor] = field(default_factory=dict)
    others: dict[int, Visitor] = field(default_factory=dict)
    _known: list[int] = field(default_factory=list)
    _before: dict[str, Counters] = field(default_factory=dict)
    _after: dict[str, Counters] = field(default_factory=dict)
    _was_alone: bool = True

    def begin(self) -> None:
        """Remember who is there already; before the command is started."""
        rows = self._rows()
        self._known = [row[0] for row in rows]
        self._was_alone = self._is_alone(Visitor(*row) for row in rows)
        self._before = self._counters()

    def look(self, session_id: int) -> None:
        """Note who is there now; `session_id` is that of the command's processes."""
        ports: set[int] | None = None
        for row in self._rows():
            visitor = Visitor(*row)
            is_named = visitor.application.startswith(self.name)
            if not is_named and visitor.port > 0 and ports is None:
                ports = _ports_of(session_id)
            if is_named or visitor.port in (ports or ()):
                self.own[visitor.pid] = visitor
                self.others.pop(visitor.pid, None)
            elif visitor.pid not in self.own:
                self.others[visitor.pid] = visitor

    def end(self, visitors: list[Visitor]) -> None:
        """End sessions of the command, and wait until they are gone and counted."""
        wait = ", 5000" if self.session.info.server_version >= _WAITS else ""
        query = sql.SQL("SELECT pg_terminate_backend(pid{}) FROM unnest(%s) AS pid")
        pids = [each.pid for each in visitors]
        self.session.execute(query.format(sql.SQL(wait)), [pids])

    def finish(self, session_id: int) -> None:
        """Look for the last time, when the command has ended; then read what was counted.

        In this order: a session is counted before it is gone from the activity.
        """
        self.look(session_id)
        self._after = self._counters()

    @property
    def astray(self) -> list[Visitor]:
        """The command's sessions on the live database, where that is not the one it was given."""
        live = [each for each in self.own.values() if each.database == self.target]
        return live if self.subject != self.target else []

    @property
    def can_count(self) -> bool:
        """Whether the counters are exact as soon as a session is gone."""
        return self.session.info.server_version >= _COUNTS

    @property
    def came(self) -> bool | None:
        """Whether the command came to its database; None where that is not known."""
        if any(each.database == self.subject for each in self.own.values()):
            return True
        if self.subject == self.target or not self.can_count:
            return None
        return self._delta(self.subject).sessions > 0  # nobody else knows of `__next`

    @property
    def unseen(self) -> int:
        """How many sessions on the live database were over before they were looked at."""
        if self.subject == self.target or not self.can_count:
            return 0
        visitors = [*self.own.values(), *self.others.values()]
        seen = sum(each.database == self.target for each in visitors)
        return max(0, self._delta(self.target).sessions - seen)

    @property
    def alone(self) -> bool:
        """Whether nobody but this run was seen on the live database."""
        return self._was_alone and self._is_alone(self.others.values())

    def _is_alone(self, visitors: Iterable[Visitor]) -> bool:
        return all(
            run_mark() in each.application for each in visitors if each.database == self.target
        )

    @property
    def written(self) -> int:
        """How many rows were written in the live database, by anybody."""
        return self._delta(self.target).written if self.can_count else 0

    @property
    def harm(self) -> str:
        """Say what was written in the live database; what was rolled back is counted as well."""
        return f"up to {count(self.written, 'row')} written" if self.written else "nothing written"

    @property
    def elsewhere(self) -> list[str]:
        """The other databases of the server to which the command came."""
        found = {each.database for each in self.own.values()} - {self.subject, self.target}
        return sorted(found)

    def _delta(self, database: str) -> Counters:
        before = self._before.get(database, Counters())
        after = self._after.get(database, before)
        return Counters(after.sessions - before.sessions, after.written - before.written)

    def _rows(self) -> list[Any]:
        names = [self.subject, self.target]
        return self.session.execute(_VISITORS, [names, self.name, self._known]).fetchall()

    def _counters(self) -> dict[str, Counters]:
        if not self.can_count:
            return {}
        rows = self.session.execute(_COUNTERS, [[self.subject, self.target]]).fetchall()
        return {name: Counters(sessions, written) for name, sessions, written in rows}


def _ports_of(session_id: int) -> set[int]:
    """Return the local TCP ports of a session's processes; none where there is no /proc."""
    members = [path for path in _PROC.glob("[0-9]*") if _session_of(path) == session_id]
    sockets = {inode for member in members for inode in _sockets_of(member)}
    return {port for member in members[:1] for port, inode in _tcp(member) if inode in sockets}


def _session_of(process: Path) -> int | None:
    with suppress(OSError, ValueError, IndexError):  # it has ended
        text = (process / "stat").read_text(errors="replace")
        return int(text.rpartition(")")[2].split()[_SESSION_FIELD])
    return None


def _sockets_of(process: Path) -> list[str]:
    found = []
    with suppress(OSError):  # it has ended, or is another account's
        for each in (process / "fd").iterdir():
            with suppress(OSError):
                found.append(str(each.readlink()))
    return [name[len("socket:[") : -1] for name in found if name.startswith("socket:[")]


def _tcp(process: Path) -> list[tuple[int, str]]:
    """Return (local port, inode) of every TCP socket in the process's network."""
    found = []
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            lines = (process / "net" / name).read_text().splitlines()[1:]
            rows = [line.split() for line in lines]
            found += [(int(row[1].rpartition(":")[2], 16), row[9]) for row in rows]
    return found


_VISITORS = """
SELECT pid, datname, coalesce(usename, ''), coalesce(application_name, ''),
       coalesce(client_port, 0)
FROM pg_stat_activity
WHERE (datname = ANY(%s) OR starts_with(application_name, %s) AND datname IS NOT NULL)
  AND pid <> ALL(%s) AND coalesce(backend_type, 'client backend') = 'client backend'
  AND pid <> pg_backend_pid()
"""
_COUNTERS = """
SELECT datname, sessions, tup_inserted + tup_updated + tup_deleted
FROM pg_stat_database WHERE datname = ANY(%s)
"""
