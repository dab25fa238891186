"""Takes a backup: dump, read back whole, manifest, rename."""

from __future__ import annotations

import json
import os
import tarfile
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from backset.backups import manifest
from backset.backups.manifest import Backup, Manifest
from backset.catalogs import catalog, inventory
from backset.connections.session import LOCK_TIMEOUT_S, connect, conninfo
from backset.servers.programs import JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
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
    parallel_above: int,
) -> Backup:
    """Dump `target`, with its manifest and the migration scripts in `folders()`.

    A database of more than `parallel_above` bytes is dumped by several processes, into a folder.
    Everything is written and read back under the mark of `.dump.partial`; the rename of the dump
    comes last. Raises StepFailedError, and RefusedError where pg_dump is missing.
    """
    with connect(target, "backup") as session:
        major = session.info.server_version // 10000
        pg_dump, pg_restore = (programs.find(name, major) for name in ("pg_dump", "pg_restore"))
        with vault.open():
            _begin_snapshot(session)
            moment = datetime.now(UTC)
            revisions = tuple(catalog.revisions(session))
            dump = vault.folder / f"{_stem(moment, revisions)}.dump"
            how = _parallel if catalog.size_bytes(session) > parallel_above else _single
            partial, form = how(dump.with_name(f"{dump.name}.partial"))
            with _dumping(
                programs, pg_dump, target, session, [*form, "--file", str(partial)]
            ) as finish:
                rows = catalog.row_counts(session)  # while pg_dump works, in its snapshot
                objects = inventory.inventory(session)
                scripts = list(folders())
                finish()
            # `pg_restore --list` would accept a dump whose tail is cut off.
            programs.run(pg_restore, "--file", os.devnull, str(partial))
            _secure(partial)
            about = Manifest(
                name=dump.stem,
                database=target.database,
                taken_at=moment.isoformat(timespec="seconds"),
                server_id=catalog.server_id(session),
                server_version=session.info.parameter_status("server_version") or "",
                tool_version=programs.run(pg_dump, "--version")[0],
                revisions=revisions,
                rows=rows,
                objects=objects,
                size_bytes=manifest.size_bytes(partial),
                sha256=manifest.sha256(partial),
            )
            _pack(dump.with_suffix(".scripts.tar.gz"), scripts, programs.cwd)
            write(dump.with_suffix(".json"), json.dumps(about.content(), indent=2) + "\n")
            partial.rename(dump)
            return Backup(dump, about)


def _begin_snapshot(session: Session) -> None:
    session.execute("SET row_security = off")  # as pg_dump does: an error rather than fewer rows
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _stem(moment: datetime, revisions: tuple[str, ...]) -> str:
    name = quote("+".join(revisions), safe="+")[:80] or "no-revision"
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03}Z-{name}"


def _single(partial: Path) -> tuple[Path, list[str]]:
    return _private(partial), ["--format=custom"]


def _parallel(partial: Path) -> tuple[Path, list[str]]:
    partial.mkdir(mode=0o700)
    return partial, ["--format=directory", f"--jobs={JOBS}"]


@contextmanager
def _dumping(
    programs: Programs, pg_dump: Path, target: Target, session: Session, arguments: Sequence[str]
) -> Iterator[Callable[[], None]]:
    """Run pg_dump in the session's snapshot; the block gets a function that waits for its end."""
    (snapshot,) = session.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
    common = ["--no-password", f"--snapshot={snapshot}", "--dbname", conninfo(target, "backup")]
    # In PGOPTIONS a lock_timeout would come to nothing: pg_dump and pg_restore lift it themselves.
    common += [f"--lock-wait-timeout={LOCK_TIMEOUT_S}s"]
    with programs.start(pg_dump, *common, *arguments, target=target) as child:
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


def _secure(dump: Path) -> None:
    """Let only the owner read what pg_dump wrote, and have it all on the disk."""
    for path in manifest.files(dump):
        path.chmod(0o600)
        _sync(path)
    _sync(dump)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
