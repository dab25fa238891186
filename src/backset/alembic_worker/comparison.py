"""Models and database compared, as `alembic check` does it, and each difference in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from alembic import autogenerate
from alembic.runtime.environment import EnvironmentContext
from sqlalchemy.dialects import postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.config import Config
    from alembic.script import ScriptDirectory

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_LONGEST_BYTES = 63
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


def differences(config: Config, scripts: ScriptDirectory) -> list[dict[str, str]]:
    """Compare models and database; the database must be at head.

    Alembic's own `check` does the same, but keeps the differences to itself before 1.10.
    """
    context = autogenerate.RevisionContext(config, scripts, dict(_ARGUMENTS))

    def compare(current: Any, migration: Any) -> list[Any]:
        context.run_autogenerate(current, migration)
        return []

    options = {"template_args": context.template_args, "revision_context": context}
    with EnvironmentContext(config, scripts, fn=compare, as_sql=False, **options):
        scripts.run_env()
    found = []  # type: list[Any]
    for operations in context.generated_revisions[-1].upgrade_ops_list:
        found += operations.as_diffs()
    return [worded(each) for each in _without_parts_of_leftovers(_without_cut(list(_flat(found))))]


def count(metadata: Any) -> int | None:
    """Return how many tables the models have; None where env.py has no target_metadata."""
    return len(tables(metadata)) if _several(metadata) else None


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
    return [table for each in _several(metadata) for table in each.tables.values()]


def _several(metadata: Any) -> list[Any]:
    """Return what is metadata: an upgrade does not look at it, so other things pass there, too."""
    several = metadata if isinstance(metadata, (list, tuple)) else [metadata]
    return [each for each in several if hasattr(each, "tables")]


def _flat(found: list[Any]) -> Iterator[Any]:
    for each in found:  # changes of one column come together, as a list
        yield from each if isinstance(each, list) else [each]


def stored(name: Any) -> str:
    """Return a name as the server stores it: cut to 63 bytes."""
    return str(name).encode()[:_LONGEST_BYTES].decode("utf-8", "ignore")


def _without_cut(found: list[Any]) -> list[Any]:
    """Leave out what differs in a name alone, its own or its table's, which the server has cut."""
    removed = {_stored_key(each): each for each in found if each[0].startswith("remove_")}
    cut = []  # type: list[Any]
    for each in found:
        twin = removed.get(_stored_key(each)) if each[0].startswith("add_") else None
        if twin is not None and any(name != stored(name) for name in _names(each)):
            cut += [each, twin]
    return [each for each in found if not any(each is other for other in cut)]


def _stored_key(difference: Any) -> tuple[Any, ...]:
    """Return what was added or removed, by names as the server has them."""
    columns = () if difference[0].endswith("_table") else getattr(difference[1], "columns", ())
    names = (stored(getattr(each, "name", each)) for each in columns)
    return (
        difference[0].partition("_")[2],
        *map(stored, _names(difference)),
        tuple(sorted(names)),
    )


def _names(difference: Any) -> tuple[str, ...]:
    """Return the schema, the table and the name of what was added or removed."""
    operation, *rest = difference
    if operation.startswith("modify_"):
        return ()
    if operation.endswith("_column"):
        schema, table, column = rest
        return str(schema or ""), str(table), str(column.name)
    table = getattr(rest[0], "table", None)
    owner = rest[0] if table is None else table
    name = "" if table is None else getattr(rest[0], "name", None)
    return str(getattr(owner, "schema", None) or ""), str(getattr(owner, "name", "")), str(name)


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
        return str(value.compile(dialect=DIALECT))
    except Exception:  # noqa: BLE001  (a project's own type may raise anything)
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value) if isinstance(value, str) else str(value))


def _dotted(*names: Any) -> str:
    return ".".join(str(each) for each in names if each)
