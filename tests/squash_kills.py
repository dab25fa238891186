"""An exchange of version folders killed at every line of it: `python -m tests.squash_kills …`.

Each trial is a fork that traces itself and kills itself at one line more than the one before.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from backset.process import files
from backset.revisions.script_files import Folders
from backset.squash import exchange, tree
from backset.squash.selection import select

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

WAYS = ("one", "two", "renamed", "renamed two")
NEW = b"revision = 'new'\ndown_revision = None\n"
TRACED = {exchange.__file__, files.__file__, tree.__file__}
Shape = dict[str, tuple[int, bytes]]


def script(path: Path, revision: str, down: str | None) -> None:
    """Write a migration script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f'"""x\n\nRevises: {down}\n"""\nrevision = "{revision}"\ndown_revision = {down!r}\n'
    path.write_text(text)


def lay_out(root: Path, *, several: bool = False) -> Folders:
    """Write the chain a ← b ← c ← d, with files of other kinds; `several`: in two folders."""
    one, two = root / "migrations/versions", root / "migrations/more"
    script(one / "a_first.py", "a", None)
    script(one / "b_second.py", "b", "a")
    script((two if several else one) / "c_third.py", "c", "b")
    script((two if several else one) / "d_fourth.py", "d", "c")
    (one / "README").write_text("read me\n")
    (one / "empty").mkdir()
    (one / "notes/more").mkdir(parents=True)
    (one / "notes/more/note.txt").write_text("note\n")
    (one / "notes/more/note.txt").chmod(0o640)
    (one / "link").symlink_to("README")
    (one / "__pycache__").mkdir()
    (one / "__pycache__/a_first.cpython-311.pyc").write_bytes(b"a")
    (one / "__pycache__/legacy.cpython-311.pyc").write_bytes(b"legacy")
    (one / "a_first.py").chmod(0o640)
    one.chmod(0o750)
    return Folders(root, (one, two) if several else (one,), root / "backups")


def shape(root: Path) -> Shape:
    """Return all that is in the project but the backups: mode and content, by path."""
    found: Shape = {}
    for parent, folders, names in os.walk(root):
        folders[:] = [each for each in folders if each != "backups"]
        for path in (Path(parent) / each for each in (*folders, *names)):
            content = b""
            if path.is_symlink():
                content = os.fsencode(path.readlink())
            elif path.is_file():
                content = path.read_bytes()
            found[str(path.relative_to(root))] = (path.lstat().st_mode, content)
    return found


def squash(folders: Folders) -> list[str]:
    """Replace a, b and c by one new revision, without an archive."""
    selection = select(folders.current(), last="c")
    change = tree.read(selection, folders, "new")
    return exchange.exchange(change, folders.locations[0] / "new_one.py", NEW, folders)


def without_swap(one: Path, other: Path) -> None:
    """Fail as a file system does that cannot exchange names."""
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(one), None, str(other))


def killed(task: Callable[[Folders], object], folders: Folders, at: int) -> bool:
    """Run a task in a process of its own that ends itself at a line; tell whether it did."""
    if (pid := os.fork()) == 0:
        left = at

        def look(frame: FrameType, event: str, _argument: object) -> object:
            nonlocal left
            if frame.f_code.co_filename not in TRACED:
                return None
            left -= event == "line"
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return look

        sys.settrace(look)  # type: ignore[arg-type]
        task(folders)
        os._exit(0)
    _pid, status = os.waitpid(pid, 0)
    assert status in {0, signal.SIGKILL}, status
    return status == signal.SIGKILL


def leftovers(found: Shape, *whole: Shape) -> set[str]:
    """Return the paths that belong to neither."""
    return set(found).difference(*whole)


def within(found: Shape) -> Shape:
    """Return what Alembic looks at: the version folders."""
    return {
        path: about
        for path, about in found.items()
        if path.startswith(("migrations/versions", "migrations/more"))
    }


def main(way: str, folder: Path, step: int) -> None:
    """Try every `step`th line, and print how many trials ended how."""
    several = way.endswith("two")
    if way.startswith("renamed"):
        files.swap = without_swap
    root = folder.resolve() / "project"
    folders = lay_out(root, several=several)
    before = shape(root)
    squash(folders)
    wanted = shape(root)
    ends = {"before": 0, "wanted": 0, "half": 0}
    at = 0
    while True:
        shutil.rmtree(root)
        lay_out(root, several=several)
        was_killed = killed(squash, folders, at)
        found = shape(root)
        inside = within(found)
        is_half = inside not in (within(before), within(wanted))
        assert not is_half or exchange.is_unfinished(folders), (at, found)
        assert not is_half or way != "one", (at, found)
        killed(exchange.recover, folders, at * 7 % 150)  # what ends it may be killed as well
        exchange.recover(folders)
        assert shape(root) in (before, wanted), (at, leftovers(shape(root), before, wanted))
        assert inside == within(shape(root)) or is_half, at
        assert not list(folders.backups.glob("squash*")), at
        ends["half" if is_half else "before" if shape(root) == before else "wanted"] += 1
        if not was_killed:
            break
        at += step
    print(ends)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
