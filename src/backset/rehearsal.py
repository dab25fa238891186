"""The order in which everything is tried, each check of it, and all checks as a table.

Broken, repaired, undone, restored, down and up again; judged by what the tasks say in JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nox.command import CommandFailed
from psycopg import sql

from backset.catalog import versions
from backset.checks import server_log
from backset.connections.session import connect
from backset.errors import BacksetError, StepFailedError
from backset.process.process import last_words
from backset.process.streams import tell
from backset.servers.cluster import LOG_LINE_PREFIX
from backset.settings.reader import load
from backset.text import redaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import nox

    from backset.connections.target import Target
    from backset.servers.location import Service

    Content = Mapping[str, Any]

ORPHANED = "orphaned revision"
AT_HEAD = "at head"
RESTORED = ("restore", "the dump is restored and compared", ORPHANED)
SWAPPED = (
    ("undo", "undo goes back", ORPHANED),
    ("undo", "a second undo comes forth again", AT_HEAD),
    RESTORED,
    ("undo", "undo of that", AT_HEAD),
)
IN_PLACE = (RESTORED, ("reset-db", "a rebuild of that", AT_HEAD))
COLD = ("reset-db", "--cold")  # every migration is to run
UP_AND_DOWN = ("downgrade base", "upgrade head")


_MARKS = {True: "✔", False: "✘"}


@dataclass(frozen=True, slots=True)
class Check:
    """One promise: its name, whether it was kept, and what was seen."""

    name: str
    passed: bool
    text: str


def criteria(rebuilt: Content, after: Content, errors: list[str] | None) -> list[Check]:
    """Return what must be true of a rebuild, one by one.

    rebuilt: what `reset-db --json` said. after: what `status --json` says then.
    errors: of the server's log since it began; None where only the tasks can have looked.
    """
    steps = {each["step"]: each for each in rebuilt["steps"]}
    upgrade, verify, seed = (steps.get(name, {}) for name in ("upgrade", "verify", "seed"))
    kinds = {each["kind"] for each in (*rebuilt["findings"], *after["findings"])}
    heads = ", ".join(after.get("heads", ()))
    return [
        Check("one clean chain of migrations", _is_at_head(after), f"head {heads or 'none'}"),
        Check("the database starts empty", _began_at_base(upgrade), _text(upgrade)),
        Check("the migrations make all tables", bool(verify.get("tables")), _text(verify)),
        Check("the expected columns are there", _had(verify, kinds, "missing column"), "verified"),
        Check("the mock-data script succeeds", bool(seed), _text(seed)),
        Check("the whole run ends without an error", _is_clean(rebuilt, after), error(rebuilt)),
        _log(errors, verify, seed),
    ]


def error(content: Content) -> str:
    """Return what went wrong, in a line; `exit code 0` where nothing did."""
    lines = (content.get("error") or {}).get("lines", [])
    found = [each["what"] for each in content.get("findings", ())]
    return str(next(iter([*lines, *found]), f"exit code {content['exit_code']}"))


def _is_at_head(after: Content) -> bool:
    return bool(after.get("state") == "at head" and not after.get("orphans"))


def _began_at_base(upgrade: Content) -> bool:
    return bool(upgrade) and not any(chain["from"] for chain in upgrade["chains"])


def _had(step: Content, kinds: set[str], kind: str) -> bool:
    return bool(step) and kind not in kinds


def _is_clean(rebuilt: Content, after: Content) -> bool:
    return bool(rebuilt["exit_code"] == after["exit_code"] == 0)


def _log(errors: list[str] | None, *steps: Content) -> Check:
    """Judge what the server wrote into its log; not every role may read that, which is said."""
    name = "the server's log has no error of the run"
    if errors is not None:
        return Check(name, not errors, "; ".join(errors) or "it was read")
    logs = [step["server_log"] for step in steps if "server_log" in step]
    found = [str(line) for log in logs for line in log["errors"]]
    unread = [log["why"] for log in logs if not log["readable"]]
    text = "; ".join([*found, *(f"not readable: {each}" for each in dict.fromkeys(unread))])
    return Check(name, bool(logs) and not found, text or "it was read")


def _text(step: Content) -> str:
    return str(step.get("text", "the step did not come to its end"))


class Stage(Protocol):
    """The server on which it happens."""

    def task(self, words: Sequence[str]) -> Mapping[str, Any]:
        """Run a task of backset, and return what it says in JSON."""

    def break_database(self) -> Mapping[str, Any]:
        """Leave a database whose version no file has; return how that ended."""

    def errors(self, since: int = 0) -> tuple[int, list[str] | None]:
        """Return the size of the server's log, and its errors from there on; None: unreadable."""


def rehearse(stage: Stage, *, downgrades: bool, seeds_twice: bool, wait_s: int) -> Iterator[Check]:
    """Yield each check as it is made; one that leaves nothing to go on with is the last.

    downgrades: whether the migrations can go back to base. seeds_twice: whether the seed command
    can be run again. wait_s: seconds for the server to come.
    """
    waited = _done("the server answers twice", stage.task(["wait", "--timeout", str(wait_s)]))
    yield waited
    made = _done("a database is made", stage.task(COLD)) if waited.passed else waited
    if made is not waited:
        yield made
    if not made.passed:
        return
    broken = stage.break_database()
    if broken["exit_code"]:
        yield _done("a database is broken", broken)
        return
    yield _state("the broken one is recognized", stage.task(["status"]), ORPHANED)
    size, _ = stage.errors()
    rebuilt = stage.task(COLD)
    _, errors = stage.errors(size)
    yield from criteria(rebuilt, stage.task(["status"]), errors)
    if not rebuilt["exit_code"]:
        swapped = any(step["step"] == "promote" for step in rebuilt["steps"])
        if seeds_twice:
            yield _done("the seed can be run again", stage.task(["seed"]))
        yield from _back_and_forth(stage, swapped=swapped)
        yield from _down_and_up(stage) if downgrades else ()


def _back_and_forth(stage: Stage, *, swapped: bool) -> Iterator[Check]:
    """Go back to the broken database and forth again, by the swap and by the dump.

    swapped: whether the rebuild was; one in place has nothing that could be swapped back.
    """
    if not swapped:
        yield Check("undo", passed=True, text="none: what is rebuilt in place has only its dump")
    for task, name, state in SWAPPED if swapped else IN_PLACE:
        done = stage.task([task])
        after = stage.task(["status"])
        yield _done(name, done) if done["exit_code"] else _state(name, after, state)


def _down_and_up(stage: Stage) -> Iterator[Check]:
    """Go from head to base and back, twice: a downgrade must leave nothing that stops the next."""
    ends = [stage.task(["alembic", "--", *each.split()]) for each in 2 * UP_AND_DOWN]
    failed = next((each for each in ends if each["exit_code"]), ends[-1])
    yield _done("head → base → head → base → head", failed)
    yield _state("at head again", stage.task(["status"]), AT_HEAD)


def _done(name: str, content: Mapping[str, Any]) -> Check:
    return Check(name, content["exit_code"] == 0, error(content))


def _state(name: str, status: Mapping[str, Any], wanted: str) -> Check:
    found = str(status.get("state") or error(status))
    return Check(name, found == wanted, found)


def lines(checks: Sequence[Check]) -> list[str]:
    """Return a line for each, as the tasks' own reports have them."""
    width = max(len(each.name) for each in checks)
    return [f" {_MARKS[each.passed]} {each.name:<{width}}  {each.text}" for each in checks]


def markdown(title: str, checks: Sequence[Check]) -> str:
    """Return a heading and a table, for $GITHUB_STEP_SUMMARY."""
    rows = [f"| {_MARKS[each.passed]} | {each.name} | {_cell(each.text)} |" for each in checks]
    return "\n".join(
        (f"### {title}", "", "| | check | what was seen |", "|---|---|---|", *rows, "")
    )


def commands(title: str, checks: Sequence[Check]) -> list[str]:
    """Return `::error` for each check that failed, escaped as GitHub's runner unescapes it."""
    return [
        f"::error title={_property(f'{title}: {each.name}')}::{_data(each.text)}"
        for each in checks
        if not each.passed
    ]


def _cell(text: str) -> str:
    shown = " ".join(map(redaction.printable, text.splitlines()))
    return shown.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _data(text: str) -> str:
    return "%0A".join(redaction.printable(each).replace("%", "%25") for each in text.splitlines())


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


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
            if not (done["exit_code"] and self._server and self._server.has_more()):
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
            return self._ended([sys.executable, "-c", BREAKS])
        emptied = self.task(["reset"])
        if emptied["exit_code"]:
            return emptied
        program, *rest = self._broken
        if program in {"python", "python3"}:  # as in the settings: not all systems have a `python`
            program = str(self._env.get("BACKSET_PYTHON") or sys.executable)
        return self._ended([program, *rest])


ORPHAN = "0f0f0f0f0f0f"
BREAKS = "from backset.rehearsal import break_target; break_target()"


def orphan(target: Target) -> None:
    """Put an unknown revision into every version table. Raises StepFailedError without one."""
    with connect(target, "rehearsal") as session, session.transaction():
        found = versions.tables(session)
        if not found:
            raise StepFailedError("the database has no version table", "run `invoke upgrade` first")
        for table in found:
            name = sql.Identifier(table.schema, table.name)
            session.execute(sql.SQL("DELETE FROM {}").format(name))
            session.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(name, sql.Literal(ORPHAN)))


def break_target() -> None:
    """Leave the target with an unknown revision; end with one line where that cannot be done."""
    try:
        settings = load(Path.cwd())
        if settings.target is None:
            raise StepFailedError("DATABASE_URL is not set", "let it name the database to break")
        orphan(settings.target)
    except BacksetError as error:
        sys.exit("\n".join(error.lines()))
