"""The project's own commands, run under watch; what the seed command must leave.

A command is given the environment of the database that it is meant for. One that comes to the live
database instead is ended at once. What it did is for others to judge, in the database: its exit
status is reported, and proves nothing.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.catalog import catalog
from backset.connections.target import ENV_PY, Target
from backset.errors import AstrayError, BacksetError, Finding, StepFailedError
from backset.migrate import provenance
from backset.migrate.discovery import complete, url_of
from backset.migrate.worker import Worker
from backset.process import process
from backset.process.identity import application_name, run_mark
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import psycopg

    from backset.connections.session import Session
    from backset.settings.settings import Settings

_SHORT_S, _LONG_S = 0.01, 0.05  # between two looks; measured: 0.2 ms of the server for one
_SHORT_FOR_S = 5.0
_ANYWHERE = "say in [tool.backset.env] where it looks for its database, then run this again"
# load_dotenv() respects that from python-dotenv 1.2.0 on, dotenv_values() never does.
_DOTENV = (
    ".env may have been put over what it was given, as load_dotenv(override=True) does: write "
    '[tool.backset.env] PYTHON_DOTENV_DISABLED = "1" (python-dotenv 1.2 and later), '
    "or take the override away"
)
_PYTHONS = frozenset({"python", "python3"})


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """What a command left behind: its exit status, its last lines, and where it was seen."""

    shown: str
    status: int
    said: list[str]
    seen: SessionMonitor

    @property
    def words(self) -> str:
        """How it ended, in its own words."""
        return f"{self.shown} ended with {self.status}: {process.last_words(self.said)}"

    @property
    def asked(self) -> bool:
        """Whether it probably wanted to read what somebody types, and nobody could."""
        return any("EOF" in line or "Aborted!" in line for line in self.said[-3:])


class ProjectCommand:
    """Runs commands of the project on `subject`, and keeps them from `target`, the live database.

    session: on the maintenance database; nobody else may use it meanwhile.
    ready: what is done before any of them runs. ahead: one that is started already.
    """

    def __init__(
        self,
        settings: Settings,
        subject: Target,
        target: Target,
        session: Session,
        ready: Callable[[], None] = lambda: None,
        ahead: process.ScriptAhead | None = None,
    ) -> None:
        self.settings = settings
        self.subject = subject
        self.target = target
        self._session = session
        self._ready = ready
        self._ahead = ahead

    def start_ahead(self, command: Sequence[str], purpose: str) -> process.ScriptAhead | None:
        """Start a command's Python before its turn; None where it is no script for a plain one."""
        program, script, *_ = [*command, "", ""]
        if program not in _PYTHONS or not (self.settings.root / script).is_file():
            return None
        argv, env = self.settings.command(command), self._env(purpose)
        return process.ScriptAhead(argv, env=env, cwd=self.settings.root)

    def demand(self, command: Sequence[str]) -> None:
        """Raise StepFailedError where a command or its script is not there, and run nothing."""
        root = self.settings.root
        process.demand(self.settings.command(command), env=self._env("look"), cwd=root)
        if script := _missing_script(command, root):
            what = f"{self._redacted(' '.join(command))} cannot be run: there is no {script}"
            raise StepFailedError(what, "correct the command, or bring that file back")

    def _env(self, purpose: str) -> dict[str, str]:
        named = {"PGAPPNAME": application_name(purpose, is_child=True)}
        environ = self.settings.child_env(self.subject)
        return {**environ, **named, **self.subject.options_env(environ)}

    def _started(
        self, command: Sequence[str], purpose: str, on_line: Callable[[str], None]
    ) -> process.Child:
        argv, env = self.settings.command(command), self._env(purpose)
        if self._ahead is not None and (child := self._ahead.go(argv, env, on_line)):
            return child
        # Tethered: it would write into the database that the next run builds.
        return process.Child(argv, env=env, cwd=self.settings.root, on_line=on_line, tethered=True)

    def run(
        self, command: Sequence[str], purpose: str, on_line: Callable[[str], None]
    ) -> CommandOutcome:
        """Run a command to its end. Raises StepFailedError if it went to the live database."""
        self._ready()
        if self.settings.is_throw_away and purpose != "seed":  # which may have a way of its own
            self._demand_destination(command)
        name = application_name(purpose, is_child=True)
        seen = SessionMonitor(self._session, self.subject.database, self.target.database, name)
        seen.begin()
        with self._started(command, purpose, lambda line: on_line(self._redacted(line))) as child:
            began = time.monotonic()
            while not child.has_ended(
                _SHORT_S if time.monotonic() - began < _SHORT_FOR_S else _LONG_S
            ):
                seen.look(child.session_id)
                if seen.astray:
                    seen.end(seen.astray)
                    child.end()
                    break
            status = child.wait()
            seen.finish(child.session_id)
            said = [self._redacted(line) for line in child.tail]
        if seen.astray:
            raise self._astray(command, seen.astray[0], seen)
        return CommandOutcome(self._redacted(" ".join(command)), status, said, seen)

    def _demand_destination(self, command: Sequence[str]) -> None:
        """Do not run it on the project's own server, which nobody watches here.

        Its env.py tells where it leads; where that cannot be asked, nobody knows.
        """
        try:
            with Worker(self.settings) as worker:
                worker.begin_alone(self.settings.child_env(self.subject))
                opened, environ = worker.where_to()
            there = Target.parse(url_of(complete(opened, environ)), ENV_PY)
        except BacksetError:
            return
        where = {name: there.params.get(name) for name in ("host", "port", "dbname")}
        if where == {name: self.subject.params.get(name) for name in where}:
            return
        origins = provenance.found(self.settings, opened, self.subject)
        what = (
            f"{self._redacted(' '.join(command))} was not run: env.py leads to {there.shown}, and "
        )
        what += "so may that command, not to the throw-away database"
        raise StepFailedError(
            what + provenance.told(origins), provenance.remedy(origins) or _ANYWHERE
        )

    def _redacted(self, text: str) -> str:
        return self.settings.redact(self.subject, text)

    def _astray(
        self, command: Sequence[str], visitor: SeenSession, seen: SessionMonitor
    ) -> StepFailedError:
        what = (
            f"{self._redacted(' '.join(command))} connected to {self.target.database}, the live "
            f"database, as {visitor.user}, and not to {self.subject.database}; it was ended"
        )
        return self._failed(f"{what}, {self._harm(seen)}", seen)

    def _failed(self, what: str, seen: SessionMonitor) -> StepFailedError:
        is_harmless = seen.can_count and not seen.written
        return (StepFailedError if is_harmless else AstrayError)(what, self.remedy())

    def _harm(self, seen: SessionMonitor) -> str:
        if not seen.can_count or (seen.written and not seen.alone):
            return "and what it had committed there stays"
        return f"and {seen.harm} there"

    def doubts(self, done: CommandOutcome) -> list[Finding]:
        """Return what cannot be excluded. Raises StepFailedError when it went elsewhere."""
        seen, shown = done.seen, done.shown
        unseen = f"{count(seen.unseen, 'session')} on {seen.target} too short to be looked at"
        harm = f"{seen.harm} in {seen.target}, the live database"
        if seen.came is False and (seen.unseen or seen.elsewhere):
            where = ", ".join(seen.elsewhere) or unseen
            what = f"{shown} never connected to {seen.subject}, but there was {where}; {harm}"
            raise self._failed(what, seen)
        if seen.came is False:
            what = f"{shown} never connected to {seen.subject}"
            return [_doubt(what, "it changed nothing there", self.remedy())]
        if not (seen.unseen and seen.written):
            return []
        # It was where it should be, so that this may well have been somebody else.
        what = f"while {shown} ran there was {unseen}, and {harm}"
        return [_doubt(what, "it may have been another client's", "look at those rows")]

    def remedy(self) -> str:
        """Say which lines of [tool.backset.env] would lead the project's commands here."""
        if self.settings.env.keys() & self.settings.dotenv:
            return _DOTENV
        origins = provenance.found(self.settings, self.target.params, self.subject)
        return provenance.remedy(origins, "that command") or _ANYWHERE


def _doubt(what: str, why: str, remedy: str) -> Finding:
    return Finding(kind="astray", what=what, why=why, remedy=remedy)


def _missing_script(command: Sequence[str], root: Path) -> str:
    """Return the script that a plain Python is to run, and that is not there; else nothing."""
    program, script, *_ = [*command, "", ""]
    is_script = program in _PYTHONS and script and not script.startswith("-")
    return script if is_script and not (root / script).exists() else ""


_WAITS = 140000  # the first server that can wait, in ms, for the end of a session
_COUNTS = 150000  # the first server that has a session counted before it is gone from the activity
_PROC = Path("/proc")
_SESSION_FIELD = 3  # of /proc/PID/stat, after the name in brackets: state ppid pgrp session


@dataclass(frozen=True, slots=True)
class SeenSession:
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
class SessionMonitor:
    """Looks from a session on the maintenance database, which nobody else uses meanwhile.

    subject: the database that the command is given. target: the live one; it may be the same.
    name: the command's PGAPPNAME. own: the command's sessions by pid, others: everybody else's.
    """

    session: psycopg.Connection[Any]
    subject: str
    target: str
    name: str
    own: dict[int, SeenSession] = field(default_factory=dict)
    others: dict[int, SeenSession] = field(default_factory=dict)
    _known: list[int] = field(default_factory=list)
    _before: dict[str, Counters] = field(default_factory=dict)
    _after: dict[str, Counters] = field(default_factory=dict)
    _was_alone: bool = True

    def begin(self) -> None:
        """Remember who is there already; before the command is started."""
        rows = self._rows()
        self._known = [row[0] for row in rows]
        self._was_alone = self._is_alone(SeenSession(*row) for row in rows)
        self._before = self._counters()

    def look(self, session_id: int) -> None:
        """Note who is there now; `session_id` is that of the command's processes."""
        ports: set[int] | None = None
        for row in self._rows():
            visitor = SeenSession(*row)
            is_named = visitor.application.startswith(self.name)
            if not is_named and visitor.port > 0 and ports is None:
                ports = _ports_of(session_id)
            if is_named or visitor.port in (ports or ()):
                self.own[visitor.pid] = visitor
                self.others.pop(visitor.pid, None)
            elif visitor.pid not in self.own:
                self.others[visitor.pid] = visitor

    def end(self, visitors: list[SeenSession]) -> None:
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
    def astray(self) -> list[SeenSession]:
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

    def _is_alone(self, visitors: Iterable[SeenSession]) -> bool:
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


_MEND = "mend the seed command, then run this again"
_ASKED = "it asked for input, and stdin is closed: give it arguments or variables instead"


def seed(
    settings: Settings, project: ProjectCommand, session: Session, on_line: Callable[[str], None]
) -> tuple[dict[str, int], list[Finding]]:
    """Run the seed command through `project`; return the rows of its database's tables afterwards.

    Raises StepFailedError when the command fails or goes to the live database, when a table of
    [tool.backset.rows] has too few rows, and when a sequence lags behind its column.
    """
    done = project.run(settings.seed, "seed", on_line)
    doubts = project.doubts(done)
    if done.status != 0:
        raise StepFailedError(done.words, _ASKED if done.asked else _MEND)
    closed = catalog.unreadable(session)
    rows = catalog.row_counts(session, lambda table: table not in closed)
    findings = [*missing_rows(settings, rows), *lagging(session)]
    if findings:
        raise StepFailedError.of(findings)
    return rows, doubts


def seed_again(
    settings: Settings,
    project: ProjectCommand,
    session: Session,
    rows: dict[str, int],
    on_line: Callable[[str], None],
) -> list[Finding]:
    """Run the seed command once more; every table must have the rows that it had.

    Raises StepFailedError when the command fails this time, and with the tables that differ.
    """
    try:
        again, doubts = seed(settings, project, session, on_line)
    except StepFailedError as error:
        error.what = f"a second time: {error.what}"
        raise
    differing = [
        f"{table} {rows.get(table, 0)} → {again.get(table, 0)}"
        for table in sorted(rows.keys() | again.keys())
        if rows.get(table) != again.get(table)
    ]
    if differing:
        finding = Finding(
            kind="seed not repeatable",
            what=f"a second run of the seed command changes the rows: {', '.join(differing)}",
            why="each run adds to what is there",
            remedy="let it replace its own rows, or insert with ON CONFLICT",
        )
        raise StepFailedError.of([finding])
    return doubts


def unmet(settings: Settings, session: Session, rows: Mapping[str, int | None]) -> list[Finding]:
    """Judge the rows and sequences of a database that is in use.

    Where every table of [tool.backset.rows] is empty, nobody has seeded it yet, and that is fine.
    """
    is_seeded = any(rows.get(table) for table in settings.rows)
    known = {table: count for table, count in rows.items() if count is not None}
    return [*(missing_rows(settings, known) if is_seeded else ()), *lagging(session)]


def expected_rows(settings: Settings, session: Session) -> dict[str, int]:
    """Count the tables of [tool.backset.rows], each only as far as it matters."""
    if not settings.rows:
        return {}
    names = [each for each in catalog.tables(session) if catalog.shown(*each) in settings.rows]
    return catalog.counts(session, names, at_most=max(settings.rows.values()) + 1)


def missing_rows(settings: Settings, rows: dict[str, int]) -> list[Finding]:
    """Return a finding for each table of [tool.backset.rows] that has fewer rows than that."""
    return [
        Finding(
            kind="missing rows",
            name=table,
            what=f"{table} has {rows.get(table, 'no table')} of at least {count(least, 'row')}",
            why="the application expects them",
            remedy="look at the seed command, or at [tool.backset.rows]",
        )
        for table, least in settings.rows.items()
        if rows.get(table, -1) < least
    ]


def lagging(session: Session) -> list[Finding]:
    """Return a finding for each sequence that is not ahead of its column's maximum."""
    return [
        Finding(
            kind="lagging sequence",
            name=each.name,
            what=f"{each.name} gives {each.next_value} next, but {each.column} "
            f"already has {each.maximum}",
            why="the next INSERT fails with a duplicate key",
            remedy=f"SELECT setval('{each.name}', {each.maximum}) where the rows are written",
        )
        for each in catalog.lagging_sequences(session)
    ]
