"""Native enum types held against those of the models, in both directions and in order.

Alembic compares no enum's values: it sees neither an added nor a removed one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backset.catalogs.catalog import shown
from backset.errors import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backset.connections.session import Session

KINDS = frozenset({"missing enum", "missing enum value", "extra enum value", "enum order"})


def findings(models: Sequence[Mapping[str, Any]], session: Session) -> list[Finding]:
    """Compare the worker's list of the models' enums with the database, in one query.

    An enum without a schema is the one that the search path finds.
    """
    if not models:
        return []
    found: dict[tuple[str | None, str], list[str]] = {}
    for schema, name, is_visible, values in session.execute(_QUERY).fetchall():
        found[schema, name] = values
        if is_visible:
            found[None, name] = values
    return [
        finding
        for each in models
        for finding in compare(
            shown(each["schema"] or "public", each["name"]),
            each["values"],
            found.get((each["schema"], each["name"])),
        )
    ]


def compare(name: str, wanted: Sequence[str], existing: Sequence[str] | None) -> Iterator[Finding]:
    """Compare the values of one enum: those of the models with the database's; None: it has none.

    The order is compared among the values that both have.
    """
    if existing is None:
        yield _finding(
            *("missing enum", name, f"the enum type {name} does not exist"),
            "the models use it",
            f'op.execute("CREATE TYPE {name} AS ENUM ({", ".join(map(_literal, wanted))})")',
        )
        return
    for value in wanted:
        if value not in existing:
            yield _finding(
                *("missing enum value", name, f"the enum {name} lacks {_literal(value)}"),
                "the models have it: writing such a row fails",
                f'op.execute("ALTER TYPE {name} ADD VALUE {_literal(value)}") in a migration',
            )
    for value in existing:
        if value not in wanted:
            yield _finding(
                *("extra enum value", name, f"the enum {name} has {_literal(value)}"),
                "no model knows it: reading such a row fails",
                "add it to the model, or let a migration make the type anew without it",
            )
    common = [value for value in existing if value in wanted]
    if common != [value for value in wanted if value in existing]:
        yield _finding(
            *("enum order", name, f"the enum {name} has the order {', '.join(common)}"),
            "the models have another one: ORDER BY, < and max() follow the database's",
            "order the model like the database, or let a migration make the type anew",
        )


def _finding(kind: str, name: str, what: str, why: str, remedy: str) -> Finding:
    return Finding(kind=kind, name=name, what=what, why=why, remedy=remedy)


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


_QUERY = """
SELECT n.nspname, t.typname, pg_type_is_visible(t.oid),
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid
             ORDER BY e.enumsortorder)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype = 'e'
"""
