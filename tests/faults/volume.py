"""A small file system of its own, to be filled: a tmpfs, where mounting is allowed."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Volume:
    """A mounted tmpfs: `fill` leaves so many bytes free on it, `clear` gives them back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ballast = folder / "ballast"

    def fill(self, leave_bytes: int) -> None:
        """Take all of the free space but `leave_bytes`."""
        with self._ballast.open("wb") as file:
            while (taken := self._free() - leave_bytes) > 0:
                with suppress(OSError):  # somebody else was faster: the space is less by now
                    os.posix_fallocate(file.fileno(), 0, taken)
                    return

    def _free(self) -> int:
        space = os.statvfs(self._folder)
        return space.f_bavail * space.f_frsize

    def clear(self) -> None:
        """Give the space back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def mounted(folder: Path, size_kib: int) -> Iterator[Volume]:
    """Mount a tmpfs on a folder for as long as the block lasts."""
    options = f"size={size_kib}k,mode=0755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield Volume(folder)
    finally:  # lazily: a process that is just ending may still have a file open
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@cache
def why_not() -> str:
    """Return why nothing can be mounted here; empty where it can."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with mounted_quietly(Path(folder)):
                return ""
        except (OSError, subprocess.CalledProcessError):
            who = "root" if os.geteuid() == 0 else "an ordinary user"
            return f"{who} may not mount a tmpfs here"


@contextmanager
def mounted_quietly(folder: Path) -> Iterator[None]:
    """Mount a tmpfs as a trial, without a word of mount's on stderr."""
    argv = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    subprocess.run(argv, check=True, capture_output=True)
    yield
    subprocess.run(["umount", str(folder)], check=True, capture_output=True)
