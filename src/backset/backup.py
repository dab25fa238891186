"""Backups: pg_dump beside, read back whole, manifest, rename; list them; load one."""

from __future__ import annotations

import fcntl
import json
import os
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from backset import catalog, manifest, process, programs
from backset.errors import StepFailedError
from backset.manifest import Backup, Manifest
from backset.server import connect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import psycopg

    from backset.target import Target


@dataclass(frozen=True, slots=True)
class Vault:
    """The folder of one database's backups: `backups/<database>/`, 0700, its files 0600.

    A backup exists once its `.dump` has its final name; that rename comes last. Until then a
    `.dump.partial` marks everything of the same stem as rubbish, which the next run removes.
    """

    folder: Path

    @classmethod
    def of(cls, backups: Path, database: str) -> Vault:
        """Return the vault of a database; its name is quoted where a file name cannot hold it."""
        return cls(backups / quote(database, safe=" ").replace("..", "%2E%2E"))

    def list(self) -> list[Backup]:
        """Return all complete backups, the oldest first."""
        found = (manifest.read(dump) for dump in sorted(self.folder.glob("*.dump")))
        return [backup for backup in found if backup is not None]

    def find(self, name: str | None) -> Backup:
        """Return a backup by name, file name or path; the newest one without a name."""
        backups = self.list()
        wanted = [each for each in backups if name in {None, each.name, each.dump.name}]
        if not wanted and name is not None and (path := self.folder / name).is_file():
            wanted = list(filter(None, [manifest.read(path)]))
        if not wanted:
            what = f"no backup {name!r}" if name else "no backup"
            raise StepFailedError(f"{self.folder} has {what}", "choose one from `invoke backups`")
        return wanted[-1]

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make the folder, keep other writers out, and remove what a killed run left behind."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._sweep()
            yield
            os.fsync(descriptor)  # the renames
        finally:
            self._sweep()
            os.close(descriptor)

    def _sweep(self) -> None:
        for partial in self.folder.glob("*.dump.partial"):
            stem = partial.name.removesuffix(".dump.partial")
            for suffix in (".json", ".scripts.tar.gz", ".dump.partial"):  # the mark goes last
                partial.with_name(stem + suffix).unlink(missing_ok=True)


def take(
    vault: Vault,
    target: Target,
    scripts: Iterable[Path],
    *,
    root: Path,
    env: Mapping[str, str],
) -> Backup:
    """Dump `target` with its manifest and the folders in `scripts`. Raises StepFailedError."""
    with vault.open(), connect(target, "backup") as session:
        _begin_snapshot(session)
        revisions = tuple(catalog.revisions(session))
        moment = datetime.now(UTC)
        stem = f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03}Z-{'+'.join(revisions)[:80] or 'no-revision'}"
        dump = vault.folder / f"{quote(stem, safe='+')}.dump"
        partial = _private(dump.with_name(f"{dump.name}.partial"))
        pg_dump = programs.find("pg_dump", session.info.server_version // 10000, env)
        with _dumping(pg_dump, target, session, partial, root, env) as finish:
            rows = catalog.row_counts(session)  # while pg_dump works, in its snapshot
            finish()
        _read_back(pg_dump.with_name("pg_restore"), partial, root, env)
        about = Manifest(
            database=target.database,
            taken_at=moment.isoformat(timespec="seconds"),
            server_version=session.info.parameter_status("server_version") or "",
            tool_version=_tool_version(pg_dump, root, env),
            revisions=revisions,
            rows=rows,
            size_bytes=partial.stat().st_size,
            sha256=manifest.sha256(partial),
        )
        _pack(dump.with_suffix(".scripts.tar.gz"), scripts, root)
        _write(dump.with_suffix(".json"), json.dumps(about.content(), indent=2) + "\n")
        partial.rename(dump)
        return Backup(dump, about)


def load(backup: Backup, target: Target, major: int, *, root: Path, env: Mapping[str, str]) -> None:
    """Load a dump into the empty database `target`, and compare its rows with the manifest."""
    pg_restore = programs.find("pg_restore", major, env)
    argv = [str(pg_restore), "--exit-on-error", "--no-password", "--dbname", target.conninfo]
    _run([*argv, str(backup.dump)], root, {**env, **target.secret_env}, target)
    with connect(target, "restore") as session:
        rows = catalog.row_counts(session)
    wrong = [f"{table} {rows.get(table, 'missing')} of {count}"
             for table, count in backup.manifest.rows.items() if rows.get(table) != count]
    if wrong:
        raise StepFailedError(
            f"{backup.name} restored with other row counts than its manifest: {', '.join(wrong)}",
            "choose another one from `invoke backups`",
        )


def _begin_snapshot(session: psycopg.Connection[Any]) -> None:
    session.execute("SET row_security = off")  # as pg_dump does: an error rather than fewer rows
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


@contextmanager
def _dumping(
    pg_dump: Path,
    target: Target,
    session: psycopg.Connection[Any],
    partial: Path,
    root: Path,
    env: Mapping[str, str],
) -> Iterator[Any]:
    """Run pg_dump in the session's snapshot; the block gets a function that waits for its end."""
    (snapshot,) = session.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
    argv = [str(pg_dump), "--format=custom", "--no-password", f"--snapshot={snapshot}"]
    argv += ["--file", str(partial), "--dbname", target.conninfo]
    with process.Child(argv, env={**env, **target.secret_env}, cwd=root) as child:

        def finish() -> None:
            if child.wait() != 0:
                raise _failed("pg_dump", list(child.tail), target)
            _sync(partial)

        yield finish


def _read_back(pg_restore: Path, dump: Path, root: Path, env: Mapping[str, str]) -> None:
    """Read the whole dump: `pg_restore --list` accepts one whose tail is cut off."""
    _run([str(pg_restore), "--file", os.devnull, str(dump)], root, env, None)


def _run(argv: list[str], root: Path, env: Mapping[str, str], target: Target | None) -> None:
    status, lines = process.run(argv, env=env, cwd=root)
    if status != 0:
        raise _failed(argv[0].rpartition("/")[2], lines, target)


def _failed(program: str, lines: list[str], target: Target | None) -> StepFailedError:
    words = " | ".join(lines[-3:]) or "it said nothing"
    said = target.redact(words) if target else words
    return StepFailedError(f"{program} failed: {said}", "mend what it names, then run this again")


def _tool_version(pg_dump: Path, root: Path, env: Mapping[str, str]) -> str:
    _, lines = process.run([str(pg_dump), "--version"], env=env, cwd=root)
    return lines[0] if lines else ""


def _pack(path: Path, folders: Iterable[Path], root: Path) -> None:
    """Put the migration scripts, as they are on disk, into a small tar."""
    with tarfile.open(_private(path), "w:gz") as tar:
        for folder in folders:
            name = folder.relative_to(root) if folder.is_relative_to(root) else folder.name
            tar.add(folder, arcname=str(name), filter=_without_bytecode)
    _sync(path)


def _without_bytecode(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name else member


def _write(path: Path, text: str) -> None:
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
