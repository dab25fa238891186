"""What pg_dump would write of a database: each object with its SQL, and what it needs.

The table of contents of an archive is read as it is stored, since there the SQL of each entry is a
field of its own: in a script, the body of a function may look like the next entry.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.catalog.catalog import spelled
from backset.connections.session import conninfo
from backset.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.servers.programs import Programs

_OPTIONS = (
    *("--format=custom", "--schema-only", "--no-owner", "--no-security-labels"),
    *("--no-subscriptions", "--no-password"),
)
_LEAST, _MOST = (1, 12), (1, 16)  # the versions of archives: PostgreSQL 9.0 to 18
_RELATION_KINDS, _ACCESS_METHODS, _COMPRESSIONS = (1, 16), (1, 14), (1, 15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of an archive.

    place: its own, in the order in which pg_dump would make them.
    catalog, oid: of the object; 0 where the entry is no object, such as a comment. kind: pg_dump's
    word, such as `FK CONSTRAINT`. name: pg_dump's tag. key: that of the object in `catalog.schema`.
    statements, drop: SQL without the semicolon. needs: numbers of entries. method: the access
    method of a table that is not the usual one.
    """

    number: int
    place: int
    catalog: int
    oid: int
    kind: str
    schema: str
    name: str
    key: str = ""
    statements: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    method: str = ""
    needs: tuple[int, ...] = ()


def read(session: Session, target: Target, programs: Programs) -> list[Entry]:
    """Return all entries of a database, its rows left out. Raises StepFailedError."""
    pg_dump = programs.find("pg_dump", session.info.server_version // 10000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "schema.dump"
        where = ("--dbname", conninfo(target, "squash"), "--file", os.fspath(path))
        programs.run(pg_dump, *_OPTIONS, *where, target=target)
        found = list(_Archive(path.read_bytes()).entries())
    shells = {each["number"] for each in found if each["kind"] == "SHELL TYPE"}
    for each in found:
        if shells.intersection(each["needs"]):  # DROP TYPE … CASCADE takes along what reads a type
            each["drop"] = ()
    keys = _keys(session, {(each["catalog"], each["oid"]) for each in found if each["catalog"]})
    return [
        Entry(**each, place=place, key=keys.get((each["catalog"], each["oid"]), ""))
        for place, each in enumerate(found)
    ]


def _keys(session: Session, objects: set[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Return what `catalog.schema` calls these objects, by their numbers."""
    wanted = json.dumps(sorted(objects))
    rows = spelled(session, sql.SQL(_KEYS).format(wanted=sql.Literal(wanted)))
    return {(catalog, oid): f"{kind} {name}" for catalog, oid, kind, name in rows if name}


_KEYS = """
SELECT classid, objid,
       CASE classid WHEN 'pg_constraint'::regclass::oid THEN 'constraint' ELSE o.type END,
       o.identity
FROM (SELECT (pair ->> 0)::oid AS classid, (pair ->> 1)::oid AS objid
      FROM json_array_elements({wanted}::json) pair) AS object
     CROSS JOIN pg_identify_object(classid, objid, 0) o
"""


class _Archive:
    """An archive of pg_dump's custom format, read from its beginning."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0
        magic, *version = self._bytes(5), *self._bytes(3)
        self._version = tuple(version[:2])
        if magic != b"PGDMP" or not _LEAST <= self._version <= _MOST:
            what = f"pg_dump writes archives of version {'.'.join(map(str, version))}"
            raise StepFailedError(what, "use the pg_dump of PostgreSQL 18 or earlier")
        self._integer_bytes, self._offset_bytes, _format = self._bytes(3)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the fields of each entry, named as in Entry."""
        if self._version >= _COMPRESSIONS:
            self._bytes(1)
        else:
            self._integer()
        for _ in range(7):  # when it was made
            self._integer()
        for _ in range(3):  # of which database, by which versions
            self._text()
        for _ in range(self._integer()):
            yield self._entry()

    def _entry(self) -> dict[str, Any]:
        number, _ = self._integer(), self._integer()
        catalog, oid, name, kind = (self._text() for _ in range(4))
        self._integer()  # the section
        made, dropped, _copy, schema, _tablespace = (self._text() for _ in range(5))
        method = self._text() if self._version >= _ACCESS_METHODS else ""
        if self._version >= _RELATION_KINDS:
            self._integer()
        self._text()  # the owner
        self._text()  # whether it has oids
        needs = []
        while (need := self._optional()) is not None:
            needs.append(int(need))
        self._bytes(1 + self._offset_bytes)  # where its rows are
        return {
            "number": number,
            "catalog": int(catalog or 0),
            "oid": int(oid or 0),
            "kind": kind,
            "schema": schema,
            "name": name,
            "statements": tuple(split(made)),
            "drop": tuple(split(dropped)),
            "method": method if method != "heap" else "",
            "needs": tuple(needs),
        }

    def _bytes(self, number: int) -> bytes:
        self._place += number
        return self._content[self._place - number : self._place]

    def _integer(self) -> int:
        is_negative = self._bytes(1) != b"\0"
        value = int.from_bytes(self._bytes(self._integer_bytes), "little")
        return -value if is_negative else value

    def _optional(self) -> str | None:
        length = self._integer()
        return None if length < 0 else self._bytes(length).decode()

    def _text(self) -> str:
        return self._optional() or ""


_TOKEN = re.compile(
    r"""
      (?P<quoted>  [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
                 | (?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag) | --[^\n]* | /\*.*?\*/ )
    | (?P<word>    [^\W\d][\w$]* | [\w$]+ )
    | (?P<end>     ; )
    """,
    re.VERBOSE | re.DOTALL,
)


def split(script: str) -> Iterator[str]:
    """Yield the statements of a script, without their semicolons.

    What the server or pg_dump writes is cut; of SQL in general, nested comments would be missed.
    """
    start, depth, before = 0, 0, ""
    for token in _TOKEN.finditer(script):
        word = (token["word"] or "").upper()
        if word:
            # The body of a function may be statements, which end with semicolons as well.
            opens = (word == "ATOMIC" and before == "BEGIN") or (depth and word == "CASE")
            depth += 1 if opens else -1 if depth and word == "END" else 0
        before = word
        if token["end"] and not depth:
            yield from filter(None, [script[start : token.start()].strip()])
            start = token.end()
    yield from filter(None, [script[start:].strip()])


def has_lines_of_its_own(statement: str) -> bool:
    """Tell whether the ends of lines are a part of what a statement says."""
    quoted = (token["quoted"] or "" for token in _TOKEN.finditer(statement))
    return any("\n" in each or each.startswith("--") for each in quoted)


def spaces(line: str) -> list[int]:
    """Return where a line has a space that is in no literal and no name."""
    inside = {
        place
        for token in _TOKEN.finditer(line)
        if token["quoted"]
        for place in range(token.start(), token.end())
    }
    return [place for place, each in enumerate(line) if each == " " and place not in inside]
