"""Migrations of core, whose version table is its own."""

import os

from alembic import context
from sqlalchemy import Column, Integer, MetaData, Table, create_engine

metadata = MetaData()
Table("core_items", metadata, Column("id", Integer, primary_key=True))
url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")
with create_engine(url).connect() as connection:
    context.configure(
        connection=connection, target_metadata=metadata, version_table="core_version"
    )
    with context.begin_transaction():
        context.run_migrations()
