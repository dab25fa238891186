"""The report for programs: one JSON object on stdout when the task ends, and nothing else there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from backset.process.identity import spoken
from backset.process.streams import concealed
from backset.report.report import Report
from backset.text import redaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from backset.backups.manifest import Backup
    from backset.chain import Done
    from backset.connections.activity import Backend
    from backset.errors import Finding, Setting
    from backset.report import shape
    from backset.status.diagnosis import Status
    from backset.status.states import State


class JsonReport(Report):
    """One JSON object on stdout when the task ends, and nothing else there."""

    most_lines = None

    def __init__(self, task: str) -> None:
        super().__init__()
        self._content: shape.Content = {
            "task": task,
            "exit_code": 0,
            "seconds": 0,
            "steps": [],
            "notices": [],
            "findings": [],
            "error": None,
        }

    def progress(self, text: str, *, lasting: bool = False) -> None:
        """Leave that out: the step's figures say it."""

    def notice(self, text: str, clients: Sequence[Backend] = ()) -> None:
        """Keep what must not go unsaid."""
        sessions: list[Any] = [each.content() for each in clients]
        entry: shape.Notice = {"step": self.step or None, "text": text, "sessions": sessions}
        self._content["notices"].append(entry)

    def end(self, step: str, done: Done) -> None:
        """Keep the step."""
        seconds = round(self._over(step), 3)
        entry: shape.Step = {"step": step, "text": done.text, "seconds": seconds}
        self._content["steps"].append(cast("shape.Step", {**entry, **done.details}))
        self._content["findings"] += map(_finding, done.findings)

    def plan(
        self,
        lines: Iterable[tuple[str, str]],
        facts: Sequence[tuple[str, str]] = (),
        digest: str = "",
    ) -> None:
        """Keep the plan, and what consent to it is about."""
        self._content["plan"] = [{"step": step, "text": text} for step, text in lines]
        if digest:
            self.stakes(facts, digest)

    def say(self, text: str) -> None:
        """Leave lines for people out."""

    def note(self, **details: Any) -> None:  # noqa: ANN401  (JSON values)
        """Keep something that only programs want to know."""
        self._content.update(cast("shape.Content", details))

    def stakes(self, facts: Sequence[tuple[str, str]], digest: str) -> None:
        """Keep what consent is about."""
        self.note(stakes=dict(facts), confirm=digest)

    @property
    def can_ask(self) -> bool:
        """Whether a person can be asked: a program cannot."""
        return False

    def backups(
        self,
        backups: Sequence[Backup],
        folder: Path,
        unreadable: Sequence[str],
        *,
        numbered: bool = False,  # noqa: ARG002  (for people)
    ) -> None:
        """Keep the manifests."""
        found = [
            {**each.manifest.content(), "name": each.name, "file": str(each.dump)}
            for each in backups
        ]
        self.note(backups=found, folder=str(folder), unreadable=list(unreadable))

    def status(self, status: Status) -> None:
        """Keep the state of a target."""
        self.state(status.state)
        self.note(
            server=status.server or None,
            python=status.python,
            revisions=list(status.verdict.revisions),
            heads=list(status.heads),
            passed_over=status.passed_over or None,
            rows=dict(status.rows),
            orphans=[each.content() for each in status.traces],
            previous=status.previous,
            protected=status.protected,
            not_compared=list(status.unlooked),
            chains=[{"name": name, **each} for name, each in status.verdict.chains.items()],
        )

    def state(self, state: State) -> None:
        """Keep a state with its evidence and its cure."""
        self.note(**state.content())

    def findings(self, findings: Sequence[Finding]) -> None:
        """Keep the findings."""
        self._content["findings"] = [_finding(finding) for finding in findings]

    def settings(self, settings: Sequence[Setting], onto: str) -> None:
        """Keep nothing: each finding has its remedy."""

    def rewriting(self, diff: Sequence[str]) -> None:
        """Keep what pyproject.toml is about to get, or would."""
        self.note(pyproject={"diff": list(diff), "written": False})

    def fail(self, lines: Sequence[str], exit_code: int) -> None:
        """Keep the error, a line each."""
        error: shape.Problem = {
            "step": self.step or None,
            "lines": list(lines),
            "exit_code": exit_code,
        }
        self._content["error"] = error

    def close(self, exit_code: int) -> None:
        """Print the object."""
        self._content["exit_code"] = exit_code
        self._content["seconds"] = round(self.seconds, 3)
        text = json.dumps(_concealed(self._content), default=str)  # it escapes what is not ASCII
        print(redaction.no_command(spoken(text)), flush=True)


def _concealed(content: Any) -> Any:  # noqa: ANN401  (JSON values)
    """Return the same without the passwords of this run, wherever others have written them."""
    if isinstance(content, dict):
        return {concealed(str(key)): _concealed(each) for key, each in content.items()}
    if isinstance(content, (list, tuple)):
        return [_concealed(each) for each in content]
    return concealed(content) if isinstance(content, str) else content


def _finding(finding: Finding) -> shape.Finding:
    return {
        "kind": finding.kind,
        "name": finding.name,
        "what": finding.what,
        "why": finding.why,
        "remedy": finding.remedy,
    }
