import os
import models

from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=[models.Base.metadata, models.Other.metadata],
        render_as_batch=True,
        compare_type=lambda context, column, metadata_column, found, wanted: (
            False if column.name == "text" else None
        ),
        compare_server_default=True,
        include_object=lambda thing, name, kind, reflected, other: not name.startswith("legacy_"),
    )
    with context.begin_transaction():
        context.run_migrations()
