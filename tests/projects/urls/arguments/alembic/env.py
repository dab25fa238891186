"""The URL comes as `-x url=…`."""

from alembic import context
from sqlalchemy import create_engine

engine = create_engine(context.get_x_argument(as_dictionary=True)["url"])

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
