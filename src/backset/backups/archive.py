"""Archives: dumps that pg_dump has made, whether or not we were the ones who asked it to."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backset.backups import dumps, manifest
from backset.errors import RefusedError, StepFailedError

if TYPE_CHECKING:
    from backset.backups.manifest import Backup
    from backset.backups.vault import Vault
    from backset.servers.programs import Programs

_FROM = re.compile(r"^;\s+Dumped from database version: (\d+)", re.MULTILINE)
_EXTENSION = re.compile(r"^\d+; \d+ \d+ EXTENSION - (\S+) ")
_ROWS = re.compile(r"^\d+; \d+ \d+ (?:TABLE DATA|SEQUENCE SET|BLOB METADATA) ")
_MAKE = "take it with pg_dump --format=custom"


@dataclass(frozen=True, slots=True)
class Archive:
    """A dump: its file or folder, the lines of its table of contents, and its manifest, if any."""

    path: Path
    entries: tuple[str, ...]
    backup: Backup | None

    @property
    def extensions(self) -> list[str]:
        """The extensions that it would make."""
        return [found[1] for each in self.entries if (found := _EXTENSION.match(each))]

    @property
    def rows(self) -> list[str]:
        """The entries that are rows, values of sequences, and the list of large objects."""
        return [each for each in self.entries if _ROWS.match(each)]


def find(vault: Vault, name: str) -> Path:
    """Return the dump of a backup's name or of a path. Raises StepFailedError."""
    stem = name.removesuffix(".zst").removesuffix(".dump")
    for path in (*(vault.folder / f"{stem}{each}" for each in manifest.SUFFIXES), Path(name)):
        if path.exists():
            return path
    what = f"{name} is no backup of this database, and no file"
    raise StepFailedError(what, "choose one from `invoke backups`, or name the file of a dump")


def read(path: Path, major: int, programs: Programs) -> Archive:
    """Return what a dump is. major: of the server that it is to be restored on.

    Raises RefusedError where that cannot be done, and StepFailedError where it cannot be read.
    """
    pg_restore = programs.find("pg_restore", major)
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "toc"
        try:
            dumps.read(path, pg_restore, "--list", "--file", os.fspath(listing), programs=programs)
        except StepFailedError as error:
            raise _unreadable(path, major, error) from None
        text = listing.read_text(encoding="utf-8", errors="surrogateescape")
    if (found := _FROM.search(text)) and int(found[1]) > major:
        what = f"{path} was taken from PostgreSQL {found[1]}, and this server is {major}"
        raise RefusedError([(what, "carry --from the URL of its database, which may be newer")])
    entries = tuple(line for line in text.splitlines() if line and not line.startswith(";"))
    backup = None
    with suppress(StepFailedError):  # it is somebody else's
        backup = manifest.read(path)
    return Archive(path, entries, backup)


def _unreadable(path: Path, major: int, error: StepFailedError) -> RefusedError | StepFailedError:
    """Return what a person reads where pg_restore cannot read a dump."""
    if "text format dump" in error.what:
        what = f"{path} is a plain SQL script, which may connect to another database"
        return RefusedError([(what, _MAKE)])
    if "unsupported version" in error.what:
        what = f"{path} was made by a newer pg_dump, and this server is PostgreSQL {major}"
        return RefusedError([(what, f"{_MAKE} of version {major}, or carry --from a URL")])
    if re.search(r"valid (tar )?archive", error.what):
        what = f"{path} is no dump of the custom, the directory or the tar format"
        return RefusedError([(what, _MAKE)])
    return StepFailedError(f"{path} cannot be read: {error.what}", _MAKE)
