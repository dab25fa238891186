"""Takes a backup (dump, read back whole, manifest, rename) and loads one into a database."""

from __future__ import annotations

import json
import os
import tarfile
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from backset import catalog, manifest
from backset.errors import StepFailedError
from backset.manifest import Backup, Manifest
from backset.session import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from backset.programs import Programs
    from backset.session import Session
    from backset.target import Target
    from backset.vault import Vault


def take(
    vault: Vault, target: Target, folders: Callable[[], Iterable[Path]], programs: Programs
) -> Backup:
    """Dump `target`, with its manifest and the migration scripts in `folders()`.

    Everything is written and read back under the mark of `.dump.partial`; the rename of the dump
    comes last. Raises StepFailedError.
    """
    with vault.open(), connect(target, "backup") as session:
        _begin_snapshot(session)
        moment = datetime.now(UTC)
        revisions = tuple(catalog.revisions(session))
        dump = vault.folder / f"{_stem(moment, revisions)}.dump"
        partial = _private(dump.with_name(f"{dump.name}.partial"))
        pg_dump = programs.find("pg_dump", session.info.server_version // 10000)
        with _dumping(programs, pg_dump, target, session, partial) as finish:
            rows = catalog.row_counts(session)  # while pg_dump works, in its snapshot
            finish()
        # `pg_restore --list` would accept a dump whose tail is cut off.
        programs.run(pg_dump.with_name("pg_restore"), "--file", os.devnull, str(partial))
        _sync(partial)
        about = Manifest(
            database=target.database,
            taken_at=moment.isoformat(timespec="seconds"),
            server_id=catalog.server_id(session),
            server_version=session.info.parameter_status("server_version") or "",
            tool_version=programs.run(pg_dump, "--version")[0],
            revisions=revisions,
            rows=rows,
            size_bytes=partial.stat().st_size,
            sha256=manifest.sha256(partial),
        )
        _pack(dump.with_suffix(".scripts.tar.gz"), folders(), programs.cwd)
        write(dump.with_suffix(".json"), json.dumps(about.content(), indent=2) + "\n")
        partial.rename(dump)
        return Backup(dump, about)


def load(backup: Backup, target: Target, major: int, programs: Programs, *extra: str) -> None:
    """Load a dump into the empty database `target`, and compare its rows with the manifest.

    extra: more arguments for pg_restore.
    """
    pg_restore = programs.find("pg_restore", major)
    arguments = ["--exit-on-error", "--no-password", "--dbname", target.conninfo]
    programs.run(pg_restore, *arguments, *extra, str(backup.dump), target=target)
    with connect(target, "restore") as session:
        rows = catalog.row_counts(session)
    wrong = [
        f"{table} {rows.get(table, 'missing')} of {count}"
        for table, count in backup.manifest.rows.items()
        if rows.get(table) != count
    ]
    if wrong:
        raise StepFailedError(
            f"{backup.name} restored with other row counts than its manifest: {', '.join(wrong)}",
            "choose another one from `invoke backups`",
        )


def _begin_snapshot(session: Session) -> None:
    session.execute("SET row_security = off")  # as pg_dump does: an error rather than fewer rows
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _stem(moment: datetime, revisions: tuple[str, ...]) -> str:
    name = quote("+".join(revisions), safe="+")[:80] or "no-revision"
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03}Z-{name}"


@contextmanager
def _dumping(
    programs: Programs,
    pg_dump: Path,
    target: Target,
    session: Session,
    partial: Path,
) -> Iterator[Callable[[], None]]:
    """Run pg_dump in the session's snapshot; the block gets a function that waits for its end."""
    (snapshot,) = session.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
    arguments = ["--format=custom", "--no-password", f"--snapshot={snapshot}"]
    arguments += ["--file", str(partial), "--dbname", target.conninfo]
    with programs.start(pg_dump, *arguments, target=target) as child:
        yield lambda: programs.check(child, pg_dump, target)


def _pack(path: Path, folders: Iterable[Path], root: Path) -> None:
    """Put the migration scripts, as they are on disk, into a small tar."""
    with tarfile.open(_private(path), "w:gz") as tar:
        for folder in folders:
            name = folder.relative_to(root) if folder.is_relative_to(root) else folder.name
            tar.add(folder, arcname=str(name), filter=_without_bytecode)
    _sync(path)


def _without_bytecode(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name else member


def write(path: Path, text: str) -> None:
    """Write a small file that only its owner may read, and wait until it is on the disk."""
    _private(path).write_text(text, encoding="utf-8")
    _sync(path)


def _private(path: Path) -> Path:
    """Create an empty file that only its owner may read, before anything is in it."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
    return path


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
