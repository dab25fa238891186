"""Version folders are changed at once: killed at any moment, they are as before or as wanted."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from backset.errors import LockedError, RefusedError, StepFailedError
from backset.process import files
from backset.revisions import orphans
from backset.revisions.script_files import Folders, Revision
from backset.servers.location import temporary_place
from backset.squash import exchange, tree
from backset.squash.selection import select
from tests.git import commit, git
from tests.marks import slow_but
from tests.squash_kills import NEW, WAYS, lay_out, script, shape, squash, within, without_swap

if TYPE_CHECKING:
    from pathlib import Path

AS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="only root mounts and gives files away"
)
NOW = datetime(2026, 2, 3, 4, 5, 6, 7000, tzinfo=UTC)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """A project whose chain is a ← b ← c ← d, in one folder."""
    return lay_out((tmp_path / "a project").resolve())


def changed(folders: Folders) -> tree.TreeChange:
    """Return what changes where `new` replaces a, b and c."""
    return tree.read(select(folders.current(), last="c"), folders, "new")


@pytest.mark.parametrize(
    ("way", "step"),
    slow_but(
        [(way, step) for way in WAYS for step in (29, 1)], lambda it: it == (next(iter(WAYS)), 29)
    ),
)
def test_killed_at_any_line(way: str, step: int) -> None:
    """One folder is as before or as wanted; of several, the next run knows, and makes it so.

    So it is with what ends a killed squash, and nothing is left over.
    """
    with tempfile.TemporaryDirectory(dir=temporary_place()) as folder:
        command = [sys.executable, "-m", "tests.squash_kills", way, folder, str(step)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ends = eval(done.stdout)  # noqa: S307  (of our own program)
    assert ends["before"] > 0
    assert ends["wanted"] > 0
    assert (ends["half"] > 0) == (way != "one")


@pytest.mark.parametrize("swaps", [True, False])
def test_what_stays_is_the_same(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, *, swaps: bool
) -> None:
    """Files of other kinds, modes and symlinks; byte code of what has gone goes."""
    if not swaps:
        monkeypatch.setattr(files, "swap", without_swap)
    home = folders.locations[0]
    before = shape(folders.root)
    note = (home / "notes/more/note.txt").stat()
    d = (home / "d_fourth.py").read_bytes()
    assert squash(folders) == []
    after = shape(folders.root)
    gone = {f"migrations/versions/{each}.py" for each in ("a_first", "b_second", "c_third")}
    new = "migrations/versions/new_one.py"
    cached = "migrations/versions/__pycache__/a_first.cpython-311.pyc"
    rewritten = "migrations/versions/d_fourth.py"
    assert set(before) - set(after) == gone | {cached}
    assert set(after) - set(before) == {new}
    same = set(before) & set(after) - {rewritten}
    assert {each: before[each] for each in same} == {each: after[each] for each in same}
    assert after[new] == (before["migrations/versions/a_first.py"][0], NEW)
    rebased = d.replace(b"Revises: c", b"Revises: new").replace(b"'c'", b"'new'")
    assert after[rewritten] == (before[rewritten][0], rebased)
    assert (home / "notes/more/note.txt").stat().st_ino == note.st_ino
    assert [path.name for path in folders.backups.iterdir()] == [".gitignore"]
    assert not exchange.is_unfinished(folders)


def test_a_file_that_was_changed_meanwhile(folders: Folders) -> None:
    """Whether it would have gone, or been rewritten: nothing is touched, and it is named."""
    for name in ("b_second.py", "d_fourth.py"):
        change = changed(folders)
        path = folders.locations[0] / name
        path.write_text(path.read_text() + "# edited\n")
        before = shape(folders.root)
        with pytest.raises(StepFailedError, match=f"{name} was changed meanwhile"):
            exchange.exchange(change, folders.locations[0] / "new.py", NEW, folders)
        assert shape(folders.root) == before


@pytest.mark.parametrize("what", ["edit", "new file", "rename over"])
def test_a_file_that_is_changed_in_that_very_moment(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It is found in the old folder after the exchange, which is exchanged back."""
    change = changed(folders)
    home = folders.locations[0]
    swap = files.swap

    def late(one: Path, other: Path) -> None:
        monkeypatch.setattr(files, "swap", swap)
        if what == "edit":
            (home / "b_second.py").write_text("# edited\n")
        elif what == "new file":
            script(home / "e_fifth.py", "e", "d")
        else:
            (home / "beside").write_text("written anew\n")
            (home / "beside").rename(home / "README")
        seen.update(shape(folders.root))
        swap(one, other)

    seen: dict[str, tuple[int, bytes]] = {}
    monkeypatch.setattr(files, "swap", late)
    with pytest.raises(StepFailedError):
        exchange.exchange(change, home / "new.py", NEW, folders)
    assert within(shape(folders.root)) == within(seen)
    assert [path.name for path in home.parent.iterdir()] == ["versions"]
    assert not exchange.is_unfinished(folders)


def test_what_somebody_wrote_into_a_half_done_squash_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that was written beside the new folder after a kill is not removed, but named."""
    folders = lay_out(tmp_path.resolve(), several=True)
    one, two = folders.locations
    swap = files.swap
    times: list[Path] = []

    def once(first: Path, other: Path) -> None:
        if times:
            raise SystemExit
        times.append(first)
        swap(first, other)

    monkeypatch.setattr(files, "swap", once)
    monkeypatch.setattr(exchange, "_recover", lambda _folders: (False, []))  # as if it were killed
    with pytest.raises(SystemExit):
        exchange.exchange(changed(folders), one / "new.py", NEW, folders)
    monkeypatch.undo()
    assert times == [two]
    script(two / "e_fifth.py", "e", "d")
    assert exchange.is_unfinished(folders)
    told = exchange.recover(folders)
    assert told.startswith("a squash that had been killed was changed back: nothing is squashed")
    assert "migrations/.more.squashed/e_fifth.py was changed meanwhile, and stays: look" in told
    assert {each.id for each in folders.current()} == {"a", "b", "c", "d"}
    assert exchange.recover(folders) == ""


def test_another_squash_at_work(folders: Folders) -> None:
    """It is not disturbed, and its journal not taken for one of a killed run."""
    folders.backups.mkdir()
    (folders.backups / "squash.journal").write_text("{}")
    descriptor = os.open(folders.backups, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(LockedError):
        exchange.recover(folders)
    with pytest.raises(LockedError):
        squash(folders)
    os.close(descriptor)
    with pytest.raises(StepFailedError, match=r"squash\.journal cannot be read"):
        exchange.recover(folders)


def test_what_is_in_the_way_stays(folders: Folders) -> None:
    """Something of the name of the folder beside, or of the new revision's file."""
    home = folders.locations[0]
    beside = home.with_name(".versions.squashed")
    beside.mkdir()
    (beside / "mine").touch()
    before = shape(folders.root)
    with pytest.raises(StepFailedError, match="is in the way"):
        squash(folders)
    assert shape(folders.root) == before
    (beside / "mine").unlink()
    beside.rmdir()
    script(home / "new_one.py", "x", "d")
    with pytest.raises(StepFailedError, match="exists already"):
        squash(folders)


AS_SOMEBODY = """
import os, sys
from pathlib import Path
from backset.errors import BacksetError
from tests.squash_kills import lay_out, shape, squash, within
root, closed = Path(sys.argv[1]), sys.argv[2]
folders = lay_out(root)
folders.backups.mkdir()
home = folders.locations[0]
if os.geteuid() == 0:
    for path in (folders.backups, *root.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    os.setresuid(65534, 65534, 65534)
{"versions": home, "migrations": home.parent}[closed].chmod(0o555)
before, inode = shape(root), home.stat().st_ino
try:
    squash(folders)
    print({each.id for each in folders.current()} == {"new", "d"}, home.stat().st_ino == inode)
except BacksetError as error:
    print(error, shape(root) == before)
finally:
    home.chmod(0o755)
    home.parent.chmod(0o755)
"""


@pytest.mark.parametrize(
    ("closed", "words"),
    [("versions", "migrations/versions is not writable True"), ("migrations", "True True")],
)
def test_a_folder_that_may_not_be_written(short_tmp: Path, closed: str, words: str) -> None:
    """It is refused; where only the folder above is closed, the files are renamed one by one."""
    root = short_tmp.resolve()
    done = subprocess.run(
        [sys.executable, "-c", AS_SOMEBODY, str(root), closed],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().endswith(words)


@AS_ROOT
def test_a_full_disk(tmp_path: Path) -> None:
    """Everything is as it was, wherever the space ends; with room again, it works."""
    root = (tmp_path / "small").resolve()
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(root)], check=True)
    try:
        folders = lay_out(root / "project")
        filling = root / "filling"
        for pages in range(0, 24, 2):
            filling.unlink(missing_ok=True)
            free = os.statvfs(root).f_bavail
            filling.write_bytes(b"x" * 4096 * max(0, free - pages))
            before = shape(folders.root)
            try:
                squash(folders)
            except StepFailedError as error:
                assert "No space left" in error.what  # noqa: PT017
                assert within(shape(folders.root)) == within(before)
                filling.unlink()
                exchange.recover(folders)
                assert shape(folders.root) == before
            else:
                break
        assert {each.id for each in folders.current()} == {"new", "d"}
        assert pages
    finally:
        subprocess.run(["umount", str(root)], check=True)


def test_a_folder_that_is_the_projects_own(tmp_path: Path) -> None:
    """A folder with more in it than scripts stays, and its files are renamed one by one."""
    root = tmp_path.resolve()
    script(root / "a.py", "a", None)
    script(root / "b.py", "b", "a")
    folders = Folders(root, (root,), root / "backups")
    change = tree.read(select(folders.current()), folders, "new")
    inode = root.stat().st_ino
    assert exchange.exchange(change, root / "new.py", NEW, folders) == []
    assert {path.name for path in root.iterdir()} == {"new.py", "backups"}
    assert root.stat().st_ino == inode


@AS_ROOT
def test_a_folder_that_is_a_mount_point(folders: Folders) -> None:
    """As in a container: it cannot be exchanged, and its files are renamed one by one."""
    home = folders.locations[0]
    subprocess.run(["mount", "--bind", str(home), str(home)], check=True)
    try:
        assert squash(folders) == []
        assert {each.id for each in folders.current()} == {"new", "d"}
        assert not [path for path in home.iterdir() if path.name.startswith(".")]
    finally:
        subprocess.run(["umount", str(home)], check=True)


@AS_ROOT
@pytest.mark.parametrize("swaps", [True, False])
def test_files_of_another_owner(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, *, swaps: bool
) -> None:
    """As where root works in a container: what is new belongs to whom the old belonged."""
    if not swaps:
        monkeypatch.setattr(files, "swap", without_swap)
    for path in folders.locations[0].rglob("*"):
        os.chown(path, 1234, 4321, follow_symlinks=False)
    os.chown(folders.locations[0], 1234, 4321)
    squash(folders)
    found = [folders.locations[0], *folders.locations[0].rglob("*")]
    owners = {(each.lstat().st_uid, each.lstat().st_gid) for each in found if not each.is_symlink()}
    assert owners == {(1234, 4321)}


@pytest.mark.parametrize("swaps", [True, False])
def test_folders_below_that_alembic_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, swaps: bool
) -> None:
    """With `recursive_version_locations` they are changed with the one above, as one."""
    if not swaps:
        monkeypatch.setattr(files, "swap", without_swap)
    root = tmp_path.resolve()
    home = root / "versions"
    for name, down in (("2024/a", None), ("2025/b", "2024/a"), ("c", "2025/b")):
        script(home / f"{name}.py", name.rpartition("/")[2], down and down.rpartition("/")[2])
    folders = Folders(root, (home,), root / "backups", recursive=True)
    change = tree.read(select(folders.current(), last="b"), folders, "new")
    assert exchange.exchange(change, home / "2025/new.py", NEW, folders) == []
    assert {each.id: each.down for each in folders.current()} == {"new": (), "c": ("new",)}
    assert {path.name for path in root.iterdir()} == {"versions", "backups"}


def test_scripts_that_are_not_the_projects(tmp_path: Path) -> None:
    """No symlink is followed, nothing outside is touched, byte code cannot be squashed."""
    root = (tmp_path / "project").resolve()
    home, outside = root / "versions", (tmp_path / "outside").resolve()
    for folder in (home, outside):
        script(folder / "a.py", "a", None)
    script(home / "b.py", "b", "a")
    (home / "b.py").rename(outside / "b.py")
    (home / "b.py").symlink_to(outside / "b.py")
    folders = Folders(root, (home, outside), root / "backups")
    first = Revision(id="a", path=home / "a.py")
    for path, words in (
        (home / "b.py", r"b\.py is reached by a symlink"),
        (outside / "b.py", "is not in a version folder of the project"),
        (home / "b.pyc", "is byte code"),
    ):
        second = Revision(id="b", down=("a",), path=path)
        with pytest.raises(StepFailedError, match=words):
            tree.read(select([first, second]), folders, "new")


def test_the_archive(folders: Folders) -> None:
    """It has all that goes, and what is rewritten; an orphaned revision is found in it."""
    change = changed(folders)
    home = folders.backups / "app"
    path = tree.archive(change, folders.root, home, NOW)
    assert path == home / "20260203T040506.007Z-replaced.tar.gz"
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as tar:
        assert {f"{folders.root}/{each.name}" for each in tar} == {
            str(each) for each in change.before
        }
    exchange.exchange(change, folders.locations[0] / "new_one.py", NEW, folders)
    trace = orphans.trace("c", folders, os.environ)
    assert {each.id for each in trace.scripts} == {"a", "b", "c"}
    assert trace.command.startswith("tar -xf backups/app/20260203T040506.007Z-replaced.tar.gz ")


def test_the_archive_of_a_file_that_was_changed_meanwhile(folders: Folders) -> None:
    """It does not count, and is not left."""
    change = changed(folders)
    (folders.locations[0] / "b_second.py").write_text("# edited\n")
    with pytest.raises(StepFailedError, match="changed meanwhile"):
        tree.archive(change, folders.root, folders.backups / "app", NOW)
    assert [path.name for path in (folders.backups / "app").iterdir()] == [".gitignore"]


def test_what_git_does_not_have(folders: Folders) -> None:
    """Uncommitted and untracked files in the version folders are refused, others are not."""
    assert tree.demand_clean(folders, os.environ) == (
        "the project is in no git repository: the archive alone will have the replaced revisions"
    )
    git(folders.root, "init", "-q")
    commit(folders.root, "all")
    (folders.root / "elsewhere.txt").touch()
    assert tree.demand_clean(folders, os.environ) == ""
    script(folders.locations[0] / "e x.py", "e", "d")
    (folders.locations[0] / "a_first.py").write_text("# edited\n")
    with pytest.raises(RefusedError) as error:
        tree.demand_clean(folders, os.environ)
    assert error.value.what == (
        "not as git has them: migrations/versions/a_first.py, migrations/versions/e x.py"
    )
    assert tree.demand_clean(folders, os.environ, may_be_dirty=True) == ""
