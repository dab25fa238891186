"""A backup's manifest: what its dump must contain. JSON beside the dump; no secrets.

`sha256` is that of the dump's file. An earlier version made a folder of files of a large database;
then it is the SHA-256 of what `LC_ALL=C; sha256sum *` prints in it, and `size_bytes` the sum of
their sizes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backset.errors import StepFailedError

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".dump", ".dump.zst")  # of dumps
SCRIPTS = ".scripts.tar.gz"  # of the migration scripts beside them
_FORMAT = 3
_EARLIER = {1, 2}  # without `objects` and `name`; without `dump_format` and `by_hand`
_CHOOSE = "choose another one from `invoke backups`"
_JSON_TYPES = {
    "rows": dict,
    "objects": dict,
    "revisions": list,
    "size_bytes": int,
    "left_out": list,
    "is_half_built": bool,
}  # others: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a dump holds, read in the same snapshot as the dump.

    name: the backup's, so that the manifest of another dump is known for what it is.
    server_id: PostgreSQL's system identifier; empty where the role may not ask for it.
    revisions: the rows of the version table. rows: exact counts by table. taken_at: ISO 8601, UTC.
    objects: what inventory() gave; None in a manifest of the first format.
    left_out: what belonged to others, schemas and tables, and is not in the dump.
    is_half_built: whether a run in place had dropped the database's tables, and was not done.
    dump_format: in words. by_hand: the command that loads the dump without us, in its folder.
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
    name: str = ""
    objects: dict[str, str] | None = None
    dump_format: str = ""
    by_hand: str = ""
    left_out: tuple[tuple[str, ...], ...] = ()
    is_half_built: bool = False
    format: int = _FORMAT

    @property
    def major(self) -> int:
        """The major version of the server that was dumped."""
        return major(self.server_version)

    @property
    def tool_major(self) -> int:
        """The major version of the pg_dump that wrote the dump."""
        found = re.search(r"\) (\d+)", self.tool_version)
        return int(found[1]) if found else self.major

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
        return stem(self.dump)

    @property
    def scripts(self) -> Path:
        """The migration scripts as they were on disk."""
        return beside(self.dump, SCRIPTS)

    def check(self) -> None:
        """Raise StepFailedError if the dump is not, byte for byte, what the manifest says."""
        about, size = self.manifest, size_bytes(self.dump)
        if size == about.size_bytes and sha256(self.dump) == about.sha256:
            return
        if about.name not in {"", self.name}:
            what = f"{beside(self.dump)} is the manifest of another dump, {about.name}"
        elif size < about.size_bytes:
            what = f"{self.dump} was cut: it has {size} of {about.size_bytes} bytes"
        elif size > about.size_bytes:
            what = f"{self.dump} was changed: it has {size} bytes in place of {about.size_bytes}"
        else:
            what = f"{self.dump} was changed: its size is right, its SHA-256 is not"
        raise StepFailedError(what, _CHOOSE)


def stem(dump: Path) -> str:
    """Return the name of the backup that a dump is of."""
    return dump.name.removesuffix(".zst").removesuffix(".dump")


def beside(dump: Path, suffix: str = ".json") -> Path:
    """Return the manifest of a dump, or another file that lies beside it."""
    return dump.with_name(stem(dump) + suffix)


def major(version: str) -> int:
    """Return the major version of `18.4`, `19beta1` or `17.2 (Debian …)`, or raise ValueError."""
    match = re.match(r"\d+", version)
    if match is None:
        raise ValueError(version)
    return int(match[0])


def files(dump: Path) -> list[Path]:
    """Return the files of a dump, in the order in which their hashes count."""
    if not dump.is_dir():
        return [dump]
    return sorted((path for path in dump.rglob("*") if path.is_file()), key=bytes)


def size_bytes(dump: Path) -> int:
    """Return the size of a dump's files together."""
    return sum(path.stat().st_size for path in files(dump))


def sha256(dump: Path) -> str:
    """Return a dump's SHA-256 in hexadecimal, as the manifest has it."""
    if not dump.is_dir():
        return _sha256(dump)
    lines = (f"{_sha256(path)}  {path.relative_to(dump)}\n" for path in files(dump))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read(dump: Path) -> Backup:
    """Return the backup of a dump. Raises StepFailedError where its manifest cannot be read."""
    path = beside(dump)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format"]
        if version not in {_FORMAT, *_EARLIER}:
            remedy = "use the version of backset that wrote it"
            raise StepFailedError(f"{path} has format {version!r}", remedy)
        return Backup(dump, _manifest(content))
    except FileNotFoundError:
        raise StepFailedError(f"{dump} has no manifest beside it", _CHOOSE) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise StepFailedError(f"{path} cannot be read: {reason}", _CHOOSE) from None


def _manifest(content: dict[str, Any]) -> Manifest:
    for name, value in content.items():
        if value is not None and name != "format":
            expected = _JSON_TYPES.get(name, str)
            if not isinstance(value, expected):
                raise TypeError(name)
    about = Manifest(
        **{
            **content,
            "revisions": tuple(content["revisions"]),
            "left_out": tuple(map(tuple, content.get("left_out", ()))),
        }
    )
    major(about.server_version)
    return about


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
