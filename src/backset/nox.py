"""A Nox session for any project: `from backset.nox import migrate_session`, `migrate_session()`.

The session `migrate` rehearses the whole chain on a PostgreSQL of each major version that is there,
or on the service of DATABASE_URL. Read in a noxfile, so it imports little until it runs.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import nox
from nox.command import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backset.rehearsals.checks import Check

# Nox waits 0.3 s for a program that the terminal has interrupted too, then sends TERM to it; the
# other 0.2 s that it would leave to it are not enough to end what it has started.
CLEANING_S = 30.0
_IN_JSON = frozenset({"reset-db", "undo", "restore", "seed", "status"})
_AGREED = frozenset({"reset-db", "undo", "restore", "reset"})  # these may want consent
_DATABASE = "rehearsal"


class Server(NamedTuple):
    """Where a session works: `url` of a service, else a throw-away server of `major`."""

    name: str
    url: str = ""
    major: int = 0


def migrate_session(
    name: str = "migrate",
    *,
    broken: Sequence[str] = (),
    downgrades: bool = True,
    install: Sequence[str] = (),
    wait_s: int = 60,
) -> None:
    """Register the session.

    broken: a command that is given DATABASE_URL, and leaves a broken database in the empty one that
    it finds there; a leading `python` is the project's own interpreter, where `install` made one.
    Without it, the version table is made to name a revision that no file has.
    downgrades: whether the migrations are also taken back to base, and up again.
    install: what pip installs into an environment of the session's own; without it, backset looks
    for the project's environment as it always does.
    wait_s: how many seconds the server may take until it serves.
    """

    def session(session: nox.Session, server: Server) -> None:
        if install:
            session.install(*install)
        stage = _Stage(session, server, tuple(broken))
        stage.run(downgrades=downgrades, wait_s=wait_s)

    session.__doc__ = "Rehearse the chain: on each PostgreSQL that is here, or on DATABASE_URL."
    cases = [nox.param(each, id=each.name) for each in _servers(name)]
    backend = None if install else "none"
    nox.session(name=name, venv_backend=backend)(nox.parametrize("server", cases)(session))


def _servers(name: str) -> list[Server]:
    """Return where the session runs: the service alone, where it is meant.

    A bare `nox` must never meet the server that a developer's shell happens to name.
    """
    from backset.servers.programs import installations  # noqa: PLC0415  (read in every noxfile)

    url = os.environ.get("DATABASE_URL", "")
    if url and (_in_ci() or _is_asked_for(name)):
        return [Server("service", url=url)]
    return [Server(str(major), major=major) for major in installations()]


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in {"", "0", "false"}


def _is_asked_for(name: str) -> bool:
    """Tell whether Nox was given the session's name; `migrate(18)` is not the service."""
    words = sys.argv[1 : sys.argv.index("--") if "--" in sys.argv else None]
    words += os.environ.get("NOXSESSION", "").split(",")
    wanted = re.compile(rf"(-s|-e|-k|--\w+=)?{re.escape(name)}(\(service\))?")
    return any(wanted.fullmatch(word) for word in words)


class _Stage:
    """One session on one server, as a rehearsal wants it."""

    def __init__(self, session: nox.Session, server: Server, broken: tuple[str, ...]) -> None:
        self._session, self._server, self._broken = session, server, broken
        self._keeps = "--keep" in session.posargs
        self._log: Path | None = None
        # No task may reach another server than the one that is meant.
        foreign = ("BACKSET_",) if server.url else ("BACKSET_", "PG")  # libpq's complete a URL
        hidden = (each for each in os.environ if each.startswith(foreign))
        self._env: dict[str, str | None] = dict.fromkeys(hidden)
        backups = Path(session.create_tmp()).resolve() / "backups"
        self._env |= {"BACKSET_BACKUPS": str(backups), "BACKSET_SERVER_LOG": "true"}
        if session.bin_paths:
            self._env["BACKSET_PYTHON"] = str(Path(session.bin) / "python")

    def run(self, *, downgrades: bool, wait_s: int) -> None:
        """Rehearse, and report; the session fails with the first check that does."""
        from backset.processes import signals  # noqa: PLC0415  (the noxfile's other sessions)
        from backset.rehearsals.rehearsal import rehearse  # noqa: PLC0415

        checks = []
        with signals.raised(), self._served(wait_s):
            for check in rehearse(self, downgrades=downgrades, wait_s=wait_s):
                if signals.has_come():  # the program that Nox has ended said 0
                    raise KeyboardInterrupt
                self._tell(check)
                checks.append(check)
        self._report(checks)

    @contextmanager
    def _served(self, wait_s: int) -> Iterator[None]:
        """Give the tasks their DATABASE_URL for as long as the block lasts."""
        from backset.errors import BacksetError  # noqa: PLC0415  (the noxfile's other sessions)
        from backset.servers import service  # noqa: PLC0415

        if not self._server.url:
            with service.throw_away(_DATABASE, self._server.major, keep=self._keeps) as it:
                self._env["DATABASE_URL"], self._log = it.url, it.log
                yield
            return
        self._env["DATABASE_URL"] = self._server.url
        try:
            if not _in_ci() and "--service" not in self._session.posargs:
                service.refuse_rows(self._server.url, wait_s)
        except BacksetError as error:
            self._session.error("\n".join(error.lines()))
        yield

    def task(self, words: Sequence[str]) -> dict[str, Any]:
        """Run a task of backset; return what it says in JSON, or the like of it."""
        flags = ["--json"] if words[0] in _IN_JSON else []
        agreed = self._agreed(words) if words[0] in _AGREED else []
        command = [sys.executable, "-m", "backset", words[0], *flags, *agreed, *words[1:]]
        if flags:
            return dict(json.loads(self._run(command, codes=range(256))))
        return self._ended(command)

    def _ended(self, command: Sequence[str]) -> dict[str, Any]:
        """Run a program that speaks no JSON; return the like of it, with its last words."""
        from backset.processes.process import last_words  # noqa: PLC0415  (the other sessions)

        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            code = 0
            try:
                self._session.run(
                    *command,
                    env=self._env,
                    stdout=output,
                    external=True,
                    terminate_timeout=CLEANING_S,
                )
            except CommandFailed as failed:
                code = failed.return_code or 1
            output.seek(0)
            said = output.read().splitlines()
        if not code:
            return {"exit_code": 0}
        print(*said, sep="\n", flush=True)  # noqa: T201  (the session's output)
        why = last_words([each.lstrip(" ✘") for each in said if "✘" in each] or said)
        return {"exit_code": code, "error": {"lines": [why]}}

    def _run(self, command: Sequence[str], codes: Iterable[int]) -> str:
        output = self._session.run(
            *command,
            env=self._env,
            silent=True,
            stderr=None,  # to the terminal
            success_codes=codes,
            external=True,
            terminate_timeout=CLEANING_S,
        )
        return str(output)

    def _agreed(self, words: Sequence[str]) -> list[str]:
        """Return the consent to a run: a service may be another machine, and we have judged it.

        The digest is that of the plan, so it is good for what stands there now, and for no more.
        """
        plan = [sys.executable, "-m", "backset", *words, "--yes", "--plan", "--json"]
        digest = json.loads(self._run(plan, codes=range(256))).get("confirm")
        return ["--yes", *(["--confirm", digest] if digest else [])]

    def errors(self, since: int = 0) -> tuple[int, list[str] | None]:
        """Return the size of a throw-away server's log, and its errors from `since` bytes on.

        A service keeps its log to itself: None; what its role may read of it, the tasks tell.
        """
        if self._log is None:
            return 0, None
        from backset.checks import log_lines  # noqa: PLC0415  (the noxfile's other sessions)
        from backset.servers.cluster import LOG_LINE_PREFIX  # noqa: PLC0415

        text = self._log.read_bytes()
        said = text[since:].decode("utf-8", "replace")
        found = log_lines.errors("stderr", said, mark="", since="", prefix=LOG_LINE_PREFIX)
        return len(text), found

    def break_database(self) -> dict[str, Any]:
        """Leave a database whose version no file has; return how that ended."""
        if not self._broken:
            from backset.errors import BacksetError  # noqa: PLC0415
            from backset.rehearsals.breaking import orphan  # noqa: PLC0415

            try:
                orphan(str(self._env["DATABASE_URL"]))
            except BacksetError as error:
                return {"exit_code": error.exit_code, "error": {"lines": error.lines()}}
            return {"exit_code": 0}
        emptied = self.task(["reset"])
        if emptied["exit_code"]:
            return emptied
        program, *rest = self._broken
        if program in {"python", "python3"}:  # as in the settings: not all systems have a `python`
            program = str(self._env.get("BACKSET_PYTHON") or sys.executable)
        return self._ended([program, *rest])

    def _tell(self, check: Check) -> None:
        from backset.rehearsals import summary  # noqa: PLC0415

        print(*summary.lines([check]), sep="\n", flush=True)  # noqa: T201  (the session's output)

    def _report(self, checks: Sequence[Check]) -> None:
        from backset.rehearsals import summary  # noqa: PLC0415

        title = f"migrate({self._server.name})"
        if os.environ.get("GITHUB_ACTIONS"):
            print(*summary.commands(title, checks), sep="\n", flush=True)  # noqa: T201
        if path := os.environ.get("GITHUB_STEP_SUMMARY"):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(summary.markdown(title, checks))
        if failed := [each.name for each in checks if not each.passed]:
            self._session.error(f"not kept: {', '.join(failed)}")
