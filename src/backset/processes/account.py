"""Who runs the embedded PostgreSQL, and where that account can reach: its programs refuse root."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_SHARED = Path("/var/lib/backset")  # for root alone, whose own folders are often closed to others


@dataclass(frozen=True, slots=True)
class Account:
    """An account other than root: the owner of the project's folder, else `nobody`."""

    uid: int
    gid: int

    def can_enter(self, folder: Path) -> bool:
        """Tell whether this account may search `folder` and every folder above it."""
        return all(self._may(each, stat.S_IXUSR) for each in (folder, *folder.parents))

    def can_read(self, path: Path) -> bool:
        """Tell whether this account can reach and read a file."""
        return self.can_enter(path.parent) and self._may(path, stat.S_IRUSR)

    def _may(self, path: Path, user_bit: int) -> bool:
        status = path.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & user_bit)
        shift = 3 if status.st_gid == self.gid else 6
        return bool(status.st_mode & (user_bit >> shift))


def choose(folder: Path) -> Account | None:
    """Return the account to run the server of `folder` as; None means ourselves."""
    if os.geteuid() != 0:
        return None
    owner = folder.stat()
    with suppress(KeyError):  # initdb wants a name, which the owner of a mounted folder may lack
        if owner.st_uid != 0 and pwd.getpwuid(owner.st_uid):
            return Account(owner.st_uid, owner.st_gid)
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def home(folder: Path, account: Account | None) -> Path:
    """Return where the server of the project in `folder` keeps its files: `.backset` if it can.

    Where root's folders are closed to the account, they stay closed: the files live elsewhere.
    """
    if account is None or account.can_enter(folder):
        return folder / ".backset"
    return _SHARED / hashlib.sha256(bytes(folder)).hexdigest()[:12]


def reachable_programs(installation: Path, account: Account | None) -> Path:
    """Return an installation that the account can use: itself, else a copy of it, made once."""
    parts = _parts(installation)
    probes = [installation / "bin" / "postgres", *(next(part.iterdir()) for part in parts[1:])]
    if account is None or all(map(account.can_read, probes)):
        return installation
    base = installation.parent.parent
    copy = _SHARED / f"{installation.name}-{installation.stat().st_mtime_ns:x}"
    if not copy.is_dir():
        _copy(parts, base, copy)
    return copy / installation.relative_to(base)


def _parts(installation: Path) -> list[Path]:
    """Return the folders of an installation: the wheel keeps shared libraries beside the package.

    Its programs find them by a relative path: `<package>.libs` on Linux, `.dylibs` on macOS.
    """
    package = installation.parent
    libraries = (package.with_name(f"{package.name}.libs"), package / ".dylibs")
    return [installation, *filter(Path.is_dir, libraries)]


def _copy(parts: list[Path], base: Path, destination: Path) -> None:
    """Copy beside and rename, so that a copy is there whole or not at all."""
    _SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
    partial = destination.with_name(f"{destination.name}.{os.getpid()}.partial")
    for part in parts:
        shutil.copytree(part, partial / part.relative_to(base), symlinks=True)
    for path in (partial, *partial.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    try:
        partial.rename(destination)
    except OSError:  # another run was faster
        shutil.rmtree(partial)
