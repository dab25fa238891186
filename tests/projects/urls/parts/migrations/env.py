"""Settings of the application, which knows no URL."""

from alembic import context
from config import url
from sqlalchemy import create_engine

engine = create_engine(url())

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
