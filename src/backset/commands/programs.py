"""The tasks that hand the terminal over: to psql, and to Alembic as the project runs it.

Alembic's worker asks for the lock, which proves the target, when env.py opens something: a command
that needs no database asks for none, and no server has to be there.
"""

from __future__ import annotations

import json
import secrets
import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, NoReturn, Self

from backset.cli import leave, opened, settled
from backset.connections.session import connect, explained
from backset.connections.target import CONNECT_TIMEOUT_S
from backset.errors import BacksetError, SettingsError, StepFailedError
from backset.migrate.program import command_line
from backset.migrate.worker import failure, greet
from backset.process.process import attach
from backset.report.report import WOULD_START
from backset.servers import location
from backset.servers.programs import Programs, with_tls
from backset.settings.values import Lineage
from backset.text import explanations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.connections.target import Target
    from backset.report.report import Report
    from backset.settings.settings import Settings

# Commands that are about no chain.
_OF_NO_CHAIN = frozenset({"init", "list_templates", "--version", "-h", "--help"})
# What comes before a command, and has a value behind it.
_NAMED = {"-c": "config", "--config": "config", "-n": "section", "--name": "section", "-x": "x"}
# Commands of Alembic that print what is in the scripts, and ask nothing.
_SPEAKING = frozenset({"history", "heads", "branches", "show"})
_TRACEBACK = 1  # the exit status of a Python program that ends with one


def psql(arguments: Sequence[str], *, plan: bool) -> None:
    """Open psql on the target; its exit code becomes ours."""
    with opened("psql") as (settings, told):
        program = Programs(settings.environ, settings.root).newest("psql")
        argv = [str(program), *arguments]
        if plan:
            _tell(settings, told, argv)
            return
        in_time = {"PGCONNECT_TIMEOUT": CONNECT_TIMEOUT_S}
        env = {**in_time, **settings.environ, **location.locate(settings).libpq_env}
        env = with_tls(program, env)
        if code := attach(argv, env=env, cwd=settings.root, in_github=settings.is_in_github):
            _leave(told, code)


def alembic(arguments: Sequence[str], *, chain: str, plan: bool) -> None:
    """Run alembic on the target, with the project's interpreter and environment."""
    with opened("alembic") as (loaded, told):
        settings, unknown = loaded, None
        try:
            settings = settled(loaded)
        except BacksetError as error:  # a command that needs no database runs all the same
            unknown = error
        lineage, words = _chosen(settings, arguments, chain), list(arguments)
        if plan:
            _tell(
                settings,
                told,
                [settings.python, "-m", "alembic", *_shown(settings, lineage), *words],
            )
        elif code := _run_alembic(settings, lineage, words, unknown):
            _leave(told, code)


def _shown(settings: Settings, lineage: Lineage) -> list[str]:
    """Return what would tell `alembic` of that chain."""
    file = str(settings.root / lineage.config) if lineage.config else ""
    pairs = [("-c", file), ("-n", lineage.section), *(("-x", each) for each in lineage.arguments)]
    return [word for flag, value in pairs if value for word in (flag, value)]


def _chosen(settings: Settings, words: Sequence[str], name: str) -> Lineage:
    """Return the chain that is meant.

    name: what `--chain` says; without it `-n` or `-c` tells which it is, if there are several.
    Raises SettingsError.
    """
    lineages, root = settings.lineages, settings.root
    if name:
        found = [each for each in lineages if each.name == name]
        if not found:
            raise _undecided(lineages, f"there is no chain {name!r}")
        return found[0]
    if len(lineages) == 1:
        return lineages[0]
    said, found = _said(words), list(lineages)
    if file := said.get("config"):
        found = [each for each in found if root / (each.config or "alembic.ini") == root / file]
        if not found:  # one of its own, which must lead to the target like the others
            return Lineage()
    if section := said.get("section"):
        found = [each for each in found if (each.section or "alembic") == section]
    if len(found) == 1:
        return found[0]
    if _OF_NO_CHAIN.intersection(words[:1]):
        return Lineage()
    raise _undecided(lineages, "the database has several chains")


def _undecided(lineages: Sequence[Lineage], what: str) -> SettingsError:
    names = ", ".join(each.name for each in lineages if each.name)
    if not names:
        return SettingsError([(what, "leave --chain out: the database has one chain")])
    remedy = f"say which of them: `{lineages[0].alembic} …` ({names})"
    return SettingsError([(f"{what}: {names}" if len(lineages) > 1 else what, remedy)])


def _said(words: Sequence[str]) -> dict[str, str]:
    """Return what is said of the configuration before the command: `config`, `section`."""
    said: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            break
        flag, _, value = word.partition("=") if word[:2] == "--" else (word[:2], "", word[2:])
        if flag in _NAMED:
            said[_NAMED[flag]] = value or next(rest, "")
    return said


def _tell(settings: Settings, told: Report, argv: Sequence[str]) -> None:
    """Say what would be run on the target."""
    if location.peek(settings) is None:
        told.say(WOULD_START)
    told.say(settings.redact(settings.target, f"would run {' '.join(argv)}"))


def _leave(told: Report, code: int) -> NoReturn:
    leave(told, code if code > 0 else 128 - code)


def _run_alembic(
    settings: Settings,
    lineage: Lineage,
    words: Sequence[str],
    unknown: BacksetError | None = None,
) -> int:
    """Run `alembic` with these words; return its exit status.

    unknown: why it is not known which database is the target; it is raised where one is needed.
    Raises AlembicError for a connection that is not to the target, and what keeps us from that.
    """
    target = None if unknown else location.named(settings)
    ours, theirs = socket.socketpair()
    with ours, _Side(settings, lineage, target, unknown, ours) as side:
        with theirs:
            greeting = {**greet(settings, lineage, target), "words": list(words)}

            def talk() -> None:
                theirs.close()  # else its end would never be seen
                side.talk(greeting)

            status = attach(
                command_line(settings, theirs.fileno()),
                env=settings.plain_env,
                cwd=settings.root,
                redact=lambda line: settings.redact(target, line),
                in_github=settings.is_in_github,
                only_speaks=not _SPEAKING.isdisjoint(words),
                pass_fds=[theirs.fileno()],
                meanwhile=talk,
            )
        side.judge(status)
        return status


class _Side:
    """Our side of the socket: it takes the lock, and keeps what is to be told at the end."""

    def __init__(
        self,
        settings: Settings,
        lineage: Lineage,
        target: Target | None,
        unknown: BacksetError | None,
        link: socket.socket,
    ) -> None:
        self._settings, self._lineage, self._target = settings, lineage, target
        self._error = unknown
        self._link = link
        self._open = ExitStack()
        self._began = self._refused = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._open.close()

    def talk(self, greeting: dict[str, Any]) -> None:
        """Greet the worker, and answer it until it has ended."""
        with suppress(ConnectionError), self._link.makefile("r", encoding="utf-8") as lines:
            self._send(greeting)
            for line in lines:
                reply = json.loads(line)
                if reply["event"] == "ready":
                    self._began = True
                elif reply["event"] == "lock":
                    self._send(self._locked())
                else:
                    self._refuse(failure(self._settings, self._lineage, self._target, reply))

    def judge(self, status: int) -> None:
        """Raise what the worker was refused for, or why it is none."""
        if self._error and (self._refused or status == _TRACEBACK):
            raise self._error
        if status > 0 and not self._began:  # its own words stand above
            what = f"{self._settings.shown_python} does not run Alembic"
            raise StepFailedError(what, explanations.INTERPRETER)

    def _locked(self) -> dict[str, int]:
        """Hold a lock in the target until the end; return its key, or nothing where we cannot."""
        if self._target is None:
            self._refused = True
            return {}
        key = secrets.randbits(63)
        try:
            target = location.locate(self._settings)
            with explained(target):
                session = self._open.enter_context(connect(target, "alembic"))
                session.execute("SELECT pg_advisory_lock(%s)", [key])
        except BacksetError as error:
            self._refuse(error)
            return {}
        return {"lock_key": key}

    def _refuse(self, error: BacksetError) -> None:
        self._error, self._refused = error, True

    def _send(self, message: dict[str, Any]) -> None:
        self._link.sendall(json.dumps(message).encode() + b"\n")
