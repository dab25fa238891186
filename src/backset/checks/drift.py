"""What Alembic finds different between models and database, as findings; leftovers with rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.catalogs import catalog
from backset.errors import Finding
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.connections.session import Session

LEFTOVER = "leftover table"


def drift(
    differences: Sequence[Mapping[str, str]], session: Session, alembic: str
) -> list[Finding]:
    """Return the findings of the worker's differences; one query where tables are left over.

    alembic: how a command of Alembic on that chain begins.

    Alembic also calls a partition, a table of an extension, or a version table in the schema of a
    tenant one that no model has. They are nobody's to drop, and left out.
    """
    names = [each["name"] for each in differences if each["kind"] == LEFTOVER]
    rows = _rows(names, session) if names else {}
    return [
        _leftover(each, rows[each["name"]]) if each["kind"] == LEFTOVER else _drift(each, alembic)
        for each in sorted(differences, key=lambda each: (each["kind"], each["name"], each["text"]))
        if each["kind"] != LEFTOVER or each["name"] in rows
    ]


def _rows(names: Sequence[str], session: Session) -> dict[str, int]:
    """Return the rows of the tables; a name without a schema means the first of that name."""
    spare = set(catalog.version_tables(session))  # Alembic's own, wherever env.py says it is
    found_there = [each for each in catalog.tables(session) if each not in spare]
    tables = sorted(found_there, key=lambda each: each[0] != "public", reverse=True)
    known = {table: (schema, table) for schema, table in tables}
    known |= {f"{schema}.{table}": (schema, table) for schema, table in tables}
    wanted = {name: known[name] for name in names if name in known}
    found = catalog.counts(session, list(wanted.values()))
    return {name: found[catalog.shown(*table)] for name, table in wanted.items()}


def _leftover(difference: Mapping[str, str], rows: int) -> Finding:
    return Finding(
        kind=LEFTOVER,
        name=difference["name"],
        what=difference["text"],
        why=f"no model has it; it has {count(rows, 'row')}",
        remedy="drop it in a migration, add a model, or let env.py's include_object leave it out",
    )


def _drift(difference: Mapping[str, str], alembic: str) -> Finding:
    return Finding(
        kind="drift",
        name=difference["name"],
        what=difference["text"],
        why="models and migrations disagree",
        remedy=f"{alembic} revision --autogenerate -m '…'",
    )
