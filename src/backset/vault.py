"""The folder of one database's backups: find them, list them, and write one undisturbed."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from backset import manifest
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.manifest import Backup


@dataclass(frozen=True, slots=True)
class Vault:
    """The folder of one database's backups: `backups/<database>/`, 0700, its files 0600.

    A backup exists once its `.dump` has its final name; that rename comes last. Until then a
    `.dump.partial` marks everything of the same stem as rubbish, which the next run removes.
    """

    folder: Path

    @classmethod
    def of(cls, backups: Path, database: str) -> Vault:
        """Return the vault of a database; its name is quoted where a file name cannot hold it."""
        return cls(backups / quote(database, safe=" ").replace("..", "%2E%2E"))

    def list(self) -> list[Backup]:
        """Return all complete backups, the oldest first."""
        found = (manifest.read(dump) for dump in sorted(self.folder.glob("*.dump")))
        return [backup for backup in found if backup is not None]

    def find(self, name: str) -> Backup:
        """Return a backup by name, file name or path. Raises StepFailedError."""
        named = [each for each in self.list() if name in {each.name, each.dump.name}]
        if not named and Path(name).is_file():
            named = list(filter(None, [manifest.read(Path(name))]))
        if not named:
            what = f"{self.folder} has no backup {name!r}"
            raise StepFailedError(what, "choose one from `invoke backups`")
        return named[-1]

    def newest(self, server_id: str) -> Backup:
        """Return the newest backup of a server: another one may have a database of that name."""
        taken = [each for each in self.list() if each.manifest.server_id == server_id]
        if not taken:
            what = f"{self.folder} has no backup of this server"
            raise StepFailedError(what, "name one from `invoke backups`, if there is any")
        return taken[-1]

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make the folder, keep other writers out, and remove what a killed run left behind."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        ignore = self.folder.parent / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        with self._locked() as descriptor:
            self._sweep()
            try:
                yield
                os.fsync(descriptor)  # the renames
            finally:
                self._sweep()

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Keep other writers out; the lock ends with its descriptor, even in a crash."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        for partial in self.folder.glob("*.dump.partial"):
            stem = partial.name.removesuffix(".dump.partial")
            for suffix in (".json", ".scripts.tar.gz", ".dump.partial"):  # the mark goes last
                partial.with_name(stem + suffix).unlink(missing_ok=True)
