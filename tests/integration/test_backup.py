"""A backup exists when it is complete, read back, and described; and only then."""

from __future__ import annotations

import json
import os
import stat
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset import backup, manifest
from backset.errors import StepFailedError
from backset.programs import Programs
from backset.target import Target
from backset.vault import Vault

if TYPE_CHECKING:
    from backset.process import Child

ROWS = """
CREATE TABLE users AS SELECT generate_series(1, 7) AS id;
CREATE SCHEMA other; CREATE TABLE other.things AS SELECT generate_series(1, 3) AS id;
CREATE TABLE alembic_version (version_num varchar(32) NOT NULL);
INSERT INTO alembic_version VALUES ('cf94a9256bdb');
"""
EMPTY = "DROP SCHEMA public CASCADE; DROP SCHEMA other CASCADE; CREATE SCHEMA public"


@pytest.fixture
def target(database_url: str) -> Target:
    """A database with rows in two schemas, at a revision."""
    with psycopg.connect(database_url) as session:
        session.execute(ROWS)
    return Target.parse(database_url)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """The programs, with no PostgreSQL on PATH."""
    return Programs({"PATH": "/nowhere"}, tmp_path)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """The folder of the backups."""
    return Vault.of(tmp_path / "backups", "app")


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A script_location with a stale folder in it."""
    folder = tmp_path / "alembic"
    (folder / "versions_backup").mkdir(parents=True)
    (folder / "env.py").write_text("# env")
    (folder / "versions_backup" / "001.py").write_text("# old")
    return folder


def test_dump_manifest_and_scripts(
    vault: Vault, target: Target, programs: Programs, scripts: Path
) -> None:
    """The manifest says what the dump holds; the stale scripts are kept too; files are private."""
    taken = backup.take(vault, target, lambda: [scripts], programs)
    assert taken.dump.name.endswith("Z-cf94a9256bdb.dump")
    about = json.loads(taken.dump.with_suffix(".json").read_text())
    assert about["rows"] == {"users": 7, "other.things": 3, "alembic_version": 1}
    assert about["revisions"] == ["cf94a9256bdb"]
    assert about["database"] == target.database
    assert about["server_version"].startswith("18.")
    assert about["tool_version"].startswith("pg_dump (PostgreSQL) 18.")
    assert about["sha256"] == manifest.sha256(taken.dump)
    assert about["size_bytes"] == taken.dump.stat().st_size
    with tarfile.open(taken.scripts) as tar:
        assert {"alembic/env.py", "alembic/versions_backup/001.py"} <= set(tar.getnames())
    assert stat.S_IMODE(vault.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in vault.folder.iterdir()} == {0o600}
    assert vault.list() == [taken]
    taken.check()


def test_the_counts_are_of_the_dumps_own_snapshot(
    vault: Vault, target: Target, programs: Programs
) -> None:
    """Rows written while pg_dump runs are in neither, so a restore agrees with the manifest."""

    class Late(Programs):
        """Another session commits a row after the snapshot and before pg_dump reads."""

        def start(self, program: Path, *arguments: str, target: Target | None = None) -> Child:
            if program.name == "pg_dump" and target is not None:
                with psycopg.connect(**target.params) as other:  # type: ignore[arg-type]
                    other.execute("INSERT INTO users VALUES (99)")
            return super().start(program, *arguments, target=target)

    taken = backup.take(vault, target, list, Late(programs.env, programs.cwd))
    with psycopg.connect(**target.params) as session:  # type: ignore[arg-type]
        assert session.execute("SELECT count(*) FROM users").fetchone() == (8,)
        session.execute(EMPTY)
    assert taken.manifest.rows["users"] == 7
    backup.load(taken, target, 18, programs)


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_dump_is_refused(
    vault: Vault, target: Target, programs: Programs, damage: str
) -> None:
    """One missing byte, or one other byte."""
    taken = backup.take(vault, target, list, programs)
    content = taken.dump.read_bytes()
    taken.dump.write_bytes(content[:-1] if damage == "cut" else content[:-1] + b"?")
    with pytest.raises(StepFailedError, match="was cut or changed"):
        taken.check()


def test_a_dump_that_restores_otherwise_is_told(
    vault: Vault, target: Target, programs: Programs
) -> None:
    """Row counts are compared with the manifest, table by table."""
    taken = backup.take(vault, target, list, programs)
    path = taken.dump.with_suffix(".json")
    path.write_text(path.read_text().replace('"users": 7', '"users": 8'))
    (changed,) = vault.list()
    with psycopg.connect(**target.params) as session:  # type: ignore[arg-type]
        session.execute(EMPTY)
    with pytest.raises(StepFailedError, match="users 7 of 8"):
        backup.load(changed, target, 18, programs)


def test_rows_that_the_role_may_not_see_stop_the_backup(
    vault: Vault, target: Target, programs: Programs
) -> None:
    """Row security would make counts and dump short; the earlier backup stays good."""
    good = backup.take(vault, target, list, programs)
    with psycopg.connect(**target.params) as session:  # type: ignore[arg-type]
        session.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
        session.execute("CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA other TO reader")
        session.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public, other TO reader")
    reader = Target.parse(target.url.replace("postgres@", "reader@"))
    try:
        with pytest.raises(psycopg.Error, match="row-level security policy for table"):
            backup.take(vault, reader, list, programs)
    finally:
        with psycopg.connect(**target.params) as session:  # type: ignore[arg-type]
            session.execute("DROP OWNED BY reader; DROP ROLE reader")
    assert vault.list() == [good]
    assert {each.name.partition(".dump")[0] for each in vault.folder.iterdir()} == {
        good.name,
        f"{good.name}.json",
        f"{good.name}.scripts.tar.gz",
    }


def test_what_a_killed_run_left_behind_goes_with_the_next(
    vault: Vault, target: Target, programs: Programs
) -> None:
    """A partial dump marks everything of its stem as rubbish."""
    vault.folder.mkdir(parents=True)
    for suffix in (".dump.partial", ".json", ".scripts.tar.gz"):
        (vault.folder / f"20260101T000000.000Z-x{suffix}").write_text("")
    assert vault.list() == []
    taken = backup.take(vault, target, list, programs)
    assert {each.name.startswith(taken.name) for each in vault.folder.iterdir()} == {True}


def test_a_full_disk_is_one_line_and_leaves_the_rest_alone(
    vault: Vault, target: Target, programs: Programs
) -> None:
    """pg_dump's own words; the earlier backup is untouched."""
    good = backup.take(vault, target, list, programs)
    size = 4
    with psycopg.connect(**target.params) as session:  # type: ignore[arg-type]
        session.execute(
            "CREATE TABLE noise AS SELECT gen_random_uuid() FROM generate_series(1, 200000)"
        )

    class Limited(Programs):
        def start(self, program: Path, *arguments: str, target: Target | None = None) -> Child:
            limit = [f"--fsize={size * 1024}", "--", str(program)]
            return super().start(Path("/usr/bin/prlimit"), *limit, *arguments, target=target)

    if not os.access("/usr/bin/prlimit", os.X_OK):
        pytest.skip("prlimit is not here")
    with pytest.raises(StepFailedError, match="failed"):
        backup.take(vault, target, list, Limited(programs.env, programs.cwd))
    assert vault.list() == [good]
    good.check()


def test_no_fitting_program_is_said_with_what_was_found(programs: Programs) -> None:
    """A newer pg_dump is not taken in place of the right one."""
    with pytest.raises(StepFailedError, match=r"there is no pg_dump 9 for this server"):
        programs.find("pg_dump", 9)
