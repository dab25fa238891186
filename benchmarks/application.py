"""A working application, generated: slow to import, with its own upgrade command. Pure.

Its shape is that of real ones: settings by pydantic, an asynchronous env.py, schemas, enums,
functions and triggers, and a library that is looked up by a program when it is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMAS = ("sales", "stock", "people")
IMPORTS = "imports.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large it is; import_s: the processor time that its import takes, in seconds."""

    revisions: int = 400
    tables: int = 150
    enums: int = 25
    functions: int = 30
    import_s: float = 3.0


_PYPROJECT = '[tool.alembic]\nscript_location = "%(here)s/migrations"\nprepend_sys_path = ["."]\n'
_OWN_COMMAND = '\n[tool.backset]\nupgrade = ["python", "-m", "shop", "upgrade"]\n'
_PACKAGE = '''"""The application; each import of it is noted."""

import ctypes.util
import os
import sys
import time

BEGAN = time.process_time()
MATHS = ctypes.util.find_library("m")
'''
_SETTINGS = '''"""What may be set."""

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """From variables that begin with SHOP_, and from .env."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_file=".env", extra="ignore")

    database: str = {url!r}
    page_size: int = 50
    secret: str = "none"


SETTINGS = Settings()
'''
_BUSY = '''"""Part {number} of what takes its time; real ones import libraries here."""

import time

until = time.process_time() + {seconds}
while time.process_time() < until:
    sum(range(1000))
'''
_MODELS = '''"""What the migrations must make."""

import os
import sys
import time

import sqlalchemy as sa

from shop import BEGAN
from shop.parts import {parts}

METADATA = sa.MetaData()
'''
_NOTED = """
with open(os.path.join(os.path.dirname(__file__), "..", "imports.log"), "a") as log:
    print(f"{time.process_time() - BEGAN:.2f}", os.getpid(), *sys.argv[:1], file=log)
"""
_MAIN = '''"""The own commands: `python -m shop upgrade`, and `create` without revisions."""

import sys

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from shop.models import METADATA
from shop.settings import SETTINGS

if sys.argv[1:] == ["upgrade"]:
    command.upgrade(Config(toml_file="pyproject.toml"), "heads")
elif sys.argv[1:] == ["create"]:
    url = SETTINGS.database.replace("postgresql://", "postgresql+psycopg://", 1)
    METADATA.create_all(create_engine(url))
else:
    sys.exit("usage: python -m shop upgrade|create")
'''
_ENV = '''"""Run the migrations on the database of the application's settings."""

import asyncio

from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine

from shop.models import METADATA
from shop.settings import SETTINGS


def migrate(connection):
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        include_schemas=True,
        include_name=lambda name, kind, _parents: kind != "schema" or name in (None, *{schemas!r}),
    )
    with context.begin_transaction():
        context.run_migrations()


async def run():
    url = SETTINGS.database.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(run())
'''
_REVISION = '''"""{what}."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {before!r}


def upgrade() -> None:
{steps}
'''
_FUNCTION = (
    "CREATE FUNCTION {schema}.touch_{number}() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN NEW.changed := now(); RETURN NEW; END'"
)
_TRIGGER = (
    "CREATE TRIGGER touch BEFORE UPDATE ON {schema}.t{number} "
    "FOR EACH ROW EXECUTE FUNCTION {schema}.touch_{number}()"
)
_PARTS = 10


def files(shape: Shape, url: str, *, own_command: bool) -> Iterator[tuple[str, str]]:
    """Yield path and text of each file. url: that of its settings, which nobody else knows."""
    yield "pyproject.toml", _PYPROJECT + (_OWN_COMMAND if own_command else "")
    yield "shop/__init__.py", _PACKAGE
    yield "shop/settings.py", _SETTINGS.format(url=url)
    yield "shop/__main__.py", _MAIN
    yield "shop/parts/__init__.py", '"""Parts."""\n'
    seconds = shape.import_s / _PARTS
    for number in range(_PARTS):
        yield f"shop/parts/part{number}.py", _BUSY.format(number=number, seconds=seconds)
    yield "shop/models.py", _models(shape)
    yield "migrations/env.py", _ENV.format(schemas=SCHEMAS)
    yield from _chain(shape)


def _schema(number: int) -> str:
    return SCHEMAS[number % len(SCHEMAS)]


def _enum(shape: Shape, table: int) -> str:
    """Return the type of a table's column `kind`: the first tables have an enum of their own."""
    if table >= shape.enums:
        return "sa.String(40)"
    return f'sa.Enum("new", "old", name="kind_{table}", schema="{_schema(table)}")'


def _columns(shape: Shape, table: int) -> list[str]:
    found = [
        'sa.Column("id", sa.BigInteger, primary_key=True)',
        'sa.Column("name", sa.String(200), nullable=False, index=True)',
        f'sa.Column("kind", {_enum(shape, table)}, nullable=False)',
        'sa.Column("changed", sa.DateTime(timezone=True), server_default=sa.text("now()"))',
    ]
    if table >= len(SCHEMAS):
        other = table - len(SCHEMAS)
        target = f"{_schema(other)}.t{other}.id"
        found.append(
            f'sa.Column("parent", sa.BigInteger, sa.ForeignKey("{target}", name="fk_{table}"))'
        )
    return found


def _chain(shape: Shape) -> Iterator[tuple[str, str]]:
    made = 0
    for number in range(shape.revisions):
        upto = -(-shape.tables * (number + 1) // shape.revisions)
        steps = [f'op.execute("CREATE SCHEMA {each}")' for each in SCHEMAS if not number]
        for table in range(made, upto):
            columns = ", ".join(_columns(shape, table))
            steps.append(f'op.create_table("t{table}", {columns}, schema="{_schema(table)}")')
            if table < shape.functions:
                words = {"schema": _schema(table), "number": table}
                steps += [f'op.execute("{each.format(**words)}")' for each in (_FUNCTION, _TRIGGER)]
        if made == upto:
            added = f'sa.Column("c{number}", sa.Integer), schema="{_schema(made - 1)}"'
            steps = [f'op.add_column("t{made - 1}", {added})']
        made = upto
        text = _REVISION.format(
            what=f"revision {number}",
            revision=f"r{number:05}",
            before=f"r{number - 1:05}" if number else None,
            steps="\n".join(f"    {each}" for each in steps),
        )
        yield f"migrations/versions/r{number:05}.py", text


def _models(shape: Shape) -> str:
    added: dict[int, list[str]] = {each: [] for each in range(shape.tables)}
    made = 0
    for number in range(shape.revisions):
        upto = -(-shape.tables * (number + 1) // shape.revisions)
        if made == upto:
            added[made - 1].append(f'sa.Column("c{number}", sa.Integer)')
        made = upto
    tables = [
        f'sa.Table("t{table}", METADATA, {", ".join(_columns(shape, table) + more)}, '
        f'schema="{_schema(table)}")\n'
        for table, more in added.items()
    ]
    parts = ", ".join(f"part{number}" for number in range(_PARTS))
    return _MODELS.format(parts=parts) + "".join(tables) + _NOTED
