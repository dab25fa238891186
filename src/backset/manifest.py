"""A backup's manifest: what its dump must contain. JSON beside the dump; no secrets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backset.errors import StepFailedError

if TYPE_CHECKING:
    from pathlib import Path

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a dump holds, counted in the same snapshot as the dump.

    server_id: PostgreSQL's system identifier; empty where the role may not ask for it.
    revisions: the rows of the version table. rows: exact counts by table. taken_at: ISO 8601, UTC.
    """

    database: str
    taken_at: str
    server_id: str
    server_version: str
    tool_version: str
    revisions: tuple[str, ...]
    rows: dict[str, int]
    size_bytes: int
    sha256: str
    format: int = _FORMAT

    def content(self) -> dict[str, Any]:
        """Return the manifest as plain values, as its file has them."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Backup:
    """A complete backup: a dump and its manifest; `scripts` may be missing in an older one."""

    dump: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The name that `restore` takes."""
        return self.dump.stem

    @property
    def scripts(self) -> Path:
        """The migration scripts as they were on disk."""
        return self.dump.with_suffix(".scripts.tar.gz")

    def check(self) -> None:
        """Raise StepFailedError if the dump is not, byte for byte, what the manifest says."""
        size = self.dump.stat().st_size
        if size != self.manifest.size_bytes or sha256(self.dump) != self.manifest.sha256:
            raise StepFailedError(
                f"{self.dump} was cut or changed since it was written "
                f"({size} bytes, the manifest says {self.manifest.size_bytes})",
                "choose another one from `invoke backups`",
            )


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(dump: Path) -> Backup | None:
    """Return the backup of a dump file; None where its manifest is missing or unreadable."""
    try:
        content = json.loads(dump.with_suffix(".json").read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            return None
        content["revisions"] = tuple(content["revisions"])
        return Backup(dump, Manifest(**content))
    except (OSError, ValueError, TypeError, KeyError):
        return None
