"""The extensions of a database, and the schemas that the search path leads to.

Migrations may count on both, or make them: then one that is there already would stop them. A role
or a database can have a path to a schema that no migration makes. Without that schema all tables
would be made in the next one of the path, which is `public`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.catalog.catalog import FIRST_OF_A_USER, is_users
from backset.inherit.property import Property, Source

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from backset.connections.session import Session

EXTENSION = "extension"
SCHEMA = "schema"
_OTHER_FILES = (
    "this server has the files of another version",
    "look into the notes of that extension for what changed; nothing else needs to be done",
)


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
        kind=EXTENSION,
        name=row["extname"],
        value=(f"version {row['extversion']}", f"schema {row['nspname']}"),
        statements=lambda _database: statements,
        amend=lambda _database: amend,
        own=row["own"],
        beyond=("", "") if row["has_files"] else _OTHER_FILES,
    )


def uncreatable(session: Session) -> tuple[str, ...]:
    """Return the extensions of the session's database that its role could not create again.

    An extension needs a superuser, unless its control file says otherwise; a trusted one needs the
    right to create in the database. One that the server has no files of, nobody can create; and
    pg_cron's script refuses in every database but the one that `cron.database_name` names.
    """
    return tuple(name for (name,) in session.execute(_UNCREATABLE).fetchall())


def other_versions(old: Session, new: Session) -> list[tuple[str, str, str]]:
    """Return the extensions of which two databases have other versions: name, old, new."""
    before, now = (dict(session.execute(_VERSIONS).fetchall()) for session in (old, new))
    both = sorted(before.keys() & now.keys())
    return [(each, before[each], now[each]) for each in both if before[each] != now[each]]


def lacking(session: Session, names: Collection[str], *, owns: bool) -> list[tuple[str, bool]]:
    """Return extensions that the session's database has not and its role could not create.

    Of those with these names, each with whether the server has its files. owns: whether the
    database that they are made in will be the role's own.
    """
    given = {"names": sorted(names), "owns": owns}
    return session.execute(_LACKING, given).fetchall() if names else []


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
        return cls.by(_texts(folders))

    @classmethod
    def by(cls, texts: Iterable[str]) -> Announced:
        """Read scripts."""
        found = {name.casefold() for text in texts for name in _CREATE.findall(_joined(text))}
        plain = frozenset(name for name in found if _PLAIN.fullmatch(name))
        return cls(plain, dynamic=plain != found)

    def includes(self, extension: Property) -> bool:
        """Tell whether the migrations would stop at an extension that is already there.

        That is so if a script says CREATE EXTENSION and its name. Where a script says it with a
        name that only a run tells, it may be any that the role itself owns. All others were made
        by hand, and migrations may count on them.
        """
        return extension.name.casefold() in self.names or (self.dynamic and extension.own)


def _texts(folders: Iterable[Path]) -> Iterator[str]:
    """Yield the scripts, Python and SQL, in `folders`."""
    for path in {path for folder in folders for path in folder.rglob("*")}:
        if path.suffix in {".py", ".sql"} and path.is_file():
            yield path.read_text("utf-8", errors="replace")


def _joined(text: str) -> str:
    """Return Python's text with literals that follow each other made one."""
    return re.sub(r"""["']\s*[rbfu]?["']""", "", text)


def _schema(row: Mapping[str, Any]) -> Property:
    create = sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(row["nspname"]))
    return Property(
        kind=SCHEMA,
        name=row["nspname"],
        value=("in the search path",),
        statements=lambda _database: [create],
        own=row["own"],
    )


@dataclass(frozen=True, slots=True)
class MadeByExtension:
    """The schemas that the migrations make themselves, as far as their text tells.

    strictly: without IF NOT EXISTS, so that one that is there would stop them; softly: with it.
    dynamic: some CREATE SCHEMA has a name that only a run tells. early: those that have a version
    table in the target, which is made before the first migration runs.
    """

    strictly: frozenset[str]
    softly: frozenset[str]
    dynamic: bool
    early: frozenset[str] = frozenset()

    @classmethod
    def of(cls, folders: Iterable[Path], early: frozenset[str] = frozenset()) -> MadeByExtension:
        """Read the scripts, Python and SQL, in `folders`."""
        found: dict[bool, set[str]] = {True: set(), False: set()}
        for text in _texts(folders):
            for match in _CREATE_SCHEMA.finditer(_joined(text)):
                is_soft = bool(match["if"] or "if_not_exists=True" in (match["options"] or ""))
                found[is_soft].add(_name_of(match))
        known = {is_soft: {each for each in names if each} for is_soft, names in found.items()}
        return cls(frozenset(known[False]), frozenset(known[True]), "" in found[False], early)

    def includes(self, schema: Property) -> bool:
        """Tell whether the migrations are to make a schema, as they did in the target.

        One with a version table was there before them. One that a script makes with a name that
        only a run tells may be any that the role itself owns.
        """
        if schema.name in self.strictly:
            return True
        by_a_run = schema.name in self.softly or (self.dynamic and schema.own)
        return by_a_run and schema.name not in self.early


def _name_of(match: re.Match[str]) -> str:
    return match["quoted"] or match["literal"] or (match["plain"] or "").lower()


_CREATE_SCHEMA = re.compile(
    r"""(?ix)
    \bcreate\s+schema\s+(?P<if>if\s+not\s+exists\s+)?
        (?: \\?"(?P<quoted>[^"'{}%+)\\\s][^"'{}%)\\]*)
          | (?!authorization\b)(?P<plain>[a-z_][\w$]*)(?![\w${]) )?
    | \bCreateSchema\(\s*(?: (?:name\s*=\s*)? ["'](?P<literal>[^"'{}]+)["'] )?(?P<options>[^)]*)"""
)
OF_SCHEMAS = (
    Source(
        f"""
SELECT nspname, nspowner = to_regrole(quote_ident(current_user)) AS own FROM pg_namespace n
WHERE nspname <> 'public' AND {is_users("nspname")}
AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_namespace'::regclass
                AND x.objid = n.oid AND x.deptype = 'e') ORDER BY nspname""",
        _schema,
    ),
)
_CREATE = re.compile(
    r"""create\s+extension\s+(?:if\s+not\s+exists\s+)?[\s"'\\]*([^\s"'\\;)]*)""", re.IGNORECASE
)
_PLAIN = re.compile(r"[\w$-]+")
_OF_A_USER = f"e.oid >= {FIRST_OF_A_USER}"  # plpgsql comes with every database
SOURCES = (
    Source(
        f"""
SELECT extname, nspname, extversion, extowner = to_regrole(quote_ident(current_user)) AS own,
       EXISTS (SELECT FROM pg_available_extension_versions v
               WHERE v.name = extname AND v.version = extversion) AS has_files
FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace
WHERE {_OF_A_USER} ORDER BY e.oid""",
        _extension,  # by oid: an extension comes after those that it requires
    ),
)
_MAY = """(SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR NOT v.superuser
         OR v.trusted AND has_database_privilege(current_database(), 'CREATE')"""
_UNCREATABLE = f"""
SELECT extname FROM pg_extension e WHERE {_OF_A_USER} AND (extname = 'pg_cron' OR NOT EXISTS (
    SELECT FROM pg_available_extension_versions v WHERE v.name = extname AND ({_MAY})))
ORDER BY 1
"""
_VERSIONS = "SELECT extname, extversion FROM pg_extension"
_LACKING = f"""
SELECT wanted, EXISTS (SELECT FROM pg_available_extensions WHERE name = wanted)
FROM unnest(%(names)s::text[]) wanted
WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = wanted) AND NOT EXISTS (
    SELECT FROM pg_available_extension_versions v WHERE v.name = wanted
    AND ({_MAY} OR v.trusted AND %(owns)s))
ORDER BY 1
"""
