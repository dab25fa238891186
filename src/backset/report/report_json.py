"""The report for programs: one JSON object on stdout when the task ends, and nothing else there."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

from backset.chain import NO_DETAILS, FoundDetails
from backset.described import ABSENT, described, inline, key, plain
from backset.process import signals, streams
from backset.process.identity import spoken
from backset.process.streams import concealed
from backset.report.report import Notice, Report, ToldStep
from backset.text import redaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from backset.backups.manifest import Backup
    from backset.branches.databases import BranchDatabase
    from backset.chain import Done
    from backset.connections.activity import Backend
    from backset.errors import Finding, Setting
    from backset.memory.journal import NotedRun
    from backset.revisions.history import ToldChain, Trace
    from backset.revisions.rebasing import RebasedScript
    from backset.revisions.stale import KeptScript, StaleScript
    from backset.status.diagnosis import Status
    from backset.status.states import Cure, State


@described()
class Rewriting:
    """What `pyproject.toml` gets, with `--write`, in `pyproject`."""

    diff: Sequence[str] = key("the lines of a unified diff")
    written: bool = key("whether the file has them; with `--plan` it has not")


@described()
class ToldError:
    """What ended the task, in `error`."""

    step: str = key("the step that ran; null outside of the steps", null=True)
    lines: Sequence[str] = key("every problem in a line: what and where, `→`, what to do")
    exit_code: int = key("the same as that of the whole object")
    details: FoundDetails = inline()
    quoted: Sequence[str] = key(
        "what PostgreSQL said beside that: ERROR, where the project has made another one of it; "
        "the line of the statement with a caret, DETAIL, HINT, CONTEXT",
        default=(),
    )


@described()
class PlannedStep:
    """One line of `plan`: what a step would do, or what is so before the first."""

    step: str = key(
        "the step; or a word such as `strategy`, `because` or `consent`, or that of a fact"
    )
    text: str = key("the line, as people read it")


@described()
class WrittenPage:
    """The page of `report`, in `page`."""

    file: str = key("its path")
    size_bytes: int = key("its size")


@described(kw_only=True)
class Stakes:
    """The facts that consent is about, in `stakes`, in words for people."""

    server: str = key("where it is, and its version")
    database: str = key("the one that would be replaced")
    size: str = key("its size")
    tables: str = key("its tables with their rows")
    youngest: str = key("its youngest row, where a table has times")
    clients: str = key("who is connected")
    rebuilt: str = key("what it would be afterwards")


@described(kw_only=True)
class ToldMember:
    """A line of `fleet`: what has happened to a database. They come before the whole object."""

    event: str = key(
        "`planned`, `begun`, `again` (its process has died), or how it ended: `done`, `nothing` "
        "(to do), `findings`, `failed`, `refused`, `locked`, `interrupted`, `died`"
    )
    database: str = key("its name; with that of its table where two servers have one of the name")
    text: str = key("the line, as people read it")
    seconds: float = key("how long it took", default=ABSENT)
    exit_code: int = key("that of the task on this database alone", default=ABSENT)
    lines: Sequence[str] = key("every problem in a line of its own", default=ABSENT)
    steps: Sequence[Sequence[str]] = key(
        "the steps that ended well, each with its line; `!` is a notice", default=ABSENT
    )


@described(kw_only=True)
class ToldEvent:
    """A line of `--json-lines`: what happens, at once. The whole object comes last."""

    event: str = key("`begin`, `progress`, `notice` or `end`")
    step: str = key("the step that it is of; null outside of the steps", null=True)
    text: str = key("what happens, as people read it; empty where a step begins")
    seconds: float = key("since the task began")


@described(frozen=False, kw_only=True)
class Content:
    """The whole object."""

    task: str = key("the task, as it is typed")
    exit_code: int = key("of the program", default=0)
    seconds: float = key("how long the task took", default=0)
    steps: list[ToldStep] = key("the steps that ended well, in their order", default_factory=list)
    notices: list[Notice] = key("what must not go unsaid and stops nothing", default_factory=list)
    findings: list[Finding] = key(
        "what is not as it should be; those of an error, else those of the steps",
        default_factory=list,
    )
    error: ToldError | None = key(
        "what ended the task; null where it came to its end", default=None
    )
    database: str = key(
        "the target's name, once it is known; not of `backups`, `check`, `history`", default=ABSENT
    )
    url: str = key("the target's URL without its password; beside `database`", default=ABSENT)
    plan: Sequence[PlannedStep] = key(
        "with `--plan`: what would happen; nothing was changed", default=ABSENT
    )
    sessions: Sequence[Backend] = key(
        "with `--plan` of the tasks that run steps: who is on the target", default=ABSENT
    )
    pyproject: Rewriting = key(
        "with `--write`, where settings mend it: what becomes of that file", default=ABSENT
    )
    page: WrittenPage = key(
        "`report`, and with `--report`: the page that was written", default=ABSENT
    )
    stakes: Stakes = key(
        "what consent is about; with `--plan`, and where that was missing", default=ABSENT
    )
    confirm: str = key(
        "what `--confirm` must say to agree to `stakes`; beside these", default=ABSENT
    )
    state: str = key("`status`, `repair`: the name of the state, a stable word", default=ABSENT)
    evidence: Sequence[str] = key("`status`, `repair`: what proves it, a line each", default=ABSENT)
    cure: Cure = key("`status`, `repair`: the smallest repair of it", default=ABSENT)
    server: str = key(
        "`status`, `repair`: its version; null where it is not reached", null=True, default=ABSENT
    )
    python: str = key("`status`, `repair`: the interpreter of the project", default=ABSENT)
    revisions: Sequence[str] = key(
        "`status`, `repair`: the rows of the version table", default=ABSENT
    )
    heads: Sequence[str] = key("`status`, `repair`: the heads of the scripts", default=ABSENT)
    passed_over: str = key(
        "the same: scripts in folders below, which Alembic does not load", null=True, default=ABSENT
    )
    rows: Mapping[str, int | None] = key(
        "`status`, `repair`: how many, by table; null where the role may not read it",
        default=ABSENT,
    )
    estimated: Sequence[str] = key(
        "the same: the tables of which `rows` has an estimate; `--exact` counts them",
        default=ABSENT,
    )
    orphans: Sequence[Trace] = key(
        "`status`, `repair`: where missing files of migrations went", default=ABSENT
    )
    previous: bool = key(
        "`status`, `repair`: whether `undo` has something to go back to", default=ABSENT
    )
    protected: bool = key(
        "`status`, `repair`: whether the database has the marker of `protect`", default=ABSENT
    )
    not_compared: Sequence[str] = key(
        "`status`, `repair`: what was not looked at, in words", default=ABSENT
    )
    chains: Sequence[ToldChain] = key(
        "`history`: every chain of revisions; `status`, `repair`: each where there are several",
        default=ABSENT,
    )
    repairs: Sequence[State] = key("`repair`: the cures that were begun", default=ABSENT)
    backups: Sequence[Backup] = key(
        "`backups`, and `restore` without a name: the oldest first there", default=ABSENT
    )
    folder: str = key("the folder of `backups`; beside these", default=ABSENT)
    unreadable: Sequence[str] = key(
        "a line for each dump in it that is no backup; beside these", default=ABSENT
    )
    runs: Sequence[NotedRun] = key("`runs`: the runs that are noted", default=ABSENT)
    branches: Sequence[BranchDatabase] = key(
        "`branch`: the databases of branches, or the one that it is about", default=ABSENT
    )
    hook: str = key("`branch --install-hook`, `--remove-hook`: its file", default=ABSENT)
    branch: str = key(
        "`status`, `repair`: the branch of git whose own database it is", null=True, default=ABSENT
    )
    rebased: Sequence[RebasedScript] = key(
        "`rebase`: the scripts that are rewritten, or with `--plan` would be", default=ABSENT
    )
    stale: Sequence[StaleScript] = key("`archive`: what is out of use", default=ABSENT)
    kept: Sequence[KeptScript] = key("`archive`: what looks so, and stays", default=ABSENT)
    statements: Sequence[str] = key(
        "`squash --sql`: the statement of each revision that replaces others", default=ABSENT
    )
    archive: str = key(
        "`archive`: the path of the tar; absent where nothing was put away", default=ABSENT
    )
    fleet: Mapping[str, int] = key(
        "`fleet`: how many databases ended how; `left` were not begun", default=ABSENT
    )
    command: str = key(
        "`archive`: the command line that brings all of it back; beside that", default=ABSENT
    )


class JsonReport(Report):
    """One JSON object on stdout when the task ends, and nothing else there."""

    most_lines = None

    def __init__(self, task: str) -> None:
        super().__init__()
        self._content = Content(task=task, steps=self.steps, notices=self.notices)

    def progress(self, text: str, *, lasting: bool = False) -> None:
        """Leave that out: the step's figures say it."""

    def notice(self, text: str, clients: Sequence[Backend] = ()) -> None:
        """Keep what must not go unsaid."""
        self._keep_notice(text, clients)

    def end(self, step: str, done: Done) -> None:
        """Keep the step, unless it had nothing to do."""
        self._keep_step(step, done)
        self._content.findings += done.findings

    def plan(
        self,
        lines: Iterable[tuple[str, str]],
        facts: Sequence[tuple[str, str]] = (),
        digest: str = "",
    ) -> None:
        """Keep the plan, and what consent to it is about."""
        self._content.plan = [PlannedStep(step, text) for step, text in lines]
        if digest:
            self.stakes(facts, digest)

    def say(self, text: str) -> None:
        """Leave lines for people out."""

    def note(self, **details: Any) -> None:  # noqa: ANN401  (JSON values)
        """Keep something that only programs want to know."""
        for name, each in details.items():
            setattr(self._content, name, each)

    def stakes(self, facts: Sequence[tuple[str, str]], digest: str) -> None:
        """Keep what consent is about."""
        self.note(stakes=Stakes(**dict(facts)), confirm=digest)

    @property
    def can_ask(self) -> bool:
        """Whether a person can be asked: a program cannot."""
        return False

    def backups(
        self,
        backups: Sequence[Backup],
        folder: Path | str,
        unreadable: Sequence[str],
        *,
        numbered: bool = False,  # noqa: ARG002  (for people)
    ) -> None:
        """Keep the manifests."""
        self.note(backups=backups, folder=str(folder), unreadable=unreadable)

    def runs(self, runs: Sequence[NotedRun], last: int | None) -> None:
        """Keep the runs."""
        self.note(runs=runs[-last:] if last else runs)

    def status(self, status: Status) -> None:
        """Keep the state of a target."""
        self.state(status.state)
        self.note(
            server=status.server,
            python=status.python,
            revisions=status.verdict.revisions,
            heads=status.heads,
            passed_over=status.passed_over,
            rows=status.rows,
            estimated=sorted(status.rows.estimated),
            orphans=status.traces,
            previous=status.previous,
            protected=status.protected,
            branch=status.branch,
            not_compared=status.unlooked,
            chains=status.verdict.chains,
        )

    def page(self, path: Path, size_bytes: int) -> None:
        """Keep where the page is."""
        self.note(page=WrittenPage(str(path), size_bytes))

    def state(self, state: State) -> None:
        """Keep a state with its evidence and its cure."""
        self.note(**plain(state))

    def findings(self, findings: Sequence[Finding]) -> None:
        """Keep the findings."""
        self._content.findings = [*findings]

    def settings(self, settings: Sequence[Setting], onto: str) -> None:
        """Keep nothing: each finding has its remedy."""

    def rewriting(self, diff: Sequence[str]) -> None:
        """Keep what pyproject.toml is about to get, or would."""
        self.note(pyproject=Rewriting(diff, written=False))

    def fail(
        self,
        lines: Sequence[str],
        exit_code: int,
        details: FoundDetails = NO_DETAILS,
        quoted: Sequence[str] = (),
    ) -> None:
        """Keep the error, a line each."""
        self._content.error = ToldError(self.step, lines, exit_code, details, quoted)

    def bug(self, trace: str, exit_code: int) -> None:
        """Keep the last line of a traceback as the error."""
        self.fail(trace.splitlines()[-1:], exit_code)

    def close(self, exit_code: int) -> None:
        """Print the object."""
        self.note(exit_code=exit_code, seconds=round(self.seconds, 3))
        _print(self._content)

    def member(self, event: str, database: str, text: str, **more: Any) -> None:  # noqa: ANN401  (JSON values)
        """Print what has happened to a database at once, as a line of its own."""
        if event != "doing":
            _print_event(ToldMember(event=event, database=database, text=text, **more))


class JsonLinesReport(JsonReport):
    """An object on a line of its own for whatever happens, at once; the one of the task is last."""

    def begin(self, step: str) -> None:
        """Print that a step begins."""
        super().begin(step)
        self._tell("begin", step)

    def progress(self, text: str, *, lasting: bool = False) -> None:  # noqa: ARG002  (for people)
        """Print what the step is doing."""
        self._tell("progress", self.step, text)

    def notice(self, text: str, clients: Sequence[Backend] = ()) -> None:
        """Print what must not go unsaid."""
        super().notice(text, clients)
        self._tell("notice", self.step, text)

    def end(self, step: str, done: Done) -> None:
        """Print that a step has ended."""
        super().end(step, done)
        self._tell("end", step, done.text)

    def _tell(self, event: str, step: str, text: str = "") -> None:
        seconds = round(self.seconds, 3)
        _print_event(ToldEvent(event=event, step=step, text=text, seconds=seconds))


def _print_event(content: Any) -> None:  # noqa: ANN401  (what is described)
    """Print what has just happened. Raises Interrupted where nobody reads, as streams.tell()."""
    try:
        _print(content)
    except BrokenPipeError:
        streams.abandon()
        signals.come(signal.SIGPIPE)


def _print(content: Any) -> None:  # noqa: ANN401  (what is described)
    text = json.dumps(_concealed(plain(content)), default=str)  # it escapes what is not ASCII
    # In one piece: a thread may tell something at the same time.
    print(redaction.no_command(spoken(text)) + "\n", end="", flush=True)


def _concealed(content: Any) -> Any:  # noqa: ANN401  (JSON values)
    """Return the same without the passwords of this run, wherever others have written them."""
    if isinstance(content, dict):
        return {concealed(str(key)): _concealed(each) for key, each in content.items()}
    if isinstance(content, (list, tuple)):
        return [_concealed(each) for each in content]
    return concealed(content) if isinstance(content, str) else content
