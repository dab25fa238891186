"""Random projects: a chain of revisions, the models that agree with its head, and an env.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

LONG = "a_name_that_is_longer_than_the_63_bytes_which_the_server_keeps_of_any_name"
_ENV = """import os
import models
from alembic import context
from sqlalchemy import create_engine, pool, text

url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")
engine = create_engine(url, poolclass=pool.NullPool)
with engine.connect() as connection:
    {begin}
    context.configure(
        connection=connection, target_metadata=models.metadata, include_schemas=True{more}
    )
    with context.begin_transaction():
        context.run_migrations()
"""
_ENVS = (
    ("", ""),
    ("", ", transaction_per_migration=True"),
    ('connection.execute(text("SET search_path TO public")); connection.commit()', ""),
)
_SCRIPT = """import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = {id!r}
down_revision = {down!r}


def upgrade():
    {body}


def downgrade():
    pass
"""


@dataclass
class Table:
    """A table of the models: its columns as SQLAlchemy has them, in their order."""

    name: str
    columns: dict[str, str]
    schema: str | None = None
    indexes: dict[str, str] = field(default_factory=dict)

    def model(self) -> str:
        """Return the text of the model."""
        parts = [f"Column({name!r}, {type_})" for name, type_ in self.columns.items()]
        parts += [f"Index({name!r}, {column!r})" for name, column in self.indexes.items()]
        schema = f", schema={self.schema!r}" if self.schema else ""
        return f"Table({self.name!r}, metadata, {', '.join(parts)}{schema})"


@dataclass
class Revision:
    """A revision: the statements of its `upgrade`, in Python.

    first: the first of them in SQL, as somebody would type it; empty where there is none.
    shows: whether any of it can be seen in a schema.
    """

    id: str
    body: list[str]
    first: str = ""
    shows: bool = True


@dataclass
class Chain:
    """A chain in a line. objects: what it makes beside tables, in SQL: kind → names."""

    revisions: list[Revision]
    tables: dict[str, Table]
    objects: dict[str, list[str]]
    env: str

    @property
    def ids(self) -> list[str]:
        """The revisions in their order."""
        return [each.id for each in self.revisions]

    def write(self, folder: Path) -> None:
        """Write the project."""
        versions = folder / "migrations/versions"
        versions.mkdir(parents=True)
        (folder / "alembic.ini").write_text(
            "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = %(here)s\n"
        )
        (folder / "tasks.py").write_text("from backset.tasks import namespace\n")
        (folder / "migrations/env.py").write_text(self.env)
        models = "\n".join(each.model() for each in self.tables.values())
        head = "import sqlalchemy as sa\nfrom sqlalchemy import Column, Index, MetaData, Table\n"
        (folder / "models.py").write_text(f"{head}\nmetadata = MetaData()\n{models}\n")
        for number, each in enumerate(self.revisions):
            write(versions / f"{number:03}_{each.id}.py", each, self.ids[number - 1 : number])


def write(path: Path, revision: Revision, down: list[str]) -> None:
    """Write the script of a revision."""
    body = "\n    ".join(revision.body) or "pass"
    path.write_text(_SCRIPT.format(id=revision.id, down=down[0] if down else None, body=body))


def squashed(chain: Chain, revision: str) -> Revision:
    """Return one revision that makes what all of them make."""
    return Revision(revision, [line for each in chain.revisions for line in each.body])


def grow(rng: random.Random) -> Chain:
    """Return a random project."""
    return grown(rng, Maker(rng))


def grown(rng: random.Random, maker: Maker) -> Chain:
    """Return a random project of what a maker makes."""
    begin, more = rng.choice(_ENVS)
    revisions = [maker.begin()]
    revisions += [maker.revision() for _ in range(rng.randint(1, 6))]
    return Chain(revisions, maker.tables, maker.objects, _ENV.format(begin=begin, more=more))


class Maker:
    """Makes revision after revision, and knows what stands after each."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.tables: dict[str, Table] = {}
        self.objects: dict[str, list[str]] = {
            each: [] for each in ("check", "view", "function", "trigger")
        }
        self._number = 0

    def _name(self, kind: str) -> str:
        self._number += 1
        name = f"{kind}_{self._number}"
        return f"{name}_{LONG}" if self.rng.random() < 0.12 and kind in {"t", "c"} else name

    def _id(self) -> str:
        return f"{self.rng.getrandbits(48):012x}"

    def begin(self) -> Revision:
        """Return the first one."""
        made = [self._table() for _ in range(self.rng.randint(1, 2))]
        return Revision(self._id(), [each for one in made for each in one.body], made[0].first)

    def ways(self) -> list[Callable[[], Revision]]:
        """Return what can be in a revision; what is there twice comes twice as often."""
        return [
            *(self._table, self._column, self._column, self._index, self._concurrent_index),
            *(self._enum, self._check, self._view, self._trigger, self._lookup, self._drop_column),
            self._idle,
        ]

    def revision(self) -> Revision:
        """Return one that does a thing or two."""
        ways = self.ways()
        made = [self.rng.choice(ways)() for _ in range(self.rng.choice((1, 1, 2)))]
        return Revision(
            self._id(),
            [each for one in made for each in one.body],
            made[0].first,
            any(each.shows for each in made),
        )

    def _any(self) -> Table:
        known = [each for each in self.tables.values() if "token" in each.columns]
        return self.rng.choice(known)

    def _table(self) -> Revision:
        name = self._name("t")
        columns = {"id": "sa.Integer, primary_key=True", "token": "sa.Text"}
        schema = self.rng.choice((None, None, None, "side"))
        self.tables[name] = Table(name, columns, schema)
        parts = ", ".join(f"sa.Column({each!r}, {type_})" for each, type_ in columns.items())
        where = f", schema={schema!r}" if schema else ""
        before = ['op.execute("CREATE SCHEMA IF NOT EXISTS side")'] if schema else []
        made = f"CREATE TABLE {_qualified(self.tables[name])} (id serial PRIMARY KEY, token text)"
        made = f"CREATE SCHEMA IF NOT EXISTS side; {made}" if schema else made
        return Revision("", [*before, f"op.create_table({name!r}, {parts}{where})"], made)

    def _column(self) -> Revision:
        table, name = self._any(), self._name("c")
        type_, sql = self.rng.choice(
            (("sa.Integer", "int"), ("sa.Text", "text"), ("sa.Boolean", "boolean"))
        )
        table.columns[name] = type_
        column = self.rng.choice(("Column", "sa.Column"))
        line = f"op.add_column({table.name!r}, {column}({name!r}, {type_}){_schema(table)})"
        first = f'ALTER TABLE {_qualified(table)} ADD COLUMN "{name}" {sql}'
        return Revision("", [line], first)

    def _drop_column(self) -> Revision:
        table = self._any()
        spare = [each for each in table.columns if each.startswith("c_")]
        spare = [each for each in spare if each not in table.indexes.values()]
        if not spare or self.objects["view"]:
            return self._column()
        name = self.rng.choice(spare)
        del table.columns[name]
        line = f"op.drop_column({table.name!r}, {name!r}{_schema(table)})"
        return Revision("", [line])

    def _index(self) -> Revision:
        table, name = self._any(), self._name("ix")
        table.indexes[name] = "token"
        line = f"op.create_index({name!r}, {table.name!r}, ['token']{_schema(table)})"
        return Revision("", [line], f'CREATE INDEX "{name}" ON {_qualified(table)} (token)')

    def _concurrent_index(self) -> Revision:
        made = self._index()
        line = made.body[0].removesuffix(")") + ", postgresql_concurrently=True)"
        return Revision("", ["with op.get_context().autocommit_block():", f"    {line}"])

    def _enum(self) -> Revision:
        table, name, type_ = self._any(), self._name("c"), self._name("e")
        table.columns[name] = f"sa.Enum('one', 'two', name={type_!r})"
        made = f"CREATE TYPE {type_} AS ENUM ('one')"
        enum = f"sa.Enum('one', 'two', name={type_!r}, create_type=False)"
        add = f"op.add_column({table.name!r}, sa.Column({name!r}, {enum}){_schema(table)})"
        value = f"op.execute(\"ALTER TYPE {type_} ADD VALUE 'two'\")"
        return Revision("", [f'op.execute("{made}")', add, value], made)

    def _check(self) -> Revision:
        table, name = self._any(), self._name("ck")
        made = f"ALTER TABLE {_qualified(table)} ADD CONSTRAINT {name} CHECK (length(token) < 999)"
        self.objects["check"].append(f"ALTER TABLE {_qualified(table)} DROP CONSTRAINT {name}")
        return Revision("", [f"op.execute({made!r})"], made)

    def _view(self) -> Revision:
        table, name = self._any(), self._name("v")
        made = f"CREATE VIEW {name} AS SELECT id, token FROM {_qualified(table)}"
        self.objects["view"].append(f"DROP VIEW {name}")
        return Revision("", [f"op.execute({made!r})"], made)

    def _trigger(self) -> Revision:
        table, name = self._any(), self._name("f")
        function = f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
        function += "'BEGIN RETURN NEW; END'"
        trigger = f"CREATE TRIGGER {name} BEFORE INSERT ON {_qualified(table)} "
        trigger += f"FOR EACH ROW EXECUTE FUNCTION {name}()"
        self.objects["function"].append(f"DROP FUNCTION {name}() CASCADE")
        self.objects["trigger"].append(f"DROP TRIGGER {name} ON {_qualified(table)}")
        return Revision("", [f"op.execute({function!r})", f"op.execute({trigger!r})"], function)

    def _lookup(self) -> Revision:
        name, code = self._name("l"), "sa.Integer, primary_key=True, autoincrement=False"
        self.tables[name] = Table(name, {"code": code, "label": "sa.Text"})
        columns = f"sa.Column('code', {code}), sa.Column('label', sa.Text)"
        rows = "[{'code': 1, 'label': 'one'}, {'code': 2, 'label': 'two'}]"
        return Revision(
            "",
            [f"made = op.create_table({name!r}, {columns})", f"op.bulk_insert(made, {rows})"],
            f"CREATE TABLE {name} (code int PRIMARY KEY, label text)",
        )

    def _idle(self) -> Revision:
        return Revision("", ["pass"], shows=False)


def _qualified(table: Table) -> str:
    name = f'"{table.name}"'
    return f"{table.schema}.{name}" if table.schema else name


def _schema(table: Table) -> str:
    return f", schema={table.schema!r}" if table.schema else ""
