"""A backup exists when it is complete, read back, and described; and only then."""

from __future__ import annotations

import hashlib
import json
import stat
import tarfile
from typing import IO, TYPE_CHECKING

import psycopg
import pytest

from backset.backups import manifest, restoration
from backset.connections.target import Target
from backset.errors import StepFailedError
from backset.servers.programs import Programs
from tests.backups import EMPTY, NEVER, ROWS, run, take
from tests.clusters import running

if TYPE_CHECKING:
    from pathlib import Path

    from backset.backups.store import BackupStore
    from backset.process.process import Child


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A script_location with a stale folder in it."""
    folder = tmp_path / "alembic"
    (folder / "versions_backup").mkdir(parents=True)
    (folder / "env.py").write_text("# env")
    (folder / "versions_backup" / "001.py").write_text("# old")
    return folder


def test_dump_manifest_and_scripts(
    vault: BackupStore, target: Target, programs: Programs, scripts: Path
) -> None:
    """The manifest says what the dump holds; the stale scripts are kept too; files are private."""
    taken = take(vault, target, programs, scripts)
    assert taken.path.name.endswith("Z-cf94a9256bdb.dump")
    about = json.loads(manifest.beside(taken.path).read_text())
    assert about["rows"] == {"users": 7, "other.things": 3, "alembic_version": 1}
    assert about["objects"].keys() == {
        "schema other",
        "table other.things",
        "table public.users",
        "table public.alembic_version",
    }
    assert about["revisions"] == ["cf94a9256bdb"]
    assert about["database"] == target.database
    assert about["name"] == taken.name
    assert about["dump_format"] == "custom, with gzip in it"
    assert about["server_version"].startswith("18.")
    assert about["tool_version"].startswith("pg_dump (PostgreSQL) 18.")
    assert about["sha256"] == hashlib.sha256(taken.path.read_bytes()).hexdigest()
    assert about["size_bytes"] == taken.path.stat().st_size
    with tarfile.open(taken.scripts) as tar:
        assert {"alembic/env.py", "alembic/versions_backup/001.py"} <= set(tar.getnames())
    assert stat.S_IMODE(vault.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in vault.folder.iterdir()} == {0o600}
    assert vault.list() == [taken]
    taken.check()


def test_the_counts_are_of_the_dumps_own_snapshot(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Rows written while pg_dump runs are in neither, so a restore agrees with the manifest."""

    class Late(Programs):
        """Another session commits a row after the snapshot and before pg_dump reads."""

        def start(
            self,
            program: Path,
            *arguments: str,
            target: Target | None = None,
            **ends: IO[bytes] | None,
        ) -> Child:
            if program.name == "pg_dump" and target is not None:
                run(target, "INSERT INTO users VALUES (99)")
            return super().start(program, *arguments, target=target, **ends)

    for above in (NEVER, 0):
        taken = take(vault, target, Late(programs.env, programs.cwd), zstd_above=above)
        assert manifest.read(taken.path).manifest.rows["users"] == (7 if above else 8)
    with psycopg.connect(**target.params) as session:  # type: ignore[arg-type]
        assert session.execute("SELECT count(*) FROM users").fetchone() == (9,)
        session.execute(EMPTY)
    restoration.load(taken, target, 18, programs)


def test_rows_that_the_role_may_not_see_stop_the_backup(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Row security would make counts and dump short; the earlier backup stays good."""
    good = take(vault, target, programs)
    run(
        target,
        """ALTER TABLE users ENABLE ROW LEVEL SECURITY;
        CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA other TO reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA public, other TO reader""",
    )
    reader = Target.parse(target.url.replace("postgres@", "reader@"))
    try:
        with pytest.raises(psycopg.Error, match="row-level security policy for table"):
            take(vault, reader, programs)
    finally:
        run(target, "DROP OWNED BY reader; DROP ROLE reader")
    assert vault.list() == [good]
    assert {each.name.partition(".dump")[0] for each in vault.folder.iterdir()} == {
        good.name,
        f"{good.name}.json",
        f"{good.name}.scripts.tar.gz",
    }


class Newest(Programs):
    """Finds PostgreSQL 18's programs for a server of any version."""

    def find(self, name: str, major: int) -> Path:
        """As ever, but not for less than 18."""
        return super().find(name, max(major, 18))


@pytest.mark.parametrize("above", [NEVER, 0])
def test_what_newer_programs_wrote_loads_into_an_older_server(
    vault: BackupStore, programs: Programs, above: int
) -> None:
    """Though their pg_restore sets what a server before 17 does not know; by whom, it says."""
    newest = Newest(programs.env, programs.cwd)
    with running(16) as cluster:
        target = Target.parse(cluster.url("postgres"))
        run(target, ROWS)
        taken = take(vault, target, newest, zstd_above=above)
        assert taken.manifest.tool_major == 18
        run(target, EMPTY)
        restoration.load(taken, target, 16, programs)
        with pytest.raises(StepFailedError, match="already exists"):
            restoration.load(taken, target, 16, programs)


def test_nothing_is_committed_of_a_dump_that_ends_too_soon(
    vault: BackupStore, programs: Programs, tmp_path: Path
) -> None:
    """In one transaction, also where psql runs what pg_restore could write of it."""
    newest = Newest(programs.env, programs.cwd)
    with running(16) as cluster:
        target = Target.parse(cluster.url("postgres"))
        run(target, f"{ROWS}; INSERT INTO users SELECT n FROM generate_series(1, 200000) n")
        taken = take(vault, target, newest)
        run(target, EMPTY)
        content, listing = taken.path.read_bytes(), tmp_path / "toc"
        taken.path.write_bytes(content[: len(content) * 2 // 3])
        pg_restore = programs.find("pg_restore", 18)
        programs.run(pg_restore, "--list", "--file", str(listing), str(taken.path))
        with pytest.raises(StepFailedError):
            restoration.fill(taken, target, 16, programs, entries=listing)
        with psycopg.connect(**target.params) as session:  # type: ignore[arg-type]
            assert session.execute("SELECT to_regclass('users')").fetchone() == (None,)


def test_what_an_application_adds_is_no_difference_and_what_it_takes_is(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Where it may write already; what cannot be counted is none that agrees."""
    taken = take(vault, target, programs)
    run(target, "INSERT INTO users VALUES (8)")
    restoration.check(taken, target, is_in_use=True)
    with pytest.raises(StepFailedError, match="users has 8 of 7 rows"):
        restoration.check(taken, target)
    run(target, "DELETE FROM users WHERE id > 5")
    with pytest.raises(StepFailedError, match="users has 5 of 7 rows"):
        restoration.check(taken, target, is_in_use=True)


def test_rows_that_cannot_be_counted_are_a_difference(
    vault: BackupStore, target: Target, programs: Programs, superuser: psycopg.Connection
) -> None:
    """Of a table that the manifest has, nobody can say that all came."""
    taken = take(vault, target, programs)
    role = f"{target.database}_r"
    superuser.execute(f"CREATE ROLE {role} LOGIN".encode())
    reader = Target.parse(target.url.replace("postgresql://postgres@", f"postgresql://{role}@"))
    try:
        with pytest.raises(StepFailedError, match="users cannot be counted by this role"):
            restoration.check(taken, reader)
    finally:
        superuser.execute(f"DROP ROLE {role}".encode())


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_a_killed_run_left_behind_goes_with_the_next(
    vault: BackupStore, target: Target, programs: Programs, *, is_folder: bool
) -> None:
    """A partial dump marks everything of its stem as rubbish."""
    vault.folder.mkdir(parents=True)
    for suffix in (".json", ".scripts.tar.gz"):
        (vault.folder / f"20260101T000000.000Z-x{suffix}").write_text("")
    partial = vault.folder / "20260101T000000.000Z-x.dump.partial"
    if is_folder:
        partial.mkdir()
        partial = partial / "toc.dat"
    partial.write_text("")
    assert vault.list() == []
    taken = take(vault, target, programs)
    assert {each.name.startswith(taken.name) for each in vault.folder.iterdir()} == {True}
