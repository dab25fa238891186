"""What is remembered of the last build: what it depended on, what it said, what was kept of it.

The record is `clean.template`, beside the
target's backups; the databases that are kept bear a digest of it in their comments. Either without
the other is worth nothing, and nothing is lost with it.
"""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.backups.store import BackupStore
from backset.chain import Details, Done
from backset.described import described, inline, key, plain
from backset.errors import Finding
from backset.memory import inputs
from backset.migrate.worker import Worker
from backset.process import files
from backset.text.quantities import moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backset.chain import Chain
    from backset.servers.server import Database
    from backset.settings.settings import Settings

    Account = Mapping[str, Any]  # what the worker's tracer says
    Parts = dict[str, str]  # what each thing is called → a hash of it

_NAME = "clean.template"
_FORMAT = 2
COLD = "cold: "  # in front of why no build of this project is kept, so that people may change that


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
    kept: the databases, by what they are: `clean`, or `seeded`; unkept: why there is none.
    hints: of the variables, which one has changed. schemas: that the build has made, so that they
    are known for the project's when a later chain does not make them any more. files: how many the
    database is on disk, about.
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
    unkept: str = ""
    hints: dict[str, str] = field(default_factory=dict)
    schemas: list[str] = field(default_factory=list)
    files: int = 0
    format: int = _FORMAT


@contextmanager
def ahead(
    settings: Settings, chain: Chain, database: str, *, cold: bool
) -> Iterator[tuple[Memory | None, Worker | None]]:
    """Start Alembic's process for a chain, unless what it would build is remembered."""
    memory = None
    if chain.has("reset", "upgrade") and not cold:
        memory = recall(settings, database)
    is_wanted = chain.migrates and not (memory and memory.holds)
    with Worker(settings) if is_wanted else nullcontext(None) as worker:
        yield memory, worker


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
    """Write the record. Raises OSError."""
    files.make(file.parent)
    files.write(file, json.dumps(asdict(record)))


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of the last verified build, and what has changed in files since then."""

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
    if record.unkept:
        return Memory(record, {}, f"{COLD}{record.unkept}")
    parts = inputs.of_files(settings, record.account)
    was = {name: value for name, value in record.parts.items() if name not in inputs.OF_ENVIRONMENT}
    return Memory(record, parts, inputs.difference(was, parts, settings.root))


@described()
class _RecalledDetails(Details):
    said: Mapping[str, Any] = inline()
    since: str = key(
        "`upgrade`, `verify` and `seed` of a copy: when that was done which is told here, in ISO "
        "8601, UTC"
    )


def remembered(done: Done) -> dict[str, Any]:
    """Return what a step said, as a record has it."""
    findings = [asdict(each) for each in done.findings]
    return {"text": done.text, "details": plain(done.details), "findings": findings}


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

    def told(self, step: str) -> Done:
        """Return what a step said then, and that it has not been done now."""
        said = self.record.told[step]
        text = f"{said['text']} · unchanged since {self.since}, cloned"
        details = _RecalledDetails(said["details"], since=self.record.taken_at)
        return Done(text, details, tuple(Finding(**each) for each in said["findings"]))
