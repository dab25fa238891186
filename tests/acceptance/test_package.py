"""The package as people install it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.project import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_every_module_is_in_the_wheel(tmp_path: Path) -> None:
    """And what they read; what git ignores is left out of it, whether git has the file or not.

    pytest finds its plugin by what the wheel says.
    """
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
    ]
    subprocess.run([*pip, str(REPOSITORY)], check=True, stdin=subprocess.DEVNULL)
    (wheel,) = tmp_path.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    packed = {name for name in archive.namelist() if name.startswith("backset/")}
    source = REPOSITORY / "src"
    patterns = ("*.py", "schemas/*.json", "templates/*", "tilt/*.star")
    files = [path for pattern in patterns for path in source.rglob(pattern)]
    wanted = {path.relative_to(source).as_posix() for path in files}
    assert packed == wanted | {"backset/py.typed"}
    (points,) = [name for name in archive.namelist() if name.endswith("/entry_points.txt")]
    assert b"[pytest11]\nbackset = backset.pytest_plugin\n" in archive.read(points)
