"""Takes a backup: dump, read back whole, manifest, rename."""

from __future__ import annotations

import json
import os
import tarfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from backset.backups import dumps, manifest
from backset.backups.manifest import SCRIPTS, Backup, Manifest
from backset.catalogs import catalog, inventory
from backset.catalogs.left_out import NOTHING, LeftOut
from backset.connections.session import LOCK_TIMEOUT_S, connect, conninfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from backset.backups.vault import Vault
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.servers.programs import Programs


def take(
    vault: Vault,
    target: Target,
    folders: Callable[[], Iterable[Path]],
    programs: Programs,
    *,
    zstd_above: int,
    left_out: LeftOut = NOTHING,
    is_half_built: bool = False,
) -> Backup:
    """Dump `target`, with its manifest and the migration scripts in `folders()`.

    left_out: what is others', and neither dumped nor counted.
    A database of more than `zstd_above` bytes is compressed by zstd. Everything is
    written and read back under the mark of `.dump.partial`; the rename of the dump comes last.
    Raises StepFailedError, and RefusedError where pg_dump is missing.
    """
    with connect(target, "backup") as session:
        major = session.info.server_version // 10000
        pg_dump = programs.find("pg_dump", major)
        both = pg_dump, programs.beside(pg_dump, "pg_restore")
        with vault.open():
            _begin_snapshot(session)
            moment = datetime.now(UTC)
            revisions = tuple(catalog.revisions(session, left_out.has))
            name = _name(moment, revisions)
            partial = _private(vault.folder / f"{name}.dump.partial")
            form = dumps.choose(catalog.size_bytes(session), zstd_above, both[0], programs)
            dump = vault.folder / f"{name}{form.suffix}"
            options = [*_options(session, target), *left_out.options()]
            with dumps.written(form, partial, programs, both, *options, target=target) as finish:
                # While pg_dump works, in its snapshot.
                rows = catalog.row_counts(session, lambda table: not left_out.has(table))
                objects = inventory.inventory(session, left_out.condition())
                tool_version = programs.run(both[0], "--version")[0]
                server_id = catalog.server_id(session)
                _pack(manifest.beside(dump, SCRIPTS), folders(), programs.cwd)
                sha256 = finish()
            _sync(partial)
            about = Manifest(
                name=name,
                database=target.database,
                taken_at=moment.isoformat(timespec="seconds"),
                server_id=server_id,
                server_version=session.info.parameter_status("server_version") or "",
                tool_version=tool_version,
                revisions=revisions,
                rows=rows,
                objects=objects,
                size_bytes=manifest.size_bytes(partial),
                sha256=sha256,
                dump_format=form.words,
                by_hand=form.by_hand(name),
                left_out=left_out.names(),
                is_half_built=is_half_built,
            )
            write(manifest.beside(dump), json.dumps(about.content(), indent=2) + "\n")
            partial.rename(dump)
            return Backup(dump, about)


def alone(
    folder: Path,
    target: Target,
    programs: Programs,
    *,
    zstd_above: int,
    left_out: LeftOut = NOTHING,
) -> Path:
    """Dump `target` into a file in `folder`, without what makes a backup of it.

    Raises StepFailedError, and RefusedError where pg_dump is missing.
    """
    with connect(target, "backup") as session:
        pg_dump = programs.find("pg_dump", session.info.server_version // 10000)
        both = pg_dump, programs.beside(pg_dump, "pg_restore")
        _begin_snapshot(session)
        form = dumps.choose(catalog.size_bytes(session), zstd_above, pg_dump, programs)
        path = _private(folder / f"copy{form.suffix}")
        options = [*_options(session, target), *left_out.options()]
        with dumps.written(form, path, programs, both, *options, target=target) as finish:
            finish()
    return path


def _begin_snapshot(session: Session) -> None:
    session.execute("SET row_security = off")  # as pg_dump does: an error rather than fewer rows
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _name(moment: datetime, revisions: tuple[str, ...]) -> str:
    text = quote("+".join(revisions), safe="+")[:80] or "no-revision"
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03}Z-{text}"


def _options(session: Session, target: Target) -> list[str]:
    """Return what lets pg_dump read `target` in the session's snapshot."""
    (snapshot,) = session.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
    # In PGOPTIONS a lock_timeout would come to nothing: pg_dump and pg_restore lift it themselves.
    wait = f"--lock-wait-timeout={LOCK_TIMEOUT_S}s"
    return ["--no-password", f"--snapshot={snapshot}", "--dbname", conninfo(target, "backup"), wait]


def _pack(path: Path, folders: Iterable[Path], root: Path) -> None:
    """Put the migration scripts, as they are on disk, into a small tar."""
    with tarfile.open(_private(path), "w:gz", compresslevel=6) as tar:
        for folder in folders:
            name = folder.relative_to(root) if folder.is_relative_to(root) else folder.name
            tar.add(folder, arcname=str(name), filter=_plain)
    _sync(path)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out byte code, and parts of seconds, for which each file would get a second header."""
    member.mtime = int(member.mtime)
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
