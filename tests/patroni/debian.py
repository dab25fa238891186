"""Debian's Patroni and etcd, unpacked into a folder: nothing of the machine changes.

Debian's own Python runs Patroni. The Python of the tests may be closed to the account that has to
run the servers where the tests are root's.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PACKAGES = ("patroni", "etcd-server", "python3-etcd")
_PYTHON = Path("/usr/bin/python3")


class NotHereError(Exception):
    """What this machine lacks."""


def unpack(folder: Path) -> None:
    """Fetch what is not installed of these packages and of what they need. Raises NotHereError."""
    if shutil.which("apt-get") is None or not _PYTHON.exists():
        raise NotHereError("this is no Debian: no apt-get, or no Python of its own")
    wanted = ["apt-get", "--simulate", "--no-install-recommends", "install", *_PACKAGES]
    lines = _said(wanted, folder)
    names = [line.split()[1] for line in lines if line.startswith("Inst ")]
    if names:
        _said(["apt-get", "download", *names], folder)
    for each in folder.glob("*.deb"):
        _said(["dpkg", "--extract", str(each), str(folder)], folder)


def _said(argv: Sequence[str], folder: Path) -> list[str]:
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotHereError(f"{argv[0]}: {done.stderr.strip()[-300:]}; try `apt-get update`")
    return done.stdout.splitlines()


def program(folder: Path, name: str) -> Path:
    """Return a program of the packages."""
    unpacked = folder / "usr/bin" / name
    return unpacked if unpacked.exists() else Path("/usr/bin") / name


def patroni(folder: Path, configuration: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command that starts Patroni, and what its environment needs."""
    libraries = folder / "usr/lib/python3/dist-packages"
    argv = [str(_PYTHON), str(program(folder, "patroni")), str(configuration)]
    return argv, {"PYTHONPATH": str(libraries), "PYTHONDONTWRITEBYTECODE": "1"}
