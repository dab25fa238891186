"""The schemas that the search path leads to: where a name without a schema goes.

A role or a database can have a path to a schema that no migration makes. Without that schema all
tables would be made in the next one of the path, which is `public`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.catalogs.system import is_users
from backset.properties.extensions import texts
from backset.properties.property import Property, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


KIND = "schema"


def _schema(row: Mapping[str, Any]) -> Property:
    create = sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(row["nspname"]))
    return Property(
        kind=KIND,
        name=row["nspname"],
        value=("in the search path",),
        statements=lambda _database: [create],
        own=row["own"],
    )


@dataclass(frozen=True, slots=True)
class Made:
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
    def of(cls, folders: Iterable[Path], early: frozenset[str] = frozenset()) -> Made:
        """Read the scripts, Python and SQL, in `folders`."""
        found: dict[bool, set[str]] = {True: set(), False: set()}
        for text in texts(folders):
            for match in _CREATE.finditer(text):
                is_soft = bool(match["if"] or "if_not_exists=True" in (match["options"] or ""))
                found[is_soft].add(_name(match))
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


def _name(match: re.Match[str]) -> str:
    return match["quoted"] or match["literal"] or (match["plain"] or "").lower()


_CREATE = re.compile(
    r"""(?ix)
    \bcreate\s+schema\s+(?P<if>if\s+not\s+exists\s+)?
        (?: \\?"(?P<quoted>[^"'{}%+)\\\s][^"'{}%)\\]*)
          | (?!authorization\b)(?P<plain>[a-z_][\w$]*)(?![\w${]) )?
    | \bCreateSchema\(\s*(?: (?:name\s*=\s*)? ["'](?P<literal>[^"'{}]+)["'] )?(?P<options>[^)]*)"""
)
SOURCES = (
    Source(
        f"""
SELECT nspname, nspowner = to_regrole(quote_ident(current_user)) AS own FROM pg_namespace n
WHERE nspname <> 'public' AND {is_users("nspname")}
AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_namespace'::regclass
                AND x.objid = n.oid AND x.deptype = 'e') ORDER BY nspname""",
        _schema,
    ),
)
