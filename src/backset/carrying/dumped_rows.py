"""The rows of a dump, as pg_restore writes them out, on their way into other tables."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from psycopg import sql

from backset.backups import dumps, restoration, toc
from backset.connections.session import connect
from backset.errors import StepFailedError
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backset.backups.manifest import Backup
    from backset.connections.session import Session
    from backset.runs.build import Build
    from backset.servers.programs import Programs

    Name = tuple[str, str]  # schema and name
    Parts = Mapping[int, Name]
    Counts = Mapping[Name, int]

_NAME = rb'(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_]*)'
_HEADER = re.compile(rb"COPY %b\.%b (?P<columns>.*) FROM stdin;\n" % (_NAME, _NAME), re.DOTALL)
_END = b"\\.\n"
_BATCH_BYTES = 64 * 1024
_AGAIN = "see that the backup is whole, then run this again"


def fill(build: Build, taken: Backup, parts: Parts, progress: Callable[[str], None]) -> Counts:
    """Copy rows of a backup into tables of the target; return how many each of these got.

    parts: the oid that a table had in the dump → where its rows go.
    """
    pg_restore = restoration.program(taken, build.programs)
    counts = dict.fromkeys(parts.values(), 0)
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "toc"
        lines = toc.read(taken.dump, pg_restore, build.programs, listing)
        entries = toc.rows(lines, parts)
        text = "".join(f"{line}\n" for line, _ in entries)
        listing.write_text(text, encoding="utf-8", errors="surrogateescape")
        with (
            closing(connect(build.target, build.purpose)) as session,
            _script(taken.dump, listing, pg_restore, build.programs) as script,
        ):
            for done, (_, oid) in enumerate(entries):
                progress(f"reading the backup: {done} of {count(len(entries), 'table')}")
                counts[parts[oid]] += _load(script, session, sql.Identifier(*parts[oid]))
    return counts


@contextmanager
def _script(dump: Path, listing: Path, pg_restore: Path, programs: Programs) -> Iterator[IO[bytes]]:
    """Give what pg_restore writes of the rows that `listing` names, which it does in its order.

    Raises StepFailedError if it does not come to its end.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as script:
        arguments = ["--data-only", "--use-list", os.fspath(listing), "--file=-"]
        with (
            os.fdopen(writing, "wb") as sink,
            dumps.reading(dump, pg_restore, *arguments, programs=programs, output=sink) as child,
        ):
            sink.close()  # so that the script ends when pg_restore does
            yield script
            programs.check(child, pg_restore, None)


def _load(script: IO[bytes], session: Session, table: sql.Identifier) -> int:
    """Copy the next table of a script into this one, and return how many rows it had.

    The settings before it, such as the encoding, become those of the session.
    """
    for line in script:
        if line.startswith(b"SET ") and b"timeout" not in line:
            session.execute(line)
        if line.startswith(b"COPY "):
            return _copy(script, session, table, _columns(line, script))
    raise StepFailedError("pg_restore has left out a table of the backup", _AGAIN)


def _columns(header: bytes, script: IO[bytes]) -> bytes:
    """Return the list of columns in the line before the rows; a name may break that line."""
    while not (found := _HEADER.fullmatch(header)):
        more = script.readline()
        if not more:
            raise StepFailedError("what pg_restore writes ends in the name of a table", _AGAIN)
        header += more
    return found["columns"]


def _copy(script: IO[bytes], session: Session, table: sql.Identifier, columns: bytes) -> int:
    statement = b"COPY %b %b FROM STDIN" % (table.as_bytes(session), columns)
    with session.cursor() as cursor:
        with cursor.copy(statement) as copy:
            for batch in _batches(script):
                copy.write(batch)
        return cursor.rowcount


def _batches(script: IO[bytes]) -> Iterator[bytearray]:
    """Yield the rows up to the end of the table, of a large one a piece at a time."""
    batch, begins = bytearray(), True
    while (piece := script.readline(_BATCH_BYTES)) and not (begins and piece == _END):
        batch += piece
        begins = piece.endswith(b"\n")
        if len(batch) >= _BATCH_BYTES:
            yield batch
            batch = bytearray()
    yield batch
