"""What people read of a run: plain lines, as they happen."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from backset.chain import NO_DETAILS, Details
from backset.described import described, inline, key
from backset.process.identity import spoken
from backset.process.streams import tell
from backset.text import pasted
from backset.text.quantities import age, amount, count, moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from backset.backups.manifest import Backup
    from backset.catalog.catalog import RowCounts
    from backset.chain import Done, FoundDetails
    from backset.connections.activity import Backend
    from backset.errors import Finding, Setting
    from backset.memory.journal import NotedRun
    from backset.status.diagnosis import Status
    from backset.status.states import State

_MOST_TABLES = 20  # in one line
_LARGEST = 10
_SIGNS = {"done": "✔", "findings": "!", "again": "!"}  # of databases of a fleet
_ENDS = {"done": "✔", "failed": "✘"}
WOULD_START = "would start the embedded PostgreSQL"
WIDTH = 9  # of the names of steps in lines; a longer one moves its own line


@described()
class ToldStep:
    """One step that ended well, in `steps`, in the order in which they ended."""

    step: str = key("its name, such as `backup`, `reset` or `prove`")
    text: str = key("its line, as people read it")
    seconds: float = key("how long it took, with what went on beside it")
    began: float = key("seconds from the beginning of the task to that of the step")
    details: Details | Mapping[str, Any] = inline()


@described()
class Notice:
    """What must not go unsaid and stops nothing, in `notices`: the lines that begin with `!`."""

    step: str = key("the step that ran; null outside of the steps", null=True)
    text: str = key("the line, as people read it")
    sessions: Sequence[Backend] = key("the sessions that it is about; mostly none")
    at: float = key("seconds from the beginning of the task to this")


def shortened(lines: list[str], at_most: int | None) -> list[str]:
    """Return as many lines as a person reads, and how many more there are; None means all."""
    more = len(lines) - (at_most or len(lines))
    return lines if more <= 1 else [*lines[:at_most], f"and {more} more → all of them: --json"]


def _tables(rows: RowCounts) -> str:
    """Return the tables with their rows; of many the largest, and how many more there are."""
    told = [f"{table} {rows.told(table)}" for table in rows]
    if len(told) > _MOST_TABLES:
        largest = sorted(rows, key=lambda each: -(rows[each] or 0))[:_LARGEST]
        told = [f"{table} {rows.told(table)}" for table in largest]
        told.append(f"and {len(rows) - _LARGEST} more, none of them larger: --json")
    return " · ".join(told) or "none"


class Report:
    """Plain lines, as they happen. The texts of errors go to stderr, all others to stdout.

    most_lines: of one error, as people read them. steps, notices: what was told so far.
    """

    most_lines: int | None = 20

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.step = ""
        self.steps: list[ToldStep] = []
        self.notices: list[Notice] = []
        self._began: dict[str, float] = {}
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None where it was closed: `>&-`
            stream.reconfigure(errors="replace")

    @property
    def seconds(self) -> float:
        """Seconds since the task began."""
        return time.monotonic() - self.started

    def begin(self, step: str) -> None:
        """Note that a step begins; one that goes on meanwhile waits for it."""
        self.step = step
        self._began[step] = self.seconds

    def progress(self, text: str, *, lasting: bool = False) -> None:
        """Note what the step is doing; plain lines leave out what does not last."""
        if lasting:
            self._line("·", self.step, text)

    def member(self, event: str, database: str, text: str, **more: Any) -> None:  # noqa: ANN401, ARG002  (JSON)
        """Print the line of a database of a fleet; what does not last is left out.

        event: `planned`, `begun`, `doing`, `again`, or how it ended. more: the other keys of
        ToldMember.
        """
        if event in {"begun", "doing"}:
            return
        if event in {"failed", "refused", "locked", "interrupted", "died"}:
            self._fail(database, text)
        else:
            self._line(_SIGNS.get(event, "·"), database, text)

    def notice(self, text: str, clients: Sequence[Backend] = ()) -> None:
        """Print what must not go unsaid; the step, if there is one, goes on."""
        self._keep_notice(text, clients)
        self._line("!", self.step, text)

    def end(self, step: str, done: Done) -> None:
        """Print the line of a step, unless it had nothing to do."""
        if done.text:
            self._line("✔", step, done.text)
        for text in shortened([str(each) for each in done.findings], self.most_lines):
            self._line("!", step, text)
        self._keep_step(step, done)

    def plan(
        self,
        lines: Iterable[tuple[str, str]],
        facts: Sequence[tuple[str, str]] = (),  # noqa: ARG002  (JSON wants it)
        digest: str = "",  # noqa: ARG002  (JSON wants it)
    ) -> None:
        """Print what would happen; the lines have the facts that consent would be about."""
        for step, text in lines:
            self._line("·", step, text)
        self.say("nothing was changed")

    def stakes(self, facts: Sequence[tuple[str, str]], digest: str) -> None:  # noqa: ARG002  (JSON wants it)
        """Print what consent is about."""
        for word, text in facts:
            self._line("·", word, text)

    def drawing(self, line: str, *, is_last: bool) -> None:  # noqa: ARG002  (a terminal's bars)
        """Print a line of the drawing of a chain."""
        self.say(line)

    def say(self, text: str) -> None:
        """Print a line that is not a step's."""
        self._print(spoken(text))

    def note(self, **details: Any) -> None:  # noqa: ANN401  (JSON values)
        """Keep something that only programs want to know."""

    @property
    def can_ask(self) -> bool:
        """Whether a person can be asked: both ends of the terminal are there."""
        return all(stream and stream.isatty() for stream in (sys.stdin, sys.stdout))

    def backups(
        self,
        backups: Sequence[Backup],
        folder: Path | str,
        unreadable: Sequence[str],
        *,
        numbered: bool = False,
    ) -> None:
        """Print a line for each backup, and for each dump that is none."""
        for number, each in enumerate(backups, 1):
            about = each.manifest
            old = age((datetime.now(UTC) - about.taken_at).total_seconds())
            size, rows = amount(about.size_bytes), count(sum(about.rows.values()), "row")
            text = f"{each.name}  {old} old  {size}  {count(len(about.rows), 'table')}, {rows}"
            text += "  pinned" if about.is_pinned else ""
            text += "  the last of its rows" if about.is_replaced else ""
            text += "  cannot be loaded as it is" if about.obstacle else ""
            self.say(f"{number:>3}  {text}" if numbered else text)
        for line in unreadable:
            self.say(line)
        if not backups:
            self.say(f"{folder} has no backup")

    def page(self, path: Path, size_bytes: int) -> None:
        """Print where a page is that was written."""
        self._fact("page", f"{path} ({amount(size_bytes)})")

    def runs(self, runs: Sequence[NotedRun], last: int | None) -> None:
        """Print a line for each earlier run, the newest last; of many the last ones."""
        shown = runs[-last:] if last else runs
        if len(shown) < len(runs):
            self.say(f"the last {len(shown)} of {len(runs)} → all of them: --all")
        for each in shown:
            told = [each.database, moment(datetime.fromisoformat(each.began)), each.who]
            if each.seconds is None:
                told.append(each.result)
            else:
                told.append(f"{each.seconds:.1f} s")
            told += [each.backup] if each.backup else []
            told += [f"exit code {each.exit_code}: {each.error}"] if each.exit_code else []
            self._line(_ENDS.get(each.result, "?"), each.task, " · ".join(told))
        if not runs:
            self.say("no run is noted here: a run is that changes a database")

    def done(self, text: str) -> None:
        """Print the last line of a task that ended well."""
        digits = 1 if self.seconds >= 1 else 2
        self.say(f"done in {self.seconds:.{digits}f} s{text}")

    def status(self, status: Status) -> None:
        """Print the state of a target."""
        self.state(status.state)
        tables = _tables(status.rows)
        protected = " · protected" if status.protected else ""
        protected += f" · of the branch {status.branch}" if status.branch else ""
        server = f"PostgreSQL {status.server}" if status.server else "a server that is not reached"
        self._fact("database", f"{status.database} on {server}{protected}")
        self._fact("server", status.where)
        self._fact("python", status.python)
        if not status.facts.unreachable:
            self._chains(status)
            self._fact("tables", tables)
        if not status.findings:
            self.say(str(status.verdict))
        if status.unlooked:
            self.say(f"not compared: {'; '.join(status.unlooked)}")

    def _chains(self, status: Status) -> None:
        for each in status.verdict.chains:
            rows, heads = (", ".join(some or ()) or "none" for some in (each.revisions, each.heads))
            self._fact("chain", f"{each.name}: at {rows}, head {heads}")
        if not status.verdict.chains:
            self._fact("revision", ", ".join(status.verdict.revisions) or "none")
            self._fact("heads", ", ".join(status.heads) or "none")
        if status.passed_over:
            self._fact("scripts", status.passed_over)

    def state(self, state: State) -> None:
        """Print a state with its evidence and its cure."""
        self._fact("state", str(state), "green" if state.is_good else "yellow")
        for each in state.evidence[1:]:
            self._fact("evidence", each)
        if not state.is_good:
            cure = ": ".join(filter(None, (state.cure.command, state.cure.why)))
            self._fact("cure", cure, "cyan")

    def findings(self, findings: Sequence[Finding]) -> None:
        """Keep the findings for programs; people read them as the lines of the error."""

    def fail(
        self,
        lines: Sequence[str],
        exit_code: int,  # noqa: ARG002  (JSON wants it)
        details: FoundDetails = NO_DETAILS,  # noqa: ARG002  (JSON wants it)
        quoted: Sequence[str] = (),
    ) -> None:
        """Print what went wrong, a line each, and below it what others have said of it."""
        for line in lines:
            self._fail(self.step, line)
        for line in quoted:
            tell(f"   {line}", is_error=True)

    def bug(self, trace: str, exit_code: int) -> None:
        """Keep the last line of a traceback for programs; people read all of it."""

    def settings(self, settings: Sequence[Setting], onto: str) -> None:
        """Print what would mend it, for pasting at the end of pyproject.toml, which is `onto`."""
        for each in ("", " in pyproject.toml:", "", *pasted.block(settings, onto)):
            tell(each, is_error=True)

    def rewriting(self, diff: Sequence[str]) -> None:
        """Print what pyproject.toml is about to get, or would."""
        for each in ("", *diff, ""):
            tell(each, is_error=True)

    def close(self, exit_code: int) -> None:
        """End the report."""

    def pause(self, step: str) -> None:
        """Note that what comes next is not of the step, which begins again later."""
        self._over(step)

    def _keep_notice(self, text: str, clients: Sequence[Backend]) -> None:
        """Keep what must not go unsaid."""
        self.notices.append(Notice(self.step, text, clients, round(self.seconds, 3)))

    def _keep_step(self, step: str, done: Done) -> None:
        """Keep a step that is over, unless it had nothing to do."""
        began, seconds = self._over(step)
        if done.text:
            told = ToldStep(step, done.text, round(seconds, 3), round(began, 3), done.details)
            self.steps.append(told)

    def _over(self, step: str) -> tuple[float, float]:
        """Note that a step is over, and one that waited goes on.

        Return when it began, and how long it took.
        """
        began = self._began.pop(step)
        self.step = next(reversed(self._began), "")
        return began, self.seconds - began

    def _line(self, sign: str, step: str, text: str) -> None:
        self._print_line(sign, step, spoken(text))

    def _fail(self, step: str, text: str) -> None:
        self._print_error(step, spoken(text))

    def _fact(self, word: str, text: str, style: str = "") -> None:  # noqa: ARG002  (a terminal shows it)
        self.say(f"{word:<{WIDTH}} {text}")

    def _print(self, text: str) -> None:
        tell(f" {text}")

    def _print_line(self, sign: str, step: str, text: str) -> None:
        tell(f" {sign} {step:<{WIDTH}} {text}" if step else f" {sign} {text}")

    def _print_error(self, step: str, text: str) -> None:
        tell(f" ✘ {step:<{WIDTH}} {text}" if step else f" ✘ {text}", is_error=True)
