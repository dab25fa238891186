import os

import models
from alembic import context
from sqlalchemy import create_engine

engine = create_engine(os.environ["DATABASE_URL"])  # with a pool
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=models.metadata,
        include_schemas=True,
        include_object=lambda thing, name, kind, reflected, other: name != "legacy",
    )
    with context.begin_transaction():
        context.run_migrations()
