"""The extensions of a database: which ones, how they are made, and who has to make them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.catalogs.system import FIRST_OF_A_USER
from backset.properties.property import Property, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from backset.connections.session import Session

KIND = "extension"


def _extension(row: Mapping[str, Any]) -> Property:
    name, schema = sql.Identifier(row["extname"]), sql.Identifier(row["nspname"])
    version = sql.Literal(row["extversion"])
    create = sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {}").format(name, schema)
    statements = [
        create + sql.SQL(" VERSION {}").format(version),
        create,  # where there is no such version any more
    ]
    amend = [
        sql.SQL("ALTER EXTENSION {} UPDATE TO {}").format(name, version),
        sql.SQL("ALTER EXTENSION {} SET SCHEMA {}").format(name, schema),
    ]
    if row["nspname"] not in {"public", "pg_catalog"}:
        make = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema)
        statements, amend = [make, *statements], [make, *amend]
    return Property(
        kind=KIND,
        name=row["extname"],
        value=(f"version {row['extversion']}", f"schema {row['nspname']}"),
        statements=lambda _database: statements,
        amend=lambda _database: amend,
        own=row["own"],
    )


def uncreatable(session: Session) -> tuple[str, ...]:
    """Return the extensions of the session's database that its role could not create again.

    An extension needs a superuser, unless its control file says otherwise; a trusted one needs the
    right to create in the database. One that the server has no files of, nobody can create; and
    pg_cron's script refuses in every database but the one that `cron.database_name` names.
    """
    return tuple(name for (name,) in session.execute(_UNCREATABLE).fetchall())


@dataclass(frozen=True, slots=True)
class Announced:
    """The extensions that the migrations make themselves, as far as their text tells.

    dynamic: some CREATE EXTENSION has a name that only a run tells.
    """

    names: frozenset[str]
    dynamic: bool

    @classmethod
    def of(cls, folders: Iterable[Path]) -> Announced:
        """Read the scripts, Python and SQL, in `folders`."""
        found = {name.casefold() for text in texts(folders) for name in _CREATE.findall(text)}
        plain = frozenset(name for name in found if _PLAIN.fullmatch(name))
        return cls(plain, dynamic=plain != found)

    def includes(self, extension: Property) -> bool:
        """Tell whether the migrations would stop at an extension that is already there.

        That is so if a script says CREATE EXTENSION and its name. Where a script says it with a
        name that only a run tells, it may be any that the role itself owns. All others were made
        by hand, and migrations may count on them.
        """
        return extension.name.casefold() in self.names or (self.dynamic and extension.own)


def texts(folders: Iterable[Path]) -> Iterator[str]:
    """Yield the scripts, Python and SQL, in `folders`, with literals that follow each other one."""
    for path in {path for folder in folders for path in folder.rglob("*")}:
        if path.suffix in {".py", ".sql"} and path.is_file():
            yield _joined(path.read_text("utf-8", errors="replace"))


def _joined(text: str) -> str:
    """Return Python's text with literals that follow each other made one."""
    return re.sub(r"""["']\s*[rbfu]?["']""", "", text)


_CREATE = re.compile(
    r"""create\s+extension\s+(?:if\s+not\s+exists\s+)?[\s"'\\]*([^\s"'\\;)]*)""", re.IGNORECASE
)
_PLAIN = re.compile(r"[\w$-]+")
_OF_A_USER = f"e.oid >= {FIRST_OF_A_USER}"  # plpgsql comes with every database
SOURCES = (
    Source(
        f"""
SELECT extname, nspname, extversion, extowner = to_regrole(quote_ident(current_user)) AS own
FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace
WHERE {_OF_A_USER} ORDER BY e.oid""",
        _extension,  # by oid: an extension comes after those that it requires
    ),
)
_UNCREATABLE = f"""
SELECT extname FROM pg_extension e WHERE {_OF_A_USER} AND (extname = 'pg_cron' OR NOT EXISTS (
    SELECT FROM pg_available_extension_versions v WHERE v.name = extname
    AND ((SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR NOT v.superuser
         OR v.trusted AND has_database_privilege(current_database(), 'CREATE'))))
ORDER BY 1
"""
