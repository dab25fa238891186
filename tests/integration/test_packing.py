"""What zstd packs while it comes is what comes out again, and what is damaged is found."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

from backset.backups import dumps, packing
from backset.errors import StepFailedError
from backset.process.process import pipe
from backset.servers.programs import installations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backset.servers.programs import Programs

RANDOM = random.Random(1)  # noqa: S311  (it is no secret)
MIXED = RANDOM.randbytes(700_000) + b"of words " * 300_000 + RANDOM.randbytes(3)


def pack(path: Path, content: bytes) -> list[int]:
    """Pack content from a pipe, as it comes; return the sizes that were told."""
    told: SimpleQueue[int] = SimpleQueue()
    with pipe() as (source, sink):
        writer = threading.Thread(target=packing.feed, args=([content[:9], content[9:]], sink))
        writer.start()
        packing.pack(source, path, told.put)
        writer.join()
    return list(iter(told.get, 0))


def unpack(path: Path) -> bytes:
    """Unpack a file that is complete."""
    return b"".join(packing.unpack(path, [path.stat().st_size]))


@pytest.mark.parametrize("content", [b"", b"x", MIXED], ids=["nothing", "a byte", "mixed"])
def test_what_was_packed_comes_out_again(tmp_path: Path, content: bytes) -> None:
    """The sizes that are told add up to the file's: a reader that follows misses nothing."""
    path = tmp_path / "packed"
    sizes = pack(path, content)
    assert sum(sizes) == path.stat().st_size
    assert b"".join(packing.unpack(path, sizes)) == content
    assert unpack(path) == content


def test_frames_that_others_have_packed_are_one_content(tmp_path: Path) -> None:
    """As pzstd and `cat` make them: a frame may end within what is read at once, or at its end."""
    path, frames = tmp_path / "packed", list[bytes]()
    for content in (MIXED, b"", b"x", MIXED):
        pack(path, content)
        frames.append(path.read_bytes())
    path.write_bytes(b"".join(frames))
    assert unpack(path) == MIXED + b"x" + MIXED
    assert b"".join(packing.unpacked(frames, path)) == MIXED + b"x" + MIXED


@pytest.mark.parametrize("program", ["zstd", "pzstd", "unzstd", "7z"])
def test_other_programs_unpack_it(tmp_path: Path, program: str) -> None:
    """Nothing of ours is needed to read a backup."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    path = tmp_path / "packed.zst"
    pack(path, MIXED)
    words = {"7z": ["e", "-so", str(path)]}.get(program, ["-dc", str(path)])
    assert subprocess.check_output([program, *words]) == MIXED


def flipped(content: bytes, at: int) -> bytes:
    """Return content with one bit of it changed."""
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:0],
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content + b"?" * packing._PACKED_PIECE,  # noqa: SLF001  (more than is read at once)
        lambda content: content + b"?",
        *(lambda content, at=at: flipped(content, at) for at in (0, 1000, 350_000, -300_000)),
        lambda content: flipped(content, len(content) - 1),
    ],
)
def test_damage_is_found(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """By zstd's own checksum of the content, wherever a bit is another one."""
    path = tmp_path / "packed"
    pack(path, MIXED)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StepFailedError, match=r"packed cannot be unpacked: "):
        unpack(path)


def test_little_that_becomes_much_comes_in_pieces(tmp_path: Path) -> None:
    """Memory does not grow with what a table of equal rows is unpacked to."""
    path = tmp_path / "packed"
    pack(path, bytes(100_000_000))
    assert path.stat().st_size < 100_000
    sizes = [len(piece) for piece in packing.unpack(path, [path.stat().st_size])]
    assert sum(sizes) == 100_000_000
    assert max(sizes) <= packing._PACKED_PIECE  # noqa: SLF001  (what is promised)


def test_nobody_who_listens_is_no_error(tmp_path: Path) -> None:
    """The reader's exit status tells why; and what there was to check can still be checked."""
    path = tmp_path / "packed"
    pack(path, MIXED)
    pieces = packing.unpack(path, [path.stat().st_size])
    with pipe() as (source, sink):
        source.close()
        packing.feed(pieces, sink)
        assert sink.closed
    assert sum(map(len, pieces)) > 0


def test_a_source_that_cannot_be_read_ends_the_sizes(tmp_path: Path) -> None:
    """Whoever follows the file does not wait for ever."""
    told: SimpleQueue[int] = SimpleQueue()
    with pipe() as (_, sink), pytest.raises(OSError, match="Bad file descriptor"):
        packing.pack(os.fdopen(os.dup(sink.fileno()), "rb", 0), tmp_path / "packed", told.put)
    assert told.get(timeout=1) == 0


def test_without_zstd_large_dumps_are_by_gzip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, programs: Programs
) -> None:
    """A Python may be built without: nothing packed is made then, and what is there is named."""
    pg_dump = installations()[18] / "bin" / "pg_dump"  # which is built without, too
    assert dumps.choose(2, 1, pg_dump, programs) is dumps.PACKED
    dump = tmp_path / "a.dump.zst"
    dump.write_bytes(packing.MAGIC)
    monkeypatch.setitem(sys.modules, packing.MODULE, None)
    assert dumps.choose(2, 1, pg_dump, programs) is dumps.PLAIN
    with pytest.raises(StepFailedError, match="needs zstd, and this Python was built without it"):
        dumps.read(dump, pg_dump, programs=programs)
