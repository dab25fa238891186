"""The backups of one database in a bucket, which a team shares: as the folder of store.py has them.

In `<prefix>/<database>/` a backup is `<name>.json`, its manifest, which is written last, by a put
that fails where there is one already: of two runs of one name, one wins. Its parts are in a folder
beside it that no other run has, `<name>.<token>/`. There `running.json` says which run writes,
until the manifest is there: nobody else removes the parts of a run that may be at work. A folder
that neither a manifest nor such a mark speaks of is rubbish: what an interrupted removal has left.
"""

from __future__ import annotations

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, unquote

from backset.backups import dumps, manifest, packing
from backset.backups.bucket import Bucket, later
from backset.backups.manifest import SCRIPTS, Backup
from backset.backups.parts import PartedDump, PartsSink
from backset.backups.sealing import Sealing
from backset.backups.store import BackupStore, Store
from backset.errors import BacksetError, RefusedError, StepFailedError
from backset.process import identity, process, signals
from backset.text.quantities import age

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from backset.backups.bucket import Listed
    from backset.backups.dumps import Digests, Form
    from backset.backups.manifest import Dump, Manifest
    from backset.connections.target import Target
    from backset.servers.programs import Programs
    from backset.settings.settings import Settings

LATEST = "latest"
_MARK = "running.json"
_DIED = timedelta(days=1)  # without a new part: the run of another machine does not come back
_AT_ONCE = 8  # manifests
_FAREWELL_S = 10  # for what a failed run takes away of its own; else the next one does


def store_of(settings: Settings, database: str) -> Store:
    """Return where the backups of a database are: in the folder of the settings, or in a bucket."""
    if not settings.bucket:
        return BackupStore.of(settings.backups, database)
    return SharedStore.of(settings, settings.bucket, database)


def find(settings: Settings, database: str, url: str) -> Backup:
    """Return the backup of a URL that ends with its name, or with `latest`.

    Before that stands what `backups` would be, or that and a database. Raises StepFailedError.
    """
    try:
        return _found(settings, database, url)
    except StepFailedError:
        if not _has_backups(settings, database, url):
            raise
    remedy = f"--from {url.rstrip('/')}/{LATEST}, or the name of one in place of {LATEST}"
    raise StepFailedError(f"{url} has backups, and names none of them", remedy)


def _found(settings: Settings, database: str, url: str) -> Backup:
    place, _, name = url.rpartition("/")
    here = SharedStore.of(settings, place, database)
    if here.has_any():
        return here.find(name)
    above, _, other = place.rpartition("/")
    there = SharedStore.of(settings, above, unquote(other)) if above.count("/") > 1 else here
    if there.has_any():
        return there.find(name)
    raise here.without(here.others())


def _has_backups(settings: Settings, database: str, url: str) -> bool:
    """Tell whether a URL is what `backups` would be, and no backup's."""
    with suppress(BacksetError):  # it may be no place at all
        place = SharedStore.of(settings, url, database)
        return place.has_any() or bool(place.others())
    return False


@dataclass(frozen=True, slots=True)
class SharedStore(Store):
    """The place of one database's backups in a bucket.

    folder: of what a run notes for itself, on this machine.
    """

    bucket: Bucket
    key: str
    folder: Path
    database: str
    sealing: Sealing

    @classmethod
    def of(cls, settings: Settings, url: str, database: str) -> Self:
        """Return the place of a database below a URL. Raises SettingsError."""
        folder = BackupStore.of(settings.backups, database).folder
        bucket = Bucket.of(settings, url)
        return cls(bucket, folder.name, folder, database, Sealing.of(settings))

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self.bucket.at(self.key)

    def read(self) -> tuple[Sequence[Backup], Sequence[str]]:
        """Return all complete backups, the oldest first, and a line for each that is none.

        Among these are the uploads that have not ended.
        """
        found = self.bucket.list(self.key)
        backups, errors, _ = self._described(found)
        uploads = self._uploads(found, backups)
        errors += [each.line() for each in uploads if each.mark]
        return sorted(backups, key=lambda each: each.manifest.order), errors

    def has_any(self) -> bool:
        """Tell whether there is a manifest."""
        return self._is_manifest_in(self.key)

    def _is_manifest_in(self, folder: str) -> bool:
        found = (each.rpartition("/")[2] for each in self.bucket.list(folder).sizes)
        return any(each.endswith(".json") and each != _MARK for each in found)

    def others(self) -> Sequence[str]:
        """Return the databases whose backups are beside this one's."""
        folders = (each.rpartition("/")[2] for each in self.bucket.list("").folders)
        return [unquote(each) for each in folders if self._is_manifest_in(each)]

    def without(self, others: Sequence[str]) -> StepFailedError:
        """Return what is said where there is no backup of this database."""
        names = [each for each in others if each != self.database]
        remedy = "`invoke backup` takes one, where `backups` names that place"
        if names:
            way = f"{self.bucket.at(quote(names[0]))}/{LATEST}"
            remedy = f"there are some of {', '.join(names)}: --from {way} --into NAME"
        return StepFailedError(f"{self.place} has no backup", remedy)

    def find(self, name: str) -> Backup:
        """Return a backup by name, address, or `latest`. Raises StepFailedError."""
        stem = name.rstrip("/").rpartition("/")[2].removesuffix(".zst").removesuffix(".dump")
        stem = stem.removesuffix(".json")
        if stem == LATEST:
            return self._latest()
        text = self.bucket.get(self._manifest(stem)) if stem else None
        if text is None:
            what = f"{self.place} has no backup {stem!r}"
            raise StepFailedError(what, "choose one from `invoke backups`")
        return self._backup(stem, text)

    def _latest(self) -> Backup:
        """Return the newest of any server; what was left half built is nobody's idea of that."""
        taken = self.list()
        if not taken:
            raise self.without(self.others())
        whole = [each for each in taken if not each.manifest.is_half_built]
        return (whole or taken)[-1]

    def refuse_name(self, name: str) -> None:
        """Raise RefusedError where a backup has the name of a new one."""
        if name == LATEST or self.bucket.get(self._manifest(name)) is not None:
            what = f"{self.place} has something of the name {name} already"
            raise RefusedError([(what, "choose another one, or remove that manifest")])

    def make(self) -> None:
        """Make the folder of the notes."""
        BackupStore(self.folder).make()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Remove what killed runs left behind; end our programs where the block raises."""
        self.make()
        self._sweep()
        try:
            yield
        except BaseException:
            process.end_all()
            raise

    def is_good(self, backup: Backup) -> bool:
        """Tell whether all parts are there in their sizes; they were read back once."""
        return manifest.size_bytes(backup.dump) == backup.manifest.size_bytes

    def remove(self, older: Sequence[Backup]) -> None:
        """Remove backups; what is interrupted leaves each whole, or rubbish."""
        for each in older:
            self.bucket.delete(self._manifest(each.name))
            self.clear(each.manifest.upload)
            (self.folder / f"{each.name}{SCRIPTS}").unlink(missing_ok=True)

    def clear(self, upload: str) -> None:
        """Remove an upload, its mark first."""
        folder = f"{self.key}/{upload}"
        found = self.bucket.list(folder).sizes
        mark = f"{folder}/{_MARK}"
        self.bucket.delete(*(each for each in found if each == mark))
        self.bucket.delete(*(each for each in found if each != mark))

    def _manifest(self, name: str) -> str:
        return f"{self.key}/{name}.json"

    def _backup(self, name: str, text: bytes) -> Backup:
        where = self.bucket.at(self._manifest(name))
        about = manifest.parsed(text, where)
        if about.name != name or about.upload.rpartition(".")[0] != name or "/" in about.upload:
            remedy = "take one with `invoke backup`: what was copied or renamed has no parts here"
            raise StepFailedError(f"{where} is no manifest of this name in a bucket", remedy)
        return Backup(PartedDump(self.bucket, self.key, about, self.sealing), about)

    def _described(self, found: Listed) -> tuple[list[Backup], list[str], bytes]:
        """Return the backups, a line for each manifest that is of none, and the texts of these."""
        keys = sorted(each for each in found.sizes if each.endswith(".json"))
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            texts = list(threads.map(self.bucket.get, keys))
        backups, errors, others = [], [], b""
        for each, text in zip(keys, texts, strict=True):
            name = each.removeprefix(f"{self.key}/").removesuffix(".json")
            try:
                backups += [self._backup(name, text)] if text is not None else []  # just removed
            except StepFailedError as error:
                errors += error.lines()
                others += each.encode() + (text or b"")
        return backups, errors, others

    def _uploads(self, found: Listed, backups: Sequence[Backup]) -> list[_Upload]:
        """Return the folders that no manifest speaks of."""
        known = {each.manifest.upload for each in backups}
        folders = [name for each in found.folders if (name := each.rpartition("/")[2]) not in known]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return list(threads.map(self._upload, folders))

    def _upload(self, name: str) -> _Upload:
        folder = f"{self.key}/{name}"
        found, text = self.bucket.list(folder), self.bucket.get(f"{folder}/{_MARK}")
        newest = max(found.moments.values(), default=datetime.now(UTC))
        run = ""
        with suppress(ValueError, KeyError, TypeError):  # somebody has written into it
            run = str(json.loads(text or b"")["run"])
        return _Upload(name, self.bucket.at(folder), run, newest, bool(text))

    def _sweep(self) -> None:
        """Remove the uploads that died, and what is left of backups that were being removed.

        A run that was only thought to have died finds its mark gone, and takes its manifest back:
        so the mark goes first, and then the manifests are asked once more.
        """
        found = self.bucket.list(self.key)
        uploads = self._uploads(found, self._described(found)[0])
        dead = [each for each in uploads if each.has_died()]
        self.bucket.delete(*(f"{self.key}/{each.name}/{_MARK}" for each in dead if each.mark))
        if not dead:
            return
        backups, _, others = self._described(self.bucket.list(self.key))
        known = {each.manifest.upload for each in backups}
        for each in dead:
            if each.name not in known and each.name.rpartition(".")[0].encode() not in others:
                self.clear(each.name)


@dataclass(frozen=True, slots=True)
class _Upload:
    """A folder of parts. run: who writes there; newest: when the last part came."""

    name: str
    where: str
    run: str
    newest: datetime
    mark: bool

    def has_died(self) -> bool:
        """Tell whether nobody writes there any more."""
        return (
            not self.mark or identity.has_died(self.run) or datetime.now(UTC) - self.newest > _DIED
        )

    def line(self) -> str:
        """Return what a person reads of it."""
        who = identity.without_token(self.run).removeprefix("backset ")
        old = age((datetime.now(UTC) - self.newest).total_seconds())
        state = "has died; the next backup removes it" if self.has_died() else "has not ended"
        return f"{self.where} is an upload that {state}: {who}, {old} ago"


class Upload:
    """A backup on its way into a bucket; leaving the `with` block by an error takes it away."""

    def __init__(self, store: SharedStore, name: str) -> None:
        self._store, self._name = store, name
        self._upload = f"{name}.{secrets.token_hex(4)}"
        self._folder = f"{store.key}/{self._upload}"
        self._sink = PartsSink(store.bucket, self._folder, store.sealing)
        # It stays on this machine, too: `status` looks there for a revision that no file has.
        self.scripts = store.folder / f"{name}{SCRIPTS}"
        self._is_there = False  # or may be: a manifest needs its parts, whatever comes after it
        self.form = dumps.SEALED if store.sealing.recipients else dumps.PARTED

    def __enter__(self) -> Self:
        packing.demand(self._store.place)
        self._store.sealing.seal(b"")  # what is wrong with a key is said before pg_dump starts
        mark = {"run": identity.application_name("backup"), "begun": datetime.now(UTC).isoformat()}
        self._store.bucket.put(self._mark, json.dumps(mark).encode())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        with signals.deferred():
            if kind is not None and not self._is_there:
                self.scripts.unlink(missing_ok=True)
                with suppress(StepFailedError, TimeoutError):  # the next run does it
                    later(self._store.clear, self._upload).result(_FAREWELL_S)

    def chosen(self, _choose: Callable[[], Form]) -> Form:
        """Return how it is dumped: whatever its size, since it is a stream."""
        return self.form

    def written(
        self, programs: Programs, both: tuple[Path, Path], *options: str, target: Target
    ) -> AbstractContextManager[Callable[[], Digests]]:
        """Run pg_dump for the block; see dumps.written()."""
        options = *self.form.options, *options
        return dumps.packed(self._sink, programs, both, *options, target=target)

    def finished(
        self, about: Manifest, sha256: str, _listing: Callable[[Dump], Sequence[str]]
    ) -> Manifest:
        """Return all about the dump, whose parts are there."""
        numbers = (each.manifest.number for each in self._store.list())
        return replace(
            about,
            number=1 + max(numbers, default=0),
            size_bytes=self._sink.size_bytes,
            sha256=sha256,
            parts=self._sink.number,
            upload=self._upload,
        )

    def publish(self, about: Manifest) -> Backup:
        """Write the manifest, and with it the backup is there. Raises StepFailedError."""
        store, bucket = self._store, self._store.bucket
        content = store.sealing.seal(self.scripts.read_bytes())
        end = ".age" if store.sealing.recipients else ""
        bucket.put(f"{self._folder}/{SCRIPTS.removeprefix('.')}{end}", content)
        dump = PartedDump(bucket, store.key, about, store.sealing)
        where = f"{store.key}/{self._name}.json"
        self._is_there = True
        self._is_there = bucket.create(where, manifest.written(about).encode())
        if not self._is_there:
            what = f"{store.place} has a backup {self._name} by now: another run was first"
            raise StepFailedError(what, "choose another name, or run this again without one")
        self._demand_mark(where)
        return Backup(dump, about)

    @property
    def _mark(self) -> str:
        return f"{self._folder}/{_MARK}"

    def _demand_mark(self, where: str) -> None:
        """Take the manifest back where another run has given this one up, and so its parts."""
        bucket = self._store.bucket
        if bucket.get(self._mark) is None:
            bucket.delete(where)
            self._is_there = False
            what = f"{self._store.place}: another run took this one for dead, and removed its parts"
            raise StepFailedError(what, "run this again")
        bucket.delete(self._mark)
