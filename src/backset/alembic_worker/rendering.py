"""Tables and indexes of a database as the code of operations, as Alembic itself renders them."""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy
from alembic.autogenerate import render
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from sqlalchemy import ForeignKeyConstraint, MetaData, types
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import TextClause, conv

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a person writes for a type that is reflected under its name in SQL.
_GENERIC = {  # type: dict[str, Any]
    "INTEGER": lambda _: types.Integer(),
    "SMALLINT": lambda _: types.SmallInteger(),
    "BIGINT": lambda _: types.BigInteger(),
    "BOOLEAN": lambda _: types.Boolean(),
    "DATE": lambda _: types.Date(),
    "BYTEA": lambda _: types.LargeBinary(),
    "TEXT": lambda each: types.Text(collation=each.collation),
    "VARCHAR": lambda each: types.String(length=each.length, collation=each.collation),
    "NUMERIC": lambda each: types.Numeric(precision=each.precision, scale=each.scale),
    "TIMESTAMP": lambda each: types.DateTime(timezone=each.timezone),
    "TIME": lambda each: types.Time(timezone=each.timezone),
}
_USUAL_IDENTITY = {"start": 1, "increment": 1, "minvalue": 1, "cycle": False, "cache": 1}


def code(context: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the code of the tables and indexes that are wanted, by their keys.

    wanted: `tables`, each with `key`, `schema`, `name`, the names of constraints to be left out
    (`without`), and of its `columns` whether they are `serial`, whether they have a `default` and
    allow `null`, are of a `domain`, have a `collation` of their own; `indexes`, each with `key`,
    `schema`, `table`, `name`.
    What cannot be rendered is left out. Of a table there are the `code`, the names of the
    `constraints` in it, and its foreign keys as operations of their own. `sa` and `op` are the
    prefixes that env.py wants, `imports` what the code needs beside these, `schema` the one that is
    not named in the code.
    """
    rendering = _Rendering(context)
    found = {"tables": {}, "indexes": {}}  # type: dict[str, Any]
    with warnings.catch_warnings(), _as_stored(context.impl):
        warnings.simplefilter("ignore")  # what SQLAlchemy does not know, it leaves out
        tables = _reflected(context.connection, [*wanted["tables"], *wanted["indexes"]])
        for each in wanted["tables"]:
            table = tables.get((each["schema"], each["name"]))
            if table is not None and (made := rendering.table(table, each)) is not None:
                found["tables"][each["key"]] = made
        for each in wanted["indexes"]:
            table = tables.get((each["schema"], each["table"]))
            index = None if table is None else rendering.index(table, each["name"])
            if index is not None:
                found["indexes"][each["key"]] = index
    return {**found, **rendering.told()}


@contextmanager
def _as_stored(impl: Any) -> Iterator[None]:
    """Let expressions be rendered as the server has them.

    Alembic compiles them: `:name` becomes NULL, and some drivers want every percent sign doubled.
    """
    compiled, preparer = impl.render_ddl_sql_expr, impl.dialect.identifier_preparer
    doubles = preparer._double_percents  # noqa: SLF001

    def stored(expression: Any, **words: Any) -> str:
        if isinstance(expression, TextClause) and not words.get("is_index"):
            return escaped(expression.text)
        for each in visitors.iterate(expression):  # an index is rendered once
            inner = getattr(each, "text", None)  # Alembic wraps it
            for clause in (each, inner):
                if isinstance(clause, TextClause):
                    clause.text = escaped(clause.text)
        return str(compiled(expression, **words))

    impl.render_ddl_sql_expr, preparer._double_percents = stored, False  # noqa: SLF001
    try:
        yield
    finally:
        del impl.render_ddl_sql_expr
        preparer._double_percents = doubles  # noqa: SLF001


# As SQLAlchemy reads a text: `:name` is a parameter, and `\\:` is a colon.
_PARAMETER = re.compile(r"(?<![:\w\\]):(?=[\w$]+(?![:\w$]))")
_COLON = re.compile(r"\\(?=:[\w$]*(?![:\w$]))")


def escaped(expression: str) -> str:
    """Return an expression in which text() finds no parameter, as backset.squash.layout does it."""
    return _PARAMETER.sub(r"\\:", _COLON.sub(r"\\\\", expression))


def _reflected(connection: Any, wanted: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
    """Return the tables that are asked for, by schema and name."""
    metadata = MetaData()
    found = {}  # type: dict[tuple[str, str], Any]
    default = sqlalchemy.inspect(connection).default_schema_name
    for schema in sorted({each["schema"] for each in wanted}):
        names = {each.get("table", each["name"]) for each in wanted if each["schema"] == schema}
        own = None if schema == default else schema
        metadata.reflect(connection, schema=own, only=sorted(names), resolve_fks=False)
        found.update(
            ((schema, table.name), table)
            for table in metadata.tables.values()
            if table.schema == own and table.name in names
        )
    return found


class _Rendering:
    """Renders with the options of env.py: its prefixes, its own words for types."""

    def __init__(self, context: Any) -> None:
        self._own = context.opts.get("render_item")
        opts = {**context.opts, "render_item": self._item}
        self._context = AutogenContext(context, opts=opts, autogenerate=False)
        several = context.opts.get("target_metadata")
        several = several if isinstance(several, (list, tuple)) else [several]
        # Names go through a convention once more, unless they are marked.
        self._marks = any(
            set(getattr(each, "naming_convention", None) or {}) - {"ix"} for each in several
        )

    def told(self) -> dict[str, Any]:
        """Return what the code needs around it."""
        imports = {each for each in self._context.imports if "import sqlalchemy as sa" not in each}
        return {
            "imports": sorted(imports),
            "sa": (self._context.opts["sqlalchemy_module_prefix"] or "").rstrip("."),
            "op": (self._context.opts["alembic_module_prefix"] or "").rstrip("."),
            "schema": sqlalchemy.inspect(self._context.connection).default_schema_name,
        }

    def table(self, table: Any, wanted: dict[str, Any]) -> dict[str, Any] | None:
        """Return the code of a table; None where a part of it is not known."""
        for each in list(table.constraints):
            if each.name in wanted["without"]:
                table.constraints.discard(each)
        for column in table.columns:
            about = wanted["columns"][column.name]
            if not _is_known(column.type, about):
                return None
            _as_written(column, **{name: about[name] for name in ("serial", "default", "null")})
        for each in table.constraints:
            self._mark(each)
        foreign = [each for each in table.constraints if isinstance(each, ForeignKeyConstraint)]
        try:
            return {
                "code": self._code(ops.CreateTableOp.from_table(table)),
                "constraints": sorted(str(each.name) for each in table.constraints if each.name),
                "foreign": {
                    str(each.name): self._code(ops.CreateForeignKeyOp.from_constraint(each))
                    for each in foreign
                },
            }
        except Exception:  # noqa: BLE001  (types and hooks of a project may raise anything)
            return None

    def index(self, table: Any, name: str) -> str | None:
        """Return the code of an index."""
        for each in table.indexes:
            if each.name == name:
                self._mark(each)
                where = each.dialect_options["postgresql"]["where"]
                if isinstance(where, str):
                    each.dialect_options["postgresql"]["where"] = sqlalchemy.text(where)
                try:
                    return self._code(ops.CreateIndexOp.from_index(each))
                except Exception:  # noqa: BLE001  (as above)
                    return None
        return None

    def _code(self, operation: Any) -> str:
        return render.render_op_text(self._context, operation)

    def _mark(self, named: Any) -> None:
        if self._marks and named.name is not None:
            named.name = conv(named.name)

    def _item(self, kind: str, item: Any, context: Any) -> Any:
        """Render what env.py does not render itself, and Alembic not as it was."""
        rendered = self._own(kind, item, context) if self._own else False
        if rendered is not False or kind != "type":
            return rendered
        if isinstance(item, postgresql.ENUM):
            context.imports.add("from sqlalchemy.dialects import postgresql")
            words = [*map(repr, item.enums), f"name={item.name!r}", *_schema(item)]
            return f"postgresql.ENUM({', '.join(words)}, create_type=False)"
        domain = getattr(postgresql, "DOMAIN", None)  # since SQLAlchemy 2.0
        if domain is not None and isinstance(item, domain):
            context.imports.add("from sqlalchemy.dialects import postgresql")
            inner = render._repr_type(_generic(item.data_type), context)  # noqa: SLF001
            words = [repr(item.name), inner, *_schema(item)]
            return f"postgresql.DOMAIN({', '.join(words)}, create_type=False)"
        module = type(item).__module__
        if not module.startswith("sqlalchemy.") and not context.opts.get("user_module_prefix"):
            context.imports.add(f"import {module}")
        return False


def _schema(item: Any) -> Iterator[str]:
    if item.schema:
        yield f"schema={item.schema!r}"


def _is_known(type_: Any, about: dict[str, Any]) -> bool:
    """Tell whether SQLAlchemy has seen all of a type: before 2.0 it saw no domain."""
    domain = getattr(postgresql, "DOMAIN", ())
    return not (
        isinstance(type_, types.NullType)
        or (about["domain"] and not isinstance(type_, domain))
        or (about["collation"] and not getattr(type_, "collation", None))
    )


def _as_written(column: Any, *, serial: bool, default: bool, null: bool) -> None:
    """Change a reflected column into that of a person, who leaves out what is as usual.

    SQLAlchemy tells of a column what its domain has, too: the default, and NOT NULL.
    """
    column.type = _generic(column.type)
    column.nullable = null
    identity = getattr(column, "identity", None)
    if identity is not None:
        column.identity = column.server_default = None
        _plain_identity(identity, column.type)._set_parent(column)  # noqa: SLF001
    elif serial or not (default or getattr(column, "computed", None) is not None):
        column.server_default = None
    column.autoincrement = "auto"
    automatic = column.table._autoincrement_column is column  # noqa: SLF001
    if serial and not automatic:
        column.autoincrement = True
    elif automatic and not serial and identity is None:
        column.autoincrement = False


def _generic(type_: Any) -> Any:
    """Return the type that a person would write, where it is the same for PostgreSQL."""
    if isinstance(type_, sqlalchemy.ARRAY):
        type_.item_type = _generic(type_.item_type)
        return type_
    if getattr(type_, "collation", None) == "default":  # of a domain
        type_.collation = None
    make = _GENERIC.get(type(type_).__name__)
    if make is None:
        return type_
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    made = make(type_)  # type: Any
    return made if made.compile(dialect) == type_.compile(dialect) else type_


def _plain_identity(identity: Any, type_: Any) -> Any:
    """Return an identity without what PostgreSQL takes by itself."""
    small, large = (isinstance(type_, each) for each in (types.SmallInteger, types.BigInteger))
    maximum = 2 ** (15 if small else 63 if large else 31) - 1
    usual = {**_USUAL_IDENTITY, "maxvalue": maximum}
    given = {name: getattr(identity, name, None) for name in usual}
    options = {
        name: value for name, value in given.items() if value is not None and value != usual[name]
    }
    return sqlalchemy.Identity(always=bool(identity.always), **options)
