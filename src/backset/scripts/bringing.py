"""Pure: the recipe that brings migration scripts back: where each one goes.

None replaces a file: where another one has the name by now, the script gets its id behind it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backset.scripts.recipes import Blob, Copy, Item, Member, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from backset.scripts.revisions import Revision
    from backset.scripts.sources import Folders

    Source = Callable[[Revision], Blob | Copy | Member]


def from_folder(scripts: Sequence[Revision], folders: Folders, taken: Collection[Path]) -> Recipe:
    """Return the recipe for files that are in the project, but where Alembic does not load them.

    taken: the files that Alembic loads.
    """
    return _recipe(scripts, lambda script: Copy(script.path), folders, taken)


def from_git(
    scripts: Sequence[Revision],
    source: str,
    prefix: str,
    folders: Folders,
    taken: Collection[Path],
    gone: Collection[str] = (),
) -> Recipe:
    """Return the recipe for files of a commit.

    prefix: the project's root as seen from the repository's top. gone: what `Git.gone` lists.
    """

    def blob(script: Revision) -> Blob:
        return Blob(source, script.path.as_posix(), prefix)

    return _recipe(scripts, blob, folders, taken, prefix=prefix, gone=gone)


def from_tar(
    scripts: Sequence[Revision], tar: Path, folders: Folders, taken: Collection[Path]
) -> Recipe:
    """Return the recipe for files of one of backset's own archives."""
    return _recipe(scripts, lambda script: Member(tar, script.path.as_posix()), folders, taken)


def _recipe(
    scripts: Sequence[Revision],
    source: Source,
    folders: Folders,
    taken: Collection[Path],
    *,
    prefix: str = "",
    gone: Collection[str] = (),
) -> Recipe:
    items: list[Item] = []
    for script in scripts:
        old = folders.root / script.path.as_posix().removeprefix(prefix)
        home = _home(script.id, old, folders, {*taken, *(each.home for each in items)})
        items.append(Item(script.id, source(script), home))
    return Recipe(folders.root, tuple(items), frozenset(gone))


def _home(revision: str, old: Path, folders: Folders, taken: Collection[Path]) -> Path:
    """Return where to put a script: in its old folder, if Alembic still looks there."""
    name = _name(old.name)
    here = not folders.locations or folders.loads(old.with_name(name))
    folder = old.parent if here else folders.locations[0]
    if folder / name not in taken:
        return folder / name
    stem = name.removesuffix(".py")
    return folder / (f"old_{name}" if revision in stem else f"{stem}_{revision}.py")


def _name(name: str) -> str:
    """Return the name under which Alembic loads `x.py.bak`, `x.py~` or `x.bak`."""
    if match := re.match(r".*?\.py(?![a-z])", name):
        return match[0]
    return f"{name.rpartition('.')[0]}.py"
