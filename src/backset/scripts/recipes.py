"""Pure: where each missing script is taken from and put, and the command that does the same.

The command is for people, to be typed in the project's root; `retrieval` does it without a shell.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_BY_NAME = 8  # more files than these are named by their folder
_Paths: TypeAlias = "list[tuple[str, str]]"  # where each is, and where it goes


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of a commit; path: from the repository's top, prefix: the project's root there."""

    commit: str
    path: str
    prefix: str = ""

    @property
    def home(self) -> str:
        """Where it was in the project; empty where it was outside of that."""
        return self.path.removeprefix(self.prefix) if self.path.startswith(self.prefix) else ""


@dataclass(frozen=True, slots=True)
class Copy:
    """A file of the project that Alembic does not load."""

    path: Path


@dataclass(frozen=True, slots=True)
class Member:
    """A file in one of backset's own tars."""

    tar: Path
    name: str


@dataclass(frozen=True, slots=True)
class Item:
    """A revision's file: where it is taken from, and the path that it gets."""

    revision: str
    source: Blob | Copy | Member
    home: Path


@dataclass(frozen=True, slots=True)
class Recipe:
    """What brings missing scripts back into the project at `root`.

    gone: what git lists as deleted in the folders that they were in, from the repository's top.
    """

    root: Path
    items: tuple[Item, ...]
    gone: frozenset[str] = frozenset()

    def shown(self, path: Path) -> str:
        """Return a path as seen from the project's root."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)

    @property
    def command(self) -> str:
        """The command line that does the same."""
        return " && ".join([*self._git(), *self._cp(), *self._tar()])

    def _git(self) -> Iterator[str]:
        found = [(each.source, each.home) for each in self.items if isinstance(each.source, Blob)]
        for commit in dict.fromkeys(blob.commit for blob, _home in found):
            same, other = [], []
            for blob, home in found:
                if blob.commit == commit and blob.home == self.shown(home):
                    same.append(blob)
                elif blob.commit == commit:
                    # As `git restore` has it: with the filters of .gitattributes.
                    words = ["git", "cat-file", "--filters", f"{commit}:{blob.path}"]
                    other.append(f"{shlex.join(words)} > {shlex.quote(self.shown(home))}")
            yield from [_restore(same, commit, self.gone)] if same else []
            yield from other

    def _cp(self) -> Iterator[str]:
        pairs = [
            (self.shown(each.source.path), self.shown(each.home))
            for each in self.items
            if isinstance(each.source, Copy)
        ]
        if pairs and (into := _one_folder(pairs)) is not None:
            yield shlex.join(["cp", *(old for old, _new in pairs), f"{into}/"])
        else:
            yield from (shlex.join(["cp", old, new]) for old, new in pairs)

    def _tar(self) -> Iterator[str]:
        found = [(each.source, each.home) for each in self.items if isinstance(each.source, Member)]
        for tar in dict.fromkeys(member.tar for member, _home in found):
            names = [(each.name, self.shown(home)) for each, home in found if each.tar == tar]
            yield _untar(self.shown(tar), names)


def joined(recipes: Iterable[Recipe]) -> Recipe:
    """Return one recipe of several, in which each revision comes back once."""
    several = list(recipes)
    items: dict[str, Item] = {}
    for each in several:
        for item in each.items:
            items.setdefault(item.revision, item)
    gone = frozenset().union(*(each.gone for each in several))
    return Recipe(several[0].root, tuple(items.values()), gone)


def _restore(blobs: Sequence[Blob], source: str, gone: frozenset[str]) -> str:
    restore = ["git", "restore", f"--source={source}", "--"]
    paths = [blob.home for blob in blobs]
    # By the folder only what is the same: else it would bring back, or replace, more than these.
    if len(paths) <= _BY_NAME or gone != {blob.path for blob in blobs}:
        return shlex.join([*restore, *paths])
    parents = sorted({str(PurePosixPath(path).parent) for path in paths})
    listed = ["git", "diff", "-z", "--name-only", "--relative", "--no-renames"]
    listed += ["--diff-filter=D", source, "--", *parents]
    return f"{shlex.join(listed)} | xargs -0 {shlex.join(restore)}"


def _untar(tar: str, pairs: _Paths) -> str:
    names = [old for old, _new in pairs]
    if all(old == new for old, new in pairs):
        return shlex.join(["tar", "-xf", tar, *names])
    parents = {PurePosixPath(name).parent for name in names}
    into = _one_folder(pairs)
    if len(parents) == 1 and into is not None:
        strip = f"--strip-components={len(parents.pop().parts)}"
        return shlex.join(["tar", "-xf", tar, "-C", into, strip, *names])
    return " && ".join(
        f"{shlex.join(['tar', '-xOf', tar, old])} > {shlex.quote(new)}" for old, new in pairs
    )


def _one_folder(pairs: _Paths) -> str | None:
    """Return the folder that all go to under the names that they have, if there is one."""
    folders = {str(PurePosixPath(new).parent) for _old, new in pairs}
    keep = all(PurePosixPath(old).name == PurePosixPath(new).name for old, new in pairs)
    return folders.pop() if keep and len(folders) == 1 else None
