"""Folders and files of our own: for their owner alone, whole or not there, and on the disk."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import stat
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from backset.errors import LockedError
from backset.process.identity import is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator


def make(folder: Path) -> None:
    """Make a folder for its owner alone, and those above it that are missing.

    mkdir() gives these the mode that the umask says, which may be that everybody writes there.
    """
    for each in reversed([folder, *folder.parents]):
        each.mkdir(mode=0o700, exist_ok=True)


def close(folder: Path) -> None:
    """Let nobody write into a folder of ours whom neither owner nor group has let in.

    One like /tmp, where nobody touches what is another's, stays as it is.
    """
    found = folder.stat()
    is_open = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
    if is_open and found.st_uid == os.geteuid():
        folder.chmod(stat.S_IMODE(found.st_mode) & ~stat.S_IWOTH)


def hide(folder: Path) -> None:
    """Hide from git what is in a folder, unless a `.gitignore` there says what git sees."""
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.touch(mode=0o644)  # where the umask would let anybody write, no more than that
        ignore.write_text("*\n")


_TREE = "backset-tree-"
_HERE = -100  # AT_FDCWD of fcntl.h
_RENAME_EXCHANGE = 2  # of linux/fs.h
_RENAME_SWAP = 2  # of macOS's sys/stdio.h


@contextmanager
def temporary() -> Iterator[Path]:
    """Give the block an empty folder that nobody else can read; those of killed runs go, too."""
    for path in Path(tempfile.gettempdir()).glob(f"{_TREE}*-*"):
        pid = path.name.removeprefix(_TREE).partition("-")[0]
        with suppress(OSError):  # it is somebody else's, or just going
            if path.lstat().st_uid == os.getuid() and pid.isdecimal() and not is_alive(int(pid)):
                shutil.rmtree(path)
    with tempfile.TemporaryDirectory(prefix=f"{_TREE}{os.getpid()}-") as folder:
        yield Path(folder).resolve()


@contextmanager
def locked(folder: Path, what: str = "") -> Iterator[None]:
    """Keep other runs out of a folder; the lock ends with its descriptor, even in a crash.

    what: what another run writes there, for LockedError; without it, that run is waited for.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if what else 0))
        except BlockingIOError:
            told = f"another run writes {what} into {folder}"
            raise LockedError(told, "wait until it ends, then run this again") from None
        yield
    finally:
        os.close(descriptor)


def create(path: Path) -> Path:
    """Create an empty file that only its owner may read, before anything is in it."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
    return path


def sync(path: Path) -> None:
    """Wait until a file is on the disk; of a folder, the names in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path, *, partial: Path | None = None, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Write a file beside for the block, then rename it: it is on the disk whole, or as it was.

    partial: the name of the file until then, under which a killed run leaves it. Raises OSError,
    which names the file by `path`.
    """
    partial = partial or path.with_name(f".{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        with os.fdopen(os.open(partial, flags, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        sync(path.parent)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) in {"None", str(partial)}:
            error.filename = str(path)
        raise


def write(path: Path, text: str, *, partial: Path | None = None) -> None:
    """Put a text in the place of a file that only its owner may read; see replacing()."""
    with replacing(path, partial=partial) as file:
        file.write(text.encode())


def swap(one: Path, other: Path) -> None:
    """Exchange what two names mean, both or neither, by one system call.

    Raises OSError, also where the system or the file system cannot do so.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        failed = libc.renamex_np(*names, _RENAME_SWAP)
    elif hasattr(libc, "renameat2"):  # musl has none
        failed = libc.renameat2(_HERE, names[0], _HERE, names[1], _RENAME_EXCHANGE)
    else:
        number = errno.ENOSYS
        raise OSError(number, os.strerror(number), str(one))
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))
