"""Asks the application for the URL, as what `flask db init` writes does."""

from alembic import context
from flask import current_app
from sqlalchemy import create_engine

engine = create_engine(current_app.config["SQLALCHEMY_DATABASE_URI"])

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
