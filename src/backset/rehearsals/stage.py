"""Where Nox rehearses: the tasks of backset as programs of a session, on one server."""

from __future__ import annotations

import json
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from nox.command import CommandFailed

from backset.checks import server_log
from backset.processes.process import last_words
from backset.processes.streams import tell
from backset.servers.cluster import LOG_LINE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import nox

    from backset.servers.service import Service

_IN_JSON = frozenset({"reset-db", "undo", "restore", "seed", "status"})
_AGREED = frozenset({"reset-db", "undo", "restore", "reset"})  # these may want consent
_BACKSET = (sys.executable, "-m", "backset")


class NoxStage:
    """A server as a session of Nox plays on it.

    env: of every program, DATABASE_URL in it; None takes a variable away.
    server: a throw-away one; None where it is a service, which keeps its log to itself.
    broken: the command that leaves a broken database, if there is one.
    cleaning_s: how many seconds an interrupted program has, to end what it has started.
    """

    def __init__(
        self,
        session: nox.Session,
        env: Mapping[str, str | None],
        server: Service | None,
        broken: Sequence[str],
        cleaning_s: float,
    ) -> None:
        self._session, self._env, self._broken = session, env, broken
        self._server, self._has_built = server, False
        self._cleaning_s = cleaning_s

    def task(self, words: Sequence[str]) -> dict[str, Any]:
        """Run a task of backset; return what it says in JSON, or the like of it."""
        while True:
            done = self._once(words)
            if not (done["exit_code"] and self._server and self._server.has_made_roles()):
                self._has_built |= words[0] == "reset-db" and not done["exit_code"]
                return done
            if not self._has_built:
                self._server.make()

    def _once(self, words: Sequence[str]) -> dict[str, Any]:
        flags = ["--json"] if words[0] in _IN_JSON else []
        agreed = self._agreed(words) if words[0] in _AGREED else []
        command = [*_BACKSET, words[0], *flags, *agreed, *words[1:]]
        return self._done(command) if flags else self._ended(command)

    def _done(self, command: Sequence[str]) -> dict[str, Any]:
        return dict(json.loads(self._run(command, codes=range(256))))

    def _ended(self, command: Sequence[str]) -> dict[str, Any]:
        """Run a program that speaks no JSON; return the like of it, with its last words."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            code = 0
            try:
                self._session.run(
                    *command,
                    env=self._env,
                    stdout=output,
                    external=True,
                    terminate_timeout=self._cleaning_s,
                )
            except CommandFailed as failed:
                code = failed.return_code or 1
            output.seek(0)
            said = output.read().splitlines()
        if not code:
            return {"exit_code": 0}
        for each in said:
            tell(each)
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
            terminate_timeout=self._cleaning_s,
        )
        return str(output)

    def _agreed(self, words: Sequence[str]) -> list[str]:
        """Return the consent to a run: a service may be another machine, and we have judged it.

        The digest is that of the plan, so it is good for what stands there now, and for no more.
        """
        plan = [*_BACKSET, *words, "--yes", "--plan", "--json"]
        digest = json.loads(self._run(plan, codes=range(256))).get("confirm")
        return ["--yes", *(["--confirm", digest] if digest else [])]

    def errors(self, since: int = 0) -> tuple[int, list[str] | None]:
        """Return the size of a throw-away server's log, and its errors from `since` bytes on.

        A service keeps its log to itself: None; what its role may read of it, the tasks tell.
        """
        if self._server is None:
            return 0, None
        text = self._server.log.read_bytes()
        said = text[since:].decode("utf-8", "replace")
        found = server_log.errors("stderr", said, mark="", since="", prefix=LOG_LINE_PREFIX)
        return len(text), found

    def break_database(self) -> dict[str, Any]:
        """Leave a database whose version no file has; return how that ended."""
        if not self._broken:
            return self._ended([sys.executable, "-m", "backset.rehearsals.breaking"])
        emptied = self.task(["reset"])
        if emptied["exit_code"]:
            return emptied
        program, *rest = self._broken
        if program in {"python", "python3"}:  # as in the settings: not all systems have a `python`
            program = str(self._env.get("BACKSET_PYTHON") or sys.executable)
        return self._ended([program, *rest])
