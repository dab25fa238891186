"""What a kept build depended on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import backset
from backset.memory import inputs


def test_of_the_programs_only_our_own_files_count() -> None:
    """All of them, and nothing that is installed beside: a clone is for the same backset."""
    package = Path(backset.__file__).parent
    counted = {Path(each) for each in inputs._ourselves()}  # noqa: SLF001  (a hash hides them)
    assert counted == {*package.rglob("*.py")}


NOTED: dict[str, Any] = {
    "files": {},
    "looks": {},
    "folders": {},
    "searched": [],
    "tried": [],
    "installed": {},
    "programs": [],
    "variables": [],
    "own": [],
    "fields": [],
    "prefixes": [],
    "unknown": {},
}


def test_what_any_of_several_processes_has_read_counts() -> None:
    """All of it is one account."""
    one = {**NOTED, "files": {"/a": "f"}, "variables": ["A"], "installed": {"/p": ["x.py"]}}
    other = {**NOTED, "files": {"/b": "f"}, "variables": ["B"], "installed": {"/p": ["y.py"]}}
    other |= {"unknown": {"starts git": ["git"]}}
    whole = inputs.together([one, other])
    assert whole["files"] == {"/a": "f", "/b": "f"}
    assert whole["variables"] == ["A", "B"]
    assert whole["installed"] == {"/p": ["x.py", "y.py"]}
    assert whole["unknown"] == {"starts git": ["git"]}


@pytest.mark.parametrize(
    ("key", "before", "after"), [("files", "", "f"), ("looks", "", "f"), ("folders", [], ["new"])]
)
def test_what_has_changed_between_two_processes_is_not_relied_on(
    tmp_path: Path, key: str, before: object, after: object
) -> None:
    """One of them has seen what is not there any more."""
    path = tmp_path / "seen"
    if key == "folders":
        path.mkdir()
        (path / "new").touch()
    else:
        path.touch()
    since_ns = time.time_ns() + 10**12
    one = {**NOTED, key: {str(path): before}}
    other = {**NOTED, key: {str(path): after}}
    assert inputs.restless(other, [], since_ns) == ""
    assert inputs.restless(inputs.together([one, other]), [], since_ns) == str(path)


def test_a_file_that_is_ignored_may_come_and_go(tmp_path: Path) -> None:
    """Also where its folder is listed; another file of that folder still counts."""
    account = {**NOTED, "files": {str(tmp_path / "version.txt"): "f"}}
    account["folders"] = {str(tmp_path): ["version.txt"]}
    account = inputs.ignoring(account, ["version.*"], tmp_path)
    before = inputs.parts(account, [])
    (tmp_path / "version.txt").write_text("2")
    assert inputs.difference(before, inputs.parts(account, []), tmp_path) == ""
    (tmp_path / "other.txt").write_text("2")
    after = inputs.parts(account, [])
    assert inputs.difference(before, after, tmp_path) == f"the folder {tmp_path} has changed"
