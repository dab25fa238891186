"""The project's own command: `manage.py upgrade`, and ways in which such a command can go wrong."""

import os
import sys

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

TENANTS = ("tenant_a", "tenant_b")


def url(database: str) -> str:
    """Return the URL that it is given, as SQLAlchemy wants it."""
    return database.replace("postgresql:", "postgresql+psycopg:")


def upgrade(database: str, schema: str = "") -> None:
    """Migrate one schema of a database; env.py gets its connection from here."""
    config = Config("alembic.ini")
    with create_engine(url(database)).connect() as connection:
        if schema:
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            connection.exec_driver_sql(f"SET search_path TO {schema}")
            connection.commit()
        config.attributes.update(connection=connection, schema=schema)
        command.upgrade(config, "head")


def create(database: str) -> None:
    """Make what the first migration alters."""
    with psycopg.connect(database) as session:
        session.execute("CREATE TABLE legacy (id int PRIMARY KEY)")


def execute(database: str, statements: str) -> None:
    """Run SQL, as an `init` does that makes what is no table."""
    with psycopg.connect(database) as session:
        session.execute(statements)


def main() -> None:
    """Do what the first argument says."""
    here, there = os.environ["DATABASE_URL"], os.environ.get("LIVE_URL", "")
    way = sys.argv[1]
    if way == "upgrade":
        upgrade(here)
    elif way == "create":
        create(here)
    elif way == "execute":
        execute(here, sys.argv[2])
        sys.exit(sys.argv[3] if len(sys.argv) > 3 else 0)
    elif way == "fail-after":
        upgrade(here)
        sys.exit("the mail server did not answer")
    elif way == "tenants":
        for schema in TENANTS:
            upgrade(here, schema)
    elif way == "one-tenant-short":
        upgrade(here, TENANTS[0])
        with psycopg.connect(here) as session:
            session.execute(
                "CREATE SCHEMA tenant_b; "
                "CREATE TABLE tenant_b.alembic_version (version_num varchar(32) NOT NULL)"
            )
            session.execute("INSERT INTO tenant_b.alembic_version VALUES ('a1')")
    elif way == "live":
        upgrade(there)
    elif way == "live-at-once":
        with psycopg.connect(there) as session:
            session.execute("INSERT INTO marks VALUES (1)")
    elif way == "stamp":
        with psycopg.connect(here) as session:
            session.execute(
                "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL)",
            )
            session.execute("INSERT INTO alembic_version VALUES ('b2')")
    # `lie` says nothing, does nothing, and ends with 0


main()
