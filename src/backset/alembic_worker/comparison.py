"""Models and database compared, as `alembic check` does it, and each difference in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from alembic import autogenerate
from alembic.runtime.environment import EnvironmentContext
from sqlalchemy import UniqueConstraint
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

    models = []  # type: list[Any]

    def compare(current: Any, migration: Any) -> list[Any]:
        models.extend(tables(migration.opts.get("target_metadata")))
        context.run_autogenerate(current, migration)
        return []

    options = {"template_args": context.template_args, "revision_context": context}
    with EnvironmentContext(config, scripts, fn=compare, as_sql=False, **options):
        scripts.run_env()
    found = []  # type: list[Any]
    for operations in context.generated_revisions[-1].upgrade_ops_list:
        found += operations.as_diffs()
    found = _without_implied(_without_cut(list(_flat(found))), models)
    return [worded(each) for each in _without_parts_of_leftovers(found)]


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
    """Leave out what differs in its name alone, which the server has cut."""
    removed = {_kind_and_name(each): each for each in found if each[0].startswith("remove_")}
    cut = []  # type: list[Any]
    for each in found:
        kind, *name = _kind_and_name(each)
        is_long = each[0].startswith("add_") and name[-1] != stored(name[-1])
        twin = removed.get((kind, *map(stored, name))) if is_long else None
        cut += [each, twin] if twin is not None else []
    gone = [each[1] for each in cut if each[0].endswith("_table")]

    def is_out(each: Any) -> bool:
        return any(each is other for other in cut) or (
            not each[0].endswith("_table")
            and any(getattr(each[1], "table", None) is table for table in gone)
        )

    return [each for each in found if not is_out(each)]


def _without_implied(found: list[Any], models: list[Any]) -> list[Any]:
    """Leave out a UNIQUE of a primary key's own columns.

    Where both stand in one CREATE TABLE, as in that of create_all, the server makes the key alone.
    """
    keys = {(each.schema, each.name): _keyed(each.primary_key) for each in models}

    def is_implied(each: Any) -> bool:
        if each[0] != "add_constraint" or not isinstance(each[1], UniqueConstraint):
            return False
        table = each[1].table
        is_key = _keyed(each[1]) == keys.get((table.schema, table.name))
        return is_key and not (each[1].deferrable or each[1].initially)

    return [each for each in found if not is_implied(each)]


def _keyed(constraint: Any) -> list[str]:
    return [each.name for each in constraint.columns]


def _kind_and_name(difference: Any) -> tuple[str, ...]:
    """Return what was added or removed: its kind, its table and its name."""
    operation, *rest = difference
    kind = operation.partition("_")[2]
    if kind == "column":
        schema, table, column = rest
        return kind, _dotted(schema, stored(table)), str(column.name)
    if operation.startswith("modify_"):
        return operation, ""
    table = getattr(rest[0], "table", None)
    owner = _dotted(table.schema, stored(table.name)) if table is not None else ""
    if kind == "table":
        owner = str(rest[0].schema or "")
    return kind, owner, str(getattr(rest[0], "name", None) or "")


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
