"""Files of ours are there whole or not at all, for their owner alone; and a folder has one lock."""

from __future__ import annotations

import errno
import os
import resource
import stat
from typing import TYPE_CHECKING

import pytest

from backset.errors import Interrupted, LockedError
from backset.process import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask is; what a killed run has left under the name beside is in no way."""
    path, partial = tmp_path / "mark.json", tmp_path / ".mark.json.partial"
    partial.write_text("torn, and longer than what is written")
    files.write(path, "whole")
    assert path.read_text() == "whole"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [*tmp_path.iterdir()] == [path]


def test_what_is_torn_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """An interruption in the midst of it takes the half file along."""
    path = tmp_path / "mark.json"
    files.write(path, "old")
    with pytest.raises(Interrupted), files.replacing(path) as file:  # noqa: PT012  (it is torn there)
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
        raise Interrupted(15)
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_an_error_names_the_file(tmp_path: Path) -> None:
    """A failed write names no file by itself, and nobody knows the one beside."""
    path = tmp_path / "mark.json"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match="mark") as caught:
            files.write(path, "more than ten bytes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert [*tmp_path.iterdir()] == []
    with pytest.raises(FileNotFoundError) as missing:
        files.write(tmp_path / "gone/mark.json", "")
    assert missing.value.filename == str(tmp_path / "gone/mark.json")


def test_a_folder_has_one_lock(tmp_path: Path) -> None:
    """The second one is told who is in the way; after the first one it comes in."""
    with (
        files.locked(tmp_path, "a backup"),
        pytest.raises(LockedError, match=f"another run writes a backup into {tmp_path}"),
        files.locked(tmp_path, "a backup"),
    ):
        pass
    with files.locked(tmp_path):
        pass


def test_git_is_told_once(tmp_path: Path) -> None:
    """What a person has put into the file stays."""
    files.hide(tmp_path)
    ignore = tmp_path / ".gitignore"
    assert (ignore.read_text(), stat.S_IMODE(ignore.stat().st_mode)) == ("*\n", 0o644)
    ignore.write_text("!notes\n")
    files.hide(tmp_path)
    assert ignore.read_text() == "!notes\n"
