"""Finds its models by themselves, and reads this and that."""

import os
import pkgutil
import sys
from importlib import import_module
from pathlib import Path

from alembic import context
from sqlalchemy import create_engine, pool

sys.path.insert(0, os.getcwd())
import shop
from shop.base import metadata

for module in pkgutil.iter_modules(shop.__path__):
    import_module(f"shop.{module.name}")

try:
    import local_settings
except ImportError:
    local_settings = None

extra = Path("extra.sql")
flag = os.environ.get("SHOP_FLAG")

engine = create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
        if extra.exists():
            connection.exec_driver_sql(extra.read_text())
