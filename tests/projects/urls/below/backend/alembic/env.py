"""Everything is seen from its own folder."""

import os

from alembic import context
from dotenv import load_dotenv
from sqlalchemy import create_engine

load_dotenv(".env")
engine = create_engine(os.environ["DB_URL"])

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
