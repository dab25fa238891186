"""Which interpreter has the project's packages."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PROGRAMS = ("bin/python", "Scripts/python.exe")  # POSIX, Windows


def find(root: Path, environ: Mapping[str, str], config: str = "") -> tuple[str, str]:
    """Return an interpreter and where it was found: the first of an environment that is there.

    VIRTUAL_ENV comes first, as for every tool that is started in one; then the project's own, the
    nearest to `config`, its Alembic configuration: a repository can have one for each part.
    """
    for source, folder in _environments(root, (root / config).parent if config else root, environ):
        for program in _PROGRAMS:
            path = folder / program
            if path.is_file() or path.is_symlink():  # a broken link is to be mended, not passed by
                return str(path), source
    return sys.executable, "default"


def _environments(
    root: Path, start: Path, environ: Mapping[str, str]
) -> Iterator[tuple[str, Path]]:
    if active := environ.get("VIRTUAL_ENV"):
        yield "VIRTUAL_ENV", Path(active)
    for folder in _upwards(start, root):
        for name in (".venv", "venv"):
            yield os.path.relpath(folder / name, root), folder / name


def _upwards(start: Path, root: Path) -> Iterator[Path]:
    """Yield the folders from `start` up to the repository's, or to `root` where there is none."""
    folders = [start, *start.parents]
    last = next((each for each in folders if (each / ".git").exists()), root)
    for folder in folders:
        yield folder
        if folder == last:
            return
