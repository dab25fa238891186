"""Folders of our own: nobody else writes into them, whatever the umask is."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


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
