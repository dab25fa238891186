import os
import re

from alembic import context
from sqlalchemy import create_engine, pool

URLS = {
    "accounts": os.environ["DATABASE_URL"],
    "billing": os.environ.get("BILLING_URL", os.environ["DATABASE_URL"]),
}
names = context.config.get_main_option("databases", "")
engines = {name: create_engine(URLS[name], poolclass=pool.NullPool) for name in re.split(r",\s*", names)}
connections = {name: engine.connect() for name, engine in engines.items()}
transactions = [connection.begin() for connection in connections.values()]
try:
    for name, connection in connections.items():
        context.configure(
            connection=connection,
            upgrade_token=f"{name}_upgrades",
            downgrade_token=f"{name}_downgrades",
        )
        context.run_migrations(engine_name=name)
    for transaction in transactions:
        transaction.commit()
except:
    for transaction in transactions:
        transaction.rollback()
    raise
finally:
    for connection in connections.values():
        connection.close()
