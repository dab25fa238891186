"""Fills a cleared database from a backup, but for what was not dropped there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from backset import objects, privileges, restoration

if TYPE_CHECKING:
    from backset.build import Build
    from backset.manifest import Backup


def load(build: Build, taken: Backup, *, own: bool) -> None:
    """Load a backup into the cleared target, but for what was not dropped there.

    own: whether the backup is of this very database, so that its oids mean the same objects.
    """
    privileges.forget_defaults(build.live)
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "toc"
        wanted = _missing(build, _table_of_contents(build, taken, listing), own=own)
        listing.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        where = (build.target, build.server.major, build.programs)
        restoration.load(taken, *where, entries=listing, exactly=own)


def _table_of_contents(build: Build, taken: Backup, listing: Path) -> list[str]:
    pg_restore = build.programs.find("pg_restore", build.server.major)
    build.programs.run(pg_restore, "--list", "--file", os.fspath(listing), os.fspath(taken.dump))
    lines = listing.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(";")]


def _missing(build: Build, entries: list[str], *, own: bool) -> list[str]:
    """Leave out the entries of what was not dropped: extensions, schemas, other people's objects.

    An entry is `dump id; catalog oid, object oid, type, schema, name, owner`. The data of a table
    has the table's oid and no catalog; comments, grants and sequence values have neither.
    """
    parsed = {line: _parse(line) for line in entries}
    numbered = [(catalog, oid) for catalog, oid, _ in parsed.values() if catalog]
    alive = objects.surviving(build.live, numbered) if own else set()
    kept = objects.kept_names(build.live)
    alive |= {(catalog, oid) for catalog, oid, text in parsed.values() if text.startswith(kept)}
    tables = {oid for _, oid in alive}
    names = [
        name
        for catalog, oid, text in parsed.values()
        if (catalog, oid) in alive
        for name in _names(text)
    ]
    return [
        line
        for line, (catalog, oid, text) in parsed.items()
        if not ((catalog, oid) in alive if catalog else oid in tables)
        and not (not catalog and not oid and any(name in text for name in names))
    ]


def _parse(line: str) -> tuple[int, int, str]:
    _, _, rest = line.partition("; ")
    catalog, oid, text = rest.split(" ", 2)
    return int(catalog), int(oid), f"{text} "


def _names(text: str) -> tuple[str, str]:
    """Return how entries without a number speak of an object: with its type, or without."""
    words = text.split(" ")
    length = next(number for number, word in enumerate(words) if not word.isupper())
    kind, (schema, *name) = " ".join(words[:length]), words[length:-2]
    return f" {schema} {kind} {' '.join(name)} ", f" {schema} {' '.join(name)} "
