"""Scripts that are out of use are put away whole, or stay: whatever happens in between."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backset.errors import LockedError, StepFailedError
from backset.revisions import stale
from backset.revisions.script_files import Folders, Revision

NOW = datetime(2026, 2, 3, 4, 5, 6, 7000, tzinfo=UTC)
NAME = "scripts-20260203T040506.007Z.tar"


def script(path: Path, revision: str, down: str | None = None, more: str = "") -> Path:
    """Write a migration script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"revision = {revision!r}\ndown_revision = {down!r}\n{more}")
    return path


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """A project with one script in its version folder."""
    root = (tmp_path / "a project").resolve()
    script(root / "alembic/versions/base_x.py", "base")
    (root / "alembic/env.py").write_text("")
    return Folders(root, (root / "alembic/versions",), root / "backups")


def found(folders: Folders) -> tuple[dict[str, str], dict[str, str]]:
    """Return what is stale and what is kept: path → why."""
    it = stale.find(folders, folders.current())
    assert all(each.files for each in it.stale)
    kept = {folders.shown(path): why for path, why in (*it.kept, *it.elsewhere)}
    return {folders.shown(each.path): f"{each.kind}: {each.why}" for each in it.stale}, kept


def test_what_is_out_of_use(folders: Folders) -> None:
    """Old folders beside the chain, files that Alembic does not load, and copies."""
    root, versions = folders.root, folders.locations[0]
    script(root / "alembic/versions_backup/versions/old1.py", "old1")
    script(root / "versions_old/old2.py", "old2")
    script(root / "migrations_2024/2024/old3.py", "old3")
    script(versions / "archive/old4.py", "old4")
    script(versions / "base_x.py.bak", "base")
    script(versions / "base_x (copy).py", "base")
    (versions / "README").write_text("revision = 'x'")
    assert found(folders) == (
        {
            "alembic/versions/archive": "folder: it is not among Alembic's version folders",
            "alembic/versions_backup/versions": "folder: it is not among Alembic's version folders",
            "migrations_2024/2024": "folder: it is not among Alembic's version folders",
            "versions_old": "folder: it is not among Alembic's version folders",
            "alembic/versions/base_x.py.bak": "stray: Alembic does not load a file of this name",
            "alembic/versions/base_x (copy).py": (
                "stray: base_x.py has the same revision base, and the same bytes"
            ),
        },
        {},
    )


def test_what_may_be_in_use_stays(folders: Folders) -> None:
    """Other chains, tests, what a configuration names, and files that a person must choose from."""
    root, versions = folders.root, folders.locations[0]
    script(root / "alembic/tenants/t1.py", "t1")
    (root / "alembic.ini").write_text("[tenants]\nversion_locations = %(here)s/alembic/tenants\n")
    script(root / "alembic_billing/versions/b1.py", "b1")
    (root / "alembic_billing/env.py").write_text("")
    script(root / "tests/fixtures/f1.py", "f1")
    script(root / ".venv/lib/x/versions/v1.py", "v1")
    script(root / "backups/x/versions/b1.py", "b1")
    script(versions / "base_y.py", "base", more="# another one\n")
    stale_ones, kept = found(folders)
    assert stale_ones == {}
    assert kept == {
        "alembic/tenants": "alembic.ini names it",
        "alembic_billing/versions": "alembic_billing/env.py may load them",
        "tests/fixtures": "it is not beside the migrations",
        "alembic/versions/base_y.py": (
            "base_x.py has the same revision base, but differs: choose one"
        ),
    }


def test_a_script_among_modules(folders: Folders) -> None:
    """Of a folder with other modules only the script goes, and of one with a symlink not that."""
    root = folders.root
    script(root / "alembic/helpers/old.py", "old")
    (root / "alembic/helpers/tools.py").write_text("x = 1\n")
    script(root / "alembic/versions_old/old2.py", "old2")
    (root / "alembic/versions_old/link.py").symlink_to(root / "alembic/env.py")
    stale_ones, kept = found(folders)
    assert stale_ones == {
        "alembic/helpers/old.py": "stray: its folder is not among Alembic's version folders",
        "alembic/versions_old": "folder: it is not among Alembic's version folders",
    }
    assert kept == {"alembic/versions_old/link.py": "no symlink is followed"}


def test_folders_below_that_alembic_loads(folders: Folders) -> None:
    """With `recursive_version_locations` they are part of the chain."""
    script(folders.locations[0] / "2024/next.py", "next", "base")
    recursive = Folders(folders.root, folders.locations, folders.backups, recursive=True)
    assert found(recursive) == ({}, {})
    assert "alembic/versions/2024" in found(folders)[0]


def test_byte_code(folders: Folders) -> None:
    """Byte code without its source goes, unless a script follows it or there is nothing else."""
    versions = folders.locations[0]
    (versions / "__pycache__").mkdir()
    for name in ("base_x", "gone_y"):
        (versions / f"__pycache__/{name}.cpython-311.pyc").write_bytes(b"x")
    (versions / "needed.pyc").write_bytes(b"x")
    script(versions / "next.py", "next", "needed")
    gone = "alembic/versions/__pycache__/gone_y.cpython-311.pyc"
    needed = Revision(id="needed", path=versions / "needed.pyc")
    it = stale.find(folders, [*folders.current(), needed])
    assert [(each.kind, folders.shown(each.path), each.why) for each in it.stale] == [
        ("bytecode", gone, "gone_y.py is gone")
    ]
    assert [folders.shown(path) for path, _why in it.kept] == ["alembic/versions/needed.pyc"]
    for path in versions.glob("*.py"):
        path.unlink()
    assert stale.find(folders, [needed]).stale == []


def test_the_tar_holds_it_all_and_brings_it_back(folders: Folders) -> None:
    """Bytes, modes and odd names; of two hard links both; empty folders go, the chain's stay."""
    root = folders.root
    old = script(root / "alembic/versions_backup/versions/ü 'x'.py", "old")
    old.chmod(0o640)
    other = old.with_name("same.py")
    other.hardlink_to(old)
    os.utime(old, (1e9, 1e9))
    content = old.read_bytes()
    hashes = stale.pack([old, other], root, folders.backups, NOW)
    tar = folders.backups / NAME
    assert tar.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folders.backups.iterdir() if path != tar] == [".gitignore"]
    assert stale.remove(hashes, root, {root / "alembic"}) == []
    assert not (root / "alembic/versions_backup").exists()
    subprocess.run(["tar", "-xf", f"backups/{NAME}"], cwd=root, check=True)
    assert old.read_bytes() == other.read_bytes() == content
    assert old.stat().st_mode & 0o777 == 0o640
    assert old.stat().st_mtime == 1e9


def test_a_file_that_changed_meanwhile_stays(folders: Folders) -> None:
    """Also one that became a symlink, and one whose folder did."""
    root = folders.root
    files = [script(root / f"versions_old/{name}.py", name) for name in ("a", "b", "c")]
    moved = script(root / "versions_older/d.py", "d")
    hashes = stale.pack([*files, moved], root, folders.backups, NOW)
    files[0].write_text("# edited\n")
    files[1].rename(root / "b.py")
    files[1].symlink_to(root / "b.py")
    moved.parent.rename(root / "elsewhere")
    (root / "versions_older").symlink_to(root / "elsewhere")
    assert stale.remove(hashes, root, ()) == [files[0], files[1], moved]
    assert files[0].exists()
    assert (root / "b.py").exists()
    assert (root / "elsewhere/d.py").exists()
    assert not files[2].exists()


def test_nothing_but_regular_files_of_the_project(folders: Folders, tmp_path: Path) -> None:
    """A symlink, a pipe and a file outside are refused, and nothing is left behind."""
    outside = script(tmp_path / "outside.py", "x")
    link = folders.root / "link.py"
    link.symlink_to(outside)
    pipe = folders.root / "pipe.py"
    os.mkfifo(pipe)
    for path in (outside, link, pipe):
        with pytest.raises((StepFailedError, OSError)):
            stale.pack([path], folders.root, folders.backups, NOW)
        assert [each.name for each in folders.backups.iterdir()] == [".gitignore"]


def test_another_run_is_at_it(folders: Folders) -> None:
    """Two runs do not write at once, and one does not remove the other's half."""
    files = [folders.locations[0] / "base_x.py"]
    stale.pack(files, folders.root, folders.backups, NOW)
    half = folders.backups / "scripts-x.tar.partial"
    half.touch()
    descriptor = os.open(folders.backups, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(LockedError):
        stale.pack(files, folders.root, folders.backups, NOW)
    assert half.exists()
    os.close(descriptor)
    stale.pack(files, folders.root, folders.backups, NOW)
    assert not half.exists()


KILLED = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from backset.revisions import stale
root = Path(sys.argv[1])
print("begun", flush=True)
hashes = stale.pack(sorted(root.glob("old/*.py")), root, root / "backups", datetime.now(UTC))
stale.remove(hashes, root, ())
"""


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path) -> None:
    """After a kill every file is in the tree or in a whole tar; the next run ends the work."""
    root = tmp_path.resolve()
    texts = {f"{n:03}.py": f"# {n}\n" * 20_000 for n in range(60)}
    (root / "old").mkdir()
    for name, text in texts.items():
        (root / "old" / name).write_text(text)
    dice = random.Random(3)  # noqa: S311  (moments, no secrets)
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(root)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(dice.random() * 0.15)
            child.send_signal(signal.SIGKILL)
        assert safe(root) == texts
        (root / "old").mkdir(exist_ok=True)
        for name, text in texts.items():
            (root / "old" / name).write_text(text)
    subprocess.run([sys.executable, "-c", KILLED, str(root)], check=True, capture_output=True)
    assert not (root / "old").exists()
    assert safe(root) == texts
    assert not list(root.glob("backups/*.partial"))


def safe(root: Path) -> dict[str, str]:
    """Return every text that is in the tree or in a complete tar."""
    texts = {path.name: path.read_text() for path in root.glob("old/*.py")}
    for path in root.glob("backups/*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                texts[Path(member.name).name] = file.read().decode()
    return texts
