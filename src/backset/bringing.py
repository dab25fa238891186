"""Pure: the command that brings migration scripts back, to be typed in the project's root.

No command replaces a file: where another one has the name by now, the script gets its id behind it.
"""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from backset.revisions import Revision
    from backset.sources import Folders

_BY_NAME = 8  # more files than these are named by their folder


def from_folder(scripts: Sequence[Revision], folders: Folders, taken: Collection[Path]) -> str:
    """Return the `cp` of files that are in the project, but where Alembic does not load them.

    taken: the files that Alembic loads.
    """
    pairs = [(each.path, _home(each, folders, taken)) for each in scripts]
    parents = {new.parent for _old, new in pairs}
    if len(parents) == 1 and all(old.name == new.name for old, new in pairs):
        olds = [folders.shown(old) for old, _new in pairs]
        return shlex.join(["cp", *olds, f"{folders.shown(parents.pop())}/"])
    copies = (["cp", folders.shown(old), folders.shown(new)] for old, new in pairs)
    return " && ".join(map(shlex.join, copies))


def from_git(
    scripts: Sequence[Revision],
    source: str,
    prefix: str,
    folders: Folders,
    taken: Collection[Path],
) -> str:
    """Return the `git restore` of files of a commit, or what writes them where Alembic looks.

    prefix: the project's root as seen from the repository's top.
    """
    same, other = [], []
    for script in scripts:
        path = script.path.as_posix()
        new = _home(_below(script, folders, prefix), folders, taken)
        if path.startswith(prefix) and new == folders.root / path.removeprefix(prefix):
            same.append(path.removeprefix(prefix))
        else:
            show = shlex.join(["git", "show", f"{source}:{path}"])
            other.append(f"{show} > {shlex.quote(folders.shown(new))}")
    return " && ".join([*([_restore(same, source)] if same else []), *other])


def _restore(paths: Sequence[str], source: str) -> str:
    restore = ["git", "restore", f"--source={source}", "--"]
    if len(paths) <= _BY_NAME:
        return shlex.join([*restore, *paths])
    parents = sorted({str(PurePosixPath(path).parent) for path in paths})
    gone = ["git", "diff", "-z", "--name-only", "--relative", "--no-renames"]
    gone += ["--diff-filter=D", source, "--", *parents]  # what is there is not touched
    return f"{shlex.join(gone)} | xargs -0 {shlex.join(restore)}"


def from_tar(
    scripts: Sequence[Revision], tar: Path, folders: Folders, taken: Collection[Path]
) -> str:
    """Return the `tar` that takes files out of one of backset's own archives."""
    shown = folders.shown(tar)
    pairs = [
        (PurePosixPath(each.path.as_posix()), _home(_below(each, folders), folders, taken))
        for each in scripts
    ]
    names = [str(old) for old, _new in pairs]
    if all(folders.root / old == new for old, new in pairs):
        return shlex.join(["tar", "-xf", shown, *names])
    olds, news = {old.parent for old, _new in pairs}, {new.parent for _old, new in pairs}
    if len(olds) == len(news) == 1 and all(old.name == new.name for old, new in pairs):
        into = ["-C", folders.shown(news.pop()), f"--strip-components={len(olds.pop().parts)}"]
        return shlex.join(["tar", "-xf", shown, *into, *names])
    return " && ".join(
        f"{shlex.join(['tar', '-xOf', shown, str(old)])} > {shlex.quote(folders.shown(new))}"
        for old, new in pairs
    )


def _below(script: Revision, folders: Folders, prefix: str = "") -> Revision:
    """Return the script with the path that it would have in the project."""
    path = folders.root / script.path.as_posix().removeprefix(prefix)
    return type(script)(id=script.id, path=path)


def _home(script: Revision, folders: Folders, taken: Collection[Path]) -> Path:
    """Return where to put a script: in its old folder, if Alembic still looks there."""
    old = script.path
    name = _name(old.name)
    here = not folders.locations or folders.loads(old.with_name(name))
    folder = old.parent if here else folders.locations[0]
    if folder / name not in taken:
        return folder / name
    stem = name.removesuffix(".py")
    return folder / (f"old_{name}" if script.id in stem else f"{stem}_{script.id}.py")


def _name(name: str) -> str:
    """Return the name under which Alembic loads `x.py.bak`, `x.py~` or `x.bak`."""
    if match := re.match(r".*?\.py(?![a-z])", name):
        return match[0]
    return f"{name.rpartition('.')[0]}.py"
