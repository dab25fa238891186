"""Recalled: a build that is cloned, and what its steps said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.errors import Finding
from backset.wording.quantities import moment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backset.servers.server import Database
    from backset.templates.memory import Record


@dataclass(frozen=True, slots=True)
class Told:
    """What a step said: one line, `details` for programs, findings."""

    text: str
    details: Mapping[str, Any]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Recalled:
    """A build that nothing has changed since, and the database that was kept of it."""

    record: Record
    template: Database

    @property
    def since(self) -> str:
        """When it was, for people."""
        return moment(datetime.fromisoformat(self.record.taken_at))

    @property
    def folders(self) -> tuple[Path, ...]:
        """Those of the scripts."""
        return tuple(map(Path, self.record.folders))

    def has(self, step: str) -> bool:
        """Tell whether the kept database is what that step left."""
        return step != "seed" or self.template.mark == "seeded"

    def told(self, step: str) -> Told:
        """Return what a step said then, and that it has not been done now."""
        said = self.record.told[step]
        text = f"{said['text']} · unchanged since {self.since}, cloned"
        details = {**said["details"], "since": self.record.taken_at}
        return Told(text, details, tuple(Finding(**each) for each in said["findings"]))
