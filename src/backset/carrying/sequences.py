"""The sequences and identities of tables that rows came to: they go on where the old ones are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from backset.carrying.positions import behind
from backset.catalogs import counters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.carrying.tables import Name
    from backset.carrying.transfer import Transfer
    from backset.catalogs.counters import Counter
    from backset.connections.session import Session


def advance(new: Session, before: Sequence[Counter], transfers: Sequence[Transfer]) -> int:
    """Let the new sequences go on behind the old ones and behind the rows; return how many moved.

    Those of the tables that rows came to, and those that no column uses. The old one is that of
    the same name, and that of the same column in the table that the rows are from.
    before: those of the old database.
    """
    sources = {each.table: each.source for each in transfers}
    wanted = [each for each in counters.read(new) if _is_wanted(each, sources)]
    furthest = _furthest(new, wanted)
    moved = 0
    for number, each in enumerate(wanted):
        theirs = [old.position for old in before if _is_before(old, each, sources)]
        if to := behind(each.position, theirs, furthest.get(number)):
            place = sql.Identifier(each.schema, each.name).as_string(new)
            new.execute("SELECT setval(%s::regclass, %s, %s)", [place, *to])
            moved += 1
    return moved


def _is_wanted(each: Counter, sources: Mapping[Name, Name]) -> bool:
    tables = {(schema, table) for schema, table, _ in each.columns}
    return not tables or not tables.isdisjoint(sources)


def _is_before(old: Counter, new: Counter, sources: Mapping[Name, Name]) -> bool:
    columns = [[*sources[s, t], column] for s, t, column in new.columns if (s, t) in sources]
    is_namesake = (old.schema, old.name) == (new.schema, new.name)
    return is_namesake or any(each in columns for each in old.columns)


def _furthest(session: Session, found: Sequence[Counter]) -> dict[int, int]:
    """Return the last value of the columns of each, in its own direction; none of empty ones."""
    queries = [
        sql.SQL("SELECT {}, {}({})::numeric FROM {}").format(
            number,
            sql.SQL("max" if each.position.step > 0 else "min"),
            sql.Identifier(column),
            sql.Identifier(schema, table),
        )
        for number, each in enumerate(found)
        for schema, table, column in each.numbers
    ]
    if not queries:
        return {}
    furthest: dict[int, int] = {}
    for number, value in session.execute(sql.SQL(" UNION ALL ").join(queries)):
        if value is not None:
            ahead = max if found[number].position.step > 0 else min
            furthest[number] = ahead(int(value), furthest.get(number, int(value)))
    return furthest
