"""What a project has without anybody saying where: its Alembic configuration, its interpreter."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_FIRST = "migrations/alembic.ini"  # where Flask-Migrate puts it
_ENV = "env.py"
_NEVER = frozenset({"node_modules", "site-packages", "venv", "build", "dist"})
_ASIDE = frozenset({"test", "tests", "testing", "example", "examples", "doc", "docs"})
_DEPTH = 6  # folders below the root: packages put it beside the module that needs it
_PROGRAMS = ("bin/python", "Scripts/python.exe")  # POSIX, Windows


def configurations(root: Path) -> list[str]:
    """Return the files that can be it, seen from `root`: one of them, if the choice is clear.

    An empty text stands for what the `alembic` command finds by itself in `root`. One of tests or
    of examples is it only where there is no other. A project that configures Alembic in its own
    code has no such file: the env.py beside its scripts stands for it.
    """
    if (root / "alembic.ini").is_file() or _has_table(root / "pyproject.toml"):
        return [""]
    if (root / _FIRST).is_file():
        return [_FIRST]
    found = sorted(path.relative_to(root) for path in _below(root))
    files = [path for path in found if path.name != _ENV] or found
    ours = [path for path in files if _ASIDE.isdisjoint(path.parts)]
    return [path.as_posix() for path in ours or files]


def _below(root: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(root):
        folder = Path(name)
        file = _file(folder, files) if folder != root else None
        if file:
            yield file
        if (file and file.name != _ENV) or len(folder.relative_to(root).parts) == _DEPTH:
            folders.clear()
        folders[:] = [each for each in folders if _is_of_the_project(folder / each)]


def _file(folder: Path, files: list[str]) -> Path | None:
    if "alembic.ini" in files:
        return folder / "alembic.ini"
    toml = folder / "pyproject.toml"
    if "pyproject.toml" in files and _has_table(toml):
        return toml
    has_scripts = _ENV in files and (folder / "versions").is_dir()
    return folder / _ENV if has_scripts else None


def _is_of_the_project(folder: Path) -> bool:
    """Tell its folders from those of installed packages: an environment can have any name."""
    name = folder.name
    return name[0] != "." and name not in _NEVER and not (folder / "pyvenv.cfg").is_file()


def _has_table(toml: Path) -> bool:
    return toml.is_file() and "[tool.alembic]" in toml.read_text(encoding="utf-8", errors="replace")


def interpreter(root: Path, environ: Mapping[str, str], config: str = "") -> tuple[str, str]:
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
