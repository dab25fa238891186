"""The sequences and identities of tables that rows came to: they go on where the old ones are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from backset.catalogs import counters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backset.carrying.tables import Name, Transfer
    from backset.catalogs.counters import Counter, Position
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


def behind(new: Position, old: Iterable[Position], furthest: int | None) -> tuple[int, bool] | None:
    """Return what setval() needs to let a sequence go on behind the old ones; None: it does.

    furthest: the greatest value of its columns, or the least where it counts downwards.
    It never goes back, and keeps to the lane of whoever is ahead, as with odd and even numbers.
    One that begins anew at its limit takes the place of the old one: its columns say nothing.
    """
    theirs = [each.next_value for each in old]
    if new.cycles:
        return new.moved(theirs[0]) if theirs and new.low <= theirs[0] <= new.high else None
    within = [each for each in theirs if new.low <= each <= new.high]
    ahead = max if new.step > 0 else min
    start = ahead([new.next_value, *within])
    if furthest is not None and (furthest - start) * new.step >= 0:
        start += ((furthest - start) // new.step + 1) * new.step
    return new.moved(start)
