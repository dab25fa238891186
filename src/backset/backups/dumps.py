"""Writes dumps and reads them: pg_dump and pg_restore, with zstd around those that lack it."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from io import BufferedReader
from threading import Event
from typing import IO, TYPE_CHECKING

from backset.backups import manifest
from backset.connections.session import conninfo
from backset.errors import StepFailedError
from backset.servers.programs import JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from io import FileIO
    from pathlib import Path

    from backset.connections.target import Target
    from backset.processes.process import Child
    from backset.servers.programs import Programs

_KNOWS_TIMEOUT = 17  # the server's major version that brought transaction_timeout
_TIMEOUT = b"SET transaction_timeout = 0;\n"
_PIECE = 2**18  # bytes
_WORTH_JOBS = 4_000_000  # bytes of a dump, from which on several processes are worth their start


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a dump is made.

    words: what the manifest says of it. suffix: of its file. options: pg_dump's. command: what
    loads it without us.
    """

    words: str
    suffix: str
    options: tuple[str, ...]
    command: str

    def by_hand(self, name: str) -> str:
        """Return the command that loads a dump without us, in the folder of the backup `name`."""
        return self.command.format(name + self.suffix)


PLAIN = Form(
    words="custom, with gzip in it",
    suffix=".dump",
    options=("--format=custom",),
    command="pg_restore --exit-on-error --dbname DATABASE {}",
)
NATIVE = Form(
    words="custom, with zstd in it",
    suffix=".dump",
    options=("--format=custom", "--compress=zstd:level=1"),
    command=f"pg_restore --exit-on-error --jobs={JOBS} --dbname DATABASE {{}}",
)
PACKED = Form(
    words="custom, in zstd",
    suffix=".dump.zst",
    options=("--format=custom", "--compress=0"),
    command="zstd -dc {} | pg_restore --exit-on-error --dbname DATABASE",
)


def choose(size_bytes: int, zstd_above: int, pg_dump: Path, programs: Programs) -> Form:
    """Return how a database of that size is dumped.

    Not by lz4: it takes half as much room again as gzip.
    """
    if size_bytes <= zstd_above:
        return PLAIN
    if programs.has_zstd(pg_dump):
        return NATIVE
    return PACKED if _can_pack() else PLAIN


def written(
    form: Form,
    path: Path,
    programs: Programs,
    both: tuple[Path, Path],
    *options: str,
    target: Target,
) -> AbstractContextManager[Callable[[], str]]:
    """Run pg_dump for as long as the block lasts, which gets a function that waits for its end.

    That has the dump read back whole, and returns its SHA-256. path: an empty file, for the dump.
    both: pg_dump and pg_restore. options: pg_dump's, beside those of the form. Raises
    StepFailedError, OSError.
    """
    how = _packed if form is PACKED else _plain
    return how(path, programs, both, *form.options, *options, target=target)


def read(
    dump: Path, pg_restore: Path, *arguments: str, programs: Programs, target: Target | None = None
) -> None:
    """Run pg_restore on a dump of any form, to its end. Raises StepFailedError."""
    with reading(dump, pg_restore, *arguments, programs=programs, target=target) as child:
        programs.check(child, pg_restore, target)


def load(
    dump: Path, pg_restore: Path, *arguments: str, programs: Programs, target: Target, major: int
) -> None:
    """Load a dump of any form into `target`, to its end or the first error, as `arguments` say.

    major: the server's. pg_restore 17 and later sets transaction_timeout, which an older server
    does not know; then psql runs what pg_restore writes, less that line.
    Raises StepFailedError.
    """
    where = ("--no-password", "--dbname", conninfo(target, "restore"))
    is_known = major >= _KNOWS_TIMEOUT or programs.major(pg_restore) < _KNOWS_TIMEOUT
    if is_known:
        arguments = ("--exit-on-error", *where, *arguments)
        read(dump, pg_restore, *arguments, programs=programs, target=target)
        return
    from backset.backups import packing

    psql = programs.beside(pg_restore, "psql")
    at_once = [each for each in arguments if each == "--single-transaction"]
    others = [each for each in arguments if each not in at_once and not each.startswith("--jobs")]
    how = ["--no-psqlrc", "--quiet", "--output", os.devnull, "--set=ON_ERROR_STOP=1", "--file=-"]
    with (
        packing.pipe() as (source, sink),
        packing.pipe() as (script, dumped),
        programs.start(psql, *how, *at_once, *where, target=target, stdin=source) as loading,
        reading(dump, pg_restore, *others, "--file=-", programs=programs, output=dumped) as child,
    ):
        source.close()
        dumped.close()

        def whole() -> Iterator[bytes]:
            yield from _less_the_timeout(script)
            try:
                programs.check(child, pg_restore, None)
            except StepFailedError:
                loading.end()  # before its input ends: it would commit what has come so far
                raise

        packing.feed(whole(), sink)
        programs.check(loading, psql, target)


def _less_the_timeout(script: FileIO) -> Iterator[bytes]:
    """Yield a script, less the setting in its head that a server before 17 does not know."""
    with BufferedReader(script) as reader:
        for line in reader:
            if line == _TIMEOUT:
                break
            yield line
        while piece := reader.read1(_PIECE):
            yield piece


@contextmanager
def reading(
    dump: Path,
    pg_restore: Path,
    *arguments: str,
    programs: Programs,
    target: Target | None = None,
    output: IO[bytes] | None = None,
) -> Iterator[Child]:
    """Run pg_restore on a dump of any form for the block, which waits for it.

    output: a file that gets its stdout. Raises StepFailedError where a dump cannot be unpacked.
    """
    if not is_packed(dump):
        arguments += (str(dump),)
        with programs.start(pg_restore, *arguments, target=target, output=output) as child:
            yield child
        return
    if not _can_pack():
        what = f"{dump} needs zstd, and this Python was built without it"
        raise StepFailedError(what, "use another Python, or the command `by_hand` of its manifest")
    from concurrent.futures import ThreadPoolExecutor

    from backset.backups import packing

    with (
        packing.pipe() as (source, sink),
        ThreadPoolExecutor() as threads,
        programs.start(pg_restore, *arguments, target=target, stdin=source, output=output) as child,
    ):
        source.close()
        unpacked = packing.unpacked(dump, [dump.stat().st_size])
        fed = threads.submit(packing.feed, unpacked, sink)
        try:
            yield child
        except StepFailedError:
            child.end()
            fed.result()  # of a damaged dump pg_restore knows only that it ended too soon
            raise
        fed.result()


def jobs(dump: Path) -> list[str]:
    """Return the arguments that let several processes load a dump, where they can seek in it."""
    is_worth_it = not is_packed(dump) and manifest.size_bytes(dump) >= _WORTH_JOBS
    return [f"--jobs={JOBS}"] if is_worth_it else []


def is_packed(dump: Path) -> bool:
    """Tell whether pg_restore can read a dump only after it was unpacked."""
    return dump.suffix == ".zst"


def _can_pack() -> bool:
    """Tell whether there is a zstd: from 3.14 on it is Python's own, which may be built without."""
    return sys.version_info < (3, 14) or find_spec("_zstd") is not None


@contextmanager
def _plain(
    path: Path, programs: Programs, both: tuple[Path, Path], *options: str, target: Target
) -> Iterator[Callable[[], str]]:
    """Let pg_dump write, and read that back as soon as it has: nobody has to ask for it."""
    from concurrent.futures import ThreadPoolExecutor

    pg_dump, pg_restore = both
    over = Event()
    with ThreadPoolExecutor() as threads, ExitStack() as children:
        dumping = programs.start(pg_dump, *options, "--file", str(path), target=target)
        children.enter_context(dumping)

        def read_back() -> str:
            programs.check(dumping, pg_dump, target)
            # `pg_restore --list` would accept a dump whose tail is cut off.
            reading = programs.start(pg_restore, "--file", os.devnull, str(path))
            children.enter_context(reading)
            if over.is_set():  # whoever ends them all has not seen this one
                reading.end()
            programs.check(reading, pg_restore, None)
            return manifest.sha256(path)

        try:
            yield threads.submit(read_back).result
        finally:
            over.set()


@contextmanager
def _packed(
    path: Path, programs: Programs, both: tuple[Path, Path], *options: str, target: Target
) -> Iterator[Callable[[], str]]:
    """Pack what pg_dump writes, and read it back from the file meanwhile: two cores are busy then.

    The programs end before the threads, and those before the pipes: nobody waits for anybody.
    """
    from concurrent.futures import ThreadPoolExecutor
    from queue import SimpleQueue

    from backset.backups import packing

    pg_dump, pg_restore = both
    sizes: SimpleQueue[int] = SimpleQueue()

    def read_back() -> str:
        digest = sha256()
        pieces = packing.unpacked(path, iter(sizes.get, 0), digest)
        packing.feed(pieces, sink)
        for _ in pieces:  # pg_restore has given up; the file is still to be looked at
            pass
        return digest.hexdigest()

    with (
        packing.pipe() as (source, dumped),
        packing.pipe() as (unpacked, sink),
        ThreadPoolExecutor() as threads,
        programs.start(pg_dump, *options, target=target, output=dumped) as dumping,
        programs.start(pg_restore, "--file", os.devnull, stdin=unpacked) as reading,
    ):
        dumped.close()
        unpacked.close()
        packed = threads.submit(packing.pack, source, path, sizes.put)
        checked = threads.submit(read_back)

        def finish() -> str:
            packed.result()  # first: of a full disk pg_dump knows only that nobody listens
            programs.check(dumping, pg_dump, target)
            found = checked.result()
            programs.check(reading, pg_restore, None)
            return found

        yield finish
