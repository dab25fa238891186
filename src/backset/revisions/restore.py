"""Missing scripts brought back: where each is taken from and put, and how that is done.

A recipe is pure; its command is for people, to be typed in the project's root. `retrieve` does it
without a shell: all files or none, and none over another one. Nothing outside of the project's root
is written, and no symlink below it is followed.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import stat
import tarfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from backset.errors import StepFailedError
from backset.revisions.git import Git
from backset.revisions.script_files import parse, pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from backset.revisions.script_files import Folders, Revision


_BY_NAME = 8  # more files than these are named by their folder
_Paths: TypeAlias = "list[tuple[str, str]]"  # where each is, and where it goes
_BY_HAND = "bring the file back by hand, then run this again"


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
class RestoredScript:
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
    items: tuple[RestoredScript, ...]
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
    items: dict[str, RestoredScript] = {}
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
    source: Callable[[Revision], Blob | Copy | Member],
    folders: Folders,
    taken: Collection[Path],
    *,
    prefix: str = "",
    gone: Collection[str] = (),
) -> Recipe:
    items: list[RestoredScript] = []
    for script in scripts:
        old = folders.root / script.path.as_posix().removeprefix(prefix)
        home = _home(script.id, old, folders, {*taken, *(each.home for each in items)})
        items.append(RestoredScript(script.id, source(script), home))
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


def contents(recipe: Recipe, env: Mapping[str, str]) -> list[tuple[RestoredScript, bytes]]:
    """Return what each file of the recipe has. Raises StepFailedError as retrieve() does."""
    return [(each, _content(each, recipe.root, env)) for each in recipe.items]


def _content(item: RestoredScript, root: Path, env: Mapping[str, str]) -> bytes:
    source = item.source
    if isinstance(source, Blob):
        content = Git(root, env).content(source.commit, source.path)
    elif isinstance(source, Copy):
        with _folder(root, source.path.parent) as folder:
            content = _read(folder, source.path)
    else:
        content = _unpacked(source)
    text = content.decode(errors="replace")
    found = parse(text, item.home)
    by_line = re.search(pattern(item.revision), text, re.MULTILINE)
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
