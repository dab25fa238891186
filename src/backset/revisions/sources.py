"""The project's folders: which of their files are migration scripts, loaded by Alembic or not."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backset.revisions.graph import parse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from backset.revisions.graph import Revision

LOADED = re.compile(r"^(?!\.#|__init__).*\.py$")  # as Alembic's script/base.py has it
_SCRIPT = re.compile(r"\.py(?![a-z])|\.(?:bak|old|orig|save|txt|disabled|off)$")  # x.py, x.py.bak
LARGEST_BYTES = 1_000_000
# Other people's code, and what is made from ours.
_ELSEWHERE = frozenset(
    {"node_modules", "site-packages", "__pycache__", "venv", "env", "virtualenv"}
    | {".git", ".hg", ".svn", ".venv", ".tox", ".nox", ".backset", ".eggs"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache"}
)


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a project's migration scripts are.

    root: the project's. locations: the folders that Alembic loads scripts from.
    backups: backset's own. recursive: whether Alembic also loads what is in folders below.
    """

    root: Path
    locations: tuple[Path, ...]
    backups: Path
    recursive: bool = False

    def loads(self, path: Path) -> bool:
        """Tell whether Alembic loads this file as a script."""
        folders = path.parents if self.recursive else path.parents[:1]
        return bool(LOADED.match(path.name)) and any(each in folders for each in self.locations)

    def current(self) -> list[Revision]:
        """Return the scripts that Alembic loads, as their texts tell them."""
        found = (path for folder in self.locations for path in walk(folder))
        return list(read(filter(self.loads, dict.fromkeys(found))))

    def containing(self, revision: str) -> list[Revision]:
        """Return every script in the project, loaded or not, that has this revision's id."""
        paths = (path for path in walk(self.root, {self.backups}) if is_script(path))
        return [each for each in read(paths, revision) if each.id == revision]

    def shown(self, path: Path) -> str:
        """Return a path as seen from the project's root."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)


def is_script(path: Path) -> bool:
    """Tell whether a name may be that of a script, put out of the way or not."""
    return bool(_SCRIPT.search(path.name))


def walk(folder: Path, besides: Collection[Path] = ()) -> Iterator[Path]:
    """Yield the regular files in and below a folder, sorted; no symlink is followed.

    Left out are environments, caches, other people's packages, and what is in `besides`.
    """
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(
            name
            for name in folders
            if name not in _ELSEWHERE
            and here / name not in besides
            and not (here / name / "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            if (here / name).is_file() and not (here / name).is_symlink():
                yield here / name


def texts(folders: Iterable[Path]) -> Iterator[str]:
    """Yield what is written in the Python files in and below some folders."""
    for path in {path for folder in folders for path in folder.rglob("*.py")}:
        yield path.read_text(encoding="utf-8", errors="replace")


def read(paths: Iterable[Path], containing: str = "revision") -> Iterator[Revision]:
    """Yield the scripts among files; one that cannot be read, or is too long for one, is none."""
    wanted = containing.encode()
    for path in paths:
        try:
            raw = path.read_bytes() if path.stat().st_size <= LARGEST_BYTES else b""
        except OSError:
            continue
        if wanted in raw:
            found = parse(raw.decode(errors="replace"), path)
            if found is not None:
                yield found
