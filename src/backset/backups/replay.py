"""Loads dumps: by pg_restore, or section by section through sessions of ours, one or several."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import ExitStack, closing, contextmanager, nullcontext
from functools import partial
from io import BufferedReader
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, TypeAlias

from backset.backups import dumps
from backset.catalog import evaluated
from backset.connections import workers
from backset.connections.session import connect, explained
from backset.process.process import pipe
from backset.servers.programs import JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO

    from backset.backups.manifest import Dump
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.servers.programs import Programs

Rows: TypeAlias = tuple[bytes, bytes]  # a statement with COPY, and rows for it


def load(
    dump: Dump,
    pg_restore: Path,
    programs: Programs,
    target: Target,
    major: int,
    *,
    entries: Path | None = None,
) -> None:
    """Load a dump of any form into the empty database `target`, by several processes if worth it.

    major: the server's. entries: a list for `pg_restore --use-list`. Raises StepFailedError; then
    a part of it may be there.
    """
    into = partial(dumps.load, programs=programs, target=target, major=major)
    chosen = ["--use-list", os.fspath(entries)] if entries else []
    if JOBS == 1 or not (dumps.is_packed(dump) and dumps.is_worth_jobs(dump)):
        return into(dump, pg_restore, *dumps.jobs(dump), *chosen)
    with tempfile.TemporaryDirectory() as folder:
        head = Path(folder) / "head.dump"
        dumps.write_head(dump, pg_restore, head, programs)
        into(head, pg_restore, "--section=pre-data", *chosen)
        script = _Script(dump, pg_restore, programs, entries, emptied=True)
        if not (number := _load_rows(script, target)):  # the database has a connection limit
            into(dump, pg_restore, "--section=data", *chosen)
        return into(head, pg_restore, "--section=post-data", f"--jobs={number or 1}", *chosen)


def _load_rows(script: _Script, target: Target) -> int:
    """Load the rows, those of one table by several sessions; return how many these were.

    COPY is what the server takes longest for, and each session has one of its cores. Returns 0,
    and has loaded nothing, where the server has one session only. Measured on two cores: one COPY
    into an empty table, whose rows are frozen, halves the log, and takes a third longer.
    """
    with ExitStack() as opened, explained(target):

        def made() -> Session:
            session = connect(target, "restore", is_disposable=True)
            return opened.enter_context(closing(session))

        first, *hands = workers.hands(made, 1 + JOBS)
        if not hands:
            return 0
        _speak_as_stored(first)
        with first.transaction(), script.tables(first) as tables:
            rows = ((statement, each) for statement, pieces in tables for each in pieces)
            copying = partial(_copy_in_turn, _taking(rows), first)
            workers.run([copying] * len(hands), hands, lambda each: [each])
        return len(hands)


def _taking(rows: Iterator[Rows]) -> Callable[[], Rows | None]:
    """Return what gives the next rows to whichever thread asks."""
    lock = Lock()

    def take() -> Rows | None:
        with lock:
            return next(rows, None)

    return take


def _copy_in_turn(take: Callable[[], Rows | None], first: Session, session: Session) -> None:
    """Copy what comes, in one COPY for as long as it is of one table. first: has the settings."""
    rows = take()
    for name, value in first.execute(_SETTINGS).fetchall():
        session.execute("SELECT set_config(%s, %s, false)", [name, value])
    while rows:
        statement = rows[0]
        with session.cursor() as cursor, cursor.copy(statement) as copy:
            while rows and rows[0] is statement:
                copy.write(rows[1])
                rows = take()


_SETTINGS = "SELECT name, current_setting(name) FROM pg_settings WHERE source = 'session'"


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
    dump: Dump,
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
    _speak_as_stored(session)
    session.execute(script.definitions("pre-data"))
    own = path is not None
    with evaluated.lent_path(session) if own else nullcontext():
        with evaluated.checked_later(session) if own else nullcontext():
            script.load_rows(session)
        session.execute(script.definitions("post-data"))
    session.execute("SET client_encoding = 'UTF8'")  # as connect() does


def _speak_as_stored(session: Session) -> None:
    """Let the server take texts as they are: a script is read before it can say how it speaks."""
    session.execute("SELECT set_config('client_encoding', getdatabaseencoding(), false)")


class _Script:
    """What pg_restore writes of a dump, section by section."""

    def __init__(
        self,
        dump: Dump,
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
        with self.tables(session) as tables:
            for statement, pieces in tables:
                with session.cursor() as cursor, cursor.copy(statement) as copy:
                    for each in pieces:
                        copy.write(each)

    @contextmanager
    def tables(self, session: Session) -> Iterator[Iterator[tuple[bytes, Iterator[bytes]]]]:
        """Give each statement with COPY, and its rows in pieces, which are to be read to their end.

        What stands between these, such as the values of sequences, `session` executes meanwhile.
        """
        what = ["--section=data", *self._chosen, "--file=-"]
        with pipe() as (source, sink), BufferedReader(source, _BATCH_BYTES) as script:
            reading = dumps.reading(*self._where, *what, programs=self._programs, output=sink)
            with reading as child:
                sink.close()  # so that the script ends when pg_restore does
                yield self._tables(session, script)
                self._programs.check(child, self._where[1], None)

    def _tables(
        self, session: Session, script: BufferedReader[FileIO]
    ) -> Iterator[tuple[bytes, Iterator[bytes]]]:
        statements = bytearray()
        for line in iter(script.readline, b""):
            if line.startswith(_COPY) and not _is_open(statements):
                self._execute(session, statements)
                yield _whole(line, script), _rows(script)
                continue
            statements += line
            if len(statements) > _BATCH_BYTES and line.endswith(b";\n"):
                self._execute(session, statements)  # a large object comes in many of them
        self._execute(session, statements)

    def _execute(self, session: Session, statements: bytearray) -> None:
        session.execute(self._ours(_NOT_FOR_US_AMONG_ROWS.sub(b"", statements)))
        statements.clear()

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


def _whole(statement: bytes, script: IO[bytes]) -> bytes:
    """Return a statement with COPY that begins with this line: a column's name may have lines."""
    while not statement.endswith(_FROM) or statement.count(b'"') % 2 == 1:
        if not (line := script.readline()):
            break  # the server says that this is no statement
        statement += line
    return statement


def _rows(script: BufferedReader[FileIO]) -> Iterator[bytes]:
    """Yield the rows that follow, in pieces of whole lines, and read the mark of their end."""
    batch = bytearray()
    while ahead := script.peek():
        end = len(_END) if ahead.startswith(_END) else ahead.find(b"\n" + _END) + 1
        piece = script.read(end or ahead.rfind(b"\n") + 1) or script.readline()
        if piece == _END:
            break
        batch += piece
        if len(batch) >= _BATCH_BYTES:
            yield bytes(batch)
            batch.clear()
    yield bytes(batch)
