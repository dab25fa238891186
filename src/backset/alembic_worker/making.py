"""What the models make by themselves, as `metadata.create_all()` does, and where they are."""

from __future__ import annotations

import inspect
import sys
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.orm import mapperlib

from . import compare
from .failures import message_of
from .guard import own

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_IS_LENT = "42P06"  # duplicate_schema: an event of the models makes one that is there already


def make(connection: Any, metadata: Any, unmade: list[list[Any]] | None) -> list[Any]:
    """Make everything that the models have, and commit that; return their tables.

    A schema that they name is made for them, and an enum that they leave to the migrations, as by
    `create_type=False`. The commit is the driver's: env.py may take its transaction back.
    unmade: gets what cannot be made, and why: kind, schema, table, name, and the server's words.
    Without it, that is raised.
    """
    tables = compare.tables(metadata)
    unique = list({id(each): each for each in tables}.values())
    spared = nullcontext() if unmade is None else _sparing(connection, unmade)
    with compare.stored_names(unique), spared:
        _make_schemas(connection, metadata)
        for enum in _enums(unique):
            if not getattr(enum, "create_type", True):
                enum.create(connection, checkfirst=True)
        for each in compare.metadatas(metadata):
            each.create_all(connection, tables=[one for one in unique if one.metadata is each])
    own(connection.connection).commit()
    return unique


@contextmanager
def _sparing(connection: Any, unmade: list[list[Any]]) -> Iterator[None]:
    """Go on after a statement that the server refuses, and note what it would have made."""
    home = connection.execute(sqlalchemy.text(compare.HOME)).scalar()

    def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        if not context.isddl:
            return False
        cursor.execute("SAVEPOINT backset_make")
        try:
            # Also an empty collection counts: with one, a driver takes `%%` for `%`.
            cursor.execute(statement, *([] if parameters is None else [parameters]))
        except Exception as error:  # noqa: BLE001  (of whichever driver)
            cursor.execute("ROLLBACK TO SAVEPOINT backset_make")
            state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
            if state != _IS_LENT:
                unmade.append([*_meant(context, home), message_of(error)])
        cursor.execute("RELEASE SAVEPOINT backset_make")
        return True

    def execute_alone(cursor: Any, statement: str, context: Any) -> bool:
        return execute(cursor, statement, None, context)

    listeners = (("do_execute", execute), ("do_execute_no_params", execute_alone))
    for name, listener in listeners:
        event.listen(connection.engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners:
            event.remove(connection.engine, name, listener)


def _meant(context: Any, home: str) -> list[Any]:
    """Return what a statement would have made: kind, schema, table and name, as far as is known."""
    statement = getattr(context.compiled, "statement", None)
    item = getattr(statement, "element", None)  # type: Any
    table = getattr(item, "table", item)
    if not hasattr(table, "schema"):
        return ["", "", "", str(item or "")]
    kind = "table" if table is item else str(getattr(item, "__visit_name__", ""))
    name = compare.stored(getattr(item, "name", None) or "")
    return [kind, table.schema or home, compare.stored(getattr(table, "name", "")), name]


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
