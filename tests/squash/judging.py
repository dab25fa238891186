"""What a chain has made of a database, as pg_dump and the rows tell it: no word of backset's."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from backset.connections.target import Target
from backset.servers.programs import embedded_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_ENTRY = re.compile(r"^-- Name: (.+?); Owner: .*$", re.MULTILINE)
_OF_THE_DUMP = re.compile(r"\\(un)?restrict |SET default_")
# Since PostgreSQL 18 these have names; that of a table which was renamed is the old one.
_NOT_NULL = re.compile(r'CONSTRAINT (?:\w+|"(?:[^"]|"")*") NOT NULL')
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2
"""
_ROWS = "SELECT (to_jsonb(its_row) - %s::text[])::text FROM {} AS its_row"
_SEQUENCES = """
SELECT schemaname, sequencename, increment_by FROM pg_sequences ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Made:
    """What stands in a database, but for its version table.

    schema: the entries of a dump, by what they are about. rows: of each table, in no order, without
    the columns that differ from build to build. sequences: what each gives next.
    """

    schema: dict[str, str]
    rows: dict[str, list[str]]
    sequences: dict[str, int]

    def lost(self, after: Made) -> list[str]:
        """Return the rows that the other one does not have."""
        return [
            f"{table}: {row}"
            for table, found in self.rows.items()
            for row in found
            if row not in after.rows.get(table, ())
        ]

    def differs(self, other: Made) -> list[str]:
        """Return what the two do not have in common; in rows and sequences, too."""
        return [
            f"{kind}: {key}: {one.get(key)!r} is {two.get(key)!r}"
            for kind in ("schema", "rows", "sequences")
            for one, two in [(getattr(self, kind), getattr(other, kind))]
            for key in sorted(one.keys() | two.keys())
            if one.get(key) != two.get(key)
        ]


def look(
    url: str, *, version_table: str = "alembic_version", volatile: Collection[str] = ()
) -> Made:
    """Read a database.

    volatile: columns that every build makes anew, as `table.column` or `*.column`.
    """
    with connected(url) as session:
        return Made(
            schema={name: text for name, text in _entries(url) if not _is_of(name, version_table)},
            rows={
                table: rows
                for table, rows in _rows(session, volatile)
                if table.removeprefix("public.") != version_table
            },
            sequences=dict(_sequences(session)),
        )


def connected(url: str) -> psycopg.Connection[Any]:
    """Return a session that commits each statement."""
    return psycopg.connect(make_conninfo(**Target.parse(url).params), autocommit=True)


def versions(url: str, version_table: str = "alembic_version") -> set[str]:
    """Return the rows of the version table."""
    name = sql.Identifier(*version_table.split("."))
    with connected(url) as session:
        found = session.execute(sql.SQL("SELECT version_num FROM {}").format(name))
        return {revision for (revision,) in found}


def _entries(url: str) -> Iterator[tuple[str, str]]:
    """Yield what each entry of a dump is about, and its statements."""
    program = embedded_folder(18) / "bin" / "pg_dump"
    argv = [str(program), "--no-password", "--schema-only", url]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    _, *pieces = _ENTRY.split(text)
    for name, statements in zip(pieces[::2], pieces[1::2], strict=True):
        lines = [line for line in statements.splitlines() if line and not line.startswith("--")]
        text = "\n".join(line for line in lines if not _OF_THE_DUMP.match(line))
        yield name, _NOT_NULL.sub("NOT NULL", text)


def _is_of(name: str, version_table: str) -> bool:
    """Tell whether an entry is about the version table, or about a schema for it alone."""
    schema, _, table = version_table.rpartition(".")
    subject, _, kind = name.partition("; ")
    own = {table, f"{table} {table}_pkc"}
    return subject in own or bool(schema and subject == schema and kind.startswith("Type: SCHEMA"))


def _rows(
    session: psycopg.Connection[Any], volatile: Collection[str]
) -> Iterator[tuple[str, list[str]]]:
    chosen = [each.split(".") for each in volatile]
    for schema, table in session.execute(_TABLES).fetchall():
        anew = [column for name, column in chosen if name in {table, "*"}]
        query = sql.SQL(_ROWS).format(sql.Identifier(schema, table))
        yield f"{schema}.{table}", sorted(row for (row,) in session.execute(query, [anew]))


def _sequences(session: psycopg.Connection[Any]) -> Iterator[tuple[str, int]]:
    for schema, name, step in session.execute(_SEQUENCES).fetchall():
        query = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(schema, name))
        for last, is_called in session.execute(query):
            yield f"{schema}.{name}", last + step * is_called
