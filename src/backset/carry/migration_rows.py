"""The rows that migrations wrote into tables that are carried, such as a list of roles.

The old rows win where both have the same key; a row that only the migrations know stays beside,
unless the settings say that the old ones are to be there alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from backset.carry import problems, row_errors, tables
from backset.catalog.catalog import shown
from backset.errors import StepFailedError
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from backset.carry.constraints import Constraint
    from backset.carry.tables import Name
    from backset.connections.session import Session
    from backset.errors import Finding
    from backset.settings.rules import Rules


@dataclass(frozen=True, slots=True)
class KeptRows:
    """The rows of one table, in a temporary one of the session.

    columns: those that can be written. is_keyed: whether some key tells its rows from others.
    makes_way: whether none of them comes back.
    """

    table: Name
    number: int
    columns: tuple[str, ...]
    is_keyed: bool
    makes_way: bool

    @property
    def place(self) -> sql.Identifier:
        """The temporary table."""
        return _place(self.number)


def keep(
    session: Session,
    names: Iterable[Name],
    makes_way: Callable[[str], bool] = lambda _name: False,
) -> list[KeptRows]:
    """Set the rows of the tables of these names aside, where there are any, and empty these.

    session: on the new database, and open until bring_back(). Foreign keys are set aside before.
    Those of a table that inherits from one of these are left to it.
    makes_way: tells of a table, by its shown name, whether its rows are not to come back.
    """
    kept = []
    for number, table in enumerate(names):
        own = tables.alone(session, table)
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(own)
        if session.execute(query).fetchone() == (True,):
            copy = sql.SQL("CREATE TEMPORARY TABLE {} AS SELECT * FROM {}")
            session.execute(copy.format(_place(number), own))
            session.execute(sql.SQL("DELETE FROM {}").format(own))
            values = {"schema": table[0], "table": table[1]}
            columns, is_keyed = session.execute(_ABOUT, values).fetchone() or ((), False)
            kept.append(KeptRows(table, number, tuple(columns), is_keyed, makes_way(shown(*table))))
    return kept


def bring_back(session: Session, kept: Iterable[KeptRows]) -> list[str]:
    """Write again those rows that no old row stands for; say in a line each how many there were."""
    lines = []
    for each in kept:
        own = tables.alone(session, each.table)
        if each.makes_way:
            gone = session.execute(sql.SQL("SELECT FROM {}").format(each.place)).rowcount
            lines.append(f"{shown(*each.table)}: {count(gone, 'row')} of the migrations made way")
            continue
        stayed = session.execute(_insert(each, own)).rowcount
        if stayed:
            lines.append(f"{shown(*each.table)}: {count(stayed, 'row')} of the migrations beside")
    return lines


def _insert(kept: KeptRows, own: sql.Composed) -> sql.Composed:
    columns = sql.SQL(", ").join(map(sql.Identifier, kept.columns))
    statement = sql.SQL("INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE {rows} {rest}")
    rows = sql.SQL("SELECT {} FROM {}").format(columns, kept.place)
    if not kept.is_keyed:  # then the whole row is what tells it from others
        texts = sql.SQL("ROW({})::text").format(columns)
        there = sql.SQL("SELECT {} FROM {}").format(texts, own)
        rows = sql.SQL("{} WHERE {} NOT IN ({})").format(rows, texts, there)
    return statement.format(
        table=sql.Identifier(*kept.table),
        columns=columns,
        rows=rows,
        rest=sql.SQL("ON CONFLICT DO NOTHING" if kept.is_keyed else ""),
    )


def _place(number: int) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"backset_kept_{number}")


def demand_unreferred(
    session: Session,
    kept: Iterable[KeptRows],
    constraints: Sequence[Constraint],
    carried: Sequence[Name],
    rules: Rules,
) -> None:
    """Demand that nobody refers to a row that made way; after bring_back().

    An old row takes the place of one that is the same by any unique key, and its other columns may
    differ. carried: the tables that get old rows. Raises StepFailedError with every foreign key.
    """
    names = [shown(*each) for each in carried]
    found = [
        _problem(session, each, constraint, keys, names, rules)
        for each in kept
        for constraint in constraints
        if constraint.validate and constraint.other == list(each.table)
        if (keys := _referring(session, each, constraint))
    ]
    if found:
        raise StepFailedError.of(found)


def _referring(session: Session, kept: KeptRows, constraint: Constraint) -> Sequence[Sequence[str]]:
    """Return the keys of rows that refer to what made way, each with the number of all rows."""
    gone = _gone(session, kept, constraint)
    if session.execute(sql.SQL("SELECT EXISTS ({})").format(gone)).fetchone() == (False,):
        return []
    ours = sql.SQL(", ").join(sql.Identifier("ours", each) for each in constraint.columns)
    texts = (sql.Identifier("ours", each) + sql.SQL("::text") for each in constraint.columns)
    query = sql.SQL(_REFERRING).format(
        texts=sql.SQL(", ").join(texts),
        own=tables.alone(session, (constraint.of[0], constraint.of[1])),
        ours=ours,
        gone=gone,
        limit=row_errors.SHOWN_KEYS + 1,
    )
    return session.execute(query).fetchall()


def _gone(session: Session, kept: KeptRows, constraint: Constraint) -> sql.Composed:
    """Return the query for the keys of the rows that are not there any more."""
    return sql.SQL(_GONE).format(
        gone=_listed("gone", constraint.referred),
        place=kept.place,
        own=tables.alone(session, kept.table),
        theirs=_listed("theirs", constraint.referred),
    )


def _problem(
    session: Session,
    kept: KeptRows,
    constraint: Constraint,
    keys: Sequence[Sequence[str]],
    carried: Sequence[str],
    rules: Rules,
) -> Finding:
    number, name = int(keys[0][-1]), shown(*kept.table)
    same = _same(session, kept, constraint) or "an old one"
    ours = shown(constraint.of[0], constraint.of[1])
    what = (
        f"{ours}: {constraint.name}: {count(number, 'row')} "
        f"{'refers' if number == 1 else 'refer'} to what a migration wrote to {name}, which made "
        f"way for {same}: {row_errors.first_keys(constraint.columns, keys)}"
    )
    referred = ", ".join(constraint.referred)
    return problems.made_way(what, ours, name, referred, carried, rules)


def _same(session: Session, kept: KeptRows, constraint: Constraint) -> str:
    """Say by which columns an old row is the same as one that made way."""
    for (columns,) in session.execute(_UNIQUE, kept.table).fetchall():
        query = sql.SQL(_TWINS).format(
            place=kept.place,
            own=tables.alone(session, kept.table),
            gone=_listed("gone", columns),
            twins=_listed("twins", columns),
            lost=_gone(session, kept, constraint),
            keys=_listed("gone", constraint.referred),
        )
        if session.execute(query).fetchone() == (True,):
            return f"an old one of the same {', '.join(columns)}"
    return ""


def _listed(alias: str, columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(alias, each) for each in columns)


_ABOUT = """
SELECT ARRAY(SELECT attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
             ORDER BY attnum),
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND indisunique)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s
"""
_GONE = """
SELECT {gone} FROM {place} AS gone
WHERE NOT EXISTS (SELECT FROM {own} AS theirs WHERE ({theirs}) = ({gone}))
"""
_REFERRING = """
SELECT {texts}, sum(count(*)) OVER () FROM {own} AS ours WHERE ({ours}) IN ({gone})
GROUP BY {ours} ORDER BY {ours} LIMIT {limit}
"""
_TWINS = """
SELECT EXISTS (SELECT FROM {place} AS gone JOIN {own} AS twins ON ({gone}) = ({twins})
               WHERE ({keys}) IN ({lost}))
"""
_UNIQUE = """
SELECT ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])
             ORDER BY array_position(i.indkey::int2[], a.attnum))
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND i.indisunique AND i.indexprs IS NULL
ORDER BY i.indexrelid
"""
