"""A tar of files that are to go: written beside, read back whole, and only then are they removed.

Interrupted at any moment, each file is in the tree, or in a complete tar, or in both.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import stat
import tarfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from backset.errors import LockedError, StepFailedError
from backset.processes import folders

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path


def pack(files: Iterable[Path], root: Path, folder: Path, moment: datetime) -> dict[Path, str]:
    """Put files below `root` into the tar of `moment` in `folder`; return each one's SHA-256.

    The tar has its name only when it is on the disk and was read back whole. Raises
    StepFailedError, and LockedError where another run is at it.
    """
    final = path_of(folder, moment)
    partial = final.with_name(f"{final.name}.partial")
    with _alone(folder) as descriptor:
        try:
            hashes = _write(partial, files, root)
            _compare(partial, {name: each for _path, name, each in hashes})
            partial.rename(final)
            os.fsync(descriptor)
        except OSError as error:
            what = f"{error.filename or final}: {error.strerror}; nothing was removed"
            raise StepFailedError(what, "mend that, then run this again") from None
        finally:
            partial.unlink(missing_ok=True)
    return {path: each for path, _name, each in hashes}


def path_of(folder: Path, moment: datetime) -> Path:
    """Return the path of the tar of a moment."""
    return folder / f"scripts-{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03}Z.tar"


def remove(hashes: Mapping[Path, str], root: Path, kept: Collection[Path]) -> list[Path]:
    """Remove the files that still are as they were packed; return those that are not.

    Folders below `root` that become empty by that go, too, but for those in `kept`.
    """
    changed = []
    for path, expected in hashes.items():
        try:
            is_same = _sha256(_read(path, root)[1]) == expected
        except (OSError, StepFailedError):
            is_same = False
        if is_same:
            path.unlink()
        else:
            changed.append(path)
    parents = {parent for path in hashes for parent in path.parents if root in parent.parents}
    for parent in sorted(parents.difference(kept), key=lambda each: -len(each.parts)):
        with suppress(OSError):  # it is not empty
            parent.rmdir()
    return changed


@contextmanager
def _alone(folder: Path) -> Iterator[int]:
    """Make the folder, keep other runs out, and remove what a killed one left behind."""
    folders.make(folder)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = f"another run writes an archive into {folder}"
            raise LockedError(what, "wait until it ends, then run this again") from None
        for rubbish in folder.glob("scripts-*.tar.partial"):
            rubbish.unlink()
        yield descriptor
    finally:
        os.close(descriptor)


def _write(partial: Path, files: Iterable[Path], root: Path) -> list[tuple[Path, str, str]]:
    found = []
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    with os.fdopen(os.open(partial, flags, 0o600), "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in files:
                about, content = _read(path, root)
                # Not tar.gettarinfo(): of a hard link it would pack the name alone.
                member = tarfile.TarInfo(path.relative_to(root).as_posix())
                member.size, member.mtime = len(content), about.st_mtime
                member.mode = stat.S_IMODE(about.st_mode)
                tar.addfile(member, io.BytesIO(content))
                found.append((path, member.name, _sha256(content)))
        file.flush()
        os.fsync(file.fileno())
    return found


def _compare(partial: Path, expected: Mapping[str, str]) -> None:
    """Read the tar back. Raises StepFailedError where it is not what was written."""
    found = {}
    with tarfile.open(partial) as tar:
        for member in tar:
            file = tar.extractfile(member)
            found[member.name] = _sha256(file.read()) if file else ""
    if found != dict(expected):
        what = f"{partial} does not read back as it was written; nothing was removed"
        raise StepFailedError(what, "look at the disk, then run this again")


def _read(path: Path, root: Path) -> tuple[os.stat_result, bytes]:
    """Return a regular file's state and content. Raises StepFailedError where it is none."""
    if path.parent.resolve() != path.parent or root not in path.parents:
        raise StepFailedError(f"{path} is not in the project", "look where its folder leads")
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise StepFailedError(f"{path} is no regular file", "look what it is")
        return about, file.read()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
