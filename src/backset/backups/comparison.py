"""Holds a database against a manifest: rows and catalog, every difference in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.catalogs import catalog, inventory
from backset.catalogs.left_out import LeftOut

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backset.backups.manifest import Manifest
    from backset.connections.session import Session

_SHOWN = 10


def compare(
    about: Manifest,
    session: Session,
    *,
    exactly: bool = True,
    spare: frozenset[str] = frozenset(),
    is_in_use: bool = False,
) -> list[str]:
    """Return how the database of `session` differs from `about`, a few words each; none is good.

    Every row is counted, and the catalog is read. Another major version may write a definition
    otherwise, and add objects: of the catalog it is only asked whether everything is there. A
    manifest of the earlier format knows no catalog.
    exactly: whether what the manifest does not know is a difference too.
    is_in_use: whether an application may write there already: more rows are no difference then.
    spare: names of tables and of objects that may be as they like.
    """
    closed, left_out = catalog.unreadable(session), LeftOut.of(about.left_out)
    rows = catalog.row_counts(session, lambda table: table not in closed)
    unread = {catalog.shown(*each) for each in closed}
    expected = {table: count for table, count in about.rows.items() if table not in spare}
    found = [
        f"{table} has {rows[table]} of {count} rows"
        for table, count in expected.items()
        if table in rows and (rows[table] < count or (rows[table] > count and not is_in_use))
    ]
    found += [f"{table} cannot be counted by this role" for table in expected if table in unread]
    if about.objects is None:
        there = rows.keys() | unread
        return found + [f"table {table} is missing" for table in expected if table not in there]
    wanted = {name: each for name, each in about.objects.items() if name not in spare}
    objects = inventory.inventory(session, left_out.condition())
    # The script of an extension may make a schema that does not belong to it.
    spare |= {f"schema {each}" for each in catalog.empty_schemas(session)} - wanted.keys()
    objects = {name: each for name, each in objects.items() if name not in spare}
    found += [f"{name} is missing" for name in wanted if name not in objects]
    if session.info.server_version // 10000 == about.major:
        found += _other(wanted, objects, exactly=exactly)
    return found


def in_words(differences: Sequence[str]) -> str:
    """Return differences in one line, the first ten of them."""
    more = len(differences) - _SHOWN
    return ", ".join(differences[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _other(
    expected: Mapping[str, str], found: Mapping[str, str], *, exactly: bool
) -> Iterator[str]:
    for name, definition in found.items():
        if name not in expected:
            if exactly:
                yield f"{name} is new"
        elif definition != expected[name]:
            yield f"{name} is defined otherwise"
