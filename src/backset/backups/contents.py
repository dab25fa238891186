"""A dump's table of contents, less the entries of what still stands in the database."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.backups import dumps
from backset.catalogs import objects

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from pathlib import Path

    from backset.connections.session import Session
    from backset.servers.programs import Programs

# What people may comment on, and grant on, by the name of its table.
_OF_A_TABLE = ("CONSTRAINT", "TRIGGER", "POLICY", "RULE")


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


def read(dump: Path, pg_restore: Path, programs: Programs, scratch: Path) -> list[str]:
    """Return the entries of a dump; `scratch` is a file to write them to."""
    dumps.read(dump, pg_restore, "--list", "--file", os.fspath(scratch), programs=programs)
    lines = scratch.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return [line for line in lines if line and not line.startswith(";")]


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
        quoted = '"' + bare.replace('"', '""') + '"' + (f"({arguments}" if arguments else "")
        for each in (name, quoted):
            found += [(f" {schema} {kind} {each} ",), (f" {schema} {each} ",)]
            found.append((f" {schema} COLUMN {each}.",))
            found += [(f" {schema} {part} ", f" ON {each} ") for part in _OF_A_TABLE]
    return found
