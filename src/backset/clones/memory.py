"""`clean.template`, beside the target's backups: what the kept databases were built from and told.

The databases themselves bear the digest of it in their comments. Either without the other is
worth nothing, and nothing is lost with it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.backups.store import BackupStore
from backset.clones import inputs
from backset.errors import Finding
from backset.process import folders
from backset.text.quantities import moment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backset.clones.inputs import Parts
    from backset.servers.server import Database
    from backset.settings.settings import Settings

_NAME = "clean.template"
_FORMAT = 1
_OF_ENVIRONMENT = ("a variable that is read",)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDatabase:
    """A database that is kept: which one it is, and what the step that made it depended on.

    oid, made_in: of its row of pg_database; whoever opens it to others makes another row of it.
    parts: of what it was built from beside the parts of the record.
    """

    oid: int
    made_in: str
    digest: str
    parts: Parts = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a verified build was, so that the next run can tell whether another would be the same.

    taken_at: ISO 8601. account: of the worker's tracer. parts: hashes of all that is outside of
    the server; server: of what is there. likeness: how its database was created.
    given: what it got of the database from before; had: what it had in the end (each a list of
    kind, name and values). folders, heads: of the scripts. told: what each step said.
    kept: the databases, by what they are: `clean`, or `seeded`. schemas: that the build has made,
    so that they are known for the project's when a later chain does not make them any more.
    """

    taken_at: str
    account: dict[str, Any]
    parts: Parts
    server: Parts
    likeness: list[str | None]
    given: list[Any]
    had: list[Any]
    folders: list[str]
    heads: list[str]
    told: dict[str, dict[str, Any]]
    kept: dict[str, KeptDatabase]
    schemas: list[str] = field(default_factory=list)
    format: int = _FORMAT


def path(settings: Settings, database: str) -> Path:
    """Return where the record of a target is, or would be."""
    return BackupStore.of(settings.backups, database).folder / _NAME


def read(file: Path) -> Record | None:
    """Return the record; None if there is none that can be read."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] == _FORMAT:
            kept = {name: KeptDatabase(**each) for name, each in content.pop("kept").items()}
            return Record(**content, kept=kept)
    return None


def write(file: Path, record: Record) -> None:
    """Write the record beside, and rename it; only its owner may read it. Raises OSError."""
    folders.make(file.parent)
    partial = file.with_name(f".{file.name}.partial")
    descriptor = os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123  (a descriptor)
        json.dump(asdict(record), stream)
    partial.rename(file)


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of the last verified run, and what has changed in files since then."""

    record: Record | None
    parts: Parts
    why: str

    @property
    def holds(self) -> bool:
        """Whether the next build would read the same; the server has not been asked yet."""
        return not self.why


def recall(settings: Settings, database: str) -> Memory:
    """Read the record of a target, and every file that is in it."""
    record = read(path(settings, database))
    if record is None:
        return Memory(None, {}, "no build is remembered")
    parts = of_files(settings, record.account)
    was = {name: value for name, value in record.parts.items() if name not in _OF_ENVIRONMENT}
    return Memory(record, parts, inputs.difference(was, parts, settings.root))


def of_files(settings: Settings, account: Mapping[str, Any]) -> Parts:
    """Return the parts of a record that are files or settings, as they are now."""
    chosen = [*inputs.chosen(settings.root, settings.inputs), settings.baseline]
    return {
        **inputs.parts(account, chosen),
        "a setting": inputs.digest(_settings(settings)),
        "the interpreter": inputs.digest(inputs.states([os.path.realpath(settings.python)])),
        "backset": inputs.digest(inputs.states(_ourselves())),
    }


def of_environment(
    settings: Settings, account: Mapping[str, Any], environ: Mapping[str, str]
) -> Parts:
    """Return those that are variables. environ: of the worker; a command may read all of it."""
    names = [inputs.EVERY] if settings.has_door else account["variables"]
    return {_OF_ENVIRONMENT[0]: inputs.variables(names, environ)}


def of_seed(settings: Settings, environ: Mapping[str, str]) -> Parts:
    """Return the parts of the seeded state, beside those of the record. environ: of the command."""
    about = [settings.seed, dict(settings.rows)]
    return {
        "the seed command": inputs.digest(about),
        "its environment": inputs.variables([inputs.EVERY], environ),
    }


def _settings(settings: Settings) -> list[object]:
    """Return what of the settings decides what is built, and what is said of it."""
    today = datetime.now().astimezone().date()
    return [
        [asdict(each) for each in settings.lineages],
        [asdict(each) | {"over": each.has_expired(today)} for each in settings.ignore],
        [dict(each) for each in (settings.env, settings.ini, settings.expect)],
        [settings.upgrade, settings.init, settings.inputs, settings.baseline],
        [settings.strict, settings.server_log],
    ]


def _ourselves() -> list[str]:
    """Return the files that we consist of: what they do may change with them."""
    top = Path(__file__).parents[1]
    return [
        os.path.join(folder, name)  # noqa: PTH118  (hundreds of them)
        for folder, _, names in os.walk(top)
        for name in names
        if name.endswith(".py")
    ]


@dataclass(frozen=True, slots=True)
class StepRecord:
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

    def told(self, step: str) -> StepRecord:
        """Return what a step said then, and that it has not been done now."""
        said = self.record.told[step]
        text = f"{said['text']} · unchanged since {self.since}, cloned"
        details = {**said["details"], "since": self.record.taken_at}
        return StepRecord(text, details, tuple(Finding(**each) for each in said["findings"]))
