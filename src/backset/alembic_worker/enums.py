"""The native enum types of the models, with the values that the database should have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy

from .comparison import DIALECT, stored, tables

if TYPE_CHECKING:
    from collections.abc import Iterator


def of_models(metadata: Any) -> list[dict[str, Any]]:
    """Return schema (None: the search path decides), name and values of each, once.

    `columns` are those that have it: schema of the table, which may be None too, table and column.
    """
    found = {}  # type: dict[tuple[str | None, str], dict[str, Any]]
    for table in tables(metadata):
        for column in table.columns:
            for enum in _enums(column.type):
                key = {"schema": enum.schema, "name": stored(enum.name)}
                first = {**key, "values": list(enum.enums), "columns": []}
                each = found.setdefault((enum.schema, enum.name), first)
                where = [table.schema, stored(table.name), stored(column.name)]
                each["columns"].append(where)
    return list(found.values())


def _enums(type_: Any) -> Iterator[Any]:
    """Find the enum in a type: behind a decorator, a variant for PostgreSQL, or in an array."""
    if isinstance(type_, sqlalchemy.types.TypeDecorator):  # SQLAlchemy 1.4's Variant is one
        yield from _enums(type_.load_dialect_impl(DIALECT))
        return
    variants = getattr(type_, "_variant_mapping", {})
    if "postgresql" in variants:
        yield from _enums(variants["postgresql"])
    elif isinstance(type_, sqlalchemy.ARRAY):
        yield from _enums(type_.item_type)
    elif isinstance(type_, sqlalchemy.Enum) and type_.native_enum and type_.name:
        yield type_
