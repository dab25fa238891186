"""Old backups go, and the last good one never does."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from backset.backups import manifest
from backset.described import plain
from tests.backups import NEVER, change, run, take, take_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.backups.manifest import Backup
    from backset.backups.store import BackupStore
    from backset.connections.target import Target
    from backset.servers.programs import Programs


@pytest.fixture
def five(vault: BackupStore, target: Target, programs: Programs) -> list[Backup]:
    """Five backups of one server, the oldest first; one is a folder, one a dump in zstd."""
    first, folder = take(vault, target, programs), take_folder(vault, target, programs)
    found = [first, folder, take(vault, target, programs, zstd_above=0)]
    for _ in range(2):
        change(target)
        found.append(take(vault, target, programs))
    return found


def damage(backup: Backup) -> None:
    """Cut a dump."""
    files = sorted(backup.path.iterdir()) if backup.path.is_dir() else [backup.path]
    files[0].write_bytes(files[0].read_bytes()[:-1])


def names(vault: BackupStore) -> set[str]:
    """Return what stands in the folder, without suffixes."""
    return {
        each.name.split(".dump")[0].split(".json")[0].split(".scripts")[0]
        for each in vault.folder.iterdir()
    }


def test_the_newest_stay(vault: BackupStore, five: list[Backup]) -> None:
    """With their manifests and scripts; of the others nothing is left."""
    server = five[0].manifest.server_id
    assert vault.prune(5, server) == 0
    assert vault.prune(2, server) == 3
    assert vault.list() == five[3:]
    assert names(vault) == {each.name for each in five[3:]}


def test_each_server_has_its_own(vault: BackupStore, five: list[Backup]) -> None:
    """Another server may have a database of that name."""
    path = manifest.beside(five[0].path)
    path.write_text(json.dumps({**plain(five[0].manifest), "server_id": "7"}))
    assert vault.prune(1, five[1].manifest.server_id) == 3
    assert [each.name for each in vault.list()] == [five[0].name, five[4].name]


def test_what_a_kept_database_was_taken_from_stays(vault: BackupStore, five: list[Backup]) -> None:
    """A protected name is never removed."""
    assert vault.prune(1, five[0].manifest.server_id, frozenset({five[1].name})) == 3
    assert vault.list() == [five[1], five[4]]


@pytest.mark.parametrize("newest_good", range(4))
def test_the_newest_good_one_stays(
    vault: BackupStore, five: list[Backup], newest_good: int
) -> None:
    """Where all newer ones were damaged, it stays beside them."""
    for each in five[newest_good + 1 :]:
        damage(each)
    vault.prune(1, five[0].manifest.server_id)
    assert vault.list() == [five[newest_good], five[4]]
    five[newest_good].check()


def test_unreadable_ones_are_left_alone(vault: BackupStore, five: list[Backup]) -> None:
    """What cannot be read belongs to nobody: it is neither counted nor removed."""
    manifest.beside(five[0].path).write_text("")
    assert vault.prune(4, five[1].manifest.server_id) == 0
    assert five[0].path.exists()


@pytest.mark.parametrize("at", range(1, 9))
def test_an_interruption_between_deletions(
    vault: BackupStore, five: list[Backup], at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of its system calls: what lists is whole, and the next run removes the rest."""
    calls = iter(range(1, 100))

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if next(calls) == at:
                raise KeyboardInterrupt
            return real(*arguments, **named)

        return call

    with monkeypatch.context() as patch:
        for name in ("rename", "unlink", "fsync"):
            patch.setattr(os, name, dying(getattr(os, name)))
        patch.setattr(shutil, "rmtree", dying(shutil.rmtree))
        with pytest.raises(KeyboardInterrupt):
            vault.prune(2, five[0].manifest.server_id)
    for each in vault.list():
        each.check()
        assert each.scripts.exists()
    assert {each.path for each in five[3:]} <= {each.path for each in vault.list()}
    with vault.open():
        pass
    assert names(vault) == {each.name for each in vault.list()}
    vault.prune(2, five[0].manifest.server_id)
    assert vault.list() == five[3:]


def test_no_state_is_stored_twice(vault: BackupStore, target: Target, programs: Programs) -> None:
    """A second name of one file, in each format; each can go, and the other one stays good."""
    for above in (NEVER, 0):
        first = take(vault, target, programs, zstd_above=above)
        second = take(vault, target, programs, zstd_above=above)
        assert first.path.samefile(second.path)
        assert vault.twin(second) == first
        assert second.manifest.number == first.manifest.number + 1
        second.check()
        first.path.unlink()
        second.check()
        change(target)


def test_another_state_has_a_file_of_its_own(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """So has the same one of other objects: by their oids a run in place knows what stands."""
    first = take(vault, target, programs)
    run(target, "CREATE TABLE new (LIKE users); INSERT INTO new SELECT * FROM users")
    run(target, "DROP TABLE users; ALTER TABLE new RENAME TO users")
    second = take(vault, target, programs)
    assert first.manifest.content_sha256 == second.manifest.content_sha256
    assert not first.path.samefile(second.path)
    run(target, "INSERT INTO users VALUES (99)")
    third = take(vault, target, programs)
    assert second.manifest.content_sha256 != third.manifest.content_sha256
    assert (vault.twin(second), vault.twin(third)) == (None, None)


def test_a_damaged_dump_gets_no_second_name(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """The new one is whole."""
    first = take(vault, target, programs)
    damage(first)
    take(vault, target, programs).check()


def test_the_order_is_that_in_which_they_were_taken(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Not that of their times or names; one of an earlier format comes before all others."""
    taken = [take(vault, target, programs) for _ in range(3)]
    for each, year in zip(taken, (2099, 2020, 2050), strict=True):
        path = manifest.beside(each.path)
        about = {**json.loads(path.read_text()), "taken_at": f"{year}-01-01T00:00:00Z"}
        if each == taken[2]:
            del about["number"], about["wal_position"]
        path.write_text(json.dumps(about))
    assert [each.name for each in vault.list()] == [taken[at].name for at in (2, 0, 1)]
    assert vault.newest(taken[0].manifest.server_id).name == taken[1].name
