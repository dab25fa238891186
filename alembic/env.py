"""Run migrations on the database that DATABASE_URL names, and on no other."""

import os
from collections.abc import Mapping
from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import NullPool, create_engine

from app.models import Base
from backset.connections.target import Target
from backset.errors import SettingsError

OPTIONS: dict[str, Any] = {
    "target_metadata": Base.metadata,
    "compare_type": True,
    "compare_server_default": True,
}


def connect_args() -> Mapping[str, str]:
    """Return libpq's keywords for DATABASE_URL, so that any spelling of it reaches psycopg."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise CommandError(
            "DATABASE_URL is not set → run `invoke alembic -- …`, "
            'or export DATABASE_URL="$(invoke url)"'
        )
    try:
        return Target.parse(url).params
    except SettingsError as error:
        raise CommandError("\n".join(error.lines())) from error


def migrate() -> None:
    """Run what the command asked for, in the transaction that Alembic opens."""
    with context.begin_transaction():
        context.run_migrations()


def run_offline() -> None:
    """Write the migrations as SQL; no database is needed."""
    context.configure(dialect_name="postgresql", literal_binds=True, **OPTIONS)
    migrate()


def run_online() -> None:
    """Run the migrations on a connection of their own."""
    engine = create_engine("postgresql+psycopg://", connect_args=connect_args(), poolclass=NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, **OPTIONS)
        migrate()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
