"""A backup's manifest: what its dump must contain. JSON beside the dump; no secrets.

`sha256` is that of the dump's file; in a bucket, that of its parts, one after the other. An earlier
version made a folder of files of a large database; then it is the SHA-256 of what
`LC_ALL=C; sha256sum *` prints in it, and `size_bytes` the sum of their sizes.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime  # noqa: TC003  (msgspec asks for the types)
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeAlias

import msgspec
from msgspec import Meta

from backset.described import described, inline, key, plain, told
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

Dump: TypeAlias = "Path | RemoteDump"  # a file, or an earlier version's folder; or in a bucket
SUFFIXES = (".dump", ".dump.zst")  # of dumps
SCRIPTS = ".scripts.tar.gz"  # of the migration scripts beside them
_FORMAT = 4
# Without `objects` and `name`; without `dump_format` and `by_hand`; without what orders them.
_EARLIER = {1, 2, 3}
_CHOOSE = "choose another one from `invoke backups`"
_Natural = Annotated[int, Meta(ge=0)]


@described(kw_only=True)
class Manifest:
    """What a dump holds, read in the same snapshot as the dump.

    name: also in the manifest, so that the manifest of another dump is known for what it is.
    is_replaced: its rows may stand nowhere else.
    """

    database: str = key("the database that was dumped")
    taken_at: Annotated[datetime, Meta(tz=True)] = key("when, in ISO 8601, UTC")
    server_id: str = key(
        "PostgreSQL's system identifier, or the mark of a server that hides it; empty without both"
    )
    server_version: Annotated[str, Meta(pattern=r"^\d+")] = key("of the server that was dumped")
    tool_version: str = key("of `pg_dump`")
    revisions: tuple[str, ...] = key("the rows of its version table")
    rows: dict[str, _Natural] = key("exact counts, by table")
    size_bytes: _Natural = key("of the dump; of a folder, of its files together")
    sha256: str = key(
        "of the dump, in hexadecimal; of a folder, that of `LC_ALL=C; sha256sum *` in it"
    )
    name: str = key("what `restore` takes", default="")
    objects: dict[str, str] | None = key(
        "a hash of every object; null in the first format of manifests, which had none",
        default=None,
    )
    schema_digest: str = key(
        "of all that can differ in its objects, but for what is an administrator's; empty in an "
        "earlier format, and where something is left out",
        default="",
    )
    dump_format: str = key("in words; empty in a manifest of an earlier format", default="")
    by_hand: str = key(
        "the command that loads the dump without backset, in its folder; likewise", default=""
    )
    left_out: tuple[Annotated[tuple[str, ...], Meta(min_length=1, max_length=2)], ...] = key(
        "what others own and the role may not read, and the dump has not: a schema, or schema "
        "and name of a table, view or sequence",
        default=(),
    )
    is_half_built: bool = key(
        "whether it is of what a run in place had left half built", default=False
    )
    content_sha256: str = key(
        "of what the dump says: dumps of one state have the same; empty in an earlier format",
        default="",
    )
    number: _Natural = key(
        "of the backups in the folder: each new one has the next; 0 in an earlier format", default=0
    )
    wal_position: _Natural | None = key(
        "bytes that the server had written to its log; null where it does not say", default=None
    )
    is_pinned: bool = key(
        "whether it stays until a person removes it (`--name`, `--pin`)", default=False
    )
    search_path: str | None = key("that of the database; null in an earlier format", default=None)
    needs_search_path: bool = key("whether the dump loads only with that one", default=False)
    obstacle: str = key(
        "why the dump does not load at all; empty where nothing is known", default=""
    )
    is_remade: bool = key("whether a rebuild makes all its rows again", default=False)
    is_replaced: bool = key(
        "whether a run has replaced this state, without all its rows: it stays", default=False
    )
    parts: _Natural = key("how many objects of a bucket it is in; 0 of a file", default=0)
    upload: str = key("the folder of these, beside the manifest; empty of a file", default="")
    format: int = key("of the manifest", default=_FORMAT)

    @property
    def order(self) -> tuple[int, int, datetime]:
        """What comes later has more of it; the clock counts for earlier formats alone."""
        return self.number, self.wal_position or 0, self.taken_at

    @property
    def needed_path(self) -> str | None:
        """The search path with which alone the dump loads; None where it loads by itself."""
        return self.search_path if self.needs_search_path else None

    @property
    def major(self) -> int:
        """The major version of the server that was dumped."""
        return major(self.server_version)

    @property
    def tool_major(self) -> int:
        """The major version of the pg_dump that wrote the dump."""
        found = re.search(r"\) (\d+)", self.tool_version)
        return int(found[1]) if found else self.major


class RemoteDump(Protocol):
    """A dump that is no file: parts.py has those in a bucket."""

    @property
    def name(self) -> str:
        """The name that its file would have."""

    @property
    def manifest(self) -> Manifest:
        """What it must contain."""

    def size_bytes(self) -> int:
        """Return its size."""

    def sha256(self) -> str:
        """Return the SHA-256 of it as it is stored."""

    def pieces(self) -> Iterator[Any]:
        """Yield it as pg_dump's output was packed."""

    def describe(self, about: Manifest) -> Backup:
        """Write its manifest anew."""


@described()
class Backup:
    """One backup, in `backups`: its manifest, which lies beside the dump, and where it is."""

    dump: Dump = key(
        "the path of the dump; an earlier version made a folder of a large one. In a bucket its "
        "address, as `--from` takes it",
        "file",
    )
    manifest: Manifest = inline()

    @property
    @told("what `restore` takes")
    def name(self) -> str:
        """The name that `restore` takes."""
        return stem(self.dump)

    @property
    def path(self) -> Path:
        """The dump of a folder, where it is a path."""
        if isinstance(self.dump, Path):
            return self.dump
        raise StepFailedError(f"{self.dump} is no file", "name one of a folder")

    @property
    def scripts(self) -> Path:
        """The migration scripts as they were on disk; they may be missing in an older one."""
        return beside(self.path, SCRIPTS)

    def check(self) -> None:
        """Raise StepFailedError if the dump is not, byte for byte, what the manifest says."""
        about, size = self.manifest, size_bytes(self.dump)
        if size == about.size_bytes and sha256(self.dump) == about.sha256:
            return
        if about.name not in {"", self.name}:
            what = f"{beside(self.path)} is the manifest of another dump, {about.name}"
        elif size < about.size_bytes:
            what = f"{self.dump} was cut: it has {size} of {about.size_bytes} bytes"
        elif size > about.size_bytes:
            what = f"{self.dump} was changed: it has {size} bytes in place of {about.size_bytes}"
        else:
            what = f"{self.dump} was changed: its size is right, its SHA-256 is not"
        raise StepFailedError(what, _CHOOSE)


def stem(dump: Dump) -> str:
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


def size_bytes(dump: Dump) -> int:
    """Return the size of a dump's files together."""
    if not isinstance(dump, Path):
        return dump.size_bytes()
    return sum(path.stat().st_size for path in files(dump))


def sha256(dump: Dump) -> str:
    """Return a dump's SHA-256 in hexadecimal, as the manifest has it."""
    if not isinstance(dump, Path):
        return dump.sha256()
    if not dump.is_dir():
        return _sha256(dump)
    lines = (f"{_sha256(path)}  {path.relative_to(dump)}\n" for path in files(dump))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read(dump: Dump) -> Backup:
    """Return the backup of a dump. Raises StepFailedError where its manifest cannot be read."""
    if not isinstance(dump, Path):
        return Backup(dump, dump.manifest)
    path = beside(dump)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise StepFailedError(f"{dump} has no manifest beside it", _CHOOSE) from None
    except OSError as error:
        raise StepFailedError(f"{path} cannot be read: {error.strerror}", _CHOOSE) from None
    return Backup(dump, parsed(text, path))


def parsed(text: bytes, where: object) -> Manifest:
    """Return what a manifest says. where: its path or address. Raises StepFailedError."""
    try:
        try:
            about = msgspec.json.decode(text, type=Manifest)
        except msgspec.ValidationError:
            _demand_format(where, msgspec.json.decode(text, type=_Formatted).format)
            raise
        _demand_format(where, about.format)
    except msgspec.ValidationError as error:
        what = f"{where} cannot be read: {error}"
        raise StepFailedError(what, f"correct that, or {_CHOOSE}") from None
    except (msgspec.DecodeError, ValueError):
        raise StepFailedError(f"{where} cannot be read: it is damaged", _CHOOSE) from None
    return about


def written(about: Manifest) -> str:
    """Return the text of a manifest."""
    return json.dumps(plain(about), indent=2) + "\n"


class _Formatted(msgspec.Struct):
    """What every format has."""

    format: int


def _demand_format(path: object, version: int) -> None:
    if version not in {_FORMAT, *_EARLIER}:
        remedy = "use the version of backset that wrote it"
        raise StepFailedError(f"{path} has format {version}", remedy)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
