"""A project whose chain of revisions is as long, and makes as many tables, as one likes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENV = '''"""Run the migrations on the database that DATABASE_URL names."""

import os

from alembic import context
from sqlalchemy import NullPool, create_engine

from models import METADATA

URL = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
with create_engine(URL, poolclass=NullPool).connect() as connection:
    context.configure(connection=connection, target_metadata=METADATA)
    with context.begin_transaction():
        context.run_migrations()
'''
_MODELS = '''"""What the migrations must make."""

import sqlalchemy as sa

METADATA = sa.MetaData()
'''
_REVISION = '''"""{what}."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {before!r}


def upgrade() -> None:
{steps}
'''
_TABLE = 'sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text)'
_PYPROJECT = '[tool.alembic]\nscript_location = "%(here)s/migrations"\nprepend_sys_path = ["."]\n'


def files(revisions: int, tables: int) -> Iterator[tuple[str, str]]:
    """Yield path and text of each file.

    The tables are made evenly along the chain, several by one revision where there are more; each
    other revision adds a column to the youngest table.
    """
    made, models, columns = 0, [], {}  # type: int, list[str], dict[int, list[str]]
    for number in range(revisions):
        upto = -(-tables * (number + 1) // revisions)
        steps = [f'    op.create_table("t{each}", {_TABLE})' for each in range(made, upto)]
        columns |= {each: [] for each in range(made, upto)}
        if not steps:
            columns[made - 1].append(f"c{number}")
            steps = [f'    op.add_column("t{made - 1}", sa.Column("c{number}", sa.Integer))']
        what = f"{upto - made} tables" if upto > made else f"column c{number}"
        made = upto
        before = f"r{number - 1:05}" if number else None
        text = _REVISION.format(
            what=what, revision=f"r{number:05}", before=before, steps="\n".join(steps)
        )
        yield f"migrations/versions/r{number:05}.py", text
    for table, more in columns.items():
        added = "".join(f', sa.Column("{each}", sa.Integer)' for each in more)
        models.append(f'sa.Table("t{table}", METADATA, {_TABLE}{added})\n')
    yield "models.py", _MODELS + "".join(models)
    yield "migrations/env.py", _ENV
    yield "pyproject.toml", _PYPROJECT
