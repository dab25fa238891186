"""The report for programs: one JSON object on stdout when the task ends, and nothing else there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from backset.processes.identity import spoken
from backset.reports.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from backset.backups.manifest import Backup
    from backset.connections.activity import Client
    from backset.diagnoses.diagnosis import Status
    from backset.diagnoses.states import State
    from backset.errors import Finding
    from backset.steps import Done


class JsonReport(Report):
    """One JSON object on stdout when the task ends, and nothing else there."""

    most_lines = None

    def __init__(self, task: str) -> None:
        super().__init__()
        self._content: dict[str, Any] = {"task": task, "steps": [], "notices": []}
        self._content |= {"findings": [], "error": None}
        self._step_started = 0.0

    def begin(self, step: str) -> None:
        """Start the step's clock."""
        super().begin(step)
        self._step_started = self.seconds

    def progress(self, text: str, *, lasting: bool = False) -> None:
        """Leave that out: the step's figures say it."""

    def notice(self, text: str, clients: Sequence[Client] = ()) -> None:
        """Keep what must not go unsaid."""
        sessions = [each.content() for each in clients]
        entry = {"step": self.step or None, "text": text, "sessions": sessions}
        self._content["notices"].append(entry)

    def end(self, step: str, done: Done) -> None:
        """Keep the step."""
        seconds = round(self.seconds - self._step_started, 3)
        entry = {"step": step, "text": done.text, "seconds": seconds, **done.details}
        self._content["steps"].append(entry)
        self._content["findings"] += map(_finding, done.findings)
        self.step = ""

    def plan(self, lines: Iterable[tuple[str, str]]) -> None:
        """Keep the plan."""
        self._content["plan"] = [{"step": step, "text": text} for step, text in lines]

    def say(self, text: str) -> None:
        """Leave lines for people out."""

    def note(self, **details: Any) -> None:  # noqa: ANN401  (JSON values)
        """Keep something that only programs want to know."""
        self._content |= details

    def stakes(self, facts: Sequence[tuple[str, str]], digest: str) -> None:
        """Keep what consent is about."""
        self._content |= {"stakes": dict(facts), "confirm": digest}

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
        self._content |= {"folder": str(folder), "unreadable": list(unreadable)}
        self._content["backups"] = [
            {**each.manifest.content(), "name": each.name, "file": str(each.dump)}
            for each in backups
        ]

    def status(self, status: Status) -> None:
        """Keep the state of a target."""
        self.state(status.state)
        self._content |= {
            "database": status.database,
            "server": status.server,
            "python": status.python,
            "revisions": status.verdict.revisions,
            "heads": status.heads,
            "chains": status.verdict.chains,
            "tables": status.rows,
            "orphans": [each.content() for each in status.traces],
            "previous": status.previous,
            "protected": status.protected,
        }

    def state(self, state: State) -> None:
        """Keep a state with its evidence and its cure."""
        self._content |= state.content()

    def findings(self, findings: Sequence[Finding]) -> None:
        """Keep the findings."""
        self._content["findings"] = [_finding(finding) for finding in findings]

    def fail(self, lines: Sequence[str], exit_code: int) -> None:
        """Keep the error, a line each."""
        self._content["error"] = {"step": self.step or None, "lines": lines, "exit_code": exit_code}

    def close(self, exit_code: int) -> None:
        """Print the object."""
        self._content |= {"exit_code": exit_code, "seconds": round(self.seconds, 3)}
        print(spoken(json.dumps(self._content, default=str)), flush=True)


def _finding(finding: Finding) -> Mapping[str, str]:
    return {name: getattr(finding, name) for name in ("kind", "name", "what", "why", "remedy")}
