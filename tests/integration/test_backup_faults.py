"""What can go wrong with a backup is told apart, and leaves the earlier backups alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from dataclasses import replace
from typing import IO, TYPE_CHECKING

import psutil
import psycopg
import pytest

from backset.backups import manifest, restoration
from backset.backups.store import Choice
from backset.connections.session import connect
from backset.errors import RefusedError, StepFailedError
from backset.servers.programs import Programs
from tests.backups import EMPTY, NEVER, change, run, take

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.backups.manifest import Backup
    from backset.backups.store import BackupStore
    from backset.connections.target import Target
    from backset.process.process import Child

NOISE = "CREATE TABLE noise AS SELECT gen_random_uuid() FROM generate_series(1, 100000)"


@pytest.fixture
def small_disk(vault: BackupStore) -> Iterator[int]:
    """The folder of the backups on a file system of its own; the value is its size in bytes."""
    size = 256 * 1024
    vault.folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(vault.folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let us mount a small file system")
    yield size
    subprocess.run(["umount", str(vault.folder)], check=True)


def only(vault: BackupStore, good: Backup) -> None:
    """Hold that `good` is good, and that nothing of another backup is there."""
    assert vault.list() == [good]
    good.check()
    names = {each.name for each in vault.folder.iterdir()}
    assert names == {good.path.name, f"{good.name}.json", f"{good.name}.scripts.tar.gz"}


def fill(path: Path) -> None:
    """Write a file until its disk is full, to the last page."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1024)


@pytest.mark.parametrize("above", [NEVER, 0])
def test_a_disk_that_is_full_for_pg_dump(
    small_disk: int, vault: BackupStore, target: Target, programs: Programs, above: int
) -> None:
    """Whoever writes, pg_dump or zstd: one line names the disk; what was written is gone."""
    good = take(vault, target, programs, zstd_above=above)
    run(target, NOISE)
    with pytest.raises(StepFailedError, match=r"the disk of .* is full: ") as error:
        take(vault, target, programs, zstd_above=above)
    assert "No space left on device" in error.value.what
    only(vault, good)


def test_a_disk_that_is_full_for_the_manifest(
    small_disk: int, vault: BackupStore, target: Target, programs: Programs
) -> None:
    """The dump still had room, and what we write after it has none."""
    good = take(vault, target, programs)

    class Filling(Programs):
        """Something else fills the disk when pg_restore has read the dump."""

        def check(self, child: Child, program: Path, target: Target | None) -> None:
            super().check(child, program, target)
            if program.name == "pg_restore":
                fill(filler)

    change(target)
    filler = vault.folder / "something else"
    with pytest.raises(StepFailedError, match=r"the disk of .* is full: No space left on device"):
        take(vault, target, Filling(programs.env, programs.cwd))
    filler.unlink()
    only(vault, good)


@pytest.mark.parametrize(
    ("signum", "words"),
    [
        (signal.SIGKILL, "pg_dump was ended by SIGKILL"),
        (signal.SIGTERM, "terminated by user|ended by SIGTERM"),  # its words, once it has begun
    ],
)
@pytest.mark.parametrize("above", [NEVER, 0])
def test_a_pg_dump_that_is_killed(
    vault: BackupStore,
    target: Target,
    programs: Programs,
    signum: signal.Signals,
    words: str,
    above: int,
) -> None:
    """The line says by which signal; the memory killer of the system sends KILL."""
    good = take(vault, target, programs)
    held = psycopg.connect(**target.params)  # type: ignore[arg-type]

    class Killed(Programs):
        """Somebody else ends pg_dump while it runs."""

        def start(
            self,
            program: Path,
            *arguments: str,
            target: Target | None = None,
            **ends: IO[bytes] | None,
        ) -> Child:
            takes = program.name == "pg_dump" and target is not None
            if takes:  # it waits for the lock, so it cannot end before it is ended
                held.execute("LOCK TABLE users")
            child = super().start(program, *arguments, target=target, **ends)
            if takes:
                children = psutil.Process().children()
                (pg_dump,) = [each for each in children if each.name() == "pg_dump"]
                pg_dump.send_signal(signum)
                while pg_dump.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.01)
                held.rollback()  # the rows of that table are counted, too
            return child

    with held, pytest.raises(StepFailedError, match=words):
        take(vault, target, Killed(programs.env, programs.cwd), zstd_above=above)
    only(vault, good)


def test_a_pg_restore_that_is_killed(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """What was not read back whole is no backup, though pg_dump and zstd had done their part."""
    good = take(vault, target, programs)
    run(target, NOISE)

    class Killed(Programs):
        """Somebody else ends pg_restore while it reads what is being written."""

        def start(
            self,
            program: Path,
            *arguments: str,
            target: Target | None = None,
            **ends: IO[bytes] | None,
        ) -> Child:
            child = super().start(program, *arguments, target=target, **ends)
            if program.name == "pg_restore":
                os.kill(child.session_id, signal.SIGKILL)
            return child

    with pytest.raises(StepFailedError, match="pg_restore was ended by SIGKILL"):
        take(vault, target, Killed(programs.env, programs.cwd), zstd_above=0)
    only(vault, good)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[:-1], r"was cut: it has \d+ of \d+ bytes"),
        (lambda content: content[:-1] + b"?", "was changed: its size is right, its SHA-256 is not"),
        (lambda content: content + b"?", r"was changed: it has \d+ bytes in place of \d+"),
    ],
    ids=["cut", "edited", "longer"],
)
def test_a_damaged_dump(
    vault: BackupStore, target: Target, programs: Programs, damage: object, words: str
) -> None:
    """One byte less, another byte, one byte more."""
    assert callable(damage)
    good = take(vault, target, programs)
    change(target)
    bad = take(vault, target, programs)
    bad.path.write_bytes(damage(bad.path.read_bytes()))
    with pytest.raises(StepFailedError, match=words):
        bad.check()
    good.check()


def test_the_manifest_of_another_dump(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Two manifests that changed places are not taken for two damaged dumps."""
    one = take(vault, target, programs)
    run(target, "DELETE FROM users")
    two = take(vault, target, programs)
    manifest.beside(two.path).write_text(manifest.beside(one.path).read_text())
    with pytest.raises(StepFailedError, match=f"is the manifest of another dump, {one.name}"):
        vault.find(two.name).check()
    vault.find(one.name).check()


def test_a_renamed_backup_is_still_good(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """A backup is its content, not its name."""
    taken = take(vault, target, programs)
    for suffix in (".dump", ".json"):
        taken.path.with_suffix(suffix).rename(vault.folder / f"golden{suffix}")
    vault.find("golden").check()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "has no manifest beside it"),
        ("", "cannot be read: it is damaged"),
        ("[]", "cannot be read: Expected `object`, got `array`"),
        ('{"format": 2}', "cannot be read: Object missing required field `database`"),
        (
            '{"format": 2, "rows": [1]}',
            "cannot be read: Expected `object`, got `array` - at `$.rows`",
        ),
        ('{"format": 99}', "has format 99"),
    ],
)
def test_a_manifest_that_cannot_be_read(
    vault: BackupStore, target: Target, programs: Programs, text: str | None, words: str
) -> None:
    """It is named, with what to do; the backups beside it are listed as ever."""
    good, bad = take(vault, target, programs), take(vault, target, programs)
    path = manifest.beside(bad.path)
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(StepFailedError, match=re.escape(words)):
        vault.find(bad.name)
    assert vault.list() == [good]
    (line,) = vault.unreadable()
    assert words in line
    assert " → " in line


def test_a_manifest_that_was_edited_by_hand(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Of each value it is said what it must be; no other kind of error comes out."""
    path = manifest.beside(take(vault, target, programs).path)
    content = json.loads(path.read_text())
    edits: list[tuple[str, object, str]] = [
        ("taken_at", "2026-11-22T12:00:00", "Expected `datetime` with a timezone component"),
        ("taken_at", "yesterday", "Invalid RFC3339 encoded datetime"),
        ("size_bytes", "12", "Expected `int`, got `str` - at `$.size_bytes`"),
        ("rows", {"users": -1}, "Expected `int` >= 0"),
        ("rows", None, "Expected `object`, got `null` - at `$.rows`"),
        ("server_version", "new", "Expected `str` matching regex"),
        ("revisions", "head", "Expected `array`, got `str` - at `$.revisions`"),
        ("left_out", 1, "Expected `array`, got `int` - at `$.left_out`"),
        ("left_out", [[]], "Expected `array` of length >= 1 - at `$.left_out[0]`"),
        ("format", "4", "Expected `int`, got `str` - at `$.format`"),
    ]
    for key, edited, words in edits:
        path.write_text(json.dumps({**content, key: edited}))
        (line,) = vault.unreadable()
        assert f"{path} cannot be read: {words}" in line
        assert " → correct that, or choose another one" in line


def test_a_manifest_of_the_earlier_format(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Backups from before the inventory are listed and restored; their rows are compared."""
    path = manifest.beside(take(vault, target, programs).path)
    content = json.loads(path.read_text())
    del content["objects"], content["name"]
    path.write_text(json.dumps({**content, "format": 1}))
    (earlier,) = vault.list()
    earlier.check()
    run(target, EMPTY)
    restoration.load(earlier, target, 18, programs)
    path.write_text(path.read_text().replace('"users": 7', '"users": 8'))
    run(target, EMPTY)
    with pytest.raises(StepFailedError, match="users has 7 of 8 rows"):
        restoration.load(vault.find(earlier.name), target, 18, programs)


def test_a_dump_that_restores_otherwise(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Rows and objects are compared with the manifest, each difference in words."""
    path = manifest.beside(take(vault, target, programs).path)
    text = path.read_text().replace('"users": 7', '"users": 8')
    path.write_text(text.replace('"table other.things"', '"table other.thing"'))
    run(target, EMPTY)
    words = "users has 7 of 8 rows, table other.thing is missing, table other.things is new"
    with pytest.raises(StepFailedError, match=words):
        restoration.load(manifest.read(path.with_suffix(".dump")), target, 18, programs)


def test_what_no_hash_has_is_told(vault: BackupStore, target: Target, programs: Programs) -> None:
    """A comment that is lost is said; nothing is, where all came or the manifest cannot tell."""
    run(target, "COMMENT ON TABLE users IS 'people'")
    taken, told = take(vault, target, programs), list[str]()
    run(target, EMPTY)
    restoration.load(taken, target, 18, programs, notice=told.append)
    assert told == []
    path = manifest.beside(taken.path)
    rules, major, digest = taken.manifest.schema_digest.split(":")
    path.write_text(path.read_text().replace(digest, "0" * len(digest)))
    run(target, EMPTY)
    restoration.load(manifest.read(taken.path), target, 18, programs, notice=told.append)
    (line,) = told
    assert taken.name in line
    with connect(target, "test") as session:
        assert not restoration.is_unlike(taken.manifest, session)
        session.execute("COMMENT ON TABLE users IS NULL")
        assert restoration.is_unlike(taken.manifest, session)
        for other in ("", f"other:{major}:{digest}", f"{rules}:17:{digest}"):
            about = replace(taken.manifest, schema_digest=other)
            assert not restoration.is_unlike(about, session)


def test_another_database_and_a_newer_server_are_refused(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Both reasons at once, each with its remedy, before anything is created."""
    taken = take(vault, target, programs)
    with pytest.raises(RefusedError) as error:
        Choice(store=vault, name=taken.name, database="app").backup("", 16)
    other, newer = error.value.lines()
    assert f"is a backup of {target.database}" in other
    assert "--into app" in other
    assert "was taken from PostgreSQL 18, and this is 16" in newer
    assert Choice(store=vault, name=taken.name, database=None).backup("", 18) == taken
    server = taken.manifest.server_id
    assert Choice(store=vault, name=None, database=target.database).backup(server, 19) == taken


@pytest.mark.parametrize("above", [NEVER, 0])
def test_an_interruption_leaves_no_half_backup(
    vault: BackupStore, target: Target, programs: Programs, above: int
) -> None:
    """At any moment: what was written before goes, and the earlier backup stays."""
    good = take(vault, target, programs)
    run(target, NOISE)
    moment, sent = threading.Event(), threading.Event()

    class Slow(Programs):
        def start(
            self,
            program: Path,
            *arguments: str,
            target: Target | None = None,
            **ends: IO[bytes] | None,
        ) -> Child:
            if program.name == "pg_restore":
                moment.set()
                sent.wait()
            return super().start(program, *arguments, target=target, **ends)

    def interrupt() -> None:
        moment.wait()
        os.kill(os.getpid(), signal.SIGINT)
        sent.set()

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        take(vault, target, Slow(programs.env, programs.cwd), zstd_above=above)
    only(vault, good)
