"""Where a project keeps its Alembic configuration, when nobody says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FIRST = "migrations/alembic.ini"  # where Flask-Migrate puts it
_NEVER = frozenset({"node_modules", "site-packages", "venv", "build", "dist"})
_DEPTH = 2  # folders below the root in which one is looked for


def configurations(root: Path) -> list[str]:
    """Return the files that can be it, seen from `root`: one of them, if the choice is clear.

    An empty text stands for what the `alembic` command finds by itself in `root`.
    """
    if (root / "alembic.ini").is_file() or _has_table(root / "pyproject.toml"):
        return [""]
    if (root / _FIRST).is_file():
        return [_FIRST]
    return sorted(path.relative_to(root).as_posix() for path in _below(root, _DEPTH))


def _below(folder: Path, depth: int) -> Iterator[Path]:
    for child in folder.iterdir():
        if child.name.startswith(".") or child.name in _NEVER or not child.is_dir():
            continue
        if (child / "pyvenv.cfg").is_file():  # an environment of another name
            continue
        if (child / "alembic.ini").is_file():
            yield child / "alembic.ini"
        elif _has_table(child / "pyproject.toml"):
            yield child / "pyproject.toml"
        elif depth > 1:
            yield from _below(child, depth - 1)


def _has_table(toml: Path) -> bool:
    return toml.is_file() and "[tool.alembic]" in toml.read_text(encoding="utf-8", errors="replace")
