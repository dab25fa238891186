"""Writes dumps and reads them: pg_dump and pg_restore, packed where these cannot."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import BufferedReader
from pathlib import Path
from threading import Event
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol

from backset.backups import manifest, packing
from backset.connections.session import conninfo
from backset.errors import StepFailedError
from backset.process import files
from backset.process.process import pipe
from backset.process.signals import submit
from backset.servers.programs import JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager
    from hashlib import _Hash
    from io import FileIO
    from queue import SimpleQueue

    from backset.backups.manifest import Backup, Dump
    from backset.connections.target import Target
    from backset.process.process import Child
    from backset.servers.programs import Programs

_KNOWS_TIMEOUT = 17  # the server's major version that brought transaction_timeout
_TIMEOUT = b"SET transaction_timeout = 0;\n"
_PIECE = 2**18  # bytes
_RESTRICTED = re.compile(rb"(?<=^\\restrict )\w+$", re.MULTILINE)
_FRAME = 4096  # bytes: in the first ones of a script that word stands, and in the last ones
_WORTH_JOBS = 4_000_000  # bytes of a dump, from which on several processes are worth their start


class Digests(NamedTuple):
    """What a dump was when it was read back: the SHA-256 of its file, and of what it says.

    The latter is the same for two dumps of one state, though their files have the time in them.
    """

    file: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a dump is made.

    words: what the manifest says of it. suffix: of its file. options: pg_dump's. unpack:
    what unpacks its `{file}` without us. jobs: pg_restore's option for several processes.
    """

    words: str
    suffix: str
    options: tuple[str, ...]
    unpack: str = ""
    jobs: str = ""

    def by_hand(self, name: str, *, with_path: bool = False) -> str:
        """Return the command that loads a dump without us, in the folder of the backup `name`.

        with_path: with the search path of the database that it goes into.
        """
        file = name + self.suffix
        unpack = f"{self.unpack.format(file=file)} | " if self.unpack else ""
        file = "" if unpack else f" {file}"
        if not with_path:
            restore = f"pg_restore --exit-on-error{self.jobs} --dbname DATABASE{file}"
            return unpack + restore
        less = "sed \"/^SELECT pg_catalog.set_config('search_path'/d\""
        psql = "psql --set=ON_ERROR_STOP=1 --single-transaction DATABASE"
        return f"{unpack}pg_restore --file=-{file} | {less} | {psql}"


PLAIN = Form(
    words="custom, with gzip in it",
    suffix=".dump",
    options=("--format=custom",),
)
NATIVE = Form(
    words="custom, with zstd in it",
    suffix=".dump",
    options=("--format=custom", "--compress=zstd:level=1"),
    jobs=f" --jobs={JOBS}",
)
PACKED = Form(
    words="custom, in zstd",
    suffix=".dump.zst",
    options=("--format=custom", "--compress=0"),
    unpack="zstd -dc {file}",
)
# In a bucket, as objects of a few MB each.
PARTED = Form(
    words="custom, in zstd, in parts",
    suffix=PACKED.suffix,
    options=PACKED.options,
    unpack="cat *.part | zstd -dc",
)
SEALED = Form(
    words="custom, in zstd, in parts by age",
    suffix=PACKED.suffix,
    options=PACKED.options,
    unpack="for each in *.part; do age --decrypt --identity KEY $each; done | zstd -dc",
)


def form(backup: Backup) -> Form:
    """Return how the dump of a backup was made."""
    words = backup.manifest.dump_format
    return next((each for each in _FORMS if each.words == words), PLAIN)


_FORMS = (NATIVE, PACKED, PARTED, SEALED)


def choose(size_bytes: int, zstd_above: int, pg_dump: Path, programs: Programs) -> Form:
    """Return how a database of that size is dumped.

    Not by lz4: it takes half as much room again as gzip.
    """
    if size_bytes <= zstd_above:
        return PLAIN
    if programs.has_zstd(pg_dump):
        return NATIVE
    return PACKED if packing.is_possible() else PLAIN


class Sink(Protocol):
    """Where a packed dump is written, and read back from meanwhile."""

    def pack(self, source: FileIO) -> None:
        """Write what comes from `source`, until that ends, and close it."""

    def unpacked(self, digest: _Hash) -> Generator[bytes, None, None]:
        """Yield what was written, as it comes; digest: gets it as it is stored."""

    def stop(self) -> None:
        """Let neither of them wait any longer."""


@dataclass(frozen=True, slots=True)
class _FileSink:
    """A file."""

    path: Path
    sizes: SimpleQueue[int]

    def pack(self, source: FileIO) -> None:
        packing.pack(source, self.path, self.sizes.put)

    def unpacked(self, digest: _Hash) -> Generator[bytes, None, None]:
        return packing.unpack(self.path, iter(self.sizes.get, 0), digest)

    def stop(self) -> None:
        """Do nothing: pack() ends with its source, and tells so."""


def written(
    form: Form,
    path: Path,
    programs: Programs,
    both: tuple[Path, Path],
    *options: str,
    target: Target,
) -> AbstractContextManager[Callable[[], Digests]]:
    """Run pg_dump for as long as the block lasts, which gets a function that waits for its end.

    That has the dump read back whole, and returns its digests. path: an empty file, for the dump.
    both: pg_dump and pg_restore. options: pg_dump's, beside those of the form. Raises
    StepFailedError, OSError.
    """
    from queue import SimpleQueue

    options = *form.options, *options
    if form is PACKED:
        return packed(_FileSink(path, SimpleQueue()), programs, both, *options, target=target)
    return _plain(path, programs, both, *options, target=target)


def read(
    dump: Dump, pg_restore: Path, *arguments: str, programs: Programs, target: Target | None = None
) -> None:
    """Run pg_restore on a dump of any form, to its end. Raises StepFailedError."""
    with reading(dump, pg_restore, *arguments, programs=programs, target=target) as child:
        programs.check(child, pg_restore, target)


def load(
    dump: Dump, pg_restore: Path, *arguments: str, programs: Programs, target: Target, major: int
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

    psql = programs.beside(pg_restore, "psql")
    at_once = [each for each in arguments if each == "--single-transaction"]
    others = [each for each in arguments if each not in at_once and not each.startswith("--jobs")]
    how = ["--no-psqlrc", "--quiet", "--output", os.devnull, "--set=ON_ERROR_STOP=1", "--file=-"]
    with (
        pipe() as (source, sink),
        pipe() as (script, dumped),
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
    dump: Dump,
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
    packing.demand(dump)
    from concurrent.futures import ThreadPoolExecutor

    with (
        pipe() as (source, sink),
        ThreadPoolExecutor() as threads,
        programs.start(pg_restore, *arguments, target=target, stdin=source, output=output) as child,
    ):
        source.close()
        fed = submit(threads, packing.feed, _contents(dump), sink)
        try:
            yield child
        except StepFailedError:
            child.end()
            fed.result()  # of a damaged dump pg_restore knows only that it ended too soon
            raise
        fed.result()


def jobs(dump: Dump) -> list[str]:
    """Return the arguments that let several processes load a dump, where they can seek in it."""
    return [f"--jobs={JOBS}"] if is_worth_jobs(dump) and not is_packed(dump) else []


def is_worth_jobs(dump: Dump) -> bool:
    """Tell whether a dump is so large that several processes are worth their start."""
    return manifest.size_bytes(dump) >= _WORTH_JOBS


def write_head(dump: Dump, pg_restore: Path, path: Path, programs: Programs) -> None:
    """Write the beginning of a packed dump as it was, with its table of contents, into `path`.

    That is all of a dump that pg_restore needs to make what has no rows, and there it can seek. Of
    how long it is, pg_restore says nothing: what it has taken when it has listed it is enough.
    Raises StepFailedError.
    """
    with (
        pipe() as (source, sink),
        files.create(path).open("wb") as file,
        programs.start(pg_restore, "--list", "--file", os.devnull, stdin=source) as child,
    ):
        source.close()
        packing.feed(_written_to(file, _contents(dump)), sink)
        programs.check(child, pg_restore, None)


def _contents(dump: Dump) -> Iterator[bytes]:
    """Yield what a packed dump says."""
    if isinstance(dump, Path):
        return packing.unpack(dump, [dump.stat().st_size])
    return packing.unpacked(dump.pieces(), dump)


def _written_to(file: IO[bytes], pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        file.write(piece)
        yield piece


def is_packed(dump: Dump) -> bool:
    """Tell whether pg_restore can read a dump only after it was unpacked."""
    if not isinstance(dump, Path) or dump.suffix == ".zst":
        return True
    if not dump.is_file():
        return False
    with dump.open("rb") as file:  # one that is still partial has no such name yet
        return file.read(len(packing.MAGIC)) == packing.MAGIC


@contextmanager
def _plain(
    path: Path, programs: Programs, both: tuple[Path, Path], *options: str, target: Target
) -> Iterator[Callable[[], Digests]]:
    """Let pg_dump write, and read that back as soon as it has: nobody has to ask for it."""
    from concurrent.futures import ThreadPoolExecutor

    pg_dump, pg_restore = both
    over = Event()
    with pipe() as (source, sink), ThreadPoolExecutor() as threads, ExitStack() as children:
        dumping = programs.start(pg_dump, *options, "--file", str(path), target=target)
        children.enter_context(dumping)

        def read_back() -> Digests:
            programs.check(dumping, pg_dump, target)
            # `pg_restore --list` would accept a dump whose tail is cut off.
            reading = programs.start(pg_restore, "--file=-", str(path), output=sink)
            children.enter_context(reading)
            if over.is_set():  # whoever ends them all has not seen this one
                reading.end()
            sink.close()
            content = _content(source)
            programs.check(reading, pg_restore, None)
            return Digests(manifest.sha256(path), content)

        try:
            yield submit(threads, read_back).result
        finally:
            over.set()


@contextmanager
def packed(
    into: Sink, programs: Programs, both: tuple[Path, Path], *options: str, target: Target
) -> Iterator[Callable[[], Digests]]:
    """Pack what pg_dump writes, and read it back from there meanwhile: two cores are busy then.

    As written() does. The programs end before the threads, and those before the pipes: nobody waits
    for anybody.
    """
    from concurrent.futures import ThreadPoolExecutor

    pg_dump, pg_restore = both

    def read_back() -> str:
        digest = sha256()
        with closing(into.unpacked(digest)) as pieces:
            packing.feed(pieces, sink)
            for _ in pieces:  # pg_restore has given up; the file is still to be looked at
                pass
        return digest.hexdigest()

    with (
        pipe() as (source, dumped),
        pipe() as (unpacked, sink),
        pipe() as (script, written),
        ThreadPoolExecutor() as threads,
        programs.start(pg_dump, *options, target=target, output=dumped) as dumping,
        programs.start(pg_restore, "--file=-", stdin=unpacked, output=written) as reading,
    ):
        for each in (dumped, unpacked, written):
            each.close()
        packed = submit(threads, into.pack, source)
        checked = submit(threads, read_back)
        content = submit(threads, _content, script)

        def finish() -> Digests:
            packed.result()  # first: of a full disk pg_dump knows only that nobody listens
            programs.check(dumping, pg_dump, target)
            found = checked.result()
            programs.check(reading, pg_restore, None)
            return Digests(found, content.result())

        try:
            yield finish
        except BaseException:
            into.stop()
            raise


def _content(script: FileIO) -> str:
    """Return the SHA-256 of what pg_restore writes, to its end.

    Without the word by which psql knows the end of a script: each script has another one.
    """
    digest, rest = sha256(), b""
    with BufferedReader(script) as reader:
        head = reader.read(_FRAME)
        word = _RESTRICTED.search(head)
        digest.update(head.replace(word[0], b"") if word else head)
        while piece := reader.read1(_PIECE):
            known = memoryview(rest + piece)
            digest.update(known[:-_FRAME])
            rest = bytes(known[-_FRAME:])
    digest.update(rest.replace(word[0], b"") if word else rest)
    return digest.hexdigest()
