"""Brings missing scripts back as a recipe says: all of them or none, and never over a file.

Nothing outside of the project's root is written, and no symlink below it is followed.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import tarfile
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from backset.errors import StepFailedError
from backset.scripts import revisions
from backset.scripts.git import Git
from backset.scripts.recipes import Blob, Copy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from backset.scripts.recipes import Item, Member, Recipe

_BY_HAND = "bring the file back by hand, then run this again"


def retrieve(recipe: Recipe, env: Mapping[str, str]) -> None:
    """Write every file of the recipe, and read it back.

    env: the environment for git. Raises StepFailedError where a file cannot be had, is another
    one by now, or would be written over one that exists; nothing of it is there then.
    """
    found = contents(recipe, env)
    with ExitStack() as scratch, ExitStack() as undo:
        placed = []
        for item, content in found:
            folder = scratch.enter_context(_folder(recipe.root, item.home.parent, makes=True))
            placed.append((folder, _written(folder, content, scratch), item.home, content))
        for folder, partial, home, content in placed:
            _link(folder, partial, home)
            undo.callback(os.unlink, home.name, dir_fd=folder)
            if _read(folder, home) != content:
                raise StepFailedError(f"{home} does not read back as it was written", _BY_HAND)
            os.fsync(folder)
        undo.pop_all()


def contents(recipe: Recipe, env: Mapping[str, str]) -> list[tuple[Item, bytes]]:
    """Return what each file of the recipe has. Raises StepFailedError as retrieve() does."""
    return [(each, _content(each, recipe.root, env)) for each in recipe.items]


def _content(item: Item, root: Path, env: Mapping[str, str]) -> bytes:
    source = item.source
    if isinstance(source, Blob):
        content = Git(root, env).content(source.commit, source.path)
    elif isinstance(source, Copy):
        with _folder(root, source.path.parent) as folder:
            content = _read(folder, source.path)
    else:
        content = _unpacked(source)
    text = content.decode(errors="replace")
    found = revisions.parse(text, item.home)
    by_line = re.search(revisions.pattern(item.revision), text, re.MULTILINE)
    if not by_line and (found is None or found.id != item.revision):
        what = f"what was found for {item.home} is not revision {item.revision} by now"
        raise StepFailedError(what, "run this again")
    return content


def _unpacked(member: Member) -> bytes:
    try:
        with tarfile.open(member.tar) as tar:
            about = tar.getmember(member.name)
            file = tar.extractfile(about) if about.isreg() else None
            if file is not None:
                return file.read()
    except (OSError, tarfile.TarError, EOFError, KeyError) as error:
        raise StepFailedError(f"{member.tar}: {error}", _BY_HAND) from None
    raise StepFailedError(f"{member.name} in {member.tar} is no regular file", _BY_HAND)


@contextmanager
def _folder(root: Path, folder: Path, *, makes: bool = False) -> Iterator[int]:
    """Open a folder of the project one name after the other, so that no link leads elsewhere."""
    if not folder.is_relative_to(root) or ".." in folder.relative_to(root).parts:
        raise StepFailedError(f"{folder} is not in the project", _BY_HAND)
    flags = os.O_RDONLY | os.O_DIRECTORY
    with ExitStack() as stack:
        with _told(folder):
            last = _opened(stack, os.open(root, flags))
            for name in folder.relative_to(root).parts:
                if makes:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=last)
                last = _opened(stack, os.open(name, flags | os.O_NOFOLLOW, dir_fd=last))
        yield last


def _opened(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _written(folder: int, content: bytes, stack: ExitStack) -> str:
    """Write a file beside; return its name. It is removed when the stack is left."""
    partial = f".{secrets.token_hex(8)}.partial"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
    with _told(partial):
        # For the repository, so that others may read it.
        descriptor = os.open(partial, flags, 0o666, dir_fd=folder)
        stack.callback(os.unlink, partial, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    return partial


def _link(folder: int, partial: str, home: Path) -> None:
    """Give the file its name; unlike a rename, this replaces none."""
    with _told(home):
        os.link(partial, home.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)


def _read(folder: int, path: Path) -> bytes:
    with _told(path):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(path.name, flags, dir_fd=folder), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise StepFailedError(f"{path} is no regular file", _BY_HAND)
            return file.read()


@contextmanager
def _told(path: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StepFailedError(f"{path}: {error.strerror}", _BY_HAND) from None
