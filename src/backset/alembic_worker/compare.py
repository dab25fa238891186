"""Models and database compared, as `alembic check` does it, and what the models have, in words."""

from __future__ import annotations

import gc
import json
import re
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import sqlalchemy
from alembic import autogenerate
from alembic.runtime.environment import EnvironmentContext
from sqlalchemy import UniqueConstraint
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import quoted_name

try:
    compare_util = import_module("alembic.autogenerate.compare.util")
except ImportError:  # an older version
    compare_util = None  # type: ignore[assignment]
sqla_compat = import_module("alembic.util.sqla_compat")

from .guard import own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from alembic.config import Config
    from alembic.script import ScriptDirectory

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_LONGEST_BYTES = 63
_COMPARISONS = {"type": "_user_compare_type", "default": "_user_compare_server_default"}
HOME = "SELECT pg_catalog.current_schema()"
# SQLAlchemy asks ten times for each schema. Where it unnests an array of columns, the server plans
# for a thousand, and reads all columns of the database: of 500 schemas with 5,000 tables, more
# than half of the time goes there. Plans without that cost so much that an older server compiles.
_BY_INDEX = """
SELECT pg_catalog.set_config('enable_seqscan', 'off', true),
       pg_catalog.set_config('jit', 'off', true)
"""
_ARGUMENTS = {
    "message": None,
    "autogenerate": True,
    "sql": False,
    "head": "head",
    "splice": False,
    "branch_label": None,
    "version_path": None,
    "rev_id": None,
    "depends_on": None,
}


def differences(config: Config, scripts: ScriptDirectory) -> dict[str, Any]:
    """Compare models and database; the database must be at head.

    Alembic's own `check` does the same, but keeps the differences to itself before 1.10.
    `excluded`: what env.py's hooks have left out: kind, schema, table and name of each. The kind
    `type` or `default` is that of a column which its compare_type or the like calls equal.
    `tables`: schema and name of each table of the models.
    """
    context = autogenerate.RevisionContext(config, scripts, dict(_ARGUMENTS))
    found = []  # type: list[dict[str, Any]]
    excluded = []  # type: list[list[Any]]
    modelled = []  # type: list[list[Any]]

    def compare(current: Any, migration: Any) -> list[Any]:
        models = tables(migration.opts["target_metadata"])
        home = migration.connection.execute(sqlalchemy.text(HOME)).scalar()
        migration.connection.execute(sqlalchemy.text(_BY_INDEX))
        _note_hooks(migration.opts, home, excluded)
        _note_comparisons(migration, home, excluded)
        modelled.extend([each.schema or home, stored(each.name)] for each in models)
        with stored_names(models):
            context.run_autogenerate(current, migration)
            for each in context.generated_revisions[-1:]:
                told = _without_implied(list(_flat(each.upgrade_ops_list[-1].as_diffs())), models)
                told = _without_parts_of_leftovers(told)
                found.extend({**worded(one), "about": _about(one, home)} for one in told)
        return []

    options = {"template_args": context.template_args, "revision_context": context}
    with (
        _uncollected(),
        _reflected_at_once(),
        _owners_at_once(),
        EnvironmentContext(config, scripts, fn=compare, as_sql=False, **options),
    ):
        scripts.run_env()
    return {"differences": found, "excluded": excluded, "tables": modelled}


def _note_hooks(options: Any, home: str, excluded: list[list[Any]]) -> None:
    """Note what env.py's include_object and include_name leave out."""
    objects, names = options.get("include_object"), options.get("include_name")

    def include_object(item: Any, name: Any, kind: str, reflected: bool, other: Any) -> bool:  # noqa: FBT001  (Alembic's)
        wanted = bool(objects(item, name, kind, reflected, other))
        if not wanted:
            table = getattr(item, "table", item)
            excluded.append([kind, table.schema or home, stored(table.name), stored(name)])
        return wanted

    def include_name(name: Any, kind: str, parents: Any) -> bool:
        wanted = bool(names(name, kind, parents))
        if not wanted and kind != "schema":
            table = parents.get("table_name") or name
            excluded.append([kind, parents.get("schema_name") or home, table, name])
        return wanted

    if objects:
        options["include_object"] = include_object
    if names:
        options["include_name"] = include_name


def _note_comparisons(migration: Any, home: str, excluded: list[list[Any]]) -> None:
    """Note what functions of env.py call equal, such as compare_type=function."""
    for kind, name in _COMPARISONS.items():
        compares = getattr(migration, name, None)
        if callable(compares):
            setattr(migration, name, _noting(compares, kind, home, excluded))


def _noting(
    compares: Callable[..., Any], kind: str, home: str, excluded: list[list[Any]]
) -> Callable[..., Any]:
    def noting(context: Any, found: Any, column: Any, *more: Any) -> Any:
        differs = compares(context, found, column, *more)
        if differs is False:  # None leaves it to Alembic
            table = column.table
            excluded.append([kind, table.schema or home, stored(table.name), stored(column.name)])
        return differs

    return noting


def _about(difference: Any, home: str) -> list[Any]:
    """Return what one difference of `as_diffs()` is about.

    It is schema, table, kind, name, and of a constraint or an index the columns. An operation of a
    plugin is about no table.
    """
    operation, *rest = difference
    verb, _, kind = operation.partition("_")
    if verb == "modify":
        return [rest[0] or home, stored(rest[1]), kind, stored(rest[2]), []]
    if kind == "column":
        return [rest[0] or home, stored(rest[1]), kind, stored(rest[2].name), []]
    table = getattr(rest[0], "table", rest[0])
    if not hasattr(table, "schema"):
        return ["", "", kind, "", []]
    name = getattr(rest[0], "name", None)
    columns = [stored(getattr(each, "name", each)) for each in getattr(rest[0], "columns", ())]
    return [table.schema or home, stored(table.name), kind, stored(name) if name else "", columns]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage: what is reflected is none, and the looks take a quarter of the time.

    Afterwards it stays until the process ends, which has little left to do: the first look would
    take as long as all of them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


@contextmanager
def _reflected_at_once() -> Iterator[None]:
    """Reflect the tables of each schema together.

    Alembic 1.20 does so for the first schema, and asks for each table of the others by itself.
    """
    kind = getattr(compare_util, "_InspectorConv", None)  # type: Any
    once = getattr(kind, "_pre_cache", None)
    if once is None:  # an older version
        yield
        return

    def each_time(own: Any, schema: Any, names: Any, there: Any, key: str, method: Any) -> None:
        cache = own.inspector.info_cache
        before = cache.pop(key, None)
        once(own, schema, names, there, key, method)
        if isinstance(before, dict) and isinstance(cache[key], dict):
            cache[key] = {**before, **cache[key]}

    kind._pre_cache = each_time  # noqa: SLF001
    try:
        yield
    finally:
        kind._pre_cache = once  # noqa: SLF001


# The name of a sequence as the server writes it into the default of a column. Where it has a quote,
# Alembic's own query fails.
_OWNERS = """
SELECT replace(CAST(CAST(c.oid AS pg_catalog.regclass) AS text), '''', ''''''), c.relname,
       a.attname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_depend d
  ON d.objid = c.oid AND d.classid = CAST('pg_catalog.pg_class' AS pg_catalog.regclass)
 AND d.refclassid = CAST('pg_catalog.pg_class' AS pg_catalog.regclass)
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE c.relkind = 'S'
"""


class _Owner:
    """Sequence and column, in place of the result of Alembic's query."""

    def __init__(self, row: tuple[str, str]) -> None:
        self._row = row

    def first(self) -> tuple[str, str]:
        return self._row


@contextmanager
def _owners_at_once() -> Iterator[None]:
    """Ask for the columns that own sequences together.

    Alembic asks for each column with a default of nextval() by itself, which takes longer than
    all the rest of a comparison. A sequence that we do not know it asks for as before.
    """
    ask = getattr(sqla_compat, "_exec_on_inspector", None)  # type: Any
    if ask is None:  # an older version
        yield
        return
    owners = {}  # type: dict[Any, dict[str, _Owner]]

    def of(inspector: Any) -> dict[str, _Owner]:
        if inspector not in owners:
            rows = ask(inspector, sqlalchemy.text(_OWNERS)).fetchall()
            owners[inspector] = {name: _Owner((own, column)) for name, own, column in rows}
        return owners[inspector]

    def ask_once(inspector: Any, statement: Any, **given: Any) -> Any:
        known = of(inspector).get(given["seqname"]) if set(given) == {"seqname"} else None
        return known or ask(inspector, statement, **given)

    sqla_compat._exec_on_inspector = ask_once  # type: ignore[attr-defined]  # noqa: SLF001
    try:
        yield
    finally:
        sqla_compat._exec_on_inspector = ask  # type: ignore[attr-defined]  # noqa: SLF001


def count(metadata: Any) -> int | None:
    """Return how many tables the models have; None where env.py has no target_metadata."""
    return len(tables(metadata)) if metadatas(metadata) else None


def columns(metadata: Any) -> dict[str, list[str]]:
    """Return the columns of the models by table, whose name is without the schema `public`."""
    found = {}
    for table in tables(metadata):
        schema = table.schema if table.schema != "public" else None
        name = ".".join(filter(None, (schema, stored(table.name))))
        found[name] = [stored(each.name) for each in table.columns]
    return found


def tables(metadata: Any) -> list[Any]:
    """Return the tables of env.py's target_metadata, which may be one, several or None."""
    return [table for each in metadatas(metadata) for table in each.tables.values()]


def metadatas(metadata: Any) -> list[Any]:
    """Return what is metadata: an upgrade does not look at it, so other things pass there, too."""
    several = metadata if isinstance(metadata, (list, tuple)) else [metadata]
    return [each for each in several if hasattr(each, "tables")]


def _flat(found: list[Any]) -> Iterator[Any]:
    for each in found:  # changes of one column come together, as a list
        yield from each if isinstance(each, list) else [each]


def stored(name: Any) -> str:
    """Return a name as the server stores it: cut to 63 bytes."""
    return str(name).encode()[:_LONGEST_BYTES].decode("utf-8", "ignore")


@contextmanager
def stored_names(several: list[Any]) -> Iterator[None]:
    """Let the models have the names that the server stores, for the block."""
    before = []  # type: list[tuple[Any, str, Any]]
    for named in _named_parts(several):
        for attribute in ("name", "fullname"):
            name = getattr(named, attribute, None)
            # SQLAlchemy itself shortens those of a naming convention, which are of another type.
            if type(name) in {str, quoted_name} and _cut(name) != name:
                before.append((named, attribute, name))
                setattr(named, attribute, quoted_name(_cut(name), getattr(name, "quote", None)))
    found = [(each.metadata.tables, each.fullname, each) for each in several]
    added = [each for each in found if each[1] not in each[0]]
    try:
        for known, key, table in added:  # beside its own key, which foreign keys may name
            dict.__setitem__(known, key, table)
        yield
    finally:
        for known, key, _ in added:
            dict.__delitem__(known, key)
        for named, attribute, name in before:
            setattr(named, attribute, name)


def _cut(name: Any) -> str:
    return ".".join(map(stored, str(name).split(".")))


def _named_parts(several: list[Any]) -> Iterator[Any]:
    """Yield tables with their columns, types, indexes and constraints."""
    for table in several:
        yield from (table, *table.columns, *table.indexes, *table.constraints)
        for column in table.columns:
            yield getattr(column.type, "item_type", column.type)  # of an array


def _without_implied(found: list[Any], models: list[Any]) -> list[Any]:
    """Leave out a UNIQUE of a primary key's own columns.

    Where both stand in one CREATE TABLE, as in that of create_all, the server makes the key alone.
    """
    keys = {(each.schema, each.name): _names(each.primary_key) for each in models}

    def is_implied(each: Any) -> bool:
        if each[0] != "add_constraint" or not isinstance(each[1], UniqueConstraint):
            return False
        table = each[1].table
        is_key = _names(each[1]) == keys.get((table.schema, table.name))
        return is_key and not (each[1].deferrable or each[1].initially)

    return [each for each in found if not is_implied(each)]


def _names(constraint: Any) -> list[str]:
    return [each.name for each in constraint.columns]


def _without_parts_of_leftovers(found: list[Any]) -> list[Any]:
    """Leave out the indexes of tables that no model has: Alembic drops them before the table."""
    leftovers = {each[1].fullname for each in found if each[0] == "remove_table"}

    def is_part(each: Any) -> bool:
        owner = getattr(each[1], "table", None)
        return each[0] == "remove_index" and getattr(owner, "fullname", None) in leftovers

    return [each for each in found if not is_part(each)]


def worded(difference: Any) -> dict[str, str]:
    """Return one difference of `as_diffs()`: its kind, the name of its object, and a text.

    The text is the same in every run, since a baseline remembers it.
    """
    operation, *rest = difference
    if operation.startswith("modify_"):
        schema, table, column, _existing, old, new = rest
        name, aspect = _dotted(schema, table, column), operation[7:]
        text = f"{name}: {aspect} {_value(old)} in the database, {_value(new)} in the models"
        return {"kind": "drift", "name": name, "text": text}
    verb, _, kind = operation.partition("_")
    if operation == "remove_table":
        name = rest[0].fullname
        return {
            "kind": "leftover table",
            "name": name,
            "text": f"table {name} is only in the database",
        }
    where = "only in the models" if verb == "add" else "only in the database"
    if kind == "column":
        schema, table, column = rest
        name = _dotted(schema, table, column.name)
        return {"kind": "drift", "name": name, "text": f"column {name} is {where}"}
    name, shown = _named(rest[0], kind)
    if operation == "add_table_comment" and rest[1] is not None:  # what is there in its place
        where = f"{_value(rest[1])} in the database, {_value(rest[0].comment)} in the models"
    words = {"fk": "foreign key", "table_comment": "comment of table"}
    return {"kind": "drift", "name": name, "text": f"{words.get(kind, kind)} {shown} is {where}"}


def _named(item: Any, kind: str) -> tuple[str, str]:
    """Return the name of what was added or removed, and that with its owner."""
    if hasattr(item, "fullname"):
        return item.fullname, item.fullname
    name, table = getattr(item, "name", None), getattr(item, "table", None)
    if table is None:  # of a plugin, such as a function or a view
        text = str(name or item)
        return text, text
    columns = ", ".join(str(getattr(each, "name", each)) for each in getattr(item, "columns", ()))
    shown = f"{name} of {table.fullname}" if name else f"of {table.fullname} ({columns})"
    if kind == "fk":
        shown += f" → {item.elements[0].target_fullname.rpartition('.')[0]}"
    return str(name or f"{table.fullname}({columns})"), shown


def _value(value: Any) -> str:
    """Return a type, a default or a flag as SQL has it, never with an address in memory."""
    value = getattr(value, "arg", value)  # of a DefaultClause
    value = getattr(value, "sqltext", getattr(value, "text", value))
    try:
        return str(value.compile(dialect=_DIALECT))
    except Exception:  # noqa: BLE001  (a project's own type may raise anything)
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value) if isinstance(value, str) else str(value))


def _dotted(*names: Any) -> str:
    return ".".join(str(each) for each in names if each)


def enums(metadata: Any) -> list[dict[str, Any]]:
    """Return schema (None: the search path decides), name and values of each, once.

    `columns` are those that have it: schema of the table, which may be None too, table and column.
    """
    found = {}  # type: dict[tuple[str | None, str], dict[str, Any]]
    for table in tables(metadata):
        for column in table.columns:
            for enum in enums_of(column.type):
                key = {"schema": enum.schema, "name": stored(enum.name)}
                first = {**key, "values": list(enum.enums), "columns": []}
                each = found.setdefault((enum.schema, enum.name), first)
                where = [table.schema, stored(table.name), stored(column.name)]
                each["columns"].append(where)
    return list(found.values())


def enums_of(type_: Any) -> Iterator[Any]:
    """Find the enum in a type: behind a decorator, a variant for PostgreSQL, or in an array."""
    if isinstance(type_, sqlalchemy.types.TypeDecorator):  # SQLAlchemy 1.4's Variant is one
        yield from enums_of(type_.load_dialect_impl(_DIALECT))
        return
    variants = getattr(type_, "_variant_mapping", {})
    if "postgresql" in variants:
        yield from enums_of(variants["postgresql"])
    elif isinstance(type_, sqlalchemy.ARRAY):
        yield from enums_of(type_.item_type)
    elif isinstance(type_, sqlalchemy.Enum) and type_.native_enum and type_.name:
        yield type_


def rows(context: Any) -> tuple[str, ...]:
    """Return the rows of the version table, and leave no transaction begun for that."""
    connection = context.connection
    was_begun = connection.in_transaction()
    found = tuple(context.get_current_heads())
    if not was_begun and connection.in_transaction():  # Alembic would take it for env.py's own
        connection.get_transaction().rollback()
    return found


def may_be_of_interest(revision: str, watched: dict[str, Any]) -> bool:
    """Tell whether a place that begins with this revision may be asked for, see look()."""
    return bool(watched["signs"]) or revision in watched["recorded"]


def look(connection: Any, watched: dict[str, Any], found: Sequence[str]) -> list[Any] | None:
    """Return the schema as it is after a migration; None where it is not asked for.

    watched: `signs`, queries with the answers for which the schema is asked for, from the cheapest
    one on, and none where it never is; `recorded`, the rows of the version table for which it
    always is; `settings`, statements, and `schema`, the query for that.
    """
    is_recorded = sorted(found) == watched["recorded"]
    if not (is_recorded or watched["signs"]):
        return None
    driver = own(connection.connection)
    is_alone = getattr(driver, "autocommit", False)
    was_begun = connection.in_transaction()
    cursor = driver.cursor()
    try:
        for query, wanted in () if is_recorded else watched["signs"]:
            cursor.execute(query)
            if cursor.fetchone()[0] not in wanted:
                return None
        return _schema(cursor, watched, is_alone=is_alone)
    finally:
        cursor.close()
        if not (is_alone or was_begun):
            driver.rollback()


def _schema(cursor: Any, watched: dict[str, Any], *, is_alone: bool) -> list[Any]:
    """Read it under settings that end with that."""
    cursor.execute("BEGIN" if is_alone else "SAVEPOINT backset_look")
    try:
        for each in watched["settings"]:
            cursor.execute(each)
        cursor.execute(watched["schema"])
        (text,) = cursor.fetchone()
        return json.loads(text)  # type: ignore[no-any-return]
    finally:
        cursor.execute("ROLLBACK" if is_alone else "ROLLBACK TO SAVEPOINT backset_look")
        if not is_alone:
            cursor.execute("RELEASE SAVEPOINT backset_look")
