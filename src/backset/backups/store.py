"""The folder of one database's backups: find, choose, list and prune them, write undisturbed."""

from __future__ import annotations

import errno
import os
import shutil
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from backset.backups import manifest
from backset.backups.manifest import SCRIPTS, SUFFIXES
from backset.errors import RefusedError, StepFailedError
from backset.process import files, process, signals

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from backset.backups.manifest import Backup

_TAKEN = {"in-place"}  # by other files of ours, which come and go
_OF_A_BACKUP = (*SUFFIXES, ".dump.partial", ".json", SCRIPTS)  # what its name begins
_BACKUP = "a backup"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


class Store(ABC):
    """Where the backups of one database are: a folder, or a place in a bucket (shared.py).

    folder: on this machine, of what a run notes for itself.
    """

    __slots__ = ()
    folder: Path

    @property
    @abstractmethod
    def place(self) -> Any:  # noqa: ANN401  (a path, or an address; people read it)
        """Where it is, for people."""

    @abstractmethod
    def read(self) -> tuple[Sequence[Backup], Sequence[str]]:
        """Return all complete backups, the oldest first, and a line for each that is none."""

    @abstractmethod
    def find(self, name: str) -> Backup:
        """Return a backup by name. Raises StepFailedError."""

    @abstractmethod
    def refuse_name(self, name: str) -> None:
        """Raise RefusedError where a new backup cannot have that name."""

    @abstractmethod
    def make(self) -> None:
        """Make the folder of the notes."""

    @abstractmethod
    def open(self) -> AbstractContextManager[None]:
        """Remove what a killed run left behind, and let a backup be written in the block."""

    @abstractmethod
    def is_good(self, backup: Backup) -> bool:
        """Tell whether a dump is undamaged, which may mean to read it."""

    @abstractmethod
    def remove(self, older: Sequence[Backup]) -> None:
        """Remove backups; an interruption leaves each whole, or marked as rubbish."""

    def list(self) -> Sequence[Backup]:
        """Return all complete backups, the oldest first."""
        return self.read()[0]

    def unreadable(self) -> Sequence[str]:
        """Return in a line each which dumps have no manifest that can be read, and what to do."""
        return self.read()[1]

    def twin(self, _backup: Backup) -> Backup | None:
        """Return the newest backup of the same state whose file it has, if there is any."""
        return None

    def newest(self, server_id: str) -> Backup:
        """Return the newest backup of a server: another one may have a database of that name.

        What a run in place has left half built is nobody's idea of going back.
        """
        if not (taken := self._of_server(server_id)):
            what = f"{self.place} has no backup of this server"
            raise StepFailedError(what, "name one from `invoke backups`, if there is any")
        whole = [each for each in taken if not each.manifest.is_half_built]
        return (whole or taken)[-1]

    def prune(
        self, keep: int, server_id: str, protected: Iterable[str] = (), *, keep_days: int = 0
    ) -> int:
        """Remove the backups of a server that surplus() names; return how many went.

        An interruption leaves each backup whole, or marked as rubbish.
        """
        known: dict[str, bool] = {}

        def is_good(backup: Backup) -> bool:
            if backup.name not in known:
                known[backup.name] = self.is_good(backup)
            return known[backup.name]

        how = {"keep": keep, "keep_days": keep_days}
        older = self.surplus(server_id, **how, protected=protected, is_good=is_good)
        self.remove(older)
        return len(older)

    def surplus(
        self,
        server_id: str,
        *,
        keep: int,
        keep_days: int,
        protected: Iterable[str],
        is_good: Callable[[Backup], bool] = lambda _: True,
    ) -> Sequence[Backup]:
        """Return what prune() would remove; without `is_good`, if no dump was damaged."""
        return surplus(
            self._of_server(server_id),
            keep=keep,
            keep_days=keep_days,
            protected=protected,
            is_good=is_good,
        )

    def _of_server(self, server_id: str) -> Sequence[Backup]:
        return [each for each in self.list() if each.manifest.server_id == server_id]


@dataclass(frozen=True, slots=True)
class BackupStore(Store):
    """The folder of one database's backups: `backups/<database>/`, 0700, its files 0600.

    A backup exists once its dump has its final name, `.dump` or `.dump.zst`; that rename comes
    last. Until then a `.dump.partial` marks everything of the same stem as rubbish, which the next
    run removes. Removing a backup begins with the rename back.
    """

    folder: Path

    @classmethod
    def of(cls, backups: Path, database: str) -> BackupStore:
        """Return the store of a database; its name is quoted where a file name cannot hold it."""
        return cls(backups / quote(database, safe=" ").replace("..", "%2E%2E"))

    @property
    def place(self) -> Path:
        """Where it is, for people."""
        return self.folder

    def read(self) -> tuple[Sequence[Backup], Sequence[str]]:
        """Return all complete backups, the oldest first, and a line for each dump that is none.

        Which is older, the number says that a backup gets when it is taken: clocks go wrong.
        """
        found, errors = [], []
        for dump in self._dumps():
            try:
                found.append(manifest.read(dump))
            except StepFailedError as error:
                errors += error.lines()
        return sorted(found, key=lambda each: each.manifest.order), errors

    def refuse_name(self, name: str) -> None:
        """Raise RefusedError where something in the folder has the name of a new backup."""
        files = (f"{name}{each}" for each in _OF_A_BACKUP)
        there = next((each for each in files if (self.folder / each).exists()), "")
        if there or name in _TAKEN:
            what = f"{self.folder} has {there or name} already"
            raise RefusedError([(what, "choose another name, or remove what has this one")])

    def twin(self, backup: Backup) -> Backup | None:
        """Return the newest backup of the same state whose file it has, if there is any."""
        content = backup.manifest.content_sha256
        same = (
            each
            for each in reversed(self.list())
            if each.name != backup.name and each.manifest.content_sha256 == content
        )
        return next((each for each in same if each.path.samefile(backup.path)), None)

    def find(self, name: str) -> Backup:
        """Return a backup by name, file name or path. Raises StepFailedError."""
        dump = name.rstrip("/").removesuffix(".zst").removesuffix(".dump")
        for path in (each / f"{dump}{end}" for each in (self.folder, Path()) for end in SUFFIXES):
            if path.exists():
                return manifest.read(path)
        what = f"{self.folder} has no backup {name!r}"
        raise StepFailedError(what, "choose one from `invoke backups`")

    def prune(
        self, keep: int, server_id: str, protected: Iterable[str] = (), *, keep_days: int = 0
    ) -> int:
        """Do what Store does, and keep other writers out meanwhile."""
        with files.locked(self.folder, _BACKUP):
            return Store.prune(self, keep, server_id, protected, keep_days=keep_days)

    def is_good(self, backup: Backup) -> bool:
        """Tell whether a dump is undamaged: it is read."""
        with suppress(StepFailedError, OSError):
            backup.check()
            return True
        return False

    def remove(self, older: Sequence[Backup]) -> None:
        """Remove backups, under the lock; each is whole, or marked as rubbish."""
        for each in older:
            each.path.rename(each.path.with_name(f"{each.name}.dump.partial"))
            files.sync(self.folder)  # the mark, before what it marks is torn
            self._sweep()

    def make(self) -> None:
        """Make the folder, for its owner alone, and hide from git what is in it."""
        files.make(self.folder)
        self.folder.chmod(0o700)
        files.close(self.folder.parent)
        files.hide(self.folder.parent)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make the folder, keep other writers out, and remove what a killed run left behind.

        Raises StepFailedError when the disk is full.
        """
        with self._room():
            self.make()
            with files.locked(self.folder, _BACKUP):
                self._sweep()
                try:
                    yield
                    files.sync(self.folder)  # the renames
                except BaseException:
                    process.end_all()  # a program that still comes up would write a new one
                    raise
                finally:
                    with signals.deferred():
                        self._sweep()

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Say of a full disk which one it is: an OSError of a write names no file."""
        try:
            yield
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise self._full(str(error.strerror)) from None
            raise
        except StepFailedError as error:
            words = error.what.partition("Error message from server")[0]
            if any(os.strerror(number) in words for number in _NO_ROOM):
                raise self._full(error.what) from None
            raise

    def _full(self, words: str) -> StepFailedError:
        what = f"the disk of {self.folder} is full: {words}"
        return StepFailedError(what, "make room, or set `backups` to a folder on another disk")

    def _dumps(self) -> Sequence[Path]:
        """Return the dumps by name. Raises OSError where the folder cannot be read."""
        try:
            return sorted(each for each in self.folder.iterdir() if each.name.endswith(SUFFIXES))
        except FileNotFoundError:
            return []

    def _sweep(self) -> None:
        for partial in self.folder.glob("*.dump.partial"):
            stem = partial.name.removesuffix(".dump.partial")
            for suffix in (".json", SCRIPTS):
                partial.with_name(stem + suffix).unlink(missing_ok=True)
            if partial.is_dir():
                shutil.rmtree(partial)  # the mark goes last
            partial.unlink(missing_ok=True)


def surplus(
    taken: Sequence[Backup],
    *,
    keep: int,
    keep_days: int,
    protected: Iterable[str],
    is_good: Callable[[Backup], bool],
) -> Sequence[Backup]:
    """Return those of a server's backups, the oldest first, that neither budget nor promise keeps.

    keep: how many stay: the newest one, then the newest of each revision, then that of each of the
    last `keep_days` days that have one, then other states, then second names of these. Those that
    are pinned or `protected` stay beside them, and the last ones of some rows.
    is_good: tells whether a dump is undamaged, which may mean to read it.
    """
    spare = set(protected)
    free = [each for each in taken[::-1] if not each.manifest.is_pinned]
    names = dict.fromkeys(each.name for each in _ranked(free, keep_days))
    kept = set(islice(names, keep))
    older = [each for each in free if each.name not in kept | spare]
    if not older:
        return []
    last = {each.name for each in _last_of_their_rows(taken[::-1], is_good)}
    return [each for each in older[::-1] if each.name not in last]


def _ranked(newest_first: Sequence[Backup], keep_days: int) -> Iterator[Backup]:
    """Yield all, the one that matters most first; one may come again."""
    whole = [each for each in newest_first if not each.manifest.is_half_built]
    days = _newest_of_each(whole, lambda each: each.manifest.taken_at.date())
    ranks = (
        newest_first[:1],
        _newest_of_each(whole, lambda each: each.manifest.revisions),
        islice(days, keep_days),
        _newest_of_each(newest_first, lambda each: each.manifest.content_sha256 or each.name),
        newest_first,
    )
    yield from chain.from_iterable(ranks)


def _newest_of_each(
    newest_first: Sequence[Backup], kind: Callable[[Backup], Hashable]
) -> Iterator[Backup]:
    found: dict[Hashable, Backup] = {}
    for each in newest_first:
        found.setdefault(kind(each), each)
    return iter(found.values())


def _last_of_their_rows(
    newest_first: Sequence[Backup], is_good: Callable[[Backup], bool]
) -> Iterator[Backup]:
    """Yield the newest undamaged one, and that with rows which no rebuild makes again.

    And each state that a run has replaced without its rows, and of each table the newest of those
    with the most rows: some of these stand in no other one.
    """

    def newest(candidates: Iterable[Backup]) -> Iterator[Backup]:
        return islice(filter(is_good, candidates), 1)

    yield from newest(newest_first)
    yield from newest(x for x in newest_first if not x.manifest.is_remade)
    replaced: dict[str, list[Backup]] = {}
    for each in newest_first:
        if each.manifest.is_replaced:
            replaced.setdefault(each.manifest.content_sha256 or each.name, []).append(each)
    for same in replaced.values():
        yield from newest(same)
    most: dict[str, int] = {}
    for each in newest_first:
        for table, rows in each.manifest.rows.items():
            most[table] = max(rows, most.get(table, 0))
    for table, rows in most.items():
        if rows:
            yield from newest(x for x in newest_first if x.manifest.rows.get(table) == rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What `invoke restore` was told.

    store: where a name is looked for. name: None for the newest backup of the server. found: the
    one that a URL has named.
    database: whose backup it must be; None where --into says that any will do.
    """

    store: Store
    name: str | None
    database: str | None
    found: Backup | None = None

    def backup(self, server_id: str, major: int) -> Backup:
        """Return the backup, if this server can take it. Raises StepFailedError, RefusedError."""
        found = self.found or (
            self.store.find(self.name) if self.name else self.store.newest(server_id)
        )
        if reasons := _refusals(found, self.database, major):
            raise RefusedError(reasons)
        return found


def _refusals(backup: Backup, database: str | None, major: int) -> list[tuple[str, str]]:
    about, reasons = backup.manifest, []
    if database not in {None, about.database}:
        remedy = f"choose one of {database} from `invoke backups`, or say --into {database}"
        reasons.append((f"{backup.name} is a backup of {about.database}", remedy))
    if about.major > major:
        what = f"{backup.name} was taken from PostgreSQL {about.major}, and this is {major}"
        reasons.append((what, f"restore it on a server of version {about.major} or later"))
    return reasons
