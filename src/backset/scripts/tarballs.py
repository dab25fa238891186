"""The migration scripts in backset's own tars: those beside a dump, and those of `archive`."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from backset.scripts import revisions, sources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.scripts.revisions import Revision


def packed(backups: Path, revision: str) -> Iterator[tuple[Path, list[Revision]]]:
    """Yield the tars among backset's backups that have a revision, the newest first.

    Each comes with all scripts in it, whose paths are their names there.
    """
    for tar in sorted(backups.rglob("*.tar*"), key=lambda path: path.name, reverse=True):
        scripts = _members(tar) if tar.suffix != ".partial" else []
        if any(each.id == revision for each in scripts):
            yield tar, scripts


def _members(path: Path) -> list[Revision]:
    found = []
    try:
        with tarfile.open(path) as tar:
            for each in tar:
                file = tar.extractfile(each) if each.isreg() else None
                raw = (
                    file.read(sources.LARGEST_BYTES)
                    if file and sources.is_script(Path(each.name))
                    else b""
                )
                script = revisions.parse(raw.decode(errors="replace"), Path(each.name))
                found += [script] if script else []
    except (OSError, tarfile.TarError, EOFError):
        return []  # a damaged one is the business of `invoke backups`
    return found
