"""What the models make by themselves, as `metadata.create_all()` does, and where they are."""

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import mapperlib

from . import compare
from .guard import own

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def make(connection: Any, metadata: Any) -> list[Any]:
    """Make everything that the models have, and commit that; return their tables.

    A schema that they name is made for them, and an enum that they leave to the migrations, as by
    `create_type=False`. The commit is the driver's: env.py may take its transaction back.
    """
    tables = compare.tables(metadata)
    unique = list({id(each): each for each in tables}.values())
    with compare.stored_names(unique):
        _make_schemas(connection, metadata)
        for enum in _enums(unique):
            if not getattr(enum, "create_type", True):
                enum.create(connection, checkfirst=True)
        for each in compare.metadatas(metadata):
            each.create_all(connection, tables=[one for one in unique if one.metadata is each])
    own(connection.connection).commit()
    return unique


def _make_schemas(connection: Any, metadata: Any) -> None:
    """Make the schemas that models name, as the connection translates them."""
    translated = connection.get_execution_options().get("schema_translate_map") or {}
    quote = connection.dialect.identifier_preparer.quote
    for schema in sorted({translated.get(each, each) for each in _schemas(metadata)} - {None}):
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")


def _schemas(metadata: Any) -> Iterator[Any]:
    for each in compare.metadatas(metadata):
        yield from (one.schema for one in each._sequences.values())  # noqa: SLF001
    tables = compare.tables(metadata)
    yield from (each.schema for each in tables)
    yield from (each.schema for each in _enums(tables))


def _enums(tables: Iterable[Any]) -> Iterator[Any]:
    for table in tables:
        for column in table.columns:
            yield from compare.enums_of(column.type)


def places(tables: Iterable[Any], wanted: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return where the models of tables are, by schema and name: module, file, class and line.

    The class is empty where none is mapped to the table, which then is a variable of the module.
    """
    known = {(each.schema, compare.stored(each.name)): each for each in tables}
    found = []
    for schema, name in wanted:
        table = known.get((schema, name), known.get((None, name)))
        place = None if table is None else _mapped(table) or _assigned(table)
        if place:
            found.append({"schema": schema, "table": name, **place})
    return found


def _mapped(table: Any) -> dict[str, Any] | None:
    """Return where the class is that is mapped to a table."""
    with suppress(AttributeError):  # another version's inside
        for registry in mapperlib._all_registries():  # noqa: SLF001
            for mapper in registry.mappers:
                if mapper.local_table is table:
                    return _place(mapper.class_)
    return None


def _place(family: Any) -> dict[str, Any] | None:
    with suppress(OSError, TypeError):
        line = inspect.getsourcelines(family)[1]
        file = inspect.getsourcefile(family)
        return {"module": family.__module__, "file": file, "class": family.__name__, "line": line}
    return None


def _assigned(table: Any) -> dict[str, Any] | None:
    """Return the module that a table is a variable of."""
    for name, module in list(sys.modules.items()):
        values = getattr(module, "__dict__", None) or {}
        if any(each is table for each in list(values.values())):
            return {"module": name, "file": getattr(module, "__file__", ""), "class": "", "line": 0}
    return None
