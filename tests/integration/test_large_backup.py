"""Large databases: zstd around the dump, or in it; and folders, as an earlier version made them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from backset.backups import dumps, manifest, restoration
from backset.connections.target import Target
from backset.errors import StepFailedError
from backset.servers.programs import Programs, installations
from tests.backups import EMPTY, NEVER, ROWS, run, take, take_folder
from tests.clusters import running

if TYPE_CHECKING:
    from pathlib import Path

    from backset.backups.store import BackupStore

MANY = """
CREATE TABLE many (id int PRIMARY KEY, doc jsonb, note text);
INSERT INTO many SELECT n, jsonb_build_object('n', n, 'md5', md5(n::text)), repeat(md5(n::text), 3)
    FROM generate_series(1, 30000) AS n
"""


def test_a_large_database_is_dumped_through_zstd(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """The manifest says so; name, file name and path find it; it loads as it was."""
    run(target, MANY)
    taken = take(vault, target, programs, zstd_above=0)
    assert taken.path.name == f"{taken.name}.dump.zst"
    content = taken.path.read_bytes()
    about = json.loads((vault.folder / f"{taken.name}.json").read_text())
    assert about["dump_format"] == "custom, in zstd"
    assert about["sha256"] == hashlib.sha256(content).hexdigest()
    assert about["size_bytes"] == len(content)
    assert {stat.S_IMODE(each.stat().st_mode) for each in vault.folder.iterdir()} == {0o600}
    assert taken.scripts.exists()
    for name in (taken.name, f"{taken.name}.dump", taken.path.name, str(taken.path)):
        assert vault.find(name) == taken
    assert vault.list() == [taken]
    taken.check()
    run(target, f"{EMPTY}; DROP TABLE IF EXISTS many")
    restoration.load(taken, target, 18, programs)


def test_zstd_takes_no_more_room_than_gzip(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """By more than a fifth, that is."""
    run(target, MANY)
    plain = take(vault, target, programs)
    packed = take(vault, target, programs, zstd_above=0)
    assert packed.manifest.size_bytes <= 1.2 * plain.manifest.size_bytes


@pytest.mark.parametrize("above", [0, NEVER])
def test_a_dump_is_loaded_by_the_command_of_its_manifest(
    vault: BackupStore, target: Target, programs: Programs, above: int
) -> None:
    """Without backset, in the folder of the dump; DATABASE stands for the empty database."""
    run(target, MANY)
    taken = take(vault, target, programs, zstd_above=above)
    command = taken.manifest.by_hand
    if "zstd" in command and shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    run(target, f"{EMPTY}; DROP TABLE IF EXISTS many")
    folder = programs.find("pg_restore", 18).parent
    env = {"PATH": f"{folder}:{os.defpath}", "DATABASE": target.url}
    command = command.replace("DATABASE", '"$DATABASE"')
    subprocess.run(["sh", "-ec", command], cwd=vault.folder, env=env, check=True)
    restoration.check(taken, target)


@pytest.mark.parametrize(("major", "installation"), installations().items())
def test_whether_pg_dump_has_zstd_is_found_without_a_server(
    tmp_path: Path, major: int, installation: Path
) -> None:
    """As a dump with zstd of a server of that version shows; where it has, it is used.

    Then the dump is one that pg_restore reads alone, with several processes.
    """
    programs = Programs({"PATH": "/nowhere"}, tmp_path)
    pg_dump = installation / "bin" / "pg_dump"
    with running(major) as made:
        target = Target.parse(made.url("postgres"))
        run(target, ROWS + MANY)
        tried = [str(pg_dump), "-Fc", "--compress=zstd", f"--dbname={target.url}", "-f", os.devnull]
        said = subprocess.run(tried, capture_output=True, text=True, check=False).stderr
        has = "compress" not in said  # it may fail in another way: a null device cannot be synced
        assert programs.has_zstd(pg_dump) == has
        form = dumps.choose(1, 0, pg_dump, programs)
        assert form == (dumps.NATIVE if has else dumps.PACKED)
        path = tmp_path / f"x{form.suffix}"
        path.touch()
        both = pg_dump, pg_dump.with_name("pg_restore")
        options = (f"--dbname={target.url}",)
        with dumps.written(form, path, programs, both, *options, target=target) as finish:
            assert finish().file == hashlib.sha256(path.read_bytes()).hexdigest()
        run(target, f"{EMPTY}; DROP TABLE IF EXISTS many")
        into = ("--exit-on-error", "--dbname", target.url)
        assert bool(dumps.jobs(path)) is False  # it is small
        several = ("--jobs=2",) if has else ()
        dumps.read(path, both[1], *into, *several, programs=programs, target=target)
        run(target, "DO 'BEGIN ASSERT (SELECT count(*) FROM many) = 30000; END'")


def test_a_folder_of_an_earlier_version_is_still_a_backup(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """It is listed, checked and loaded; its hash can be had with sha256sum."""
    taken = take_folder(vault, target, programs)
    lines = subprocess.check_output(
        ["sha256sum", *sorted(each.name for each in taken.path.iterdir())], cwd=taken.path
    )
    assert taken.manifest.sha256 == hashlib.sha256(lines).hexdigest()
    assert vault.list() == [taken]
    vault.find(f"{taken.path}/").check()
    run(target, EMPTY)
    restoration.load(taken, target, 18, programs)


def test_one_byte_less_in_one_file_of_a_folder_is_seen(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """So is a file that is gone, or one that was not there."""
    taken = take_folder(vault, target, programs)
    data = max(taken.path.glob("*.dat.gz"))
    content = data.read_bytes()
    data.write_bytes(content[:-1])
    with pytest.raises(StepFailedError, match="was cut: "):
        taken.check()
    data.write_bytes(content)
    data.rename(data.with_name("9999.dat.gz"))
    with pytest.raises(StepFailedError, match="its size is right, its SHA-256 is not"):
        taken.check()
    data.with_name("9999.dat.gz").rename(data)
    taken.check()
    (taken.path / "another").write_text("x")
    with pytest.raises(StepFailedError, match=r"was changed: it has \d+ bytes"):
        taken.check()


def test_several_processes_load_a_dump_that_is_worth_it(tmp_path: Path) -> None:
    """One that comes through zstd is not theirs: they could not seek in it."""
    sizes = {"small.dump": 1, "large.dump": 10**8, "large.dump.zst": 10**8}
    for name, size in sizes.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    assert {name for name in sizes if dumps.jobs(tmp_path / name)} == {"large.dump"}


def test_a_manifest_in_another_place_is_found_beside_its_dump(
    vault: BackupStore, target: Target, programs: Programs, tmp_path: Path
) -> None:
    """A backup that was given another name, and lies elsewhere, is still one."""
    taken = take(vault, target, programs, zstd_above=0)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in (taken.path, manifest.beside(taken.path)):
        path.rename(elsewhere / path.name.replace(taken.name, "golden"))
    found = vault.find(str(elsewhere / "golden"))
    assert found.path == elsewhere / "golden.dump.zst"
    found.check()
