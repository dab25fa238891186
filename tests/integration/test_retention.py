"""Old backups go, and the last good one never does."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from backset.backups import manifest
from tests.backups import take, take_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.backups.manifest import Backup
    from backset.backups.vault import Vault
    from backset.connections.target import Target
    from backset.servers.programs import Programs


@pytest.fixture
def five(vault: Vault, target: Target, programs: Programs) -> list[Backup]:
    """Five backups of one server, the oldest first; one is a folder, one a dump in zstd."""
    first, folder = take(vault, target, programs), take_folder(vault, target, programs)
    packed = take(vault, target, programs, zstd_above=0)
    return [first, folder, packed, *(take(vault, target, programs) for _ in range(2))]


def damage(backup: Backup) -> None:
    """Cut a dump."""
    files = sorted(backup.dump.iterdir()) if backup.dump.is_dir() else [backup.dump]
    files[0].write_bytes(files[0].read_bytes()[:-1])


def names(vault: Vault) -> set[str]:
    """Return what stands in the folder, without suffixes."""
    return {
        each.name.split(".dump")[0].split(".json")[0].split(".scripts")[0]
        for each in vault.folder.iterdir()
    }


def test_the_newest_stay(vault: Vault, five: list[Backup]) -> None:
    """With their manifests and scripts; of the others nothing is left."""
    server = five[0].manifest.server_id
    assert vault.prune(5, server) == 0
    assert vault.prune(2, server) == 3
    assert vault.list() == five[3:]
    assert names(vault) == {each.name for each in five[3:]}


def test_each_server_has_its_own(vault: Vault, five: list[Backup]) -> None:
    """Another server may have a database of that name."""
    path = manifest.beside(five[0].dump)
    path.write_text(json.dumps({**five[0].manifest.content(), "server_id": "7"}))
    assert vault.prune(1, five[1].manifest.server_id) == 3
    assert [each.name for each in vault.list()] == [five[0].name, five[4].name]


def test_what_a_kept_database_was_taken_from_stays(vault: Vault, five: list[Backup]) -> None:
    """A protected name is never removed."""
    assert vault.prune(1, five[0].manifest.server_id, frozenset({five[1].name})) == 3
    assert vault.list() == [five[1], five[4]]


@pytest.mark.parametrize("newest_good", range(4))
def test_the_newest_good_one_stays(vault: Vault, five: list[Backup], newest_good: int) -> None:
    """Where all newer ones were damaged, it stays beside them."""
    for each in five[newest_good + 1 :]:
        damage(each)
    vault.prune(1, five[0].manifest.server_id)
    assert vault.list() == [five[newest_good], five[4]]
    five[newest_good].check()


def test_unreadable_ones_are_left_alone(vault: Vault, five: list[Backup]) -> None:
    """What cannot be read belongs to nobody: it is neither counted nor removed."""
    manifest.beside(five[0].dump).write_text("")
    assert vault.prune(4, five[1].manifest.server_id) == 0
    assert five[0].dump.exists()


@pytest.mark.parametrize("at", range(1, 9))
def test_an_interruption_between_deletions(
    vault: Vault, five: list[Backup], at: int, monkeypatch: pytest.MonkeyPatch
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
    assert {each.dump for each in five[3:]} <= {each.dump for each in vault.list()}
    with vault.open():
        pass
    assert names(vault) == {each.name for each in vault.list()}
    vault.prune(2, five[0].manifest.server_id)
    assert vault.list() == five[3:]
