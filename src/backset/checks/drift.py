"""How the models differ from the database, as findings: what Alembic finds, and the enum types.

Alembic compares no enum's values: it sees neither an added nor a removed one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backset.catalog import catalog
from backset.errors import Finding
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from backset.connections.session import Session

LEFTOVER = "leftover table"
ENUM_KINDS = frozenset(
    {"missing enum", "missing enum value", "extra enum value", "enum order", "enum column"}
)


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


def enums(
    models: Sequence[Mapping[str, Any]],
    session: Session,
    schema: str = "",
    told: Collection[str] = (),
) -> list[Finding]:
    """Compare the worker's list of the models' enums with the database, in two queries.

    told: the columns, as people write them, of which Alembic has said that their type differs; it
    need not compare types.
    schema: where those of this chain are, if the settings say so. An enum without a schema is the
    one there, else the one that the search path finds, else those beside a version table: env.py
    may go through the schemas of tenants.
    """
    if not models:
        return []
    found = [_Enum(*row) for row in session.execute(_ENUMS).fetchall()]
    return [
        *(each for model in models for each in _compared(model, _meant(model, found, schema))),
        *_enum_columns(models, session, told),
    ]


@dataclass(frozen=True, slots=True)
class _Enum:
    """An enum type of a database. is_at_home: whether a version table is beside it."""

    schema: str
    name: str
    is_visible: bool
    is_at_home: bool
    values: list[str]


def _meant(model: Mapping[str, Any], every: Sequence[_Enum], schema: str) -> list[_Enum]:
    """Return the types that an enum of the models may mean; several where there are tenants."""
    same = [each for each in every if each.name == model["name"]]
    if model["schema"]:
        return [each for each in same if each.schema == model["schema"]]
    ranked = (
        [each for each in same if each.schema == schema],
        [each for each in same if each.is_visible],
        [each for each in same if each.is_at_home],
    )
    return next(filter(None, ranked), [])


def _compared(model: Mapping[str, Any], meant: Sequence[_Enum]) -> Iterator[Finding]:
    for each in meant:
        yield from _compare(catalog.shown(each.schema, each.name), model["values"], each.values)
    if not meant:
        yield from _compare(
            catalog.shown(model["schema"] or "public", model["name"]), model["values"], None
        )


def _enum_columns(
    models: Sequence[Mapping[str, Any]], session: Session, told: Collection[str]
) -> Iterator[Finding]:
    """Find the columns that are of another type than the enum, such as varchar."""
    wanted = [(column, each) for each in models for column in each.get("columns", ())]
    names = [[str(column[part]) for column, _ in wanted] for part in (1, 2)]
    there = {(row[0], *row[2:4]): row for row in session.execute(_ENUM_COLUMNS, names)}
    there |= {(None, *row[2:4]): row for row in there.values() if row[1]}
    for column, enum in wanted:
        if (row := there.get(tuple(column))) is None:
            continue
        schema, _, table, name, is_array, of_schema, of_name, type_, quoted, altered = row
        owner = f"{catalog.shown(schema, table)}.{name}"
        is_it = of_name == enum["name"] and enum["schema"] in {None, of_schema}
        if is_it or owner in told:
            continue
        type_name = catalog.shown(enum["schema"] or "public", enum["name"])
        brackets = "[]" if is_array else ""
        yield _finding(
            "enum column",
            owner,
            f"{owner} is {type_}, and the models have the enum {type_name}",
            "the database lets in what no model can read, and a comparison with the enum fails",
            f'op.execute("{altered} TYPE {type_name}{brackets} USING '
            f'{quoted}::text{brackets}::{type_name}{brackets}") in a migration',
        )


def _compare(name: str, wanted: Sequence[str], existing: Sequence[str] | None) -> Iterator[Finding]:
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


_ENUM_COLUMNS = """
SELECT n.nspname, pg_table_is_visible(c.oid), c.relname, a.attname, t.typcategory = 'A',
       en.nspname, e.typname, format_type(a.atttypid, a.atttypmod),
       quote_ident(a.attname),
       format('ALTER TABLE %%s ALTER COLUMN %%I', c.oid::regclass, a.attname)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_type d ON d.oid = a.atttypid
     JOIN pg_type t ON t.oid = CASE d.typtype WHEN 'd' THEN d.typbasetype ELSE d.oid END
     JOIN pg_type e ON e.oid = CASE t.typcategory WHEN 'A' THEN t.typelem ELSE t.oid END
     JOIN pg_namespace en ON en.oid = e.typnamespace
WHERE c.relkind IN ('r', 'p') AND NOT a.attisdropped
  AND (c.relname, a.attname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""
_ENUMS = """
SELECT n.nspname, t.typname, pg_type_is_visible(t.oid), EXISTS (
           SELECT FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE c.relnamespace = n.oid AND c.relkind = 'r' AND a.attname = 'version_num'),
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid
             ORDER BY e.enumsortorder)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype = 'e'
"""
