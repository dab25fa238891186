"""Which interpreter has the project's packages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PROGRAMS = ("bin/python", "Scripts/python.exe")  # POSIX, Windows


def find(root: Path, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return an interpreter and where it was found: the first of an environment that is there.

    VIRTUAL_ENV comes first, as for every tool that is started in one; then the project's own.
    """
    for source, folder in _environments(root, environ):
        for program in _PROGRAMS:
            if (folder / program).is_file():
                return str(folder / program), source
    return sys.executable, "default"


def _environments(root: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    if active := environ.get("VIRTUAL_ENV"):
        yield "VIRTUAL_ENV", Path(active)
    for name in (".venv", "venv"):
        yield name, root / name
