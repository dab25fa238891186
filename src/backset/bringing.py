"""Pure: the command that brings migration scripts back, to be typed in the project's root."""

from __future__ import annotations

import re
import shlex
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backset.revisions import Revision
    from backset.sources import Folders

_BY_NAME = 8  # more files than these are named by their folder


def from_folder(scripts: Sequence[Revision], folders: Folders) -> str:
    """Return the `cp` of files that are in the project, but where Alembic does not load them."""
    paths = [each.path for each in scripts]
    folder = _folder(folders, paths[0].parent)
    if all(path.name == _name(path.name) for path in paths):
        return shlex.join(["cp", *map(folders.shown, paths), f"{folders.shown(folder)}/"])
    return _each(
        ["cp", folders.shown(path), folders.shown(folder / _name(path.name))] for path in paths
    )


def from_git(scripts: Sequence[Revision], source: str, prefix: str, folders: Folders) -> str:
    """Return the `git restore` of files of a commit, or what writes them where Alembic looks."""
    paths = [each.path.as_posix() for each in scripts]
    inside = [path.removeprefix(prefix) for path in paths if path.startswith(prefix)]
    if len(inside) == len(paths) and all(folders.loads(folders.root / path) for path in inside):
        restore = ["git", "restore", f"--source={source}", "--"]
        if len(inside) <= _BY_NAME:
            return shlex.join([*restore, *inside])
        gone = ["git", "diff", "-z", "--name-only", "--relative", "--no-renames"]
        parents = sorted({str(PurePosixPath(path).parent) for path in inside})
        gone += ["--diff-filter=D", source, "--", *parents]  # what is there is not touched
        return f"{shlex.join(gone)} | xargs -0 {shlex.join(restore)}"
    old = folders.root / paths[0].removeprefix(prefix)
    folder = folders.shown(_folder(folders, old.parent))
    return " && ".join(
        f"{shlex.join(['git', 'show', f'{source}:{path}'])}"
        f" > {shlex.quote(f'{folder}/{_name(PurePosixPath(path).name)}')}"
        for path in paths
    )


def from_tar(scripts: Sequence[Revision], tar: Path, folders: Folders) -> str:
    """Return the `tar` that takes files out of one of backset's own archives."""
    paths = [PurePosixPath(each.path.as_posix()) for each in scripts]
    names, shown = list(map(str, paths)), folders.shown(tar)
    if all(folders.loads(folders.root / path) for path in paths):
        return shlex.join(["tar", "-xf", shown, *names])
    folder = folders.shown(_folder(folders, (folders.root / paths[0]).parent))
    parents = {path.parent for path in paths}
    if len(parents) == 1 and all(path.name == _name(path.name) for path in paths):
        depth = f"--strip-components={len(paths[0].parts) - 1}"
        return shlex.join(["tar", "-xf", shown, "-C", folder, depth, *names])
    return " && ".join(
        f"{shlex.join(['tar', '-xOf', shown, str(path)])}"
        f" > {shlex.quote(f'{folder}/{_name(path.name)}')}"
        for path in paths
    )


def _folder(folders: Folders, old: Path) -> Path:
    """Return the folder to put a script in: its old one where Alembic still looks there."""
    return old if old in folders.locations or not folders.locations else folders.locations[0]


def _name(name: str) -> str:
    """Return the name under which Alembic loads `x.py.bak`, `x.py~` or `x.bak`."""
    if match := re.match(r".*?\.py(?![a-z])", name):
        return match[0]
    return f"{name.rpartition('.')[0]}.py"


def _each(commands: Iterable[Sequence[str]]) -> str:
    return " && ".join(map(shlex.join, commands))
