"""As `alembic init` writes it: the URL is that of the ini file."""

from alembic import context
from sqlalchemy import engine_from_config, pool

config = context.config
for name, value in context.get_x_argument(as_dictionary=True).items():
    print(f"-x {name} is {value}")
if context.is_offline_mode():
    context.configure(url=config.get_main_option("sqlalchemy.url"), literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    section = config.get_section(config.config_ini_section, {})
    engine = engine_from_config(section, prefix="sqlalchemy.", poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
