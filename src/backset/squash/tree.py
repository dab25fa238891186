"""What a squash changes in the project's files: said beforehand, archived, and then done at once.

The files are read when the squash begins, and must still be the same when it ends, minutes later.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.errors import RefusedError, StepFailedError
from backset.revisions import stale
from backset.revisions.git import Git
from backset.revisions.rewriting import rebased_file
from backset.text.quantities import few

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from backset.revisions.script_files import Folders
    from backset.squash.selection import Selection

_AGAIN = "run this again"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeChange:
    """The scripts that go, with their bytes, and those that stay with others: (before, after)."""

    removed: Mapping[Path, bytes]
    rewritten: Mapping[Path, tuple[bytes, bytes]]

    @property
    def before(self) -> dict[Path, bytes]:
        """What each of these files has had."""
        return {**self.removed, **{path: old for path, (old, _new) in self.rewritten.items()}}

    def demand_same(self, moved: Mapping[Path, Path] | None = None) -> None:
        """Raise StepFailedError where a file is no longer as it was read.

        moved: where folders are by now, by where they were.
        """
        for path, content in self.before.items():
            if content_of(_moved(path, moved or {})) != content:
                what = f"{path} was changed meanwhile; no script was touched"
                raise StepFailedError(what, _AGAIN)


def _moved(path: Path, moved: Mapping[Path, Path]) -> Path:
    for old, new in moved.items():
        if path.is_relative_to(old):
            return new / path.relative_to(old)
    return path


def read(selection: Selection, folders: Folders, new: str) -> TreeChange:
    """Return what has to change so that the revision `new` takes the place of the replaced ones.

    Raises StepFailedError where one of the scripts is none that this project may change.
    """
    for each in (*selection.replaced, *selection.followers):
        _demand_ours(each.path, folders)
    removed = {each.path: _content(each.path) for each in selection.replaced}
    rewritten = {}
    for each in selection.followers:
        before = _content(each.path)
        after = rebased_file(before, selection.renamed(new), each.path)
        rewritten[each.path] = (before, after)
    return TreeChange(removed=removed, rewritten=rewritten)


def _demand_ours(path: Path, folders: Folders) -> None:
    """Raise StepFailedError unless it is a source file in a version folder of the project."""
    if path.suffix != ".py":
        what = f"{folders.shown(path)} is byte code, of which nothing can be squashed"
        raise StepFailedError(what, "bring its source back first")
    location = next((each for each in folders.locations if path.is_relative_to(each)), None)
    if location is None or not location.is_relative_to(folders.root):
        what = f"{path} is not in a version folder of the project in {folders.root}"
        raise StepFailedError(what, "squash where that folder belongs to")
    if path.parent.resolve() != path.parent or path.is_symlink():
        what = f"{folders.shown(path)} is reached by a symlink, and none is followed"
        raise StepFailedError(what, "put the file itself into the version folder")


def _content(path: Path) -> bytes:
    content = content_of(path)
    if content is None:
        raise StepFailedError(f"{path} is no file that can be read", "look what it is")
    return content


def content_of(path: Path) -> bytes | None:
    """Return what a regular file has; None where it is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return file.read() if is_regular else None
    except OSError:
        return None


def demand_clean(folders: Folders, env: Mapping[str, str], *, may_be_dirty: bool = False) -> str:
    """Raise RefusedError where git would not bring the version folders back as they are.

    env: the environment for git. may_be_dirty: `--dirty`. Returns what a person should know
    besides; empty where there is nothing.
    """
    try:
        git = Git(folders.root, env)
    except StepFailedError as error:
        return f"{error.what}: the archive alone will have the replaced revisions"
    inside = [
        each for each in folders.locations if each.resolve().is_relative_to(git.top.resolve())
    ]
    changes = git.changes(inside) if inside else []
    if changes and not may_be_dirty:
        what = f"not as git has them: {few(changes)}"
        remedy = "commit them, or move them away; or squash nevertheless: --dirty"
        raise RefusedError([(what, remedy)])
    return ""


def archive(change: TreeChange, root: Path, folder: Path, when: datetime) -> Path:
    """Put all that goes, and what is rewritten as it was, into a tar in `folder`; return its path.

    It is there only when it was read back. `orphans.trace` finds the revisions in it.
    Raises StepFailedError, with nothing removed, where a file is no longer as it was read.
    """
    path = folder / f"{stale.stamp(when)}-replaced.tar.gz"
    hashes = stale.pack_into(path, change.before, root, rubbish="*-replaced.tar.gz.partial")
    changed = [
        each
        for each, content in change.before.items()
        if hashes[each] != hashlib.sha256(content).hexdigest()
    ]
    if changed:
        path.unlink()
        what = f"{few(map(str, changed))} changed meanwhile; no script was touched"
        raise StepFailedError(what, _AGAIN)
    return path
