"""What the page tells, as plain data: nothing here asks a database, and nothing knows HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from backset.described import plain
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from backset.catalog.catalog import RowCounts
    from backset.catalog.columns import Table
    from backset.errors import Finding
    from backset.memory.journal import NotedRun
    from backset.report.report import Report
    from backset.revisions.history import History
    from backset.status.states import State

_OF_EVERY = frozenset({"step", "text", "seconds", "began"})  # what every step has


class SeenClient(msgspec.Struct, frozen=True, kw_only=True):
    """A session of somebody else, of which a step or a notice tells."""

    pid: int = 0
    application: str = ""
    user: str | None = None
    address: str | None = None

    def __str__(self) -> str:
        name = self.application or self.user or "a session"
        return f"{name}@{self.address}" if self.address else name


class LeftRows(msgspec.Struct, frozen=True):
    """What a carry left behind."""

    what: str
    name: str
    count: int


class TimedStep(msgspec.Struct, frozen=True):
    """A step of a run; began: seconds since the task began; None in a report without it."""

    step: str
    text: str
    seconds: float
    began: float | None = None
    rows: dict[str, int] = {}
    left: list[LeftRows] = []
    ended: list[SeenClient] = []


class TimedNotice(msgspec.Struct, frozen=True):
    """What a run must not leave unsaid, such as whom it waits for."""

    text: str
    step: str | None = None
    at: float | None = None
    sessions: list[SeenClient] = []


class RunEnd(msgspec.Struct, frozen=True):
    """What ended a run that did not come to its end."""

    lines: list[str]
    step: str | None = None


class RunTold(msgspec.Struct, frozen=True, kw_only=True):
    """A run, as `--json` tells it. Keys that the page does not need are passed over."""

    task: str
    exit_code: int
    seconds: float
    steps: list[TimedStep]
    notices: list[TimedNotice] = []
    error: RunEnd | None = None

    @classmethod
    def of(cls, told: Report, task: str, error: Mapping[str, Any] | None = None) -> RunTold:
        """Return what a report has told so far. error: `lines`, `step` and `exit_code`."""
        content = {
            "task": task,
            "exit_code": error["exit_code"] if error else 0,
            "seconds": round(told.seconds, 3),
            "steps": plain(told.steps),
            "notices": plain(told.notices),
            "error": error,
        }
        return _converted(content)

    def rows(self, step: str) -> Mapping[str, int] | None:
        """Return the rows that a step has counted; None where it has not."""
        return next((each.rows for each in self.steps if each.step == step and each.rows), None)


def read_run(path: Path) -> RunTold:
    """Return the run whose `--json` is in a file. Raises StepFailedError, OSError."""
    try:
        return _converted(msgspec.json.decode(path.read_bytes()))
    except msgspec.MsgspecError as error:
        what = f"{path} is no report of a run: {error}"
        raise StepFailedError(what, "give it what `invoke reset-db --json` printed") from None


def _converted(content: Any) -> RunTold:  # noqa: ANN401  (JSON)
    """Return what a report tells. A project's own step may have keys of other kinds."""
    if isinstance(content, dict) and isinstance(content.get("steps"), list):
        content = {**content, "steps": [_readable(each) for each in content["steps"]]}
    return msgspec.convert(content, RunTold)


def _readable(step: Any) -> Any:  # noqa: ANN401  (JSON)
    try:
        return msgspec.convert(step, TimedStep)
    except msgspec.ValidationError:
        is_object = isinstance(step, dict)
        return {name: step[name] for name in _OF_EVERY & step.keys()} if is_object else step


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """All that a page tells.

    where: the target's URL without password, and what says so. unlooked: what was not compared.
    tables: in the order of their names; keys: the columns of the primary key of each, by its shown
    name. models: the tables that the models have; None where nobody knows.
    runs: earlier ones, the newest first.
    """

    database: str
    where: str
    server: str
    made_at: datetime
    state: State
    unlooked: Sequence[str]
    findings: Sequence[Finding]
    chains: Sequence[History]
    tables: Sequence[Table]
    keys: Mapping[str, Sequence[str]]
    models: frozenset[str] | None
    rows: RowCounts
    run: RunTold | None = None
    runs: Sequence[NotedRun] = ()
