import os

import models
from alembic import context
from sqlalchemy import create_engine, text

for schema in context.get_x_argument(as_dictionary=True)["schemas"].split(","):
    path = {"options": f"-csearch_path={schema}"}
    with create_engine(os.environ["DATABASE_URL"], connect_args=path).connect() as connection:
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
        connection.commit()
        connection.dialect.default_schema_name = schema
        context.configure(
            connection=connection,
            target_metadata=models.metadata,
            version_table_schema=schema,
        )
        with context.begin_transaction():
            context.run_migrations()
