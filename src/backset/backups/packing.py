"""Packs what pg_dump writes by zstd, for a pg_dump that was built without, and unpacks it."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from backset.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from hashlib import _Hash
    from io import FileIO
    from pathlib import Path
    from types import ModuleType

MODULE = "_zstd" if sys.version_info >= (3, 14) else "backports.zstd"
MAGIC = b"\x28\xb5\x2f\xfd"  # with which zstd begins
_LEVEL = 1  # as small as gzip's, and no slower than a server sends; -1 is no faster
_PACKED_PIECE = 2**18  # bytes; it stays in a core's own cache
# Measured: it takes a sixth of the time less than zstd's own choice, and no more room.
_WINDOW_LOG = 17


def is_possible() -> bool:
    """Tell whether there is a zstd: from 3.14 on it is Python's own, which may be built without."""
    return find_spec(MODULE) is not None


def demand(what: object) -> None:
    """Raise StepFailedError where `what`, which is packed, can be neither read nor written."""
    if not is_possible():
        how = "use another Python, or the command `by_hand` of its manifest"
        raise StepFailedError(f"{what} needs zstd, and this Python was built without it", how)


def _zstd() -> ModuleType:
    """Import it: only large databases need it."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def pack(source: FileIO, path: Path, written: Callable[[int], None]) -> None:
    """Write into `path` what comes from `source`, until that ends, and close it.

    written: told how many bytes have been added, and of 0 at the end, in any case.
    """
    try:
        with source, path.open("wb", buffering=0) as file:
            for piece in compressed(source):
                _write(file, piece)
                written(len(piece))
    finally:
        written(0)


def compressed(source: FileIO) -> Iterator[bytes]:
    """Yield what comes from `source`, packed, in pieces of any size but none."""
    zstd = _zstd()
    options = {
        zstd.CompressionParameter.compression_level: _LEVEL,
        zstd.CompressionParameter.checksum_flag: 1,
        # More threads would only take memory: the server sends no faster than one of them packs.
        zstd.CompressionParameter.window_log: _WINDOW_LOG,
    }
    compressor = zstd.ZstdCompressor(options=options)
    room = memoryview(bytearray(_PACKED_PIECE))
    while size := source.readinto(room):
        if piece := compressor.compress(room[:size]):
            yield piece
    yield compressor.flush()


def unpack(
    path: Path, sizes: Iterable[int], digest: _Hash | None = None
) -> Generator[bytes, None, None]:
    """Yield what is packed in `path`, in pieces, and check zstd's own checksum.

    sizes: of the file's pieces, as pack() tells them while it writes. digest: gets what is read of
    the file. Raises StepFailedError where the content is damaged, or ends too soon.
    """
    with path.open("rb", buffering=0) as file:
        yield from unpacked(_pieces(file, sizes, digest), path)


def unpacked(pieces: Iterable[bytes], where: object) -> Iterator[bytes]:
    """Yield what is packed in pieces, in others. where: for StepFailedError, as in unpack()."""
    zstd = _zstd()
    decompressor = zstd.ZstdDecompressor()
    try:
        for piece in pieces:
            packed = piece
            while packed:
                if decompressor.eof:  # what others packed may have several frames, as pzstd's
                    decompressor = zstd.ZstdDecompressor()
                yield decompressor.decompress(packed, _PACKED_PIECE)
                while not (decompressor.needs_input or decompressor.eof):  # it is much smaller
                    yield decompressor.decompress(b"", _PACKED_PIECE)
                packed = decompressor.unused_data if decompressor.eof else b""
    except (zstd.ZstdError, EOFError) as error:
        raise _damaged(where, str(error)) from None
    if not decompressor.eof:
        raise _damaged(where, "it ends too soon")


def feed(pieces: Iterable[bytes], sink: FileIO) -> None:
    """Write pieces for as long as anybody reads them: how that ended, its exit status tells."""
    with suppress(BrokenPipeError), sink:
        for piece in pieces:
            _write(sink, piece)


def _write(file: FileIO, content: bytes) -> None:
    """Write all of it: a signal, or a disk that is nearly full, may let only a part through."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _pieces(file: FileIO, sizes: Iterable[int], digest: _Hash | None) -> Iterator[bytes]:
    for size in sizes:
        end = file.tell() + size
        while (left := end - file.tell()) and (piece := file.read(min(left, _PACKED_PIECE))):
            if digest:
                digest.update(piece)
            yield piece


def _damaged(where: object, why: str) -> StepFailedError:
    return StepFailedError(f"{where} cannot be unpacked: {why}", "choose another backup")
