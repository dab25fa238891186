"""What people and programs read: lines, a live line on a terminal, or one JSON object."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from backset.quantities import amount

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pathlib import Path

    from rich.status import Status as Spinner

    from backset.diagnosis import Status
    from backset.errors import Finding
    from backset.manifest import Backup
    from backset.steps import Done

_WIDTH = 9  # of the longest step's name


class Report:
    """Plain lines, as they happen. The texts of errors go to stderr, all others to stdout."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.step = ""
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]

    @property
    def seconds(self) -> float:
        """Seconds since the task began."""
        return time.monotonic() - self.started

    def begin(self, step: str) -> None:
        """Note that a step begins."""
        self.step = step

    def progress(self, text: str) -> None:
        """Note what the step is doing; plain lines leave that out."""

    def end(self, step: str, done: Done) -> None:
        """Print the line of a step."""
        self._line("✔", step, done.text)
        self.step = ""

    def plan(self, lines: Iterable[tuple[str, str]]) -> None:
        """Print what would happen."""
        for step, text in lines:
            self._line("·", step, text)
        self.say("nothing was changed")

    def say(self, text: str) -> None:
        """Print a line that is not a step's."""
        print(f" {text}", flush=True)

    def note(self, **details: Any) -> None:  # noqa: ANN401  (JSON values)
        """Keep something that only programs want to know."""

    def backups(self, backups: Sequence[Backup], folder: Path) -> None:
        """Print a line for each backup."""
        for each in backups:
            about = each.manifest
            size, rows = amount(about.size_bytes), sum(about.rows.values())
            self.say(f"{each.name}  {size}  {len(about.rows)} tables, {rows} rows")
        if not backups:
            self.say(f"{folder} has no backup")

    def done(self, text: str) -> None:
        """Print the last line of a task that ended well."""
        self.say(f"done in {self.seconds:.1f} s{text}")

    def status(self, status: Status) -> None:
        """Print the state of a target."""
        tables = " · ".join(f"{table} {rows}" for table, rows in status.rows.items()) or "none"
        self.say(f"database  {status.database} on PostgreSQL {status.server}")
        self.say(f"revision  {', '.join(status.revisions) or 'none'}")
        self.say(f"heads     {', '.join(status.heads) or 'none'}")
        self.say(f"tables    {tables}")
        if not status.findings:
            self.say("models and database agree")

    def findings(self, findings: Sequence[Finding]) -> None:
        """Print each finding in a line of its own."""
        for finding in findings:
            self._fail(str(finding))

    def fail(self, lines: Sequence[str], exit_code: int) -> None:  # noqa: ARG002  (JSON wants it)
        """Print what went wrong, a line each."""
        for line in lines:
            self._fail(f"{self.step:<{_WIDTH}} {line}" if self.step else line)

    def close(self, exit_code: int) -> None:
        """End the report."""

    def _line(self, sign: str, step: str, text: str) -> None:
        print(f" {sign} {step:<{_WIDTH}} {text}", flush=True)

    def _fail(self, text: str) -> None:
        sys.stdout.flush()
        print(f" ✘ {text}", file=sys.stderr, flush=True)


class LiveReport(Report):
    """The same lines in colour, with one live line under them, on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console  # noqa: PLC0415  (only a terminal pays for it)

        self._console = Console(highlight=False, soft_wrap=True)
        self._errors = Console(highlight=False, soft_wrap=True, stderr=True)
        self._spinner: Spinner | None = None

    def begin(self, step: str) -> None:
        """Show a spinner until the step ends."""
        super().begin(step)
        self._stop()
        self._spinner = self._console.status(self._styled(step, "…"))
        self._spinner.start()

    def progress(self, text: str) -> None:
        """Show what the step is doing."""
        if self._spinner is not None:
            self._spinner.update(self._styled(self.step, text))

    def close(self, exit_code: int) -> None:
        """Remove the live line."""
        self._stop()
        super().close(exit_code)

    def say(self, text: str) -> None:
        """Print a line that is not a step's."""
        self._stop()
        self._console.print(f" {text}", style="dim" if text.startswith("done") else "", markup=False)

    def _line(self, sign: str, step: str, text: str) -> None:
        self._stop()
        colour = "green" if sign == "✔" else "yellow"
        self._console.print(f" [{colour}]{sign}[/] {self._styled(step, text)}")

    def _fail(self, text: str) -> None:
        self._stop()
        from rich.markup import escape  # noqa: PLC0415  (only a terminal pays for it)

        self._errors.print(f" [red]✘[/] {escape(text)}")

    def _stop(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    @staticmethod
    def _styled(step: str, text: str) -> str:
        from rich.markup import escape  # noqa: PLC0415  (only a terminal pays for it)

        return f"[bold]{step:<{_WIDTH}}[/] {escape(text)}"


class JsonReport(Report):
    """One JSON object on stdout when the task ends, and nothing else there."""

    def __init__(self, task: str) -> None:
        super().__init__()
        self._content: dict[str, Any] = {"task": task, "steps": [], "findings": [], "error": None}
        self._step_started = 0.0

    def begin(self, step: str) -> None:
        """Start the step's clock."""
        super().begin(step)
        self._step_started = self.seconds

    def end(self, step: str, done: Done) -> None:
        """Keep the step."""
        seconds = round(self.seconds - self._step_started, 3)
        entry = {"step": step, "text": done.text, "seconds": seconds, **done.details}
        self._content["steps"].append(entry)
        self.step = ""

    def plan(self, lines: Iterable[tuple[str, str]]) -> None:
        """Keep the plan."""
        self._content["plan"] = [{"step": step, "text": text} for step, text in lines]

    def say(self, text: str) -> None:
        """Leave lines for people out."""

    def note(self, **details: Any) -> None:  # noqa: ANN401  (JSON values)
        """Keep something that only programs want to know."""
        self._content |= details

    def backups(self, backups: Sequence[Backup], folder: Path) -> None:
        """Keep the manifests."""
        self._content |= {"folder": str(folder)}
        self._content["backups"] = [
            {"name": each.name, "file": str(each.dump), **each.manifest.content()}
            for each in backups
        ]

    def status(self, status: Status) -> None:
        """Keep the state of a target."""
        self._content |= {
            "database": status.database,
            "server": status.server,
            "revisions": status.revisions,
            "heads": status.heads,
            "tables": status.rows,
            "previous": status.previous,
        }

    def findings(self, findings: Sequence[Finding]) -> None:
        """Keep the findings."""
        self._content["findings"] = [_finding(finding) for finding in findings]

    def fail(self, lines: Sequence[str], exit_code: int) -> None:
        """Keep the error, a line each."""
        self._content["error"] = {"step": self.step or None, "lines": lines, "exit_code": exit_code}

    def close(self, exit_code: int) -> None:
        """Print the object."""
        self._content |= {"exit_code": exit_code, "seconds": round(self.seconds, 3)}
        print(json.dumps(self._content, ensure_ascii=False, default=str), flush=True)


def _finding(finding: Finding) -> Mapping[str, str]:
    return {name: getattr(finding, name) for name in ("kind", "what", "why", "remedy")}


def make(task: str, *, as_json: bool) -> Report:
    """Return the report for where stdout goes."""
    if as_json:
        return JsonReport(task)
    return LiveReport() if sys.stdout.isatty() else Report()
