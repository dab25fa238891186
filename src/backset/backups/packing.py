"""Bytes through zstd: packed into a file while they come, and unpacked while they are asked for.

`zstd -dc FILE` does the same as unpacked().
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from backset.errors import StepFailedError
from backset.servers.programs import JOBS

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from hashlib import _Hash
    from io import FileIO
    from pathlib import Path

_LEVEL = 1  # as small as gzip's, and no slower than a server sends; -1 is no faster
_PIECE = 2**18  # bytes; it stays in a core's own cache
_PARAMETER = zstd.CompressionParameter


def pack(source: FileIO, path: Path, written: Callable[[int], None]) -> None:
    """Write into `path` what comes from `source`, until that ends, and close it.

    written: told how many bytes have been added, and of 0 at the end, in any case.
    """
    compressor = zstd.ZstdCompressor(options=_options())
    room = memoryview(bytearray(_PIECE))
    try:
        with source, path.open("wb", buffering=0) as file:
            while size := source.readinto(room):
                _add(file, compressor.compress(room[:size]), written)
            _add(file, compressor.flush(), written)
    finally:
        written(0)


def unpacked(path: Path, sizes: Iterable[int], digest: _Hash | None = None) -> Iterator[bytes]:
    """Yield what is packed in `path`, in pieces, and check zstd's own checksum.

    sizes: of the file's pieces, as pack() tells them while it writes. digest: gets what is read of
    the file. Raises StepFailedError where the content is damaged, or ends too soon.
    """
    decompressor = zstd.ZstdDecompressor()
    try:
        with path.open("rb", buffering=0) as file:
            for packed in _pieces(file, sizes):
                if digest:
                    digest.update(packed)
                yield decompressor.decompress(packed, _PIECE)
                while not (decompressor.needs_input or decompressor.eof):  # it is much smaller
                    yield decompressor.decompress(b"", _PIECE)
    except (zstd.ZstdError, EOFError) as error:
        raise _damaged(path, str(error)) from None
    if not decompressor.eof:
        raise _damaged(path, "it ends too soon")


def feed(pieces: Iterable[bytes], sink: FileIO) -> None:
    """Write pieces for as long as anybody reads them: how that ended, its exit status tells."""
    with suppress(BrokenPipeError), sink:
        for piece in pieces:
            _write(sink, piece)


def _options() -> dict[int, int]:
    threads = min(JOBS, _PARAMETER.nb_workers.bounds()[1])  # a libzstd may be built without any
    return {
        _PARAMETER.compression_level: _LEVEL,
        _PARAMETER.checksum_flag: 1,
        _PARAMETER.nb_workers: threads,
    }


def _add(file: FileIO, packed: bytes, written: Callable[[int], None]) -> None:
    if packed:
        _write(file, packed)
        written(len(packed))


def _write(file: FileIO, content: bytes) -> None:
    """Write all of it: a signal, or a disk that is nearly full, may let only a part through."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _pieces(file: FileIO, sizes: Iterable[int]) -> Iterator[bytes]:
    for size in sizes:
        end = file.tell() + size
        while (left := end - file.tell()) and (piece := file.read(min(left, _PIECE))):
            yield piece


def _damaged(path: Path, why: str) -> StepFailedError:
    return StepFailedError(f"{path} cannot be unpacked: {why}", "choose another backup")
