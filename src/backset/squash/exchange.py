"""The version folders changed at once: killed at any moment, they are as before or as wanted.

Each folder is built anew beside the old one, with hard links of the files that stay, and both
change their names by one system call. Of several folders the one with the new revision is the last,
and its exchange is what counts: until then the others lack revisions, so that Alembic names these
and runs nothing, and the next run changes them back. Where a system cannot exchange folders, their
files are renamed one by one, the new revision at last.

What is under way stands in a journal among the backups. A run that finds it calls `recover`.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import stat
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.errors import StepFailedError
from backset.process import files, signals
from backset.squash.tree import content_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backset.revisions.script_files import Folders
    from backset.squash.tree import TreeChange

_WHAT = "the journal of a squash"
_CACHE = "__pycache__"
_OF_A_CACHE = re.compile(r"\.[^.]+(?:\.opt-\w+)?\.pyc$")
# What says that this folder cannot be exchanged, though its files may be renamed: it is a mount
# point, another's, or beside it nobody may write; or its file system has no such call.
_CANNOT = frozenset(
    {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBUSY, errno.EXDEV}
    | {errno.EACCES, errno.EPERM, errno.EROFS, errno.EMLINK}
)
_Id = tuple[int, int]  # of a folder: its device and its inode


@dataclass(slots=True)
class _Tree:
    """A version folder, what is built beside it, and the id of that, once it is whole.

    links: the ids of the files that both have.
    """

    folder: Path
    beside: Path
    new: _Id = (0, 0)
    links: list[_Id] = field(default_factory=list)

    @property
    def is_exchanged(self) -> bool:
        """Whether the new one has its name."""
        return self.new != (0, 0) and _id(self.folder) == self.new


@dataclass(slots=True)
class _Move:
    """A file of which one has been put aside, and another one waits to take its place."""

    path: Path
    aside: Path | None
    waiting: Path | None


@dataclass(slots=True)
class _Journal:
    """What is under way: `path` is the new revision's file, whose presence is what counts.

    sums: of all that has gone or is new, which may be removed where it is left over.
    """

    path: Path
    sum: str
    sums: list[str]
    trees: list[_Tree] = field(default_factory=list)
    moves: list[_Move] = field(default_factory=list)
    is_ready: bool = False

    def write(self, file: Path) -> None:
        """Put it onto the disk."""
        files.write(file, json.dumps(asdict(self), default=str))

    @classmethod
    def read(cls, file: Path) -> _Journal:
        """Return what a run has written. Raises StepFailedError where it cannot be read."""
        try:
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            trees = [
                _Tree(
                    folder=Path(each["folder"]),
                    beside=Path(each["beside"]),
                    new=_pair(each["new"]),
                    links=[_pair(link) for link in each["links"]],
                )
                for each in found["trees"]
            ]
            moves = [
                _Move(Path(each["path"]), _path(each["aside"]), _path(each["waiting"]))
                for each in found["moves"]
            ]
            path, total, sums = Path(found["path"]), found["sum"], found["sums"]
            return cls(path, total, sums, trees, moves, found["is_ready"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"{file} cannot be read: {error}"
            raise StepFailedError(what, "let git tell what a killed squash has changed") from None

    @property
    def is_done(self) -> bool:
        """Whether the new revision is in its place."""
        if self.trees:
            return self.trees[-1].is_exchanged
        content = content_of(self.path)
        return self.is_ready and content is not None and _sum(content) == self.sum


def is_unfinished(folders: Folders) -> bool:
    """Tell whether a squash was killed, or is at work, so that `recover` is to be asked."""
    return folders.journal.exists()


def recover(folders: Folders) -> str:
    """Change back what a killed squash has left half done, or end it where that counts already.

    Returns what was done, in one line; empty where there was nothing. Raises LockedError where a
    squash is at work, and StepFailedError.
    """
    if not is_unfinished(folders):
        return ""
    with _told(), signals.deferred(), files.locked(folders.backups, _WHAT):
        if not is_unfinished(folders):
            return ""
        is_done, kept = _recover(folders)
    how = "ended: the new revision is in place" if is_done else "changed back: nothing is squashed"
    return " · ".join([f"a squash that had been killed was {how}", *_notes(kept, folders)])


def exchange(change: TreeChange, path: Path, content: bytes, folders: Folders) -> list[str]:
    """Put the new revision's file at `path` into the place of what the change removes.

    Returns in a line each what a person should know besides: of a file that somebody wrote in that
    very moment, and that stays under another name. Raises StepFailedError, with every script as it
    was, where one of them has been changed since it was read; LockedError where another squash is
    at work.
    """
    journal_file = folders.journal
    with _told(), signals.deferred():
        files.make(folders.backups)
        files.hide(folders.backups)
    with _told(), signals.deferred(), files.locked(folders.backups, _WHAT):
        if journal_file.exists():
            _recover(folders)
        _demand_free(path, change)
        change.demand_same()
        journal = _Journal(path, _sum(content), _sums(change, content))
        try:
            if not _exchanged(journal, journal_file, change, content, folders):
                _renamed(journal, journal_file, change, content)
        except BaseException:
            if journal_file.exists():
                _recover(folders)
            raise
        _is_done, kept = _recover(folders)  # which ends it
    return _notes(kept, folders)


def _notes(kept: Iterable[Path], folders: Folders) -> list[str]:
    return [f"{folders.shown(each)} was changed meanwhile, and stays: look" for each in kept]


def _demand_free(path: Path, change: TreeChange) -> None:
    if os.path.lexists(path) and path not in change.removed:
        raise StepFailedError(f"{path} exists already", "choose another message, or move it away")
    for folder in {each.parent for each in (path, *change.before)}:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StepFailedError(f"{folder} is not writable", "let your account write there")


def _recover(folders: Folders) -> tuple[bool, list[Path]]:
    """Bring what is under way to an end; return whether the new revision is there, and what stays.

    It can be killed as well: what it has done, it does not do again.
    """
    file = folders.journal
    journal = _Journal.read(file)
    is_done = journal.is_done
    kept = []
    for tree in reversed(journal.trees):
        if tree.is_exchanged and not is_done:
            _swap(tree)
        kept += _cleared(tree, journal)
    for move in journal.moves if is_done else journal.moves[::-1]:
        kept += [] if is_done else _changed_back(move, journal)
        kept += [*_removed(move.aside, journal), *_removed(move.waiting, journal)]
    file.unlink()
    files.sync(file.parent)
    return is_done, list(dict.fromkeys(kept))


# ------------------------------------------------------------------ whole folders


def _exchanged(
    journal: _Journal, file: Path, change: TreeChange, content: bytes, folders: Folders
) -> bool:
    """Exchange the folders; return False where that cannot be, and nothing has happened."""
    tops = _tops(journal.path, change, folders)
    if not tops:
        return False
    journal.trees = [_Tree(each, each.with_name(f".{each.name}.squashed")) for each in tops]
    _demand_none(each.beside for each in journal.trees)
    journal.write(file)
    try:
        seen = {tree.folder: _names(tree.folder) for tree in journal.trees}
        for tree in journal.trees:
            _build(tree, change, journal.path, content)
            tree.links = sorted({each for _name, each in seen[tree.folder] & _names(tree.beside)})
            tree.new = _id(tree.beside)
        journal.is_ready = True
        journal.write(file)
        moved = {}
        for tree in journal.trees:
            _swap(tree)
            # Somebody may have written in the moment between the last look and the exchange.
            moved[tree.folder] = tree.beside
            change.demand_same(moved)
            _demand_names(tree, seen[tree.folder])
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        _recover(folders)
        journal.trees = []
        journal.is_ready = False
        return False
    except StepFailedError:
        for tree in reversed(journal.trees):
            if tree.is_exchanged:
                _swap(tree)
        raise
    return True


def _demand_none(paths: Iterable[Path]) -> None:
    for each in paths:
        if os.path.lexists(each):
            raise StepFailedError(f"{each} is in the way", "look what it is, and remove it")


def _demand_names(tree: _Tree, seen: set[tuple[str, _Id]]) -> None:
    if _names(tree.beside) != seen:
        what = f"{tree.folder} has other files than before; no script was touched"
        raise StepFailedError(what, "run this again")


def _swap(tree: _Tree) -> None:
    files.swap(tree.folder, tree.beside)
    files.sync(tree.folder.parent)


def _tops(path: Path, change: TreeChange, folders: Folders) -> list[Path]:
    """Return the outermost version folders that change, that of the new revision at last.

    None where one of them has more in it than scripts.
    """
    tops = {_top(each, folders) for each in (path, *change.before)}
    if None in tops:
        return []
    last = _top(path, folders)
    found = sorted(each for each in tops if each is not None and each != last)
    found += [last] if last else []
    others = (folders.root, folders.backups, folders.root / ".git")
    is_wide = any(other.is_relative_to(each) for each in found for other in others)
    return [] if is_wide or any(os.path.ismount(each) for each in found) else found


def _top(path: Path, folders: Folders) -> Path | None:
    found = [each for each in folders.locations if path.is_relative_to(each)]
    return min(found, key=lambda each: len(each.parts), default=None)


def _build(tree: _Tree, change: TreeChange, path: Path, content: bytes) -> None:
    """Make the folder as it is wanted, on the disk."""
    new = {path: after for path, (_before, after) in change.rewritten.items()}

    def fill(old: Path, target: Path) -> None:
        target.mkdir(mode=0o700)
        for entry in sorted(os.scandir(old), key=lambda each: each.name):
            here, there = old / entry.name, target / entry.name
            if here in new:
                _write(there, new[here], here.stat())
            elif here in change.removed or _is_made_of_a_source(here):
                continue
            elif entry.is_symlink():
                there.symlink_to(here.readlink())
            elif entry.is_dir(follow_symlinks=False):
                fill(here, there)
                if entry.name == _CACHE and not any(there.iterdir()):
                    there.rmdir()
            else:
                os.link(here, there)
        if old == path.parent:
            _write(target / path.name, content, _model(change, old))
        _alike(old, target)
        files.sync(target)

    fill(tree.folder, tree.beside)


def _is_made_of_a_source(path: Path) -> bool:
    """Tell whether it is byte code that Python makes again."""
    source = _OF_A_CACHE.sub(".py", path.name)
    return path.parent.name == _CACHE and (path.parent.parent / source).exists()


def _byte_code(path: Path) -> list[Path]:
    """Return what Python has made of a script, and Alembic may load without it (`sourceless`)."""
    return sorted((path.parent / _CACHE).glob(f"{glob.escape(path.stem)}.*.pyc"))


def _model(change: TreeChange, folder: Path) -> os.stat_result:
    """Return whose owner and mode a new script gets: those of one that it replaces."""
    return (next(iter(change.removed), folder)).stat()


def _write(path: Path, content: bytes, like: os.stat_result) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        with suppress(PermissionError):  # only root gives a file away
            os.fchown(file.fileno(), like.st_uid, like.st_gid)
        os.fchmod(file.fileno(), stat.S_IMODE(like.st_mode))
        os.fsync(file.fileno())


def _alike(old: Path, new: Path) -> None:
    """Give a folder the owner and the mode of another one, and what else `cp -p` does."""
    like = old.stat()
    if (like.st_uid, like.st_gid) != (new.stat().st_uid, new.stat().st_gid):
        os.chown(new, like.st_uid, like.st_gid)
    shutil.copystat(old, new)
    os.utime(new)


def _cleared(tree: _Tree, journal: _Journal) -> list[Path]:
    """Remove what is left beside a folder, but for what is nowhere else; return that."""
    if not tree.beside.is_dir() or tree.beside.is_symlink():
        return []
    if not journal.is_ready:  # nobody else has ever seen it
        shutil.rmtree(tree.beside)
        return []
    known = {*tree.links, *(_id(each) for each in _everything(tree.folder))}
    kept = []
    for each in _everything(tree.beside):
        content = content_of(each)
        is_ours = content is not None and _sum(content) in journal.sums
        if is_ours or each.is_symlink() or _id(each) in known or each.parent.name == _CACHE:
            each.unlink()
        else:
            kept.append(each)
    for parent, _folders, _files in os.walk(tree.beside, topdown=False):
        with suppress(OSError):  # it is not empty
            Path(parent).rmdir()
    files.sync(tree.folder.parent)
    return kept


def _everything(folder: Path) -> Iterator[Path]:
    """Yield all that is in a folder and no folder, with what is below."""
    for parent, folders, names in os.walk(folder):
        links = [each for each in folders if (Path(parent) / each).is_symlink()]
        yield from (Path(parent) / each for each in (*names, *links))


def _names(folder: Path) -> set[tuple[str, _Id]]:
    return {
        (str(each.relative_to(folder)), _id(each))
        for each in _everything(folder)
        if each.parent.name != _CACHE
    }


def _id(path: Path) -> _Id:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return (-1, -1)
    return found.st_dev, found.st_ino


# ------------------------------------------------------------------ file by file


def _renamed(journal: _Journal, file: Path, change: TreeChange, content: bytes) -> None:
    """Rename the files one by one: the new revision's gets its name at last."""
    like = _model(change, journal.path.parent)
    waiting = {path: (after, path.stat()) for path, (_old, after) in change.rewritten.items()}
    journal.moves = [_Move(journal.path, None, _named(journal.path, "next"))]
    cached = [each for path in change.removed for each in _byte_code(path)]
    journal.sums += [_sum(each.read_bytes()) for each in cached]
    journal.moves += [_Move(path, _named(path, "old"), None) for path in (*change.removed, *cached)]
    journal.moves += [
        _Move(path, _named(path, "old"), _named(path, "next")) for path in change.rewritten
    ]
    besides = [each for move in journal.moves for each in (move.aside, move.waiting)]
    _demand_none(each for each in besides if each is not None)
    journal.write(file)
    for move in journal.moves:
        if move.waiting is not None:
            _write(move.waiting, *waiting.get(move.path, (content, like)))
    _sync(journal)
    journal.is_ready = True
    journal.write(file)
    change.demand_same()
    for move in reversed(journal.moves):
        if move.aside is not None:
            move.path.rename(move.aside)
        if move.path == journal.path and move.aside is None:
            _sync(journal)
        if move.waiting is not None:
            move.waiting.rename(move.path)
    _sync(journal)


def _named(path: Path, word: str) -> Path:
    """Return a name beside, of a kind that Alembic does not load."""
    return path.with_name(f".{path.name}.{word}-of-squash")


def _sync(journal: _Journal) -> None:
    for folder in {each.path.parent for each in journal.moves}:
        files.sync(folder)


def _changed_back(move: _Move, journal: _Journal) -> list[Path]:
    """Bring back what was put aside; return what cannot be without losing something."""
    if move.aside is None or not os.path.lexists(move.aside):
        return []
    content = content_of(move.path)
    if os.path.lexists(move.path) and (content is None or _sum(content) not in journal.sums):
        return [move.aside]
    move.aside.rename(move.path)
    files.sync(move.path.parent)
    return []


def _removed(path: Path | None, journal: _Journal) -> list[Path]:
    if path is None or not os.path.lexists(path):
        return []
    content = content_of(path)
    if journal.is_ready and (content is None or _sum(content) not in journal.sums):
        return [path]
    path.unlink()
    return []


# ------------------------------------------------------------------ small things


def _sums(change: TreeChange, content: bytes) -> list[str]:
    new = [after for _before, after in change.rewritten.values()]
    return sorted({_sum(each) for each in (content, *new, *change.before.values())})


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _pair(value: Any) -> _Id:  # noqa: ANN401  (JSON)
    device, inode = value
    return int(device), int(inode)


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StepFailedError.from_system(error) from None
