"""A property of a database: a value to compare, and the SQL that gives it to another database."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Statements = Callable[[str], Sequence[sql.Composed]]


class When(Enum):
    """When a new database is given a property."""

    CREATED = "by CREATE DATABASE, or not at all"
    EMPTY = "before the migrations, which may need it"
    MIGRATED = "after the migrations, which make what it is about"
    SWAPPED = "in the swap: it would have kept ourselves out before that"


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """What a database has and a new one has not: `kind` and `name` say which thing it is.

    value: canonical lines. A database has the property if it has all of them; it may have more,
    since migrations give rights and tables too.
    beyond: why no SQL gives all of it, and what to do; else empty.
    statements: the SQL that gives it to the database of a name. amend: the same where the thing is
    there, but otherwise. discreet: the same without the value, where that is a secret.
    own: whether the role that read it owns it. plain: whether there is nothing to it that somebody
    has set, so that it is lost with nobody's regret if the migrations do not make the thing.
    """

    kind: str
    name: str
    value: tuple[str, ...]
    statements: Statements = field(compare=False, repr=False)
    when: When = When.EMPTY
    amend: Statements | None = field(default=None, compare=False, repr=False)
    discreet: Statements | None = field(default=None, compare=False, repr=False)
    own: bool = False
    plain: bool = False
    beyond: tuple[str, str] = field(default=("", ""), compare=False)

    @property
    def key(self) -> tuple[str, str]:
        """What it is, whatever its value."""
        return self.kind, self.name

    def __str__(self) -> str:
        value = ", ".join(self.value) if self.discreet is None else "***"
        return f"{self.kind} {self.name}".strip() + f": {value}"

    def remedy(self, database: str, *, there: bool) -> Sequence[sql.Composed]:
        """Return the SQL that makes it so, for people; `there`: whether the thing exists."""
        return (self.discreet or self._chosen(there=there))(database)

    def apply(
        self, session: psycopg.Connection[Any], database: str, *, there: bool
    ) -> psycopg.Error | None:
        """Make it so, each statement by itself; return the error of the first that failed.

        An error is no verdict: whether the database has the property is seen by reading it.
        """
        first = None
        for statement in self._chosen(there=there)(database):
            try:
                with session.transaction():
                    session.execute(statement)
            except psycopg.Error as error:
                if session.closed:
                    raise
                first = first or error
        return first

    def _chosen(self, *, there: bool) -> Statements:
        return self.amend if there and self.amend else self.statements


@dataclass(frozen=True, slots=True)
class Source:
    """Where properties of one kind are read: a query, and what makes a property of its row.

    query: its columns are the row's keys; `%(database)s` is the database's name.
    since, before: the major versions of the server whose catalogs the query reads.
    """

    query: str
    make: Callable[[Mapping[str, Any]], Property]
    since: int = 0
    before: int = 1000


def read(
    session: psycopg.Connection[Any], sources: Iterable[Source], database: str
) -> list[Property]:
    """Return the properties of `database`, which the session is on, in one round trip."""
    major = session.info.server_version // 10000
    usable = [source for source in sources if source.since <= major < source.before]
    parts = " UNION ALL ".join(
        _PART.format(number=number, query=source.query) for number, source in enumerate(usable)
    )
    rows = session.execute(f"{parts} ORDER BY 1, 2".encode(), {"database": database}).fetchall()
    return [usable[number].make(row) for number, _place, row in rows]


def missing(wanted: Iterable[Property], found: Iterable[Property]) -> list[Property]:
    """Return the wanted properties that are not among those found, or not with all of it."""
    values = {each.key: set(each.value) for each in found}
    return [each for each in wanted if not values.get(each.key, set()) >= set(each.value)]


_PART = "SELECT {number}, row_number() OVER (), to_jsonb(r) FROM ({query}) r"
