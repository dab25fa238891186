"""The tables of contents of dumps: what one has, and what of it a load is to leave out."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backset.backups import dumps, manifest
from backset.catalog import objects
from backset.errors import RefusedError, StepFailedError
from backset.text.pasted import quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Sequence

    from backset.backups.manifest import Backup, Dump
    from backset.backups.store import Store
    from backset.connections.session import Session
    from backset.servers.programs import Programs

    Name = tuple[str, str]


# What people may comment on, and grant on, by the name of its table.
_OF_A_TABLE = ("CONSTRAINT", "TRIGGER", "POLICY", "RULE")
_FROM = re.compile(r"^;\s+Dumped from database version: (\d+)", re.MULTILINE)
_ENTRY = re.compile(
    r"^\d+; \d+ \d+ (EXTENSION -|TABLE ATTACH|TABLE DATA|TABLE|MATERIALIZED VIEW DATA|SEQUENCE SET"
    r"|BLOB METADATA) (.*)$"
)
_TOO_NEW = "unsupported version"  # pg_restore's words
_MAKE = "take it with pg_dump --format=custom"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line `dump id; catalog oid, object oid, type, schema, name, owner`; `text` without ids.

    The data of a table has the table's oid and no catalog; comments, grants and sequence values
    have neither.
    """

    line: str
    catalog: int
    oid: int
    text: str

    @classmethod
    def of(cls, line: str) -> _Entry:
        _, _, rest = line.partition("; ")
        catalog, oid, text = rest.split(" ", 2)
        return cls(line, int(catalog), int(oid), f"{text} ")


def read(dump: Dump, pg_restore: Path, programs: Programs, scratch: Path) -> list[str]:
    """Return the entries of a dump; `scratch` is a file to write them to."""
    dumps.read(dump, pg_restore, "--list", "--file", os.fspath(scratch), programs=programs)
    lines = scratch.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return [line for line in lines if line and not line.startswith(";")]


def gives_public_away(line: str, role: str) -> bool:
    """Tell whether an entry makes the schema public another role's than this one's."""
    _, is_public, owner = line.partition(" SCHEMA - public ")
    return bool(is_public) and owner != role


def rows(lines: Sequence[str], tables: Container[int]) -> list[tuple[str, int]]:
    """Return the entries with the rows of these tables, which are given by oid, each with its."""
    entries = [_Entry.of(line) for line in lines]
    data = [each for each in entries if each.text.startswith("TABLE DATA ")]
    return [(each.line, each.oid) for each in data if each.oid in tables]


def missing(
    session: Session,
    lines: Sequence[str],
    *,
    own: bool,
    cleared: Iterable[tuple[str, str]] = (),
) -> list[str]:
    """Leave out the entries of what was not dropped: extensions, schemas, other people's objects.

    own: whether the dump is of this server, so that its oids mean the same objects. cleared: schema
    and name of tables that were not dropped, but have lost their rows.
    """
    entries = [_Entry.of(line) for line in lines]
    numbered = [(each.catalog, each.oid) for each in entries if each.catalog]
    alive = objects.surviving(session, numbered) if own else set()
    kept = objects.kept_names(session)
    alive |= {(each.catalog, each.oid) for each in entries if each.text.startswith(kept)}
    tables = {oid for _, oid in alive} | objects.tables_of_extensions(session)
    roles = sorted(objects.roles(session), key=len, reverse=True)
    names = [
        name
        for each in entries
        if (each.catalog, each.oid) in alive
        for name in _spellings(each.text, roles)
    ]

    rows = tuple(f"TABLE DATA {schema} {name} " for schema, name in cleared)
    strangers = tuple(f" {role} " for role in objects.strangers(session))

    def stands(each: _Entry) -> bool:
        if each.text.startswith("PUBLICATION TABLE") and each.text.endswith(strangers):
            return True  # only the publication's owner could put a table into it again
        if rows and each.text.startswith(rows):
            return False
        if each.catalog:
            return (each.catalog, each.oid) in alive
        if each.oid:
            return each.oid in tables
        return any(all(part in each.text for part in name) for name in names)

    return [each.line for each in entries if not stands(each)]


def _spellings(text: str, roles: Sequence[str]) -> list[tuple[str, ...]]:
    """Return how entries without a number speak of an object: each as parts of their text.

    Types are words in capitals, but so may be schema and name: every division is taken. Some
    entries quote a name that needs it, some do not.
    """
    owner = next((role for role in roles if text.endswith(f" {role} ")), "")
    words = text.removesuffix(f" {owner} ").strip().split(" ")
    found: list[tuple[str, ...]] = []
    for length in range(1, len(words) - 1):
        if not words[length - 1].isupper():
            break
        kind, schema, name = " ".join(words[:length]), words[length], " ".join(words[length + 1 :])
        bare, _, arguments = name.partition("(")
        for each in (name, quoted(bare) + (f"({arguments}" if arguments else "")):
            found += [(f" {schema} {kind} {each} ",), (f" {schema} {each} ",)]
            found.append((f" {schema} COLUMN {each}.",))
            found += [(f" {schema} {part} ", f" ON {each} ") for part in _OF_A_TABLE]
    return found


@dataclass(frozen=True, slots=True)
class Archive:
    """A dump: its file or folder, the lines of its table of contents, and its manifest, if any.

    pg_restore: the program that could read it.
    """

    path: Dump
    pg_restore: Path
    lines: tuple[str, ...]
    backup: Backup | None

    def texts(self, kind: str) -> dict[str, str]:
        """Return the lines of one kind by what they say: schema, name and owner with spaces."""
        found = ((_ENTRY.match(line), line) for line in self.lines)
        return {entry[2]: line for entry, line in found if entry and entry[1] == kind}

    @property
    def extensions(self) -> list[str]:
        """The extensions that it would make."""
        return [text.partition(" ")[0] for text in self.texts("EXTENSION -")]

    @property
    def populated(self) -> frozenset[Name]:
        """The materialized views that a restore fills."""
        texts = self.texts("MATERIALIZED VIEW DATA")
        names = (each.rpartition(" ")[0].split(" ", 1) for each in texts)
        return frozenset((schema, name) for schema, name in names)

    def rows(self, of: Collection[Name] | None) -> list[str]:
        """Return the lines of the rows of tables, values of sequences, the list of large objects.

        Without those of tables that an extension makes. of: schema and name of the tables that are
        wanted, None for all; what has a name that begins with such a one may come too.
        """
        wanted = tuple(f"{schema} {name} " for schema, name in of or ())
        made, data = self.texts("TABLE"), self.texts("TABLE DATA")
        chosen = [
            each for each in made.keys() & data.keys() if of is None or each.startswith(wanted)
        ]
        others = [*self.texts("SEQUENCE SET").values(), *self.texts("BLOB METADATA").values()]
        return [data[each] for each in sorted(chosen)] + others

    @property
    def rowless(self) -> list[str]:
        """The tables without a line for rows, as its lines name them; partitioned ones, too."""
        return sorted(self.texts("TABLE").keys() - self.texts("TABLE DATA").keys())


def find(store: Store, name: str) -> Dump:
    """Return the dump of a backup's name or of a path. Raises StepFailedError."""
    stem = name.removesuffix(".zst").removesuffix(".dump")
    for path in (*(store.folder / f"{stem}{each}" for each in manifest.SUFFIXES), Path(name)):
        if path.exists():
            return path
    if store.place != store.folder:  # in a bucket
        return store.find(name).dump
    what = f"{name} is no backup of this database, and no file"
    raise StepFailedError(what, "choose one from `invoke backups`, or name the file of a dump")


def read_archive(path: Dump, major: int, programs: Programs) -> Archive:
    """Return what a dump is. major: of the server that it is to be restored on.

    Raises RefusedError where that cannot be done, and StepFailedError where it cannot be read.
    """
    pg_restore, text = _listed(path, programs.find("pg_restore", major), programs)
    if (found := _FROM.search(text)) and int(found[1]) > major:
        what = f"{path} was taken from PostgreSQL {found[1]}, and this server is {major}"
        raise RefusedError([(what, "carry --from the URL of its database, which may be newer")])
    backup = None
    with suppress(StepFailedError):  # it is somebody else's
        backup = manifest.read(path)
    archive = Archive(path, pg_restore, tuple(text.splitlines()), backup)
    _demand_whole(archive)
    return archive


def _listed(path: Dump, pg_restore: Path, programs: Programs) -> tuple[Path, str]:
    """Return the table of contents of a dump, and the program that could read it."""
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "toc"
        try:
            dumps.read(path, pg_restore, "--list", "--file", os.fspath(listing), programs=programs)
        except StepFailedError as error:
            newest = programs.newest("pg_restore")
            if _TOO_NEW in error.what and newest != pg_restore:
                return _listed(path, newest, programs)
            raise _unreadable(path, error) from None
        return pg_restore, listing.read_text(encoding="utf-8", errors="surrogateescape")


def _demand_whole(archive: Archive) -> None:
    """Raise RefusedError for the half of a dump."""
    made, data = archive.texts("TABLE"), archive.texts("TABLE DATA")
    if made and not data:
        what = f"{archive.path} has tables and no rows"
        raise RefusedError([(what, f"{_MAKE}, without --schema-only")])
    if data and not made:
        what = f"{archive.path} has rows and no tables"
        raise RefusedError([(what, f"{_MAKE}, without --data-only")])


def _unreadable(path: Dump, error: StepFailedError) -> RefusedError | StepFailedError:
    """Return what a person reads where pg_restore cannot read a dump."""
    if "text format dump" in error.what:
        what = f"{path} is a plain SQL script, which may connect to another database"
        return RefusedError([(what, _MAKE)])
    if _TOO_NEW in error.what:
        what = f"{path} was made by a newer pg_dump than any pg_restore that is here"
        return RefusedError([(what, "install those client programs, or carry --from a URL")])
    if re.search(r"valid (tar )?archive", error.what):
        what = f"{path} is no dump of the custom, the directory or the tar format"
        return RefusedError([(what, _MAKE)])
    return StepFailedError(f"{path} cannot be read: {error.what}", _MAKE)
