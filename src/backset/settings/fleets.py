"""The tables of [[tool.backset.fleet]]: which databases a task of many works on. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backset.settings import values
from backset.text.redaction import blank

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE = "env:"
WAYS = ("databases", "query", "glob")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A table of [[tool.backset.fleet]]: a server, and which of its databases are meant.

    name: what lines call it where two servers have a database of one name.
    url: any database of the server: a URL without its password, or `env:NAME` of a variable with
    one; empty is the target of the other tasks. A query is run there.
    databases, query, glob: a list, SQL whose first column names them, patterns; one of the three.
    exclude: patterns of names that are left out.
    password: the command whose output is the password, run where the work is done.
    """

    name: str = ""
    url: str = ""
    databases: tuple[str, ...] = ()
    query: str = ""
    glob: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    password: tuple[str, ...] = ()


def url(raw: object) -> str:
    """Return a URL without a password, or what names a variable with one."""
    text = values.text(raw)
    if text.startswith(VARIABLE) or ("://" in text and blank(text) == text):
        return text
    raise ValueError('a URL without its password, or "env:NAME" of a variable that has one')


def names(raw: object) -> tuple[str, ...]:
    """Return names of databases, of which there is at least one."""
    if isinstance(raw, list) and raw and all(isinstance(each, str) for each in raw):
        return tuple(map(values.name, raw))
    raise ValueError('a list of names, such as ["tenant_a", "tenant_b"]')


def patterns(raw: object) -> tuple[str, ...]:
    """Return patterns of names, of which one may stand alone."""
    given = [raw] if isinstance(raw, str) else raw
    if isinstance(given, list) and given and all(isinstance(x, str) and x for x in given):
        return tuple(given)
    raise ValueError('a pattern or a list of some, such as ["tenant_*"]')


def excluded(raw: object) -> tuple[str, ...]:
    """Return patterns of names, or none."""
    return () if raw == [] else patterns(raw)


# What a table may have.
KEYS: dict[str, Callable[[Any], Any]] = {
    "name": values.name,
    "url": url,
    "databases": names,
    "query": values.text,
    "glob": patterns,
    "exclude": excluded,
    "password": values.argv,
}


def read(raw: object) -> tuple[Fleet, ...]:
    """Return the entries of [[tool.backset.fleet]]. Raises ValueError with what they must be."""
    if not isinstance(raw, list) or not all(isinstance(table, dict) for table in raw):
        raise ValueError("tables that begin with [[tool.backset.fleet]]")
    return tuple(_entry(number, table) for number, table in enumerate(raw, 1))


def _entry(number: int, table: dict[str, object]) -> Fleet:
    given = values.entry(number, table, KEYS)
    if len(table.keys() & set(WAYS)) != 1:
        raise ValueError(f"with one of {', '.join(WAYS)} in table {number}")
    return Fleet(**{"name": str(number), **given})
