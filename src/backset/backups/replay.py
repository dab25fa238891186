"""Loads a dump through a session of ours: in its own transaction, with a search path of our choice.

So a load can be tried where the objects have just been dropped, and taken back again. pg_dump
empties the search path for good reasons, but the functions of a database may count on one.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import contextmanager, nullcontext
from io import BufferedReader
from pathlib import Path
from typing import IO, TYPE_CHECKING

from backset.backups import dumps
from backset.catalogs import evaluated
from backset.processes.process import pipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.connections.session import Session
    from backset.servers.programs import Programs

_BATCH_BYTES = 2**18
_END = b"\\.\n"
_COPY, _FROM = b"COPY ", b" FROM stdin;\n"
# The frame of a plain dump, and a setting that a server before 17 does not know. The rows of large
# objects have a transaction of their own, which would end ours.
_FRAME = rb"^(?:\\(?:un)?restrict \w+|SET transaction_timeout = 0;)$"
_TIMEOUT = re.compile(rb"^SET transaction_timeout = 0;$", re.MULTILINE)
_RESTRICTED = re.compile(rb"^\\restrict (\w+)$", re.MULTILINE)
_NOT_FOR_US_AMONG_ROWS = re.compile(_FRAME + rb"|^(?:BEGIN|COMMIT);$", re.MULTILINE)
_COMMENT = re.compile(rb"^--.*$", re.MULTILINE)
_EMPTY_PATH = b"SELECT pg_catalog.set_config('search_path', '', false);\n"


def replay(
    session: Session,
    dump: Path,
    pg_restore: Path,
    programs: Programs,
    *,
    entries: Path | None = None,
    path: str | None = None,
) -> None:
    """Load a dump in the open transaction of `session`, which keeps the dump's settings.

    entries: a list for `pg_restore --use-list`. path: the search path that it is loaded with; None
    for the empty one of the dump. With one, constraints come after the rows, which may have to
    look at each other, and functions that name none have that one where the server itself would
    give them another. Raises psycopg.Error, StepFailedError.
    """
    script = _Script(dump, pg_restore, programs, entries, emptied=path is None)
    if path is not None:
        session.execute("SELECT set_config('search_path', %s, false)", [path])
    (encoding,) = session.execute("SELECT getdatabaseencoding()").fetchone() or ("",)
    speak = "SELECT set_config('client_encoding', %s, false)"
    session.execute(speak, [encoding])  # a script is read before it can say so
    session.execute(script.definitions("pre-data"))
    own = path is not None
    with evaluated.lent_path(session) if own else nullcontext():
        with evaluated.checked_later(session) if own else nullcontext():
            script.load_rows(session)
        session.execute(script.definitions("post-data"))
    session.execute(speak, ["UTF8"])  # as connect() does


class _Script:
    """What pg_restore writes of a dump, section by section."""

    def __init__(
        self,
        dump: Path,
        pg_restore: Path,
        programs: Programs,
        entries: Path | None,
        *,
        emptied: bool,
    ) -> None:
        self._where = dump, pg_restore
        self._programs = programs
        self._chosen = ["--use-list", os.fspath(entries)] if entries else []
        self._emptied = emptied

    def definitions(self, section: str) -> bytes:
        """Return a section in which there are no rows."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "script"
            what = [f"--section={section}", *self._chosen, "--file", os.fspath(path)]
            dumps.read(*self._where, *what, programs=self._programs)
            return self._ours(_unframed(path.read_bytes()))

    def load_rows(self, session: Session) -> None:
        """Load the rows, the values of sequences, and large objects."""
        with self._rows() as script:
            statements = bytearray()
            for line in script:
                if line.startswith(_COPY) and not _is_open(statements):
                    self._execute(session, statements)
                    _copy(session, line, script)
                    continue
                statements += line
                if len(statements) > _BATCH_BYTES and line.endswith(b";\n"):
                    self._execute(session, statements)  # a large object comes in many of them
            self._execute(session, statements)

    def _execute(self, session: Session, statements: bytearray) -> None:
        session.execute(self._ours(_NOT_FOR_US_AMONG_ROWS.sub(b"", statements)))
        statements.clear()

    @contextmanager
    def _rows(self) -> Iterator[IO[bytes]]:
        what = ["--section=data", *self._chosen, "--file=-"]
        with pipe() as (source, sink), BufferedReader(source) as script:
            reading = dumps.reading(*self._where, *what, programs=self._programs, output=sink)
            with reading as child:
                sink.close()  # so that the script ends when pg_restore does
                yield script
                self._programs.check(child, self._where[1], None)

    def _ours(self, text: bytes) -> bytes:
        return text if self._emptied else text.replace(_EMPTY_PATH, b"", 1)


def _unframed(script: bytes) -> bytes:
    """Return definitions without their frame; functions may have such lines of their own."""
    script = _TIMEOUT.sub(b"", script, count=1)
    if word := _RESTRICTED.search(script):
        for each in (b"\\restrict ", b"\\unrestrict "):
            script = script.replace(each + word[1], b"")
    return script


def _is_open(statements: bytearray) -> bool:
    """Tell whether the last statement ends within a text: a sequence's name may have lines."""
    return _COMMENT.sub(b"", statements).count(b"'") % 2 == 1


def _copy(session: Session, statement: bytes, script: IO[bytes]) -> None:
    """Load the rows that follow a line with COPY; a column's name may have lines, too."""
    while not statement.endswith(_FROM) or statement.count(b'"') % 2 == 1:
        if not (line := script.readline()):
            break  # the server says that this is no statement
        statement += line
    with session.cursor() as cursor, cursor.copy(statement) as copy:
        batch = bytearray()
        while (line := script.readline()) not in {_END, b""}:
            batch += line
            if len(batch) > _BATCH_BYTES:
                copy.write(batch)
                batch = bytearray()
        copy.write(batch)
