"""Backups as tests take them, of a database with rows in two schemas."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

import psycopg

from backset.backups import backup, manifest
from backset.connections.session import conninfo

if TYPE_CHECKING:
    from pathlib import Path

    from backset.backups.manifest import Backup
    from backset.backups.store import BackupStore
    from backset.connections.target import Target
    from backset.servers.programs import Programs

ROWS = """
CREATE TABLE users AS SELECT generate_series(1, 7) AS id;
CREATE SCHEMA other; CREATE TABLE other.things AS SELECT generate_series(1, 3) AS id;
CREATE TABLE alembic_version (version_num varchar(32) NOT NULL);
INSERT INTO alembic_version VALUES ('cf94a9256bdb');
"""


EMPTY = "DROP SCHEMA public CASCADE; DROP SCHEMA other CASCADE; CREATE SCHEMA public"


NEVER = 10**12  # bytes: no database here is that large


def run(target: Target, statements: str) -> None:
    """Run statements on a database."""
    with psycopg.connect(**target.params) as session:  # type: ignore[arg-type]
        session.execute(statements.encode())


def change(target: Target, word: str = "") -> None:
    """Change the state of a database, but neither its rows nor what a manifest has of objects."""
    run(target, f"COMMENT ON SCHEMA public IS '{word or secrets.token_hex(4)}'")


def take(
    vault: BackupStore, target: Target, programs: Programs, *scripts: Path, zstd_above: int = NEVER
) -> Backup:
    """Take a backup."""
    return backup.take(vault, target, lambda: scripts, programs, zstd_above=zstd_above)


def take_folder(vault: BackupStore, target: Target, programs: Programs) -> Backup:
    """Take a backup as the version before zstd did of a large database: a folder of files."""
    dump = take(vault, target, programs).path
    dump.unlink()
    arguments = ["--format=directory", "--jobs=2", f"--file={dump}"]
    programs.run(programs.find("pg_dump", 18), *arguments, conninfo(target, "test"), target=target)
    path = manifest.beside(dump)
    about = json.loads(path.read_text())
    del about["dump_format"], about["by_hand"]
    about |= {"format": 2, "size_bytes": manifest.size_bytes(dump), "sha256": manifest.sha256(dump)}
    path.write_text(json.dumps(about))
    return manifest.read(dump)
