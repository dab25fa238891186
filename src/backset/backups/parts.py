"""A dump in a bucket: objects of a few MB each, written and read as one stream, never whole.

Each part is an object of its own, put by one request and read back at once, and no piece of an
upload in parts as S3 has it: of that nothing can be read before all of it is there, a list of those
that died is not to be had from every store, and what they hold is invisible, and paid for.
"""

from __future__ import annotations

import hashlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING

from backset.backups import dumps, manifest, packing
from backset.backups.bucket import later
from backset.backups.manifest import Backup
from backset.described import Address
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from concurrent.futures import Future
    from hashlib import _Hash
    from io import FileIO

    from obstore import Bytes

    from backset.backups.bucket import Bucket
    from backset.backups.manifest import Manifest
    from backset.backups.sealing import Sealing

_PART_BYTES = 2**21  # at least; of the last one less
_AHEAD = 3  # parts on their way at once
_LOOK_EVERY_S = 0.2
_CHOOSE = "choose another one from `invoke backups`"


def key(folder: str, number: int) -> str:
    """Return the key of a part; `cat *.part` has them in their order."""
    return f"{folder}/{number:06}.part"


@dataclass(frozen=True, slots=True)
class PartedDump(Address):
    """A dump in a bucket: its parts are in the folder `manifest.upload` of `folder`.

    It stands in place of a path where a dump is read. Each method raises StepFailedError where the
    store does not give it.
    """

    bucket: Bucket
    folder: str
    manifest: Manifest
    sealing: Sealing

    def __str__(self) -> str:
        return self.bucket.at(f"{self.folder}/{self.manifest.name}")

    @property
    def name(self) -> str:
        """The name that its file would have."""
        return self.manifest.name + dumps.PARTED.suffix

    @property
    def upload(self) -> str:
        """The folder of its parts."""
        return f"{self.folder}/{self.manifest.upload}"

    def size_bytes(self) -> int:
        """Return the size of its parts together."""
        sizes = self.bucket.list(self.upload).sizes
        return sum(sizes.get(each, 0) for each in self._keys())

    def sha256(self) -> str:
        """Return the SHA-256 of its parts, one after the other."""
        digest = hashlib.sha256()
        for each in self._stored():
            digest.update(each)
        return digest.hexdigest()

    def pieces(self) -> Iterator[bytes | Bytes]:
        """Yield what is in its parts, as pg_dump's output was packed."""
        if self.manifest.dump_format != dumps.SEALED.words:
            return self._stored()
        return (self.sealing.open(bytes(each), str(self)) for each in self._stored())

    def describe(self, about: Manifest) -> Backup:
        """Write its manifest anew."""
        where = f"{self.folder}/{self.manifest.name}.json"
        self.bucket.put(where, manifest.written(about).encode())
        return Backup(replace(self, manifest=about), about)

    def _keys(self) -> list[str]:
        return [key(self.upload, number) for number in range(self.manifest.parts)]

    def _stored(self) -> Iterator[Bytes]:
        """Yield the parts as they are stored; some are asked for before they are needed."""
        keys = iter(self._keys())
        coming = deque(later(self.bucket.view, each) for each in islice(keys, _AHEAD))
        while coming:
            part = coming.popleft().result()
            if part is None:
                raise StepFailedError(f"{self} lacks a part of its dump", _CHOOSE)
            yield part
            coming.extend(later(self.bucket.view, each) for each in islice(keys, 1))


class PartsSink:
    """Writes a dump into a folder of a bucket, and reads it back meanwhile; see dumps.Sink.

    Each part is read back from the store and compared, byte for byte, before it counts.
    number, size_bytes: of the parts that have been read back.
    """

    def __init__(self, bucket: Bucket, folder: str, sealing: Sealing) -> None:
        self.number = self.size_bytes = 0
        self._bucket, self._folder, self._sealing = bucket, folder, sealing
        self._sent: Queue[Future[tuple[bytes, bytes]] | None] = Queue(_AHEAD)
        self._is_over = False
        self._fault: BaseException | None = None

    def pack(self, source: FileIO) -> None:
        """Write what comes from `source`, until that ends, and close it."""
        room, number = bytearray(), 0
        try:
            with source:
                for packed in packing.compressed(source):
                    room += packed
                    if len(room) >= _PART_BYTES:
                        self._send(number, bytes(room))
                        number += 1
                        room.clear()
                if room:
                    self._send(number, bytes(room))
        finally:
            self._wait_for_room(None)
        if self._fault:
            raise self._fault

    def unpacked(self, digest: _Hash) -> Generator[bytes, None, None]:
        """Yield what was written, as it comes; digest: gets it as it is stored."""
        try:
            yield from packing.unpacked(self._read_back(digest), self._bucket.at(self._folder))
        except BaseException as error:
            self._fault = self._fault or error
            raise
        finally:
            self.stop()

    def stop(self) -> None:
        """Let neither of them wait any longer."""
        self._is_over = True

    def _send(self, number: int, packed: bytes) -> None:
        if self._is_over:
            raise self._fault or StepFailedError("the upload was given up", "run this again")
        self._wait_for_room(later(self._store, key(self._folder, number), packed))

    def _store(self, key: str, packed: bytes) -> tuple[bytes, bytes]:
        """Return a part, and as it is stored."""
        sealed = self._sealing.seal(packed)
        self._bucket.put(key, sealed)
        if self._bucket.view(key) != sealed:
            what = f"{self._bucket.at(key)} is not what was written there"
            raise StepFailedError(what, "find out who writes there, or what stores it; try again")
        return packed, sealed

    def _wait_for_room(self, part: Future[tuple[bytes, bytes]] | None) -> None:
        while not self._is_over:
            with suppress(Full):
                self._sent.put(part, timeout=_LOOK_EVERY_S)
                return

    def _read_back(self, digest: _Hash) -> Iterator[bytes]:
        while (part := self._next()) is not None:
            packed, sealed = self._result(part)
            digest.update(sealed)
            self.number, self.size_bytes = self.number + 1, self.size_bytes + len(sealed)
            yield packed

    def _next(self) -> Future[tuple[bytes, bytes]] | None:
        while not self._is_over:
            with suppress(Empty):
                return self._sent.get(timeout=_LOOK_EVERY_S)
        return None

    def _result(self, part: Future[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        while True:
            try:
                return part.result(timeout=_LOOK_EVERY_S)
            except TimeoutError:
                if self._is_over:
                    raise StepFailedError("the upload was given up", "run this again") from None
