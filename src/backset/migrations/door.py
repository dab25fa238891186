"""The door to a database that is the project's own: its commands, run under watch.

A command is given the environment of the database that it is meant for. One that comes to the live
database instead is ended at once. What it did is for others to judge, in the database: its exit
status is reported, and proves nothing.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from backset.connections.target import ENV_PY, Target
from backset.errors import AstrayError, BacksetError, Finding, StepFailedError
from backset.migrations import provenance
from backset.migrations.discovery import url_of
from backset.migrations.worker import Worker
from backset.processes import process
from backset.processes.identity import application_name
from backset.servers.lookout import Lookout
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backset.configuration.settings import Settings
    from backset.connections.session import Session
    from backset.servers.lookout import Visitor

_SHORT_S, _LONG_S = 0.01, 0.05  # between two looks; measured: 0.2 ms of the server for one
_SHORT_FOR_S = 5.0
_ANYWHERE = "say in [tool.backset.env] where it looks for its database, then run this again"
# load_dotenv() respects that from python-dotenv 1.2.0 on, dotenv_values() never does.
_DOTENV = (
    ".env may have been put over what it was given, as load_dotenv(override=True) does: write "
    '[tool.backset.env] PYTHON_DOTENV_DISABLED = "1" (python-dotenv 1.2 and later), '
    "or take the override away"
)
_PROGRAM = Path(__file__).parents[1] / "forerunner"
_PYTHONS = frozenset({"python", "python3"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left behind: its exit status, its last lines, and where it was seen."""

    shown: str
    status: int
    said: list[str]
    seen: Lookout

    @property
    def words(self) -> str:
        """How it ended, in its own words."""
        return f"{self.shown} ended with {self.status}: {process.last_words(self.said)}"

    @property
    def asked(self) -> bool:
        """Whether it probably wanted to read what somebody types, and nobody could."""
        return any("EOF" in line or "Aborted!" in line for line in self.said[-3:])


class Door:
    """Runs commands of the project on `subject`, and keeps them from `target`, the live database.

    session: on the maintenance database; nobody else may use it meanwhile.
    ahead: the interpreter of one of the commands, which has been started already. ready: what is
    done before any of them runs.
    """

    def __init__(
        self,
        settings: Settings,
        subject: Target,
        target: Target,
        session: Session,
        ahead: Forerunner | None = None,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.subject = subject
        self.target = target
        self._session = session
        self._ahead = ahead
        self._ready = ready

    def forerunner(self, command: Sequence[str], purpose: str) -> Forerunner | None:
        """Start the interpreter of a command ahead of its time; None where that is no Python."""
        if not can_run(command, self.settings.root):
            return None
        argv, env = self.settings.command(command), self._env(purpose)
        return Forerunner(argv, env=env, cwd=self.settings.root)

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
        if self._ahead is not None and self._ahead.waits_for(argv, env):
            return self._ahead.go(on_line)
        # Tethered: it would write into the database that the next run builds.
        return process.Child(argv, env=env, cwd=self.settings.root, on_line=on_line, tethered=True)

    def run(self, command: Sequence[str], purpose: str, on_line: Callable[[str], None]) -> Outcome:
        """Run a command to its end. Raises StepFailedError if it went to the live database."""
        self._ready()
        if self.settings.is_throw_away and purpose != "seed":  # which may have a way of its own
            self._demand_destination(command)
        name = application_name(purpose, is_child=True)
        seen = Lookout(self._session, self.subject.database, self.target.database, name)
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
        return Outcome(self._redacted(" ".join(command)), status, said, seen)

    def _demand_destination(self, command: Sequence[str]) -> None:
        """Do not run it on the project's own server, which nobody watches here.

        Its env.py tells where it leads; where that cannot be asked, nobody knows.
        """
        try:
            with Worker(self.settings) as worker:
                worker.begin_alone(self.settings.child_env(self.subject))
                opened, environ = worker.where_to()
            there = Target.parse(url_of(opened, environ), ENV_PY)
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

    def _astray(self, command: Sequence[str], visitor: Visitor, seen: Lookout) -> StepFailedError:
        what = (
            f"{self._redacted(' '.join(command))} connected to {self.target.database}, the live "
            f"database, as {visitor.user}, and not to {self.subject.database}; it was ended"
        )
        return self._failed(f"{what}, {self._harm(seen)}", seen)

    def _failed(self, what: str, seen: Lookout) -> StepFailedError:
        is_harmless = seen.can_count and not seen.written
        return (StepFailedError if is_harmless else AstrayError)(what, self.remedy())

    def _harm(self, seen: Lookout) -> str:
        if not seen.can_count or (seen.written and not seen.alone):
            return "and what it had committed there stays"
        return f"and {seen.harm} there"

    def doubts(self, done: Outcome) -> list[Finding]:
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


class Forerunner:
    """The interpreter of a command: it imports the command's libraries, and runs nothing yet.

    argv: the command, with the path of its interpreter. It ends with the block, or with us.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> None:
        self._command: tuple[Sequence[str], Mapping[str, str]] | None = (argv, env)
        self._on_line: Callable[[str], None] = lambda _line: None
        self._link, theirs = socket.socketpair()
        python, *words = argv
        with theirs:
            self._child = process.Child(
                [python, str(_PROGRAM), str(theirs.fileno()), *words],
                env=env,
                cwd=cwd,
                on_line=self._hear,
                pass_fds=[theirs.fileno()],
                tethered=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._link.close()
        self._child.end()

    def _hear(self, line: str) -> None:
        self._on_line(line)

    def waits_for(self, argv: Sequence[str], env: Mapping[str, str]) -> bool:
        """Tell whether it is this command, and can still become it."""
        return self._command == (argv, env) and not self._child.has_ended(0)

    def go(self, on_line: Callable[[str], None]) -> process.Child:
        """Let the command run, once, and return it."""
        self._command = None
        self._on_line = on_line
        with self._link, suppress(ConnectionError):  # it has died: its exit status says so
            self._link.sendall(b"!")
        return self._child


def _missing_script(command: Sequence[str], root: Path) -> str:
    """Return the script that a plain Python is to run, and that is not there; else nothing."""
    program, script, *_ = [*command, "", ""]
    is_script = program in _PYTHONS and script and not script.startswith("-")
    return script if is_script and not (root / script).exists() else ""


def can_run(command: Sequence[str], root: Path) -> bool:
    """Tell whether a command is a script or a module of the project for a plain Python."""
    program, *words = [*command, ""]
    if program not in _PYTHONS:
        return False
    if words[0] == "-m":
        return bool(words[1])
    return not words[0].startswith("-") and (root / words[0]).is_file()
